"""The command `params`."""

from typing import Annotated

import typer


def params(
    to_upgrade: Annotated[
        bool, typer.Option("--upgrade", help="Add to params.yaml what it lacks, with defaults; comments stay.")
    ] = False,
) -> None:
    """Print the reference of params.yaml: every key, what is allowed, what it means.

    Example: cpfd params --upgrade
    """
    if to_upgrade:
        from cpfd.params.load import load_params
        from cpfd.params.upgrade import upgrade

        added = upgrade()
        typer.echo("\n".join(f"added {key}" for key in added) or "params.yaml has every key.")
        load_params()  # what else is wrong
        return
    from cpfd.params.reference import reference

    typer.echo(reference())
