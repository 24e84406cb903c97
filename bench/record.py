"""The record of the benchmark, docs/results.json: all numbers of the tables in docs/results.md, and more."""

import json
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from cpfd.files import written_aside

DIGITS = 6
"""Significant digits of every number in the record."""
WIDTH = 160

PFD = ("pfd-in-sample", "pfd")
BASELINE = "none"


class Change(BaseModel):
    """How much better than another model, with the interval of the paired bootstrap."""

    mean: float
    low: float
    high: float


class PairedChange(Change):
    """A difference in macro-F1 on one task; `seed_interval` is corrected for overlapping splits, None for one seed."""

    seed_interval: tuple[float, float] | None


class Row(BaseModel):
    """A model on one task: macro-F1, mean and interval, and on each seed; CPU seconds of one training."""

    title: str
    macro_f1: float
    low: float
    high: float
    by_seed: list[float]
    cpu_seconds: float
    settings: list[str]
    """The arm that validation macro-F1 has chosen, seed by seed."""
    against_none: PairedChange | None
    """Against the student alone; None for the student itself."""
    against_pfd: PairedChange | None
    """Against the form of PFD with the larger mean; None for that form itself."""
    gap_closed: float | None
    """Share of teacher minus student; None where the interval of that does not exclude zero."""


class Clips(BaseModel):
    """Labelled clips tested and trained on, mean over seeds."""

    tested: float
    trained: float


class TaskRecord(BaseModel):
    """What came out on one task."""

    task: str
    seeds: list[int]
    clips: Clips
    evidence: list[dict[str, Any]]
    """What stage `confidence` tells before a student is trained: the numbers of its `summary.json`, seed by seed."""
    models: dict[str, Row]

    @property
    def best_pfd(self) -> str | None:
        """The form of PFD with the larger mean, which methods are compared with."""
        return best_pfd({name: row.macro_f1 for name, row in self.models.items()})


class OverallRow(BaseModel):
    """A model over all tasks: relative change of macro-F1, averaged."""

    title: str
    against_none: Change | None
    against_pfd: Change | None
    """Both are None where a task lacks the other model."""
    gap_closed: float | None


class Record(BaseModel):
    """All that the benchmark has found."""

    tasks: list[TaskRecord]
    overall: dict[str, OverallRow]

    def as_json(self) -> str:
        """The record with DIGITS significant digits: what fits on a line is on a line."""
        plain = json.loads(self.model_dump_json(), parse_float=_rounded)
        return _laid_out(plain) + "\n"


def best_pfd(macro_f1: dict[str, float]) -> str | None:
    """Of the forms of PFD, the one with the larger macro-F1; None where there is none."""
    return max((name for name in PFD if name in macro_f1), key=macro_f1.__getitem__, default=None)


def read_record(path: Path) -> Record:
    """Read a record."""
    return Record.model_validate_json(path.read_text(encoding="utf-8"))


def write_record(path: Path, record: Record) -> None:
    """Write a record."""
    with written_aside(path) as aside:
        aside.write_text(record.as_json(), encoding="utf-8")


def _rounded(number: str) -> float:
    return float(f"{float(number):.{DIGITS}g}")


def _laid_out(value: Any, indent: str = "", name: str = "") -> str:
    """JSON of a value called `name`, broken into lines of at most WIDTH characters where that can be."""
    name = f"{json.dumps(name)}: " if name else ""
    line = f"{indent}{name}{json.dumps(value, allow_nan=False, ensure_ascii=False)}"
    if len(line) <= WIDTH or not isinstance(value, dict | list):
        return line
    items = value.items() if isinstance(value, dict) else [("", each) for each in value]
    opening, closing = "{}" if isinstance(value, dict) else "[]"
    inside = ",\n".join(_laid_out(each, f"{indent}  ", key) for key, each in items)
    return f"{indent}{name}{opening}\n{inside}\n{indent}{closing}"
