"""The command line: `cpfd --help`. Every import that is not needed to show help happens inside a command."""

import sys

import typer

app = typer.Typer(
    name="cpfd",
    help="Distil privileged features into a short-video classifier that needs clips and text alone.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


@app.callback()
def check_project() -> None:
    """Refuse to run any command in a project whose params.yaml is wrong."""
    from cpfd.params import PARAMS_FILE, load_params

    if PARAMS_FILE.exists():
        load_params()


@app.command()
def params() -> None:
    """Print the reference of params.yaml: every key, what is allowed, what it means."""
    from cpfd.params import reference

    typer.echo(reference())


def main() -> None:
    """Run the command line; an error of the user's is a message on standard error and exit code 1."""
    from cpfd.errors import CpfdError

    try:
        app()
    except CpfdError as error:
        sys.exit(f"error: {error}")
