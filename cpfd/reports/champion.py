"""reports/champion.json: how the student does against the champion, the version in production.

Of several bases, the fields of the last come first.
"""

from pathlib import Path
from typing import ClassVar

from pydantic import Field

from cpfd.files import read_json
from cpfd.paths import REPORTS
from cpfd.reports.metrics import Difference
from cpfd.reports.report import Part, Report


class Sides(Part):
    """A number of both students."""

    champion: int | float
    challenger: int | float


class OwnClasses(Part):
    """The classes that each of both students knows alone."""

    champion: list[str]
    challenger: list[str]


class ComparedF1(Difference, Sides):
    """Macro-F1 of both on the same clips, and the challenger's minus the champion's."""


class _Class(Part):
    name: str = Field(validation_alias="class", serialization_alias="class")
    clips: int
    """Test clips of the class."""


class _Slice(Part):
    by: str
    """What the clips are cut by: `creator`, `length` or `text`."""
    slice: str
    """Which of them, in words."""
    clips: int


class ComparedClass(Sides, _Class):
    """F1 of both in a class."""


class ComparedSlice(ComparedF1, _Slice):
    """Macro-F1 of both on some of the test clips."""


class Classes(Part):
    """The classes that the students know."""

    shared: int
    """How many both know."""
    only: OwnClasses


class LeftOut(Part):
    """Labelled test clips that are not compared."""

    unknown_class: int
    """Those of a class that one of the students does not know."""
    seen_by_champion: int
    """Those that the champion was trained or validated on."""


class Comparison(Part):
    """Two students on the same test clips; every score is null where they cannot be compared, and `note` says why."""

    classes: Classes
    bytes: Sides
    """Of the weights, backbones included."""
    parameters: Sides
    """Number of weights."""
    clips: int
    """Test clips that are compared."""
    left_out: LeftOut
    note: str | None
    """Why nothing can be compared, or what is left out; null where there is nothing to say."""
    macro_f1: ComparedF1 | None
    accuracy: Sides | None
    calibration_error: Sides | None
    per_class: list[ComparedClass] | None
    """The classes of at least champion.min_slice_clips test clips."""
    per_slice: list[ComparedSlice] | None
    """The slices of at least champion.min_slice_clips test clips, and not of all."""


class _Version(Part):
    version: str
    """The version in production that champion.version names."""
    commit: str
    """The git commit that it is registered at."""


class ChampionReport(Comparison, _Version, Report):
    """How the student does against the version in production, by stage `champion`."""

    path: ClassVar[Path] = REPORTS / "champion.json"


class NoChampion(Report):
    """The whole report where champion.version is null."""

    path: ClassVar[Path] = ChampionReport.path

    version: None = None


def read_champion(path: Path = ChampionReport.path) -> ChampionReport | None:
    """Read reports/champion.json; None where champion.version was null. Raises CpfdError as `Report.read` does."""
    if path.is_file() and read_json(path) == NoChampion().content():
        return None
    return ChampionReport.read(path)
