"""reports/gate.json: the rules of the gate, and how the student that is to be shipped did by each."""

from pathlib import Path
from typing import ClassVar, Literal

from cpfd.params.schema import Method
from cpfd.paths import REPORTS
from cpfd.reports.report import Part, Report

Comparison = Literal[">=", "<="]


class Rule(Part):
    """A rule and how the student did by it."""

    name: str
    description: str
    """What the value is."""
    value: int | float | None
    """What was found; null where there is nothing to judge, or where it differs from run to run."""
    comparison: Comparison
    """How the value has to compare with the limit."""
    limit: int | float
    passed: bool
    note: str
    """Where the value is from, or why there is none; may be empty."""


class GateReport(Report):
    """Whether the student may be promoted, by stage `gate`."""

    path: ClassVar[Path] = REPORTS / "gate.json"

    passed: bool
    """Whether every rule has passed."""
    method: Method
    seed: int
    champion: str | None
    """The version in production that the student was held against; null without one."""
    rules: list[Rule]

    @property
    def failed(self) -> list[Rule]:
        """The rules that reject the student."""
        return [rule for rule in self.rules if not rule.passed]
