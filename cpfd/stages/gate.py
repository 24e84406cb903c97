"""Stage `gate`: the student that would be shipped, held against the rules of params.yaml and the champion."""

from dataclasses import asdict

import numpy as np
import torch

from cpfd.datasets.validated import encoded_clips, read_clips
from cpfd.evaluation.results import read_class_table
from cpfd.features.text import join_text
from cpfd.files import read_table, write_json
from cpfd.params.load import load_params
from cpfd.paths import CONTENT, MODELS, RAW, REPORTS, SHIPPED, VALIDATED
from cpfd.promotion.gate import Candidate, judge, judge_times
from cpfd.reports.champion import read_champion
from cpfd.reports.metrics import MetricsReport
from cpfd.stages import run
from cpfd.student.package import assemble_student
from cpfd.student.student import Student
from cpfd.student.trial import try_student


def main() -> None:
    """Read the reports of evaluate and champion, models/shipped, some test clips' files; write reports/gate.json.

    The measured times are told, and left in reports/latency.json for who wants to know: no output of the pipeline.
    """
    params = load_params("gate")
    torch.set_num_threads(params.extract.threads)
    report = MetricsReport.read()
    method, seed = report.shipped.method, report.shipped.seed
    student = assemble_student(SHIPPED)

    clips = encoded_clips(read_clips(VALIDATED), read_table(CONTENT / "index.parquet"))
    manifest = clips[(clips["split"] == "test") & (clips["label"] != "")][: params.gate.trial_clips]
    videos = RAW / params.dataset.name / "videos"
    files = [videos / path if path else None for path in manifest["path"]]
    evaluated = read_table(SHIPPED / "logits.parquet").set_index("video_id").loc[manifest["video_id"], "logits"]
    comparison = read_champion()
    champion = Student.load(MODELS / "champion") if comparison else None
    texts, champion_texts = (
        join_text(manifest, each.network.config.text_columns or []) for each in (student, champion or student)
    )
    trial = try_student(
        student, champion, list(zip(files, texts, strict=True)), champion_texts, np.stack(evaluated.to_list())
    )
    write_json(REPORTS / "latency.json", asdict(trial))

    classes = read_class_table(REPORTS / "plots" / "per_class.csv")
    candidate = Candidate(
        metrics=report,
        class_drops=dict(zip(classes["class"], classes["f1_none"] - classes[f"f1_{method}"], strict=True)),
        trial=trial,
        dense_values=student.network.config.dense_values,
        comparison=comparison,
        min_slice_clips=params.champion.min_slice_clips if comparison else None,
    )
    verdict = judge(candidate, params)
    verdict.write()
    times = judge_times(trial, params.gate.max_latency_ms, params.champion.max_latency_ratio)
    for rule in [*verdict.rules, *times]:
        told = f"{rule.value:.3f}" if isinstance(rule.value, float) else "-" if rule.value is None else rule.value
        when = "; measured again and decided by `cpfd promote`" if rule in times else ""
        print(f"gate: {'ok  ' if rule.passed else 'FAIL'} {rule.description}: {told} (limit {rule.limit:g}{when})")
    print(f"gate: {'passed' if verdict.passed else 'not passed'}: {method}, seed {seed}")


if __name__ == "__main__":
    run(main)
