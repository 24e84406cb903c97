"""reports/validation.json: what the checks of the data set have found."""

from pathlib import Path
from typing import ClassVar, Literal

from cpfd.paths import REPORTS
from cpfd.reports.report import Part, Report

Split = Literal["train", "validation", "test"]
SplitCounts = dict[Split, int]


class ValidatedDataset(Part):
    """The data set that is left once unusable clips are in quarantine."""

    name: str
    task: Literal["single_label", "multi_label"]
    version: str
    """Hash of all content that training can see, the clips' bytes included: 16 hexadecimal digits."""
    classes: dict[str, SplitCounts]
    """By class, its labelled clips by split; a clip of several classes counts for each."""
    text_columns: list[str]
    dense_columns: list[str]
    clips: SplitCounts
    labelled: SplitCounts
    """Clips with a label."""
    quarantined: int
    """Clips in quarantine."""


class Quarantine(Part):
    """What was found to be unusable."""

    clips: int
    share: float
    """Share of the clips of the manifest."""
    reasons: dict[str, int]
    """By kind of reason, rows of the manifest and of the dense table, the most frequent first."""


class Outcome(Part):
    """An expectation about a table, and whether the data meet it."""

    suite: str
    """The table."""
    expectation: str
    """The type of Great Expectations."""
    column: str
    severity: Literal["critical", "warning"]
    """A critical expectation that is not met ends the pipeline."""
    success: bool
    observed: str
    expected: str
    remedy: str
    """What to do where it is not met."""


class ValidationReport(Report):
    """What stage `validate` has found."""

    path: ClassVar[Path] = REPORTS / "validation.json"

    passed: bool
    """Whether every critical expectation is met."""
    dataset: ValidatedDataset
    quarantine: Quarantine
    expectations: list[Outcome]

    @property
    def unmet(self) -> list[Outcome]:
        """The expectations that the data do not meet."""
        return [each for each in self.expectations if not each.success]
