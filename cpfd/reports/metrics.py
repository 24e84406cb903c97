"""reports/metrics.json: how teacher and students score, how they compare, and which student goes to the gate."""

from pathlib import Path
from typing import ClassVar, Literal

from cpfd.params.schema import Method
from cpfd.paths import REPORTS
from cpfd.reports.report import Part, Report

Model = Literal["teacher", Method]


class PerSplit(Part):
    """A number of the test split, and the same of the validation split."""

    test: int
    validation: int


class Scores(Part):
    """The scores of one network on a split."""

    macro_f1: float
    """Mean of the classes' F1."""
    weighted_f1: float
    """Mean of the classes' F1, weighted by their clips."""
    accuracy: float
    """Share of clips that are right, in every class where several may apply."""
    calibration_error: float
    """Expected calibration error."""


class Spread(Part):
    """A score over the seeds of a method."""

    mean: float
    std: float | None
    """Standard deviation; null for a single run."""


class SpreadInterval(Spread):
    """A score over the seeds of a method, with its bootstrap interval from `low` to `high`."""

    low: float
    high: float


class MeanScores(Part):
    """The scores of a model's networks on a split."""

    macro_f1: Spread
    weighted_f1: Spread
    accuracy: Spread
    calibration_error: Spread


class MeanScoresInterval(MeanScores):
    """The same with the interval of macro-F1."""

    macro_f1: SpreadInterval


class Difference(Part):
    """Macro-F1 of one model minus that of another, and its paired bootstrap interval from `low` to `high`."""

    mean: float
    """The difference as observed, between the means over seeds."""
    low: float
    high: float
    probability: float
    """Share of the resamples in which the first is at least as good."""


class GapClosed(Part):
    """How much of the teacher's lead over `none` a method closes: (method - none) / (teacher - none) in macro-F1.

    All null where that lead is not shown, that is where the interval of teacher minus `none` includes zero.
    """

    mean: float | None
    low: float | None
    high: float | None
    reason: str | None
    """Why there is no share; null where there is one."""


class ShippedStudent(Part):
    """The student that goes to the gate: the seed with the best validation macro-F1 of the chosen method."""

    method: Method
    seed: int
    test: Scores
    validation: Scores


class MetricsReport(Report):
    """What stage `evaluate` finds out on the validation and on the test split."""

    path: ClassVar[Path] = REPORTS / "metrics.json"

    task: Literal["single_label", "multi_label"]
    interval: float
    """Share of the resamples that bootstrap intervals hold."""
    clips: PerSplit
    """Labelled clips."""
    clusters: PerSplit
    """Creators of these clips; a clip of an unknown one stands for itself."""
    shipped: ShippedStudent
    test: dict[Model, MeanScoresInterval]
    """Of the teacher and of every method that was trained."""
    validation: dict[Model, MeanScores]
    """The same."""
    comparisons: dict[Method, dict[Model, Difference]]
    """By method, then by baseline: the method minus `none`, `pfd` and `teacher`, on the test split."""
    gap_closed: dict[Method, GapClosed]
    """On the test split, of every method but `none`."""
