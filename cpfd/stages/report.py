"""Stage `report`: reports/index.html, the one page that tells what came out."""

import pandas as pd

from cpfd.evaluation.report import Facts, render_page
from cpfd.files import read_json, read_table, written_aside
from cpfd.pages.captions import CAPTIONS, EVIDENCE
from cpfd.params.load import load_params
from cpfd.paths import CONFIDENCE, CONTENT, REPORTS, VALIDATED
from cpfd.stages import run


def main() -> None:
    """Read what the stages before have written to reports/, data/validated and data/confidence; write the page."""
    plots = [REPORTS / "plots" / f"{name}.png" for name in CAPTIONS]
    page = render_page(
        Facts(
            metrics=read_json(REPORTS / "metrics.json"),
            gate=read_json(REPORTS / "gate.json"),
            champion=read_json(REPORTS / "champion.json"),
            validation=read_json(REPORTS / "validation.json"),
            dataset=read_json(VALIDATED / "dataset.json"),
            quarantine=pd.concat([read_table(folder / "quarantine.parquet") for folder in (VALIDATED, CONTENT)]),
            confidence=read_json(CONFIDENCE / "summary.json"),
            # A class may well be called 1 or null.
            per_class=pd.read_csv(REPORTS / "plots" / "per_class.csv", dtype={"class": str}, keep_default_na=False),
            plots=[path for path in plots if path.exists()],  # multi-label data have no confusion matrix
            evidence=[REPORTS / "confidence" / f"{name}.png" for name in EVIDENCE],
            params=load_params("report"),
        )
    )
    with written_aside(REPORTS / "index.html") as aside:
        aside.write_text(page, encoding="utf-8")


if __name__ == "__main__":
    run(main)
