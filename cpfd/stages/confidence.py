"""Stage `confidence`: how far to trust the teacher, clip by clip, and whether to distil at all."""

import pandas as pd

from cpfd import metrics
from cpfd.distill.assessment import assess
from cpfd.errors import CpfdError
from cpfd.evaluation import plots, results
from cpfd.features.store import FeatureStore
from cpfd.files import read_table, write_table, written_aside
from cpfd.params.load import load_params
from cpfd.paths import CONFIDENCE, CONTENT, CROSSFIT, REPORTS, VALIDATED
from cpfd.reports.confidence import ConfidenceReport, NoTeacher
from cpfd.stages import run


def main() -> None:
    """Read data/crossfit; write data/confidence: confidence.parquet, summary.json; plots to reports/confidence."""
    params = load_params("confidence")
    store = FeatureStore(CONTENT, VALIDATED)
    if not store.has_teacher:
        _write_no_teacher(params.distill.method)
        return
    task = store.task
    teacher, student = (read_table(CROSSFIT / f"{role}.parquet") for role in ("teacher", "student"))
    found = assess(store, teacher, student, params.distill)
    with written_aside(CONFIDENCE) as aside:
        aside.mkdir()
        write_table(aside / "confidence.parquet", found.table)
        found.report.write(aside / ConfidenceReport.path.name)

    # Beside data/confidence, not in it: students depend on that, and another plot must not train them again.
    bins = params.evaluation.calibration_bins
    reliability = {
        name: metrics.reliability(found.clips.labels, found.clips.teacher / temperature, task, bins)
        for name, temperature in [("before", 1.0), ("calibrated", found.report.temperature)]
    }
    before, after = (metrics.calibration_error(each) for each in reliability.values())
    histogram = results.confidence_histogram(found.table, store.classes, task, bins)
    with written_aside(REPORTS / "confidence") as folder:
        folder.mkdir()
        write_table(folder / "histogram.csv", histogram)
        plots.plot_confidence(folder / "histogram.png", histogram)
        write_table(folder / "reliability.csv", pd.concat(reliability, names=["when"]).reset_index("when"))
        title = f"Calibration error {before:.3f}, then {after:.3f}"
        plots.plot_reliability(folder / "reliability.png", title, reliability)
    print(f"confidence: {found.report.method}: {found.report.why}")
    print(f"confidence: {found.report.distillability.advice}")


def _write_no_teacher(method: str) -> None:
    """Write the same files for a data set without dense columns: tables without rows, and why the student is alone."""
    report = NoTeacher()
    if method not in ("auto", report.method):
        raise CpfdError(f"distill.method is '{method}', but {report.why}: set it to auto or none in params.yaml")
    with written_aside(CONFIDENCE) as aside:
        aside.mkdir()
        write_table(aside / "confidence.parquet", pd.DataFrame(columns=["video_id", "label"], dtype=str))
        report.write(aside / report.path.name)
    with written_aside(REPORTS / "confidence") as folder:
        folder.mkdir()
        write_table(folder / "histogram.csv", pd.DataFrame(columns=["low", "high", "agrees", "disagrees"]))
        write_table(folder / "reliability.csv", pd.DataFrame(columns=["when", "confidence", "accuracy"]))
    print(f"confidence: {report.method}: {report.why}")


if __name__ == "__main__":
    run(main)
