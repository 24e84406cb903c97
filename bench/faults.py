"""What goes wrong in the world, made by chance: damaged clips and tables, commands killed at any moment.

What is damaged is drawn from a seed, and nothing is judged by seconds. docs/reliability.md says what is promised.
"""

import json
from collections import Counter
from typing import Annotated, Literal

import typer

from bench import command

OUTCOMES = ("as before", "ended first", "in quarantine", "refused", "read", "read, and differs", "FAULT")


def main(
    what: Annotated[Literal["tables", "clips", "kills"], typer.Argument(help="What is damaged, or killed.")],
    count: Annotated[int, typer.Option(min=1, help="How many; kills: of each command.")] = 20,
    seed: Annotated[int, typer.Option(min=0, help="What is drawn from it is the same each time.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print the counts and the faults as JSON.")] = False,
) -> None:
    """Damage tables or clips and read them, or kill commands and start them again; print what became of them.

    Ends with exit code 1 where something is found that docs/reliability.md promises not to happen.

    Example: python -m bench.faults tables --count 220

    Example: python -m bench.faults kills --count 5
    """
    if what == "tables":
        from bench.damaged_tables import damage_tables as campaign
    elif what == "clips":
        from bench.damaged_clips import damage_clips as campaign
    else:
        from bench.kills import kill_commands as campaign
    rows, faults = campaign(count, seed)
    if as_json:
        print(json.dumps({"counts": rows, "faults": faults}, indent=2))
    else:
        _print_table({"tables": "damage", "clips": "container", "kills": "command"}[what], rows)
        print("\n".join(["", *faults]) if faults else "\nno faults")
    raise SystemExit(1 if faults else 0)


def _print_table(what: str, rows: dict[str, Counter[str]]) -> None:
    shown = [name for name in OUTCOMES if any(row[name] for row in rows.values())]
    print(f"| {what} | {' | '.join(shown)} |\n|---|{'---:|' * len(shown)}")
    for kind, row in [*rows.items(), ("**all**", sum(rows.values(), Counter[str]()))]:
        print(f"| {kind} | {' | '.join(str(row[name]) for name in shown)} |")


if __name__ == "__main__":
    command.run(main)
