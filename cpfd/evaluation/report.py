"""The page reports/index.html, and the facts that it is made of."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from cpfd.evaluation.verdict import verdict
from cpfd.pages.captions import CAPTIONS, EVIDENCE
from cpfd.pages.environment import templates
from cpfd.params.schema import Params
from cpfd.reports.champion import ChampionReport
from cpfd.reports.confidence import ConfidenceReport
from cpfd.reports.gate import GateReport
from cpfd.reports.metrics import MetricsReport
from cpfd.reports.validation import ValidationReport


@dataclass(frozen=True)
class Facts:
    """What the page is made of.

    champion: None without one. quarantine: `table`, `video_id` and `reason` of what validation and extraction left out.
    per_class: reports/plots/per_class.csv. plots, evidence: PNG files of the evaluation and of the confidence stage.
    """

    metrics: MetricsReport
    gate: GateReport
    champion: ChampionReport | None
    validation: ValidationReport
    confidence: ConfidenceReport
    quarantine: pd.DataFrame
    per_class: pd.DataFrame
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
            verdict=verdict(facts.metrics, facts.gate),
            models=list(facts.metrics.test),
            captions=CAPTIONS,
            evidence_captions=EVIDENCE,
            reasons=_reasons(facts.quarantine),
            classes=facts.per_class.to_dict("records"),
            params=facts.params.model_dump(),
        )
    )


def _reasons(quarantine: pd.DataFrame) -> list[dict[Any, Any]]:
    """Count quarantined rows by table and kind of reason, the most frequent first, each with its first row as example.

    A reason reads `kind: detail`, or `kind` alone.
    """
    rows = quarantine.assign(
        kind=quarantine["reason"].str.split(": ").str[0], example=quarantine["video_id"] + ": " + quarantine["reason"]
    )
    counted = rows.groupby(["table", "kind"], as_index=False).agg(count=("kind", "size"), example=("example", "first"))
    return counted.sort_values("count", ascending=False, kind="stable").to_dict("records")
