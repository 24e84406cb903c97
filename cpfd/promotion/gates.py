"""The gate: what a student must show before it may be promoted. A rejection is a result."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cpfd.models.student import Student
from cpfd.params import Gate

COMPARISONS = {">=": lambda value, limit: value >= limit, "<=": lambda value, limit: value <= limit}


@dataclass(frozen=True)
class Rule:
    """A rule and how it went; `value` is None where there is none to record, `note` then says why."""

    name: str
    description: str
    value: float | None
    comparison: str
    limit: float
    passed: bool
    note: str = ""


@dataclass(frozen=True)
class Trial:
    """What the assembled student did with test clips' files, no dense feature in sight."""

    milliseconds: float
    """Median time per clip, from file to logits, on this machine."""
    largest_difference: float
    """Largest absolute difference of a logit to that of the evaluation."""
    clips: int


def try_student(student: Student, clips: Sequence[tuple[Path | None, str]], evaluated: NDArray[np.float32]) -> Trial:
    """Classify `clips`, (file, text) each, one by one, and compare with the `evaluated` logits[N, C]."""
    times, differences = [], []
    student.logits(*clips[0])  # the first call also pays for setting up
    for (video, text), expected in zip(clips, evaluated, strict=True):
        start = time.perf_counter()
        logits = student.logits(video, text)
        times.append(1000 * (time.perf_counter() - start))
        differences.append(float(np.abs(logits.numpy() - expected).max()))
    return Trial(median(times), max(differences), len(clips))


def judge(
    metrics: Mapping[str, Any], class_drops: Mapping[str, float], trial: Trial, dense: int, limits: Gate
) -> dict[str, Any]:
    """Hold a student against every rule: the content of reports/gate.json.

    `metrics` is reports/metrics.json, `class_drops` the F1 that each class loses against the student alone (means over
    seeds), `dense` the number of dense values that the student's network reads.
    """
    shipped = metrics["shipped"]
    method = shipped["method"]
    worst = max(class_drops, key=lambda name: class_drops[name])
    if method == "none":
        probability, gap, alone = 1.0, {"mean": None, "reason": None}, "it is the student alone"
    else:
        probability = metrics["comparisons"][method]["none"]["probability"]
        gap, alone = metrics["gap_closed"][method], ""
    rules = [
        _rule("macro_f1", "macro-F1 on the test split", shipped["test"]["macro_f1"], ">=", limits.min_macro_f1),
        _rule(
            "not_worse",
            "probability of being no worse than the student alone",
            probability,
            ">=",
            limits.min_not_worse_probability,
            alone,
        ),
        _rule(
            "gap_closed",
            "share of the teacher-student gap that is closed",
            gap["mean"],
            ">=",
            limits.min_gap_closed,
            alone or gap["reason"] or "",
        ),
        _rule(
            "class_f1_drop",
            "largest loss of F1 in a class against the student alone",
            class_drops[worst],
            "<=",
            limits.max_class_f1_drop,
            f"in {worst}" if class_drops[worst] > 0 else "",
        ),
        _rule(
            "calibration_error",
            "expected calibration error on the test split",
            shipped["test"]["calibration_error"],
            "<=",
            limits.max_calibration_error,
        ),
        Rule(
            "latency_ms",
            "median milliseconds per clip, from file to probabilities",
            None,
            "<=",
            limits.max_latency_ms,
            trial.milliseconds <= limits.max_latency_ms,
            # A time differs from run to run, and an output of the pipeline must not.
            "measured on the machine that ran the gate, see reports/latency.json there",
        ),
        _rule(
            "logit_difference",
            f"largest difference to the evaluated logits, on {trial.clips} test clips from their files",
            trial.largest_difference,
            "<=",
            limits.max_logit_difference,
        ),
        _rule("no_dense_input", "dense values that the student reads", dense, "<=", 0),
    ]
    return {
        "passed": all(rule.passed for rule in rules),
        "method": method,
        "seed": shipped["seed"],
        "rules": [asdict(rule) for rule in rules],
    }


def _rule(name: str, description: str, value: float | None, comparison: str, limit: float, note: str = "") -> Rule:
    """Apply a rule; one that has no value to judge does not stand in the way."""
    passed = value is None or bool(COMPARISONS[comparison](value, limit))
    return Rule(name, description, value, comparison, limit, passed, note)
