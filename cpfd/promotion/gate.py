"""The gate: what a student must show before it may be promoted. A rejection is a result."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from cpfd.params.schema import Champion, Gate
from cpfd.student.trial import Trial

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


def judge(
    metrics: Mapping[str, Any],
    class_drops: Mapping[str, float],
    trial: Trial,
    dense: int,
    limits: Gate,
    duel: Mapping[str, Any],
    champion_limits: Champion,
) -> dict[str, Any]:
    """Hold a student against every rule: the content of reports/gate.json.

    `metrics` is reports/metrics.json, `class_drops` the F1 that each class loses against the student alone (means over
    seeds), `dense` the number of dense values that the student's network reads, `duel` reports/champion.json.
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
        *(judge_duel(duel, trial, champion_limits) if duel["version"] else []),
    ]
    return {
        "passed": all(rule.passed for rule in rules),
        "method": method,
        "seed": shipped["seed"],
        "champion": duel["version"],
        "rules": [asdict(rule) for rule in rules],
    }


def judge_duel(duel: Mapping[str, Any], trial: Trial, limits: Champion) -> list[Rule]:
    """The rules that hold a student against the champion in `duel`, the content of reports/champion.json."""
    champion = f"the champion {duel['version']}"
    f1, errors, size = duel["macro_f1"], duel["calibration_error"], duel["bytes"]
    assert trial.latency_ratio is not None
    note = duel["note"] or ""
    no_slices = note if f1 is None else f"none has {limits.min_slice_clips} test clips"
    class_drop, in_class = _largest_drop(duel["per_class"], lambda each: each["class"], no_slices)
    slice_drop, in_slice = _largest_drop(duel["per_slice"], lambda each: f"{each['by']}: {each['slice']}", no_slices)
    return [
        _rule(
            "champion_not_worse",
            f"probability of being no worse than {champion}",
            f1 and f1["probability"],
            ">=",
            limits.min_not_worse_probability,
            note,
        ),
        _rule(
            "champion_class_f1_drop",
            f"largest loss of F1 in a class against {champion}",
            class_drop,
            "<=",
            limits.max_class_f1_drop,
            in_class,
        ),
        _rule(
            "champion_slice_f1_drop",
            f"largest loss of macro-F1 in a slice against {champion}",
            slice_drop,
            "<=",
            limits.max_slice_f1_drop,
            in_slice,
        ),
        _rule(
            "champion_calibration_rise",
            f"rise of the expected calibration error against {champion}",
            errors and errors["challenger"] - errors["champion"],
            "<=",
            limits.max_calibration_rise,
            note,
        ),
        Rule(
            "champion_latency_ratio",
            f"time per clip, as a multiple of that of {champion}",
            None,
            "<=",
            limits.max_latency_ratio,
            trial.latency_ratio <= limits.max_latency_ratio,
            "measured on the machine that ran the gate, see reports/latency.json there",
        ),
        _rule(
            "champion_size_ratio",
            f"bytes of the student, as a multiple of those of {champion}",
            size["challenger"] / size["champion"],
            "<=",
            limits.max_size_ratio,
        ),
    ]


def _largest_drop(
    parts: Sequence[Mapping[str, Any]] | None, name: Callable[[Mapping[str, Any]], str], none: str
) -> tuple[float | None, str]:
    """The largest loss of F1 among classes or slices, and where it is."""
    if not parts:
        return None, none
    worst = max(parts, key=lambda each: each["champion"] - each["challenger"])
    drop = worst["champion"] - worst["challenger"]
    return drop, f"in {name(worst)}" if drop > 0 else ""


def _rule(name: str, description: str, value: float | None, comparison: str, limit: float, note: str = "") -> Rule:
    """Apply a rule; one that has no value to judge does not stand in the way."""
    passed = value is None or bool(COMPARISONS[comparison](value, limit))
    return Rule(name, description, value, comparison, limit, passed, note)
