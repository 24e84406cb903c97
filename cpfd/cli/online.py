"""The command `online`."""

from pathlib import Path
from typing import Annotated

import typer


def online(
    log: Annotated[
        Path, typer.Argument(metavar="LOG", help="Parquet or CSV log, one row per served clip (docs/online.md).")
    ],
    control: Annotated[
        str | None, typer.Option(metavar="NAME", help="The control among the two variants. None: champion.")
    ] = None,
    split: Annotated[float, typer.Option(help="Planned share of units that get the treatment.")] = 0.5,
    min_lift: Annotated[float, typer.Option(help="Least lift that is worth a launch, in units of the outcome.")] = 0.0,
    expected_units: Annotated[
        int, typer.Option(help="About how many units there will be: the interval is narrowest there, valid everywhere.")
    ] = 10_000,
    interval: Annotated[float, typer.Option(help="Probability that the interval is right at all looks.")] = 0.95,
    plot: Annotated[
        Path | None, typer.Option(metavar="FILE.png", help="Plot the interval as it evolved to this file.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON with every number and earlier looks.")] = False,
) -> None:
    """Read an online experiment of two variants: go, stop or keep running, however often you look.

    Choose the options before the first look, and keep them.

    Example: cpfd online served.parquet

    Example: cpfd online served.csv --control old --split 0.1 --min-lift 0.005 --plot lift.png
    """
    import json

    from rich.console import Console

    from cpfd.online.log import read_log
    from cpfd.online.readout import analyse, render
    from cpfd.online.sequence import Plan

    plan = Plan(split, min_lift, expected_units, interval)
    readout = analyse(read_log(log, control), plan)
    if plot is not None:
        from cpfd.online.plot import plot_lift

        plot_lift(plot, readout)
    if as_json:
        typer.echo(json.dumps(readout, indent=2, ensure_ascii=False, allow_nan=False))
    else:
        Console().print(render(readout))
