"""Stage `report`: reports/index.html, the one page that tells what came out."""

import pandas as pd

from cpfd.datasets.validated import read_clips
from cpfd.evaluation.report import Facts, render_page
from cpfd.evaluation.results import read_class_table
from cpfd.files import read_table, written_aside
from cpfd.pages.captions import CAPTIONS, EVIDENCE
from cpfd.params.load import load_params
from cpfd.paths import CONTENT, RAW, REPORTS, VALIDATED
from cpfd.reports.champion import read_champion
from cpfd.reports.confidence import read_confidence
from cpfd.reports.gate import GateReport
from cpfd.reports.metrics import MetricsReport
from cpfd.reports.validation import ValidationReport
from cpfd.stages import run


def main() -> None:
    """Read reports/, data/validated, data/confidence and the clips of some mistakes; write the page."""
    params = load_params("report")
    plots = [REPORTS / "plots" / f"{name}.png" for name in CAPTIONS]
    evidence = [REPORTS / "confidence" / f"{name}.png" for name in EVIDENCE]
    page = render_page(
        Facts(
            metrics=MetricsReport.read(),
            gate=GateReport.read(),
            champion=read_champion(),
            validation=ValidationReport.read(),
            confidence=read_confidence(),
            quarantine=pd.concat([read_table(folder / "quarantine.parquet") for folder in (VALIDATED, CONTENT)]),
            runs=pd.read_csv(REPORTS / "plots" / "runs.csv"),
            per_class=read_class_table(REPORTS / "plots" / "per_class.csv"),
            mistakes=_read("mistakes.csv", "video_id", "actual", "predicted"),
            manifest=read_clips(VALIDATED),
            videos=RAW / params.dataset.name / "videos",
            plots=[path for path in plots if path.exists()],  # a task has a confusion matrix or a plot of decisions
            evidence=[path for path in evidence if path.exists()],  # none without a teacher
            params=params,
        )
    )
    with written_aside(REPORTS / "index.html") as aside:
        aside.write_text(page, encoding="utf-8")


def _read(name: str, *texts: str) -> pd.DataFrame:
    """Read a table of reports/plots, whose columns `texts` are text: a class may well be called 1 or null."""
    return pd.read_csv(REPORTS / "plots" / name, dtype=dict.fromkeys(texts, str), keep_default_na=False)


if __name__ == "__main__":
    run(main)
