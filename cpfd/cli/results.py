"""The command `results`."""

from pathlib import Path
from typing import Annotated

import typer


def results(
    markdown: Annotated[
        bool, typer.Option("--markdown", help="Print the table as Markdown, for a page or a PR.")
    ] = False,
) -> None:
    """Print results, verdict and stage times of the last `dvc repro`; reports/metrics.json is for scripts.

    Example: dvc repro && cpfd results
    """
    from rich.console import Console

    from cpfd.errors import CpfdError
    from cpfd.evaluation.tables import result_markdown, result_table, time_told
    from cpfd.evaluation.verdict import verdict
    from cpfd.project.forecast import stage_seconds
    from cpfd.reports.gate import GateReport
    from cpfd.reports.metrics import MetricsReport

    metrics, gate, page = MetricsReport.read(), GateReport.read(), Path("reports/index.html")
    if not page.is_file():
        raise CpfdError(f"{page}: not there yet; `dvc repro` makes it, `dvc pull` fetches it")
    if markdown:
        typer.echo(f"{result_markdown(metrics)}\n\n{verdict(metrics, gate)}")
        return
    console = Console()
    console.print(result_table(metrics))
    console.print(verdict(metrics, gate))
    if seconds := stage_seconds():
        console.print(f"Last runs on this machine: {time_told(seconds)}", highlight=False)
    console.print(f"The whole report: {page}")
