"""The page reports/index.html, and the facts that it is made of."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from cpfd.datasets.video import ClipError
from cpfd.evaluation.verdict import judged_score, method_comparison
from cpfd.features.sheet import contact_sheet
from cpfd.pages.captions import CAPTIONS, EVIDENCE
from cpfd.pages.environment import data_uri, templates
from cpfd.pages.markdown import short
from cpfd.params.schema import Params
from cpfd.paths import GENERATED
from cpfd.reports.champion import ChampionReport
from cpfd.reports.confidence import ConfidenceReport, NoTeacher
from cpfd.reports.gate import GateReport
from cpfd.reports.metrics import MetricsReport
from cpfd.reports.validation import ValidationReport


@dataclass(frozen=True)
class Facts:
    """What the page is made of.

    champion: None without one. quarantine: `table`, `video_id` and `reason` of what validation and extraction left out.
    runs, per_class, mistakes: tables of that name in reports/plots. manifest: data/validated/manifest.parquet, whose
    `path` is relative to `videos`. plots, evidence: PNG files of the evaluation and of the confidence stage.
    """

    metrics: MetricsReport
    gate: GateReport
    champion: ChampionReport | None
    validation: ValidationReport
    confidence: ConfidenceReport | NoTeacher
    quarantine: pd.DataFrame
    runs: pd.DataFrame
    per_class: pd.DataFrame
    mistakes: pd.DataFrame
    manifest: pd.DataFrame
    videos: Path
    plots: list[Path]
    evidence: list[Path]
    params: Params


def render_page(facts: Facts) -> str:
    """Render one self-contained HTML page: styles and plots are in it, scripts and network are not needed."""
    return (
        templates("cpfd.evaluation")
        .get_template("report.html.jinja")
        .render(
            facts=facts,
            judged=judged_score(facts.metrics, facts.gate),
            compared=method_comparison(facts.metrics),
            models=list(facts.metrics.test),
            runs=_runs(facts.runs),
            captions=CAPTIONS,
            evidence_captions=EVIDENCE,
            reasons=_reasons(facts.quarantine),
            classes=facts.per_class.to_dict("records"),
            mistakes=_mistakes(facts),
            params=_parameters(facts.params),
        )
    )


def _runs(runs: pd.DataFrame) -> dict[str, list[dict[Any, Any]]]:
    """Each student's runs by method, in the order of their seeds: `seed`, `validation`, `test`."""
    students = runs[runs["seed"].notna()].astype({"seed": int})
    return {str(model): each.to_dict("records") for model, each in students.groupby("model", sort=False)}


def _mistakes(facts: Facts) -> list[dict[Any, Any]]:
    """What is shown of each clip of facts.mistakes: its columns, `text`, and `picture` or why there is none."""
    clips = facts.mistakes.merge(facts.manifest, on="video_id", how="left", validate="1:1")
    texts = clips[facts.validation.dataset.text_columns].to_numpy().tolist()
    shown = facts.mistakes.assign(text=[short(" | ".join(filter(None, row))) for row in texts]).to_dict("records")
    return [row | _picture(facts.videos, path) for row, path in zip(shown, clips["path"], strict=True)]


def _picture(videos: Path, path: str) -> dict[str, str]:
    if not path:
        return {"no_picture": "no video, text alone"}
    try:
        return {"picture": data_uri(contact_sheet(videos / path), "jpeg")}
    except ClipError as error:  # frames between those that features were made of may be damaged
        return {"no_picture": f"no frames to show: {error}"}


def _parameters(params: Params) -> dict[str, dict[str, Any]]:
    """Parameters by group; those that generate the demo only where the demo was used."""
    groups: dict[str, dict[str, Any]] = params.model_dump()
    if params.dataset.name != GENERATED:
        del groups["demo"]
    return groups


def _reasons(quarantine: pd.DataFrame) -> list[dict[Any, Any]]:
    """Count quarantined rows by table and kind of reason, the most frequent first, each with its first row as example.

    A reason reads `kind: detail`, or `kind` alone.
    """
    rows = quarantine.assign(
        kind=quarantine["reason"].str.split(": ").str[0], example=quarantine["video_id"] + ": " + quarantine["reason"]
    )
    counted = rows.groupby(["table", "kind"], as_index=False).agg(count=("kind", "size"), example=("example", "first"))
    return counted.sort_values("count", ascending=False, kind="stable").to_dict("records")
