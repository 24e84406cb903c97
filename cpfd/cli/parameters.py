"""The command `params`."""

import typer


def params() -> None:
    """Print the reference of params.yaml: every key, what is allowed, what it means."""
    from cpfd.params.reference import reference

    typer.echo(reference())
