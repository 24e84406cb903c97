"""Stage `evaluate`: teacher and students on the validation and test split, compared; which student is shipped."""

import re
import shutil
from pathlib import Path

import pandas as pd

from cpfd import metrics
from cpfd.datasets.validated import encoded_clips
from cpfd.errors import CpfdError
from cpfd.evaluation import curves, mistakes, plots, results
from cpfd.files import read_json, read_table, remove, write_table, written_aside
from cpfd.params.load import load_params
from cpfd.paths import CONTENT, MODELS, REPORTS, SHIPPED, VALIDATED
from cpfd.reports.confidence import ConfidenceReport, read_confidence
from cpfd.stages import run

STUDENTS = MODELS / "students"


def main() -> None:
    """Read logits, data/features/content and data/confidence; write reports/metrics.json and plots, models/shipped."""
    params = load_params("evaluate")
    methods, seeds, bins = params.students.methods, params.students.seeds, params.evaluation.calibration_bins
    files = {"teacher": [MODELS / "teacher" / "logits.parquet"]}
    files |= {method: [STUDENTS / f"{method}-{seed}" / "logits.parquet" for seed in seeds] for method in methods}
    _remove_orphans({f"{method}-{seed}" for method in methods for seed in seeds})
    about = read_json(VALIDATED / "task.json")
    if not about["has_dense"]:  # nothing else was trained
        files = {"none": files["none"]}
    classes, task = about["classes"], about["task"]
    index = encoded_clips(read_table(VALIDATED / "labels.parquet"), read_table(CONTENT / "index.parquet"))
    validation, test = (results.read_split(name, index, classes, task, files) for name in ("validation", "test"))
    method = read_confidence().method
    if method not in methods:
        raise CpfdError(
            f"{ConfidenceReport.path}: method '{method}' is to be shipped, but students.methods in params.yaml"
            f" has only {', '.join(methods)}: add it there, or name one of these as distill.method"
        )
    shipped = results.choose_shipped(method, seeds, validation)
    report = results.summarise(validation, test, shipped, params.evaluation)
    shipped_logits = test.logits[method][shipped.run]
    runs = results.runs_table(validation, test, seeds)
    reliability = metrics.reliability(test.targets, shipped_logits, task, bins)
    f1 = {model: scores.macro_f1 for model, scores in report.test.items()}

    with written_aside(REPORTS / "plots") as folder:
        folder.mkdir()
        write_table(folder / "runs.csv", runs)
        write_table(folder / "f1.csv", pd.DataFrame([{"model": model, **each.content()} for model, each in f1.items()]))
        plots.plot_f1(folder / "f1.png", f1, runs, method, params.evaluation.interval)
        write_table(folder / "reliability.csv", reliability)
        title = f"Reliability (calibration error {metrics.calibration_error(reliability):.3f})"
        plots.plot_reliability(folder / "reliability.png", title, {"student": reliability})
        write_table(folder / "per_class.csv", results.class_table(test, shipped))
        write_table(folder / "mistakes.csv", mistakes.surest_mistakes(test, shipped))
        _write_curves(folder, curves.read_curves(files), shipped)
        decisions = mistakes.decision_table(test, shipped)
        write_table(folder / "decisions.csv", decisions)
        if task == "multi_label":  # clips of several classes have no one cell of a confusion matrix
            plots.plot_decisions(folder / "decisions.png", decisions)
        else:
            pairs = results.confusion_pairs(test, shipped)
            write_table(folder / "confusion.csv", pairs)
            plots.plot_confusion(folder / "confusion.png", pairs, classes)
    with written_aside(SHIPPED) as aside:
        # Not copy2: in DVC's folders files may be read-only links into its cache.
        shutil.copytree(STUDENTS / f"{method}-{shipped.seed}", aside, copy_function=shutil.copyfile)
    report.write()


def _write_curves(folder: Path, learnt: pd.DataFrame, shipped: results.Shipped) -> None:
    write_table(folder / "curves.csv", learnt)
    plots.plot_curves(folder / "curves.png", learnt)
    plots.plot_loss(folder / "loss.png", learnt[(learnt["model"] == shipped.method) & (learnt["run"] == shipped.run)])


def _remove_orphans(wanted: set[str]) -> None:
    """Delete students of methods and seeds that params.yaml no longer has.

    DVC leaves outputs of stages that have gone; all of models/students being a dependency of this stage, they would
    change its hash, and with it dvc.lock, though nothing reads them. DVC's cache still has them.
    """
    for folder in sorted(STUDENTS.iterdir()) if STUDENTS.is_dir() else []:
        if re.fullmatch(r"(none|pfd|cpfd|posterior)-\d+", folder.name) and folder.name not in wanted:
            remove(folder)


if __name__ == "__main__":
    run(main)
