"""The command `forecast`."""

from typing import Annotated

import typer


def forecast(
    trial: Annotated[
        bool, typer.Option("--trial/--no-trial", help="Train for some steps to tell how many minutes it will take.")
    ] = True,
) -> None:
    """Tell what `dvc repro` will run and cost: stages, networks, optimiser steps, minutes, and what to lower.

    Changes nothing. Stages that may turn out to have the same inputs as before count as if they ran.

    Example: cpfd forecast
    """
    from pathlib import Path
    from tempfile import TemporaryDirectory

    from cpfd.pages.formatting import duration
    from cpfd.params.load import load_params
    from cpfd.project import forecast as project
    from cpfd.project.graph import families
    from cpfd.project.revision import open_revision
    from cpfd.training.cost import count_clips, count_networks, tell_cost, total_steps

    params, now = load_params(), open_revision(None)
    runs = [each for each in project.forecast(now, now) if each["outcome"] in ("will run", "may run")]
    if not runs:
        typer.echo("to run: nothing, all stages are up to date or in DVC's run cache")
        return
    typer.echo(f"to run: {', '.join(families(each['stage'] for each in runs))}")
    clips = count_clips(params)
    if clips is None:
        typer.echo(f"to train: not known before data/raw/{params.dataset.name} is there; `cpfd import` makes it")
        return
    networks = count_networks([each["stage"] for each in runs], params, clips)
    for line in tell_cost(networks, params):
        typer.echo(line)
    if networks and trial:
        from cpfd.training.speed import try_speed

        with TemporaryDirectory() as scratch:
            speed = try_speed(params, clips, Path(scratch))
        count = sum(each.count for each in networks)
        seconds = count * (speed.network + params.train.epochs * speed.epoch) + total_steps(networks) * speed.step
        typer.echo(
            f"to wait: about {duration(seconds)} for the networks, one after the other, at {1 / speed.step:.3g} steps"
            f" a second in a trial here; train.patience {params.train.patience} may end them sooner"
        )
    trained = {each.stage for each in networks}
    others = [each for each in runs if each["stage"] not in trained]
    if known := [each["seconds"] for each in others if each["seconds"] is not None]:
        typer.echo(
            f"to wait: {duration(sum(known))} for {len(known)} of {len(others)} other stages, by earlier runs here"
        )
