"""The gate: what a student must show before it may be promoted. A rejection is a result."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from operator import attrgetter, ge, le
from typing import NamedTuple

from cpfd.params.schema import Method, Params
from cpfd.reports.champion import ChampionReport
from cpfd.reports.gate import Comparison, GateReport, Rule
from cpfd.reports.metrics import MetricsReport
from cpfd.student.trial import Trial

_HOLDS: Mapping[Comparison, Callable[[float, float], bool]] = {">=": ge, "<=": le}
_ALONE = "it is the student alone"


@dataclass(frozen=True)
class Candidate:
    """The student that is to be shipped, and all that the gate judges it by."""

    metrics: MetricsReport
    class_drops: Mapping[str, float]
    """F1 that each class loses against the student alone: means over seeds."""
    trial: Trial
    dense_values: int
    """How many dense values its network reads."""
    comparison: ChampionReport | None
    """How it does against the champion; None without one."""
    min_slice_clips: int | None
    """Fewest test clips of the classes and slices that are compared there; None without one."""

    @property
    def method(self) -> Method:
        """The method that it was trained by."""
        return self.metrics.shipped.method

    @property
    def champion(self) -> ChampionReport:
        """How it does against the champion, for rules that are only asked where there is one."""
        assert self.comparison is not None
        return self.comparison


class Finding(NamedTuple):
    """What a rule judges, None where there is nothing to judge, and a note about it."""

    value: float | None
    note: str = ""


@dataclass(frozen=True)
class _Question:
    """A row of the table of rules; `limit` is a key of params.yaml, or the limit itself."""

    name: str
    description: str
    find: Callable[[Candidate], Finding]
    comparison: Comparison
    limit: str | int


def judge(candidate: Candidate, params: Params) -> GateReport:
    """Hold a student against every rule, and against the rules about the champion where there is one."""
    table = RULES + CHAMPION_RULES if candidate.comparison else RULES
    rules = [_apply(question, candidate, params) for question in table]
    shipped = candidate.metrics.shipped
    return GateReport(
        passed=all(rule.passed for rule in rules),
        method=shipped.method,
        seed=shipped.seed,
        champion=candidate.comparison.version if candidate.comparison else None,
        rules=rules,
    )


def judge_times(trial: Trial, max_milliseconds: float, max_ratio: float) -> list[Rule]:
    """Hold a student's time per clip against its limits, the second one where it was tried beside a champion.

    A time differs from run to run, and so may a verdict on it: none of it is in reports/gate.json. Stage `gate` tells
    it, and `cpfd promote` measures anew and decides.
    """
    found = [
        (
            "latency_ms",
            "median milliseconds per clip, from file to probabilities",
            trial.milliseconds,
            max_milliseconds,
        ),
        ("champion_latency_ratio", "time per clip, as a multiple of the champion's", trial.latency_ratio, max_ratio),
    ]
    return [
        Rule(name=name, description=what, value=value, comparison="<=", limit=limit, passed=value <= limit, note="")
        for name, what, value, limit in found
        if value is not None
    ]


def _apply(question: _Question, candidate: Candidate, params: Params) -> Rule:
    """Apply a rule; one that has no value to judge does not stand in the way."""
    value, note = question.find(candidate)
    limit = attrgetter(question.limit)(params) if isinstance(question.limit, str) else question.limit
    return Rule(
        name=question.name,
        description=question.description.format(candidate=candidate),
        value=value,
        comparison=question.comparison,
        limit=limit,
        passed=value is None or _HOLDS[question.comparison](value, limit),
        note=note,
    )


def _not_worse(candidate: Candidate) -> Finding:
    if candidate.method == "none":
        return Finding(1.0, _ALONE)
    return Finding(candidate.metrics.comparisons[candidate.method]["none"].probability)


def _gap_closed(candidate: Candidate) -> Finding:
    if candidate.method == "none":
        return Finding(None, _ALONE)
    gap = candidate.metrics.gap_closed[candidate.method]
    return Finding(gap.mean, gap.reason or "")


def _champion_not_worse(candidate: Candidate) -> Finding:
    f1 = candidate.champion.macro_f1
    return Finding(f1.probability if f1 else None, candidate.champion.note or "")


def _champion_class_drop(candidate: Candidate) -> Finding:
    classes = candidate.champion.per_class or []
    return _largest({each.name: each.champion - each.challenger for each in classes}, _no_part(candidate))


def _champion_slice_drop(candidate: Candidate) -> Finding:
    slices = candidate.champion.per_slice or []
    drops = {f"{each.by}: {each.slice}": each.champion - each.challenger for each in slices}
    return _largest(drops, _no_part(candidate))


def _champion_calibration_rise(candidate: Candidate) -> Finding:
    error = candidate.champion.calibration_error
    return Finding(error.challenger - error.champion if error else None, candidate.champion.note or "")


def _no_part(candidate: Candidate) -> str:
    """Why there is no class or slice to look at."""
    comparable = candidate.champion.macro_f1 is not None
    return f"none has {candidate.min_slice_clips} test clips" if comparable else candidate.champion.note or ""


def _largest(drops: Mapping[str, float], none: str = "") -> Finding:
    """The largest of losses by class or slice, and where it is; `none` says why there are none."""
    if not drops:
        return Finding(None, none)
    worst = max(drops, key=lambda name: drops[name])
    return Finding(drops[worst], f"in {worst}" if drops[worst] > 0 else "")


RULES = (
    _Question(
        "macro_f1",
        "macro-F1 of the judged seed on the test split",
        lambda it: Finding(it.metrics.shipped.test.macro_f1),
        ">=",
        "gate.min_macro_f1",
    ),
    _Question(
        "not_worse",
        "probability of being no worse than the student alone, over seeds",
        _not_worse,
        ">=",
        "gate.min_not_worse_probability",
    ),
    _Question(
        "gap_closed",
        "share of the teacher-student gap that is closed, over seeds",
        _gap_closed,
        ">=",
        "gate.min_gap_closed",
    ),
    _Question(
        "class_f1_drop",
        "largest loss of F1 in a class against the student alone, over seeds",
        lambda it: _largest(it.class_drops),
        "<=",
        "gate.max_class_f1_drop",
    ),
    _Question(
        "calibration_error",
        "expected calibration error of the judged seed on the test split",
        lambda it: Finding(it.metrics.shipped.test.calibration_error),
        "<=",
        "gate.max_calibration_error",
    ),
    _Question(
        "logit_difference",
        "largest difference to the evaluated logits, on {candidate.trial.clips} test clips from their files",
        lambda it: Finding(it.trial.largest_difference),
        "<=",
        "gate.max_logit_difference",
    ),
    _Question("no_dense_input", "dense values that the student reads", lambda it: Finding(it.dense_values), "<=", 0),
)
"""What every student is asked: name, description, value, comparison and limit of each rule."""

CHAMPION_RULES = (
    _Question(
        "champion_not_worse",
        "probability of being no worse than the champion {candidate.champion.version}",
        _champion_not_worse,
        ">=",
        "champion.min_not_worse_probability",
    ),
    _Question(
        "champion_class_f1_drop",
        "largest loss of F1 in a class against the champion {candidate.champion.version}",
        _champion_class_drop,
        "<=",
        "champion.max_class_f1_drop",
    ),
    _Question(
        "champion_slice_f1_drop",
        "largest loss of macro-F1 in a slice against the champion {candidate.champion.version}",
        _champion_slice_drop,
        "<=",
        "champion.max_slice_f1_drop",
    ),
    _Question(
        "champion_calibration_rise",
        "rise of the expected calibration error against the champion {candidate.champion.version}",
        _champion_calibration_rise,
        "<=",
        "champion.max_calibration_rise",
    ),
    _Question(
        "champion_size_ratio",
        "bytes of the student, as a multiple of those of the champion {candidate.champion.version}",
        lambda it: Finding(it.champion.bytes.challenger / it.champion.bytes.champion),
        "<=",
        "champion.max_size_ratio",
    ),
)
"""What a student is asked besides where there is a champion."""
