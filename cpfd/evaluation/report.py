"""What people read: the page reports/index.html, and the result table in a terminal."""

import base64
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined
from rich.box import SIMPLE_HEAD
from rich.table import Table

from cpfd.evaluation import MODEL_NAMES
from cpfd.params.schema import Params

MINUS, SPACE = "\N{MINUS SIGN}", "\N{NO-BREAK SPACE}"

CAPTIONS = {
    "f1": "Macro-F1 of the teacher and of each method's students.",
    "confusion": "Test clips by actual and predicted class, for the shipped student; shaded by share of a row.",
    "reliability": "How often the shipped student is right, by its confidence. Below the dashed line it is too sure.",
}
"""What each plot of reports/plots shows, in the order of the page."""
EVIDENCE = {
    "histogram": "How sure teachers are of training clips that they have not seen, and whether the label agrees.",
    "reliability": "How often they agree with the label, by their confidence, before and after calibration.",
}
"""What each plot of reports/confidence shows, in the order of the page."""

_SUBJECTS = {
    "none": "The student alone",
    "pfd": "The PFD student",
    "cpfd": "The CPFD student",
    "posterior": "The posterior student",
}


@dataclass(frozen=True)
class Facts:
    """What the page is made of.

    metrics, gate, champion, validation: content of the JSON files in reports/. dataset: data/validated/dataset.json.
    quarantine: `table`, `video_id` and `reason` of what validation and extraction left out. confidence:
    data/confidence/summary.json. per_class: reports/plots/per_class.csv. plots, evidence: PNG files of the evaluation
    and of the confidence stage.
    """

    metrics: dict[str, Any]
    gate: dict[str, Any]
    champion: dict[str, Any]
    validation: dict[str, Any]
    dataset: dict[str, Any]
    quarantine: pd.DataFrame
    confidence: dict[str, Any]
    per_class: pd.DataFrame
    plots: list[Path]
    evidence: list[Path]
    params: Params


def render_page(facts: Facts) -> str:
    """Render one self-contained HTML page: styles and plots are in it, scripts and network are not needed."""
    formats = {each.__name__: each for each in (score, signed, share, span, plain, data_uri)}
    return (
        templates("cpfd.evaluation", formats)
        .get_template("report.html.jinja")
        .render(
            facts=facts,
            verdict=verdict(facts.metrics, facts.gate),
            models=list(facts.metrics["test"]),
            names=MODEL_NAMES,
            captions=CAPTIONS,
            evidence_captions=EVIDENCE,
            reasons=_reasons(facts.quarantine),
            classes=facts.per_class.to_dict("records"),
            params=facts.params.model_dump(),
        )
    )


def templates(package: str, formats: Mapping[str, Callable[..., Any]], *, escape: bool = True) -> Environment:
    """The templates of a package, in which each of `formats` is a filter and a function; HTML where `escape`."""
    environment = Environment(
        loader=PackageLoader(package, "."),
        autoescape=escape,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= formats
    environment.globals |= formats
    return environment


def verdict(metrics: Mapping[str, Any], gate: Mapping[str, Any]) -> str:
    """Say in one sentence whether the shipped student passes the gate, and how it compares."""
    method = gate["method"]
    failed = [rule["name"].replace("_", " ") for rule in gate["rules"] if not rule["passed"]]
    outcome = (
        f"passes all {len(gate['rules'])} rules of the gate"
        if gate["passed"]
        else f"is rejected by {len(failed)} of the gate's {len(gate['rules'])} rules ({', '.join(failed)})"
    )
    sentence = (
        f"{_SUBJECTS[method]} {outcome}: macro-F1 {score(metrics['test'][method]['macro_f1']['mean'])}"
        f" on {metrics['clips']['test']} test clips"
    )
    if method != "none":
        sentence += f", {signed(metrics['comparisons'][method]['none']['mean'])} against the student alone"
        closed = metrics["gap_closed"][method]["mean"]
        if closed is not None:
            sentence += f", {share(closed)} of the gap to the teacher closed"
    return sentence + "."


RESULT_COLUMNS = ("model", "macro-F1", "against alone", "not worse", "gap closed")


def result_rows(metrics: Mapping[str, Any]) -> dict[str, list[str]]:
    """Cells under RESULT_COLUMNS for every model: macro-F1, and the difference against the student alone."""
    rows = {}
    for model, scores in metrics["test"].items():
        f1 = scores["macro_f1"]
        rows[model] = [MODEL_NAMES[model], f"{score(f1['mean'], f1['std'])}\n{span(f1)}"]
        if model in metrics["gap_closed"]:
            difference = metrics["comparisons"][model]["none"]
            closed = metrics["gap_closed"][model]["mean"]
            rows[model] += [
                f"{signed(difference['mean'])}\n{span(difference, signed)}",
                share(difference["probability"]),
                "-" if closed is None else share(closed),
            ]
    return rows


def result_table(metrics: Mapping[str, Any]) -> Table:
    """Tabulate the results for a terminal."""
    table = Table(
        title=f"Macro-F1 on {metrics['clips']['test']} test clips, mean ± standard deviation over seeds,"
        f" [{share(metrics['interval'])} interval]",
        title_justify="left",
        box=SIMPLE_HEAD,
    )
    for column in RESULT_COLUMNS:
        table.add_column(column, justify="left" if column == "model" else "right", no_wrap=True)
    for model, cells in result_rows(metrics).items():
        table.add_row(*cells, style="bold" if model == metrics["shipped"]["method"] else "")
    return table


def result_markdown(metrics: Mapping[str, Any]) -> str:
    """Tabulate the results as Markdown."""
    lines = ["| " + " | ".join(RESULT_COLUMNS) + " |", "|---" + "|---:" * (len(RESULT_COLUMNS) - 1) + "|"]
    for model, cells in result_rows(metrics).items():
        flat = [cell.replace("\n", " ") for cell in cells] + [""] * (len(RESULT_COLUMNS) - len(cells))
        if model == metrics["shipped"]["method"]:
            flat[0] = f"**{flat[0]}** (at the gate)"
        lines.append("| " + " | ".join(flat) + " |")
    return "\n".join(lines)


def score(value: float, std: float | None = None) -> str:
    """Format a score between 0 and 1, with its standard deviation where there is one: 0.512 ± 0.013."""
    return f"{value:.3f}" if std is None else f"{value:.3f}{SPACE}±{SPACE}{std:.3f}"


def signed(value: float) -> str:
    """Format a difference of scores with its sign: +0.021."""
    return f"{value:+.3f}".replace("-", MINUS)


def share(value: float) -> str:
    """Format a share: 84 %, 0.5 % where digits would vanish."""
    return f"{100 * value:.{1 if 0 < abs(value) < 0.01 else 0}f}{SPACE}%".replace("-", MINUS)


def span(interval: Mapping[str, float], form: Any = score) -> str:
    """Format an interval {low, high}: [0.49, 0.53]."""
    return f"[{form(interval['low'])}, {form(interval['high'])}]"


def plain(value: Any) -> str:
    """Format any value of a rule or parameter as params.yaml would have it, numbers with four digits."""
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: "null"}[value]
    if isinstance(value, Iterable) and not isinstance(value, str):
        return ", ".join(plain(each) for each in value)
    return f"{value:.4g}".replace("-", MINUS) if isinstance(value, float) else str(value)


def data_uri(image: bytes, kind: str = "png") -> str:
    """The content of an image file as a data URI."""
    return f"data:image/{kind};base64,{base64.b64encode(image).decode()}"


def _reasons(quarantine: pd.DataFrame) -> list[dict[Any, Any]]:
    """Count quarantined rows by table and kind of reason, the most frequent first, each with its first row as example.

    A reason reads `kind: detail`, or `kind` alone.
    """
    rows = quarantine.assign(
        kind=quarantine["reason"].str.split(": ").str[0], example=quarantine["video_id"] + ": " + quarantine["reason"]
    )
    counted = rows.groupby(["table", "kind"], as_index=False).agg(count=("kind", "size"), example=("example", "first"))
    return counted.sort_values("count", ascending=False, kind="stable").to_dict("records")
