"""Stage `gate`: the student that would be shipped, held against the rules of params.yaml and the champion."""

from dataclasses import asdict

import numpy as np
import pandas as pd
import torch

from cpfd import metrics
from cpfd.features.store import FeatureStore
from cpfd.features.text import join_text
from cpfd.files import read_table, write_json
from cpfd.params.load import load_params
from cpfd.paths import CONTENT, MODELS, RAW, REPORTS, VALIDATED
from cpfd.promotion.gate import Candidate, judge
from cpfd.reports.champion import read_champion
from cpfd.reports.metrics import MetricsReport
from cpfd.stages import run
from cpfd.student.package import assemble_student
from cpfd.student.student import Student
from cpfd.student.trial import try_student


def main() -> None:
    """Read reports/metrics.json and champion.json, the students, some test clips' files; write reports/gate.json.

    The measured latency goes to reports/latency.json, which is no output of the pipeline: it differs from run to run.
    """
    params = load_params("gate")
    torch.set_num_threads(params.extract.threads)
    report = MetricsReport.read()
    method, seed = report.shipped.method, report.shipped.seed
    store = FeatureStore(CONTENT)
    student = assemble_student(MODELS / "students" / f"{method}-{seed}")

    clips = store.index.iloc[store.rows("test", labelled=True)][["video_id"]][: params.gate.trial_clips]
    manifest = clips.merge(read_table(VALIDATED / "manifest.parquet"), on="video_id", validate="1:1")
    videos = RAW / store.meta["name"] / "videos"
    files = [videos / path if path else None for path in manifest["path"]]
    evaluated = _test_logits(method, seed).loc[manifest["video_id"]]
    comparison = read_champion()
    champion = Student.load(MODELS / "champion") if comparison else None
    texts, champion_texts = (
        join_text(manifest, each.network.config.text_columns or []) for each in (student, champion or student)
    )
    trial = try_student(
        student, champion, list(zip(files, texts, strict=True)), champion_texts, np.stack(evaluated.to_list())
    )
    write_json(REPORTS / "latency.json", asdict(trial))

    alone, shipped = (
        np.mean([_class_f1(store, name, each) for each in params.students.seeds], axis=0) for name in ("none", method)
    )
    candidate = Candidate(
        metrics=report,
        class_drops=dict(zip(store.classes, (alone - shipped).tolist(), strict=True)),
        trial=trial,
        dense_values=student.network.config.dense_values,
        comparison=comparison,
        min_slice_clips=params.champion.min_slice_clips if comparison else None,
    )
    verdict = judge(candidate, params)
    verdict.write()
    measured = {"latency_ms": trial.milliseconds, "champion_latency_ratio": trial.latency_ratio}
    for rule in verdict.rules:
        value = measured.get(rule.name, rule.value)
        told = f"{value:.3f}" if isinstance(value, float) else "-" if value is None else value
        print(f"gate: {'ok  ' if rule.passed else 'FAIL'} {rule.description}: {told} (limit {rule.limit:g})")
    print(f"gate: {'passed' if verdict.passed else 'not passed'}: {method}, seed {seed}")


def _test_logits(method: str, seed: int) -> "pd.Series[float]":
    table = read_table(MODELS / "students" / f"{method}-{seed}" / "logits.parquet")
    return table[table["split"] == "test"].set_index("video_id")["logits"]


def _class_f1(store: FeatureStore, method: str, seed: int) -> "pd.Series[float]":
    logits = _test_logits(method, seed)
    rows = store.index.set_index("video_id").index.get_indexer(logits.index)
    table = metrics.per_class(store.targets[rows], np.stack(logits.to_list()), store.classes, store.meta["task"])
    return table["f1"]


if __name__ == "__main__":
    run(main)
