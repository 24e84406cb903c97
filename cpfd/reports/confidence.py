"""data/confidence/summary.json: what the cross-fitted networks say of the data, and which method they speak for."""

from pathlib import Path
from typing import ClassVar, Literal

from cpfd.files import read_json
from cpfd.params.schema import Method
from cpfd.paths import CONFIDENCE
from cpfd.reports.report import Part, Report


class Evidence(Part):
    """What the cross-fitted networks say of the training data as a whole."""

    temperature: float
    """T under which the teacher's out-of-fold logits are calibrated to the given labels."""
    true_temperature: float
    """T under which they are calibrated to the labels of the validation split, which are taken for true."""
    eta: float
    """Estimated rate of label noise, as a rate of uniformly random labels."""
    eta_error: float | None
    """Standard error of eta; null where the networks are no better than chance and cannot tell."""
    gain: float
    """g: out-of-fold agreement of the teacher with the labels, minus that of an equally cross-fitted student."""
    gain_error: float
    """Standard error of g: of the paired difference in accuracy."""
    teacher_agreement: float
    """Out-of-fold agreement of the teacher with the given labels: accuracy, for multi_label macro-F1."""
    student_agreement: float
    """The same of the student."""
    validation_agreement: float
    """Agreement of the same teachers with the labels of validation clips."""


class Distillability(Part):
    """What there is to gain by distilling."""

    teacher_macro_f1: float
    """Against the given labels, out-of-fold."""
    student_macro_f1: float
    """The same of the student."""
    follows_teacher: float
    """Share of the teacher's decisions that the student makes as well: how far content alone predicts the teacher."""
    sure_and_contradicted: int
    """Clips (multi_label: decisions) that the teacher is sure of against the label."""
    labels_doubted: int
    """Clips (multi_label: decisions) whose label is not the most probable class of the posterior."""
    advice: str
    """One sentence."""


class ConfidenceReport(Report, Evidence):
    """What stage `confidence` finds out, before any student is trained."""

    path: ClassVar[Path] = CONFIDENCE / "summary.json"

    eta_applied: float
    """Eta where it is shown and at least distill.min_eta, else 0."""
    noise_strength: float | None
    """Clips per class that the assumption of uniform noise is worth; null: it is taken as given."""
    transition: list[list[float]]
    """[C, C]: in row c, the probability of each given label where c is the true class."""
    distillability: Distillability
    labelled: int
    """Labelled training clips."""
    unlabelled: int
    """Training clips without a label."""
    method: Method
    """The method whose student is shipped."""
    why: str
    """The reason for it."""


class NoTeacher(Report):
    """The whole report where the data set has no dense columns."""

    path: ClassVar[Path] = ConfidenceReport.path

    method: Literal["none"] = "none"
    why: str = "the data set has no dense features, so there is no teacher to learn from"


def read_confidence(path: Path = ConfidenceReport.path) -> ConfidenceReport | NoTeacher:
    """Read data/confidence/summary.json; raises CpfdError as `Report.read` does."""
    if path.is_file() and read_json(path) == NoTeacher().content():
        return NoTeacher()
    return ConfidenceReport.read(path)
