"""The command line: `cpfd --help`. Every import that is not needed to show help happens inside a command."""

import sys
from io import TextIOWrapper

import typer

from cpfd.cli import forecast, importing, online, parameters, promotion, results, review, student

app = typer.Typer(
    name="cpfd",
    help="Distil privileged features into a short-video classifier that needs clips and text alone.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
for command in (
    parameters.params,
    forecast.forecast,
    student.predict,
    student.score,
    results.results,
    review.review,
    online.online,
    promotion.promote,
    promotion.rollback,
    promotion.models,
    promotion.compare,
    review.check,
):
    app.command()(command)
app.add_typer(importing.app, name="import")


def main() -> None:
    """Run the command line; an error of the user's is a message on standard error and exit code 1."""
    from cpfd.errors import CpfdError, disk_told

    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):  # the name of a file need not be Unicode
            stream.reconfigure(errors="backslashreplace")
    try:
        with disk_told():
            app()
    except CpfdError as error:
        sys.exit(f"error: {error}")
