"""How a program of the benchmark starts."""

import sys
from collections.abc import Callable

import typer

from cpfd.errors import CpfdError


def run(command: Callable[..., None]) -> None:
    """Run a function with the command line's arguments; a CpfdError becomes one message and exit code 1."""
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command()(command)
    try:
        app()
    except CpfdError as error:
        sys.exit(f"error: {error}")
