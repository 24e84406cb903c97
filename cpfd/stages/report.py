"""Stage `report`: reports/index.html, the one page that tells what came out."""

import pandas as pd

from cpfd.evaluation.report import Facts, render_page
from cpfd.evaluation.results import read_class_table
from cpfd.files import read_table, written_aside
from cpfd.pages.captions import CAPTIONS, EVIDENCE
from cpfd.params.load import load_params
from cpfd.paths import CONTENT, REPORTS, VALIDATED
from cpfd.reports.champion import read_champion
from cpfd.reports.confidence import ConfidenceReport
from cpfd.reports.gate import GateReport
from cpfd.reports.metrics import MetricsReport
from cpfd.reports.validation import ValidationReport
from cpfd.stages import run


def main() -> None:
    """Read what the stages before have written to reports/, data/validated and data/confidence; write the page."""
    plots = [REPORTS / "plots" / f"{name}.png" for name in CAPTIONS]
    page = render_page(
        Facts(
            metrics=MetricsReport.read(),
            gate=GateReport.read(),
            champion=read_champion(),
            validation=ValidationReport.read(),
            confidence=ConfidenceReport.read(),
            quarantine=pd.concat([read_table(folder / "quarantine.parquet") for folder in (VALIDATED, CONTENT)]),
            per_class=read_class_table(REPORTS / "plots" / "per_class.csv"),
            plots=[path for path in plots if path.exists()],  # multi-label data have no confusion matrix
            evidence=[REPORTS / "confidence" / f"{name}.png" for name in EVIDENCE],
            params=load_params("report"),
        )
    )
    with written_aside(REPORTS / "index.html") as aside:
        aside.write_text(page, encoding="utf-8")


if __name__ == "__main__":
    run(main)
