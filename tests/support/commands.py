"""The command line, installed or in this process."""

import os
import subprocess
from pathlib import Path

from typer.testing import CliRunner, Result

from cpfd.cli import app
from cpfd.errors import CpfdError
from tests.support.warm import warm_commands


def cpfd(folder: Path, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run the installed command in `folder`."""
    command = [str(warm_commands() / "cpfd"), *map(str, arguments)]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, env={**os.environ, "COLUMNS": "150"})


def invoke(*arguments: str | Path) -> Result:
    """Run a command in this process; its CpfdError is raised."""
    result = CliRunner().invoke(app, [str(argument) for argument in arguments], env={"COLUMNS": "150"})
    if isinstance(result.exception, CpfdError):
        raise result.exception
    return result
