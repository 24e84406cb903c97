"""Stage `confidence`: how far to trust the teacher, clip by clip, and whether to distil at all."""

from dataclasses import asdict

import numpy as np
import pandas as pd

from cpfd import metrics
from cpfd.distill.confidence import (
    calibrate,
    choose_method,
    class_prior,
    confidences,
    gather_evidence,
    pool_target,
    posterior,
)
from cpfd.evaluation import plots, results
from cpfd.features.store import FeatureStore
from cpfd.files import read_table, write_json, write_table, written_aside
from cpfd.params import load_params
from cpfd.paths import CONFIDENCE, CONTENT, CROSSFIT, REPORTS
from cpfd.stages import run


def main() -> None:
    """Read data/crossfit; write data/confidence: confidence.parquet, summary.json; plots to reports/confidence."""
    params = load_params("confidence")
    store = FeatureStore(CONTENT)
    task = store.meta["task"]
    index = store.index.set_index("video_id")
    crossfit = {role: read_table(CROSSFIT / f"{role}.parquet").set_index("video_id") for role in ("teacher", "student")}
    ids = crossfit["teacher"].index
    logits = {role: np.stack(table.loc[ids, "logits"].to_list()).astype(np.float64) for role, table in crossfit.items()}
    rows = index.index.get_indexer(ids)
    labels, labelled = store.targets[rows].astype(np.float64), store.labelled[rows]
    evidence = gather_evidence(logits["teacher"][labelled], logits["student"][labelled], labels[labelled], task)
    probabilities = calibrate(logits["teacher"], evidence.temperature, task)

    # An eta below the threshold cannot be told from honest disagreement about hard clips, and counts as no noise.
    eta = evidence.eta if evidence.eta >= params.distill.min_eta else 0.0
    target = np.empty_like(probabilities)
    target[labelled] = posterior(probabilities[labelled], labels[labelled], eta, task)
    target[~labelled] = pool_target(logits["teacher"][~labelled], class_prior(labels[labelled], task), task)

    method, why = choose_method(evidence, int((~labelled).sum()), params.distill.min_eta, params.distill.min_gain)
    if params.distill.method != "auto":
        method, why = params.distill.method, f"distill.method says so; the rule would choose {method}: {why}"
    estimated = confidences(probabilities, labels, labelled, task)
    table = index.loc[ids, ["label"]].reset_index()
    table = table.assign(oof_logits=list(logits["teacher"].astype(np.float32)), **estimated)
    table = table.assign(target=list(target.astype(np.float32)))
    with written_aside(CONFIDENCE) as aside:
        aside.mkdir()
        write_table(aside / "confidence.parquet", table)
        summary = {
            **asdict(evidence),
            "eta_applied": eta,
            "labelled": int(labelled.sum()),
            "unlabelled": int((~labelled).sum()),
            "method": method,
            "why": why,
        }
        write_json(aside / "summary.json", summary)

    # Beside data/confidence, not in it: students depend on that, and another plot must not train them again.
    bins = params.evaluation.calibration_bins
    out_of_fold = logits["teacher"][labelled]
    reliability = {
        name: metrics.reliability(labels[labelled], out_of_fold / temperature, task, bins)
        for name, temperature in [("before", 1.0), ("calibrated", evidence.temperature)]
    }
    before, after = (metrics.calibration_error(each) for each in reliability.values())
    histogram = results.confidence_histogram(table, store.classes, task, bins)
    with written_aside(REPORTS / "confidence") as folder:
        folder.mkdir()
        write_table(folder / "histogram.csv", histogram)
        plots.plot_confidence(folder / "histogram.png", histogram)
        write_table(folder / "reliability.csv", pd.concat(reliability, names=["when"]).reset_index("when"))
        title = f"Calibration error {before:.3f}, then {after:.3f}"
        plots.plot_reliability(folder / "reliability.png", title, reliability)
    print(f"confidence: {method}: {why}")


if __name__ == "__main__":
    run(main)
