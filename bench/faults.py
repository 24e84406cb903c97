"""What goes wrong in the world, made by chance: damaged clips and tables, commands killed at any moment, full disks.

What is damaged is drawn from a seed, and nothing is judged by seconds. docs/reliability.md says what is promised.
"""

import importlib
import json
from collections import Counter
from typing import Annotated, Literal

import typer

from bench import command

CAMPAIGNS = {
    "tables": ("bench.damaged_tables", "damage_tables", "damage"),
    "clips": ("bench.damaged_clips", "damage_clips", "container"),
    "kills": ("bench.kills", "kill_commands", "command"),
    "races": ("bench.races", "race_commands", "command"),
    "disks": ("bench.disks", "spoil_disks", "command"),
    "remotes": ("bench.remotes", "spoil_remotes", "command"),
}
"""The module and the function of each campaign, and what the rows of its table are."""
OUTCOMES = (
    *("as before", "as before, with dvc.lock out of git", "ended first", "both ended well", "one was told to wait"),
    *("in quarantine", "refused", "read", "read, and differs", "FAULT"),
)


def main(
    what: Annotated[
        Literal["tables", "clips", "kills", "races", "disks", "remotes"], typer.Argument(help="What goes wrong.")
    ],
    count: Annotated[int, typer.Option(min=1, help="How many tables or clips; else: how often each command.")] = 20,
    only: Annotated[list[str] | None, typer.Option(metavar="COMMAND", help="Only this row of the table.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="What is drawn from it is the same each time.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print the counts and the faults as JSON.")] = False,
) -> None:
    """Damage tables or clips and read them, or disturb commands and start them again; print what became of them.

    Ends with exit code 1 where something is found that docs/reliability.md promises not to happen.

    Example: python -m bench.faults tables --count 220

    Example: python -m bench.faults kills --count 5 --only import --only score
    """
    module, function, row = CAMPAIGNS[what]
    campaign = getattr(importlib.import_module(module), function)
    rows, faults = campaign(count, seed) if what in ("tables", "clips") else campaign(count, seed, only or [])
    if as_json:
        print(json.dumps({"counts": rows, "faults": faults}, indent=2))
    else:
        _print_table(row, rows)
        print("\n".join(["", *faults]) if faults else "\nno faults")
    raise SystemExit(1 if faults else 0)


def _print_table(what: str, rows: dict[str, Counter[str]]) -> None:
    shown = [name for name in OUTCOMES if any(row[name] for row in rows.values())]
    print(f"| {what} | {' | '.join(shown)} |\n|---|{'---:|' * len(shown)}")
    for kind, row in [*rows.items(), ("**all**", sum(rows.values(), Counter[str]()))]:
        print(f"| {kind} | {' | '.join(str(row[name]) for name in shown)} |")


if __name__ == "__main__":
    command.run(main)
