"""The log of an online experiment: one row per served clip becomes one observation per unit.

What is randomised is a unit (a user, a session, a clip); the rows of one unit are one observation, their mean.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cpfd.datasets.tables import column_names, numbers, read_columns, text_column, typed_column
from cpfd.errors import CpfdError
from cpfd.metrics import Floats
from cpfd.pages.formatting import share

Counts = NDArray[np.int64]

MAX_CONTAMINATED = 0.01
"""Largest share of units served by both variants that may be left out; above it the log is refused."""


@dataclass(frozen=True)
class Log:
    """The units of an experiment, in order of arrival.

    measure: what an outcome is. served_at[U]: first row of each unit, UTC. treated[U]. outcome[U]: mean of the unit's
    known outcomes, NaN where none is known. rows[U] and rows_without_outcome[U] of each unit. contaminated: units
    served by both variants, which are left out.
    """

    control: str
    treatment: str
    measure: str
    served_at: NDArray[np.datetime64]
    treated: NDArray[np.bool_]
    outcome: Floats
    rows: Counts
    rows_without_outcome: Counts
    contaminated: int


def read_log(path: Path, control: str | None = None) -> Log:
    """Read a Parquet or CSV log with one row per served clip; docs/online.md has its columns.

    control: name of the control; may be None where the variants are `champion` and `challenger`. Only needed columns
    are read. Raises CpfdError naming the file and the first bad row.
    """
    table = _read_columns(path)
    if table.empty:
        raise CpfdError(f"{path}: has no rows; log one row per served clip")
    variant, names = _codes(path, table.pop("variant"))
    control, treatment = _roles(path, [str(name) for name in names], control)
    treated_row = (variant == [str(name) for name in names].index(treatment)).astype(np.int64)
    unit, ids = _codes(path, table.pop("unit_id"))
    served_at = _times(path, table.pop("served_at"))
    if "outcome" in table:
        measure, values = "mean outcome", _numbers(path, table.pop("outcome"))
    else:
        measure, values = "accuracy", _right(path, table.pop("prediction"), table.pop("label"))

    first = pd.Series(served_at).groupby(unit).min().to_numpy()
    rows = np.bincount(unit)
    treated_rows = np.bincount(unit, treated_row)
    unknown = np.isnan(values)
    missing = np.bincount(unit, unknown).astype(np.int64)
    with np.errstate(invalid="ignore"):
        outcome = np.bincount(unit, np.where(unknown, 0, values)) / np.where(missing < rows, rows - missing, np.nan)
    both = (treated_rows > 0) & (treated_rows < rows)
    if both.mean() > MAX_CONTAMINATED:
        example = str(ids[int(both.argmax())])
        raise CpfdError(
            f"{path}: {both.sum():,} of {len(ids):,} units were served by both variants, such as '{example}', and at"
            f" most {share(MAX_CONTAMINATED)} may be: unit_id must be what was randomised, and a unit keep its variant"
        )
    order = np.argsort(first, kind="stable")
    order = order[~both[order]]
    return Log(
        control=control,
        treatment=treatment,
        measure=measure,
        served_at=first[order],
        treated=treated_rows[order] > 0,
        outcome=outcome[order],
        rows=rows[order],
        rows_without_outcome=missing[order],
        contaminated=int(both.sum()),
    )


def _read_columns(path: Path) -> pd.DataFrame:
    """Read the columns of the log that are needed: a log may have many more, and millions of rows."""
    names = column_names(path)
    needed = ["variant", "unit_id", "served_at"] + (["outcome"] if "outcome" in names else ["prediction", "label"])
    if lacking := [name for name in needed if name not in names]:
        needs = " and ".join(lacking) if "label" not in lacking else f"{' and '.join(lacking)} (or outcome)"
        raise CpfdError(f"{path}: lacks {needs}; it has: {', '.join(names)}. docs/online.md has all columns")
    table = read_columns(path, needed)
    return pd.DataFrame(
        {
            name: typed_column(table, name)
            if name in ("served_at", "outcome")
            else text_column(table, name, path).to_pandas()
            for name in needed
        }
    )


def _codes(path: Path, column: pd.Series) -> tuple[NDArray[np.signedinteger], pd.Index]:
    """Number the distinct values of a column in order of appearance; all must be there."""
    codes, values = pd.factorize(column)
    blank = np.flatnonzero(np.asarray(values == "", dtype=bool))
    if (empty := (codes < 0) | np.isin(codes, blank)).any():
        raise CpfdError(f"{path}: {column.name} is empty in row {_first(empty)}; every row needs one")
    return codes, values


def _roles(path: Path, names: list[str], control: str | None) -> tuple[str, str]:
    """Tell control from treatment."""
    found = ", ".join(f"'{name}'" for name in sorted(names))
    if len(names) != 2:
        raise CpfdError(f"{path}: variant must have two values, a control and a treatment; found {len(names)}: {found}")
    if control is None and set(names) != {"champion", "challenger"}:
        raise CpfdError(f"{path}: name the control of the variants {found} with --control")
    control = control or "champion"
    if control not in names:
        raise CpfdError(f"{path}: --control {control} is none of its variants {found}")
    return control, names[1 - names.index(control)]


def _times(path: Path, column: pd.Series) -> NDArray[np.datetime64]:
    """Read times, UTC where they have no zone, to the microsecond."""
    if pd.api.types.is_numeric_dtype(column):
        raise CpfdError(f"{path}: served_at holds numbers; write times as ISO 8601, such as 2025-03-01T12:30:00Z")
    times = pd.to_datetime(column, format="ISO8601", utc=True, errors="coerce")
    if (wrong := times.isna().to_numpy()).any():
        found = column.iloc[int(wrong.argmax())]
        raise CpfdError(
            f"{path}: served_at is {'empty' if pd.isna(found) else repr(str(found))} in row {_first(wrong)};"
            " expected a time in ISO 8601, such as 2025-03-01T12:30:00Z"
        )
    return times.dt.tz_localize(None).to_numpy(dtype="datetime64[us]")


def _numbers(path: Path, column: pd.Series) -> Floats:
    values, missing = numbers(column)
    wrong = (np.isnan(values) & ~missing) | np.isinf(values)
    if wrong.any():
        raise CpfdError(
            f"{path}: outcome is '{column.iloc[int(wrong.argmax())]}' in row {_first(wrong)}; expected a finite number,"
            " or nothing where it is not known yet"
        )
    return values


def _right(path: Path, prediction: pd.Series, label: pd.Series) -> Floats:
    """1 where the prediction is the label that was found later, 0 where it is not, NaN without a label."""
    predicted, found = (words.mask(words == "") for words in (prediction.astype("string"), label.astype("string")))
    if (empty := predicted.isna().to_numpy()).any():
        raise CpfdError(f"{path}: prediction is empty in row {_first(empty)}; every row needs one")
    return np.asarray((predicted == found).to_numpy(dtype=np.float64, na_value=np.nan))


def _first(wrong: NDArray[np.bool_]) -> str:
    """Name the first bad row, counting from 1 without the header, and how many others there are."""
    others = int(wrong.sum()) - 1
    return f"{int(wrong.argmax()) + 1}" + (f" and {others:,} more" if others else "")
