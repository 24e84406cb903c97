"""A project folder as it is once all students are trained, with logits of known quality."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
from ruamel.yaml import YAML

from cpfd.distill.confidence import uniform_noise
from cpfd.evaluation import plots
from cpfd.evaluation.results import confidence_histogram
from cpfd.files import read_table, write_json, write_table
from cpfd.metrics import probabilities, reliability
from cpfd.params.schema import Method
from cpfd.reports.champion import NoChampion
from cpfd.reports.confidence import ConfidenceReport, Distillability
from cpfd.reports.gate import GateReport, Rule
from cpfd.reports.validation import Outcome, Quarantine, ValidatedDataset, ValidationReport
from tests.support.project import ROOT

CLASSES = ["beauty", "cooking", "diy", "fitness", "gaming", "music", "pets", "travel"]
SKILL = {"teacher": 1.2, "none": 0.6, "pfd": 0.7, "cpfd": 0.68, "posterior": 0.8}
BEST_SEED = {"single_label": 1, "multi_label": 2}
"""Of the posterior students of write_gated_project: the one that `evaluate` ships."""
STAGES = """\
stages:
  evaluate:
    cmd: python -m cpfd.stages.evaluate
    params: [students, evaluation]
  report:
    cmd: python -m cpfd.stages.report
    params: [dataset, demo, split, validation, video, text, dense, backbone, extract, model, train, teacher, crossfit,
      students, distill, evaluation, gate, champion]
"""


def write_trained_project(
    folder: Path, *, clips: int = 200, skill: Mapping[str, float] = SKILL, task: str = "single_label"
) -> Path:
    """Write what `evaluate` reads for three seeds of each method in `skill`: the margin of the true class's logit.

    Logits are the margin plus noise that all models share, so that equal skills give equal logits.
    """
    rng = np.random.default_rng(1)
    params = YAML().load(ROOT / "params.yaml")
    params["students"] = {"methods": ["none", "pfd", "cpfd", "posterior"], "seeds": [0, 1, 2]}
    params["evaluation"] = {"seed": 0, "bootstrap_samples": 2000, "interval": 0.95, "calibration_bins": 10}
    YAML().dump(params, folder / "params.yaml")
    (folder / "dvc.yaml").write_text(STAGES)
    index = pd.DataFrame(
        {
            "video_id": [f"clip-{number:04}" for number in rng.permutation(clips)],
            "split": rng.permutation(np.resize(["train", "train", "validation", "test", "test"], clips)),
            "creator_id": [f"creator-{number}" if number else "" for number in rng.integers(0, clips // 5, clips)],
        }
    )
    truth = rng.choice(len(CLASSES), clips, p=np.arange(8, 0, -1) / 36)
    targets = np.eye(len(CLASSES))[truth]
    if task == "multi_label":
        targets[rng.random(targets.shape) < 0.1] = 1
    index["label"] = ["|".join(np.array(CLASSES)[row > 0]) for row in targets]
    index.loc[rng.random(clips) < 0.1, "label"] = ""
    write_json(folder / "data/validated/task.json", {"task": task, "classes": CLASSES, "has_dense": True})
    write_table(folder / "data/validated/labels.parquet", index)
    write_table(folder / "data/features/content/index.parquet", index[["video_id"]])

    noise = rng.normal(0, 1, (3, *targets.shape))
    scored = ((index["label"] != "") & (index["split"] != "train")).to_numpy()
    for model, margin in skill.items():
        for seed in range(1 if model == "teacher" else 3):
            name = "teacher" if model == "teacher" else f"students/{model}-{seed}"
            logits = 2 * (margin * (2 * targets - 1) + noise[seed]).astype(np.float32)
            judged = np.ones(clips, bool) if model == "teacher" else scored  # the teacher judges every clip
            write_logits(folder / "models" / name / "logits.parquet", index[judged], logits[judged])
            write_curves(folder / "models" / name / "curves")

    train = index[index["split"] == "train"]
    oof = (2 * targets + noise[0])[train.index]
    confidence = pd.DataFrame(
        {
            "video_id": train["video_id"],
            "label": train["label"],
            "oof_logits": list(oof),
            "max_prob": probabilities(oof, task).max(axis=1),
        }
    )
    write_table(folder / "data/confidence/confidence.parquet", confidence)
    evidence = folder / "reports/confidence"
    plots.plot_confidence(evidence / "histogram.png", confidence_histogram(confidence, CLASSES, task, 10))
    tables = {"calibrated": reliability(targets[train.index], oof, task, 10)}
    plots.plot_reliability(evidence / "reliability.png", "Teacher out-of-fold", tables)
    method = next(name for name in reversed(skill))
    confidence_report(method).write(folder / ConfidenceReport.path)
    return folder


def confidence_report(method: Method) -> ConfidenceReport:
    """What the confidence stage might have found out."""
    return ConfidenceReport(
        temperature=1.31,
        true_temperature=1.02,
        eta=0.28,
        eta_error=0.04,
        gain=0.11,
        gain_error=0.02,
        teacher_agreement=0.62,
        student_agreement=0.51,
        validation_agreement=0.83,
        eta_applied=0.28,
        noise_strength=None,
        transition=uniform_noise(0.28, len(CLASSES)).round(4).tolist(),
        distillability=Distillability(
            teacher_macro_f1=0.6,
            student_macro_f1=0.49,
            follows_teacher=0.61,
            sure_and_contradicted=17,
            labels_doubted=93,
            advice="Distil: about 28% of the labels are noise.",
        ),
        labelled=280,
        unlabelled=40,
        method=method,
        why="28% of labels are noise",
    )


def write_gated_project(folder: Path, *, failed: frozenset[str] = frozenset(), task: str = "single_label") -> Path:
    """Write what `report` reads besides the output of `evaluate`; rules named in `failed` reject the student."""
    write_trained_project(folder, clips=800, task=task)
    rules = [
        ("macro_f1", "macro-F1 on the test split", 0.535, 0.4, ">=", ""),
        ("not_worse", "probability of being no worse than the student alone", 0.999, 0.5, ">=", ""),
        ("gap_closed", "share of the teacher-student gap that is closed", 0.343, -0.5, ">=", ""),
        ("class_f1_drop", "largest loss of F1 in a class against the student alone", 0.031, 0.2, "<=", "in travel"),
        ("calibration_error", "expected calibration error on the test split", 0.089, 0.25, "<=", ""),
        ("logit_difference", "largest difference to the evaluated logits", 0.001, 0.1, "<=", ""),
        ("no_dense_input", "dense values that the student reads", 0, 0, "<=", ""),
    ]
    keys = ("name", "description", "value", "limit", "comparison", "note")
    judged = [Rule(**dict(zip(keys, rule, strict=True)), passed=rule[0] not in failed) for rule in rules]
    gate = GateReport(passed=not failed, method="posterior", seed=BEST_SEED[task], champion=None, rules=judged)
    gate.write(folder / GateReport.path)
    NoChampion().write(folder / NoChampion.path)
    report = validation_report(task)
    report.write(folder / ValidationReport.path)
    write_json(folder / "data/validated/dataset.json", report.dataset.content() | {"classes": CLASSES})
    clips = read_table(folder / "data/features/content/index.parquet")[["video_id"]]
    content = clips.assign(path="", caption="five minute pasta", content_hash="")
    write_table(folder / "data/validated/content.parquet", content)
    quarantine = {
        "data/validated": [
            ("dense", "clip-0101", "infinite value: watch_25"),
            ("manifest", "clip-0007", "truncated: 11 of 48 frames are there"),
            ("manifest", "clip-0311", "no video stream"),
            ("manifest", "clip-0312", "no video stream"),
        ],
        "data/features/content": [("clips", "clip-0400", "frame 7 cannot be decoded")],
    }
    for stage, rows in quarantine.items():
        table = pd.DataFrame(rows, columns=["table", "video_id", "reason"])
        write_table(folder / stage / "quarantine.parquet", table)
    return folder


def validation_report(task: str) -> ValidationReport:
    """What the validation of a data set with one warning might have found."""
    met = Outcome(
        suite="dense_columns",
        expectation="expect_column_values_to_be_in_set",
        column="numeric",
        severity="critical",
        success=True,
        observed="numbers",
        expected="numbers",
        remedy="turn it into numbers",
    )
    unmet = {
        "column": "drift",
        "severity": "warning",
        "success": False,
        "observed": "0.31 (test)",
        "expected": "drift of watch_25 at most 0.25",
    }
    clips = {"train": 320, "validation": 160, "test": 320}
    return ValidationReport(
        passed=True,
        dataset=ValidatedDataset(
            name="demo",
            task=task,
            version="0123456789abcdef",
            classes={name: {"train": 35, "validation": 20, "test": 40} for name in CLASSES},
            text_columns=["caption"],
            dense_columns=["watch_25"],
            clips=clips,
            labelled={**clips, "train": 280},
            quarantined=4,
        ),
        quarantine=Quarantine(clips=4, share=0.005, reasons={"no video stream": 2, "truncated": 1}),
        expectations=[met] * 30 + [met.model_copy(update=unmet)],
    )


def write_logits(path: Path, clips: pd.DataFrame, logits: np.ndarray) -> None:
    write_table(path, clips[["video_id", "split"]].assign(logits=list(logits)))


def write_curves(folder: Path) -> None:
    """Write what a training of three epochs logs."""
    logged = {"loss": [2.0, 1.4, 1.1], "eval_loss": [1.9, 1.5, 1.6], "eval_macro_f1": [0.3, 0.5, 0.6]}
    for name, values in logged.items():
        path = folder / "plots" / "metrics" / f"{name}.tsv"
        path.parent.mkdir(parents=True, exist_ok=True)
        pd.DataFrame({"step": [10, 20, 30], name: values}).to_csv(path, sep="\t", index=False)
