"""The command `results`."""

from pathlib import Path
from typing import Annotated

import typer


def results(
    markdown: Annotated[
        bool, typer.Option("--markdown", help="Print the table as Markdown, for a page or a PR.")
    ] = False,
) -> None:
    """Print the result table and the gate's verdict of the last `dvc repro`; reports/metrics.json is for scripts.

    Example: dvc repro && cpfd results
    """
    from rich.console import Console

    from cpfd.errors import CpfdError
    from cpfd.evaluation.tables import result_markdown, result_table
    from cpfd.evaluation.verdict import verdict
    from cpfd.files import read_json

    reports = Path("reports")
    needed = [reports / "metrics.json", reports / "gate.json", reports / "index.html"]
    for path in needed:
        if not path.is_file():
            raise CpfdError(f"{path}: not there yet; `dvc repro` makes it, `dvc pull` fetches it")
    metrics, gate = (read_json(path) for path in needed[:2])
    if markdown:
        typer.echo(f"{result_markdown(metrics)}\n\n{verdict(metrics, gate)}")
        return
    console = Console()
    console.print(result_table(metrics))
    console.print(verdict(metrics, gate))
    console.print(f"The whole report: {needed[2]}")
