"""What the command line and stage `code` cost at their start: `python -m bench.startup --help`."""

import resource
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Annotated

import typer
from tqdm import tqdm

from bench import command
from bench.tasks import ROOT
from cpfd.code import PACKAGE
from cpfd.errors import CpfdError
from cpfd.paths import REQUIREMENTS

INTERPRETER = "python -c pass"
ARGUMENTS = {
    INTERPRETER: ["-c", "pass"],
    "cpfd --help": ["-c", "from cpfd.cli import main; main()", "--help"],
    "python -m cpfd.stages.code": ["-m", "cpfd.stages.code"],
}
"""What Python is started with, by what a user types."""


def main(
    rounds: Annotated[int, typer.Option(min=1, help="Starts of each command; the least time of each counts.")] = 10,
) -> None:
    """Print the user CPU time of `cpfd --help` and of stage `code`, held against the interpreter's own start.

    All are started in turn; only times of the same run of this program are comparable.

    Example: python -m bench.startup --rounds 20
    """
    seconds: dict[str, list[float]] = {name: [] for name in ARGUMENTS}
    with tempfile.TemporaryDirectory(prefix="cpfd-bench-") as folder:
        for path in (PACKAGE, REQUIREMENTS):  # the stage reads them, and writes beside them
            Path(folder, path).symlink_to(ROOT / path)
        for _ in tqdm(range(rounds), "starts", unit="rounds", leave=False):
            for name, measured in seconds.items():
                measured.append(_user_seconds(Path(folder), name))
    own = min(seconds[INTERPRETER])
    print("| command | user CPU time | above the interpreter | times the interpreter |\n|---|---:|---:|---:|")
    for name, measured in seconds.items():
        print(f"| `{name}` | {min(measured):.3f} s | {min(measured) - own:+.3f} s | {min(measured) / own:.1f} |")


def _user_seconds(folder: Path, name: str) -> float:
    """User CPU seconds of a command in `folder`, its children included; one that fails ends the program."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
    done = subprocess.run([sys.executable, *ARGUMENTS[name]], cwd=folder, capture_output=True, text=True)
    if done.returncode:
        raise CpfdError(f"`{name}` failed:\n{done.stderr[-2000:]}")
    return resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - before


if __name__ == "__main__":
    command.run(main)
