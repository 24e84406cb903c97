"""The result table, for a terminal and as Markdown."""

from collections.abc import Mapping

from rich.box import SIMPLE_HEAD
from rich.table import Table

from cpfd.pages.formatting import decimal, duration, share, signed, span
from cpfd.pages.names import model_name
from cpfd.reports.metrics import MetricsReport, Model

RESULT_COLUMNS = ("model", "macro-F1", "against alone", "not worse", "gap closed")


def result_rows(metrics: MetricsReport) -> dict[Model, list[str]]:
    """Cells under RESULT_COLUMNS for every model: macro-F1, and the difference against the student alone.

    All are of means over seeds, but the second line of the first cell: the score of the seed that the gate judges.
    """
    shipped = metrics.shipped
    rows = {}
    for model, scores in metrics.test.items():
        f1 = scores.macro_f1
        judged = f"\nseed {shipped.seed}: {decimal(shipped.test.macro_f1)}" if model == shipped.method else ""
        rows[model] = [f"{model_name(model)}{judged}", f"{decimal(f1.mean, f1.std)}\n{span(f1)}"]
        if model != "teacher" and model in metrics.gap_closed:
            difference = metrics.comparisons[model]["none"]
            closed = metrics.gap_closed[model].mean
            rows[model] += [
                f"{signed(difference.mean)}\n{span(difference, signed)}",
                share(difference.probability),
                "not shown" if closed is None else share(closed),
            ]
    return rows


def result_table(metrics: MetricsReport) -> Table:
    """Tabulate the results for a terminal."""
    table = Table(
        title=f"Macro-F1 on {metrics.clips.test} test clips, mean ± standard deviation over seeds,"
        f" [{share(metrics.interval)} interval]; the gate judges the seed that is named",
        title_justify="left",
        box=SIMPLE_HEAD,
    )
    for column in RESULT_COLUMNS:
        table.add_column(column, justify="left" if column == "model" else "right", no_wrap=True)
    for model, cells in result_rows(metrics).items():
        table.add_row(*cells, style="bold" if model == metrics.shipped.method else "")
    return table


def result_markdown(metrics: MetricsReport) -> str:
    """Tabulate the results as Markdown."""
    lines = ["| " + " | ".join(RESULT_COLUMNS) + " |", "|---" + "|---:" * (len(RESULT_COLUMNS) - 1) + "|"]
    for cells in result_rows(metrics).values():
        name, _, judged = cells[0].partition("\n")
        first = f"**{name}** ({judged}, at the gate)" if judged else name
        others = [cell.replace("\n", " ") for cell in cells[1:]]
        flat = [first, *others] + [""] * (len(RESULT_COLUMNS) - len(cells))
        lines.append("| " + " | ".join(flat) + " |")
    return "\n".join(lines)


def time_told(seconds: Mapping[str, float]) -> str:
    """Say how long stages took, those of one family together and the longest first: "student (12 runs) 4 min, ..."."""
    families: dict[str, list[float]] = {}
    for stage, each in seconds.items():
        families.setdefault(stage.partition("@")[0], []).append(each)
    longest = sorted(families.items(), key=lambda family: -sum(family[1]))
    parts = [f"{name}{f' ({len(each)} runs)' * (len(each) > 1)} {duration(sum(each))}" for name, each in longest]
    return f"{', '.join(parts)}; {duration(sum(seconds.values()))} together"
