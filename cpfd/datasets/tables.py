"""Tables that come from outside, in CSV or Parquet: nothing is guessed, and what is not sound is refused.

Every cell of a CSV file is text, and an empty one is missing. A Parquet file's columns keep their Arrow types, so that
an integer stays exact beside missing ones. Text becomes NFC: the same word has the same bytes, however it was typed.
Tables that CPFD has written itself are read by `cpfd.files.read_table`.
"""

import csv
import re
import sys
import unicodedata
from collections import Counter
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import IO, Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray
from pandas.api.types import is_numeric_dtype, is_string_dtype

from cpfd.errors import CpfdError

ROWS = 65_536
"""Rows that are decoded at once."""
_INDEX = re.compile(r"__index_level_\d+__")  # what pandas calls an index without a name, which is no column
_NUMBER = r"(?i)^[+-]?(\d+\.?\d*(e[+-]?\d+)?|\.\d+(e[+-]?\d+)?|inf|infinity)$"
_NOT_UTF_8 = "save it as UTF-8, in a spreadsheet as `CSV UTF-8`, or with `iconv -f OLD -t UTF-8`"


def column_names(path: Path) -> list[str]:
    """The columns of a table, in NFC.

    Raises CpfdError naming the file where it is absent or unreadable, or where a column has no name or that of another.
    """
    if _is_csv(path):
        with open_csv(path) as (names, _):
            return names
    with _explained(path), pq.ParquetFile(path) as file:
        return list(_stored_names(path, file))


def require_columns(path: Path, necessary: Collection[str]) -> None:
    """Raise CpfdError, naming the columns that are there, unless all that are `necessary` are among them."""
    names = column_names(path)
    if lacking := [name for name in necessary if name not in names]:
        raise CpfdError(f"{path}: lacks the column {' and '.join(lacking)}; it has: {', '.join(names)}")


def read_columns(path: Path, columns: Collection[str] | None = None) -> pa.Table:
    """Read a table, or those of its columns that are among `columns`, each value as it is in the file.

    Raises CpfdError as `column_names`, and naming the line of a CSV file where a row has another number of cells than
    the header, a quote is not closed, or what is there is not UTF-8.
    """
    if _is_csv(path):
        return pa.concat_tables(_csv_batches(path, columns, ROWS))
    with _explained(path), pq.ParquetFile(path) as file:
        stored = _stored_names(path, file, columns)
        return file.read(list(stored.values())).select(list(stored.values())).rename_columns(list(stored))


def read_batches(path: Path, columns: Collection[str], rows: int) -> Iterator[pa.Table]:
    """As `read_columns`, `rows` rows at a time."""
    if _is_csv(path):
        yield from _csv_batches(path, columns, rows)
        return
    with _explained(path), pq.ParquetFile(path) as file:
        stored = _stored_names(path, file, columns)
        for batch in file.iter_batches(rows, columns=list(stored.values())):
            yield pa.Table.from_batches([batch]).select(list(stored.values())).rename_columns(list(stored))


def as_text(table: pa.Table, path: Path, verbatim: Collection[str] = ("path",)) -> pd.DataFrame:
    """Every value of a table read from `path` as a string, "" where it is missing; the columns are of dtype object.

    Integers and the like become their exact decimal text. Text is NFC but for the `verbatim` columns, which name files.

    Raises CpfdError naming file and column where that holds floating-point numbers, which cannot tell long ids apart,
    or something that is no text.
    """
    columns = {}
    for name in table.column_names:
        column = text_column(table, name, path, nfc=name not in verbatim)
        columns[name] = pd.Series(column.to_numpy(zero_copy_only=False), dtype=object)
    return pd.DataFrame(columns, index=pd.RangeIndex(table.num_rows))


def read_text(path: Path, columns: Collection[str], necessary: Collection[str] = ("video_id",)) -> pd.DataFrame:
    """Read those of the columns that are there as `as_text` does; raises CpfdError where a `necessary` one is not."""
    require_columns(path, necessary)
    return as_text(read_columns(path, columns), path)


def text_column(table: pa.Table, name: str, path: Path, *, nfc: bool = True) -> pa.ChunkedArray:
    """One column of `as_text`, as an Arrow array of strings."""
    column = _plain(table[name])
    kind = column.type
    try:
        if pa.types.is_floating(kind) and pc.all(pc.is_nan(column), min_count=0).as_py():
            text = pa.nulls(len(column), pa.string())
        elif pa.types.is_floating(kind):
            raise CpfdError(
                f"{path}: column {name} holds floating-point numbers, which cannot tell long ids apart;"
                " write it as text or as integers"
            )
        elif pa.types.is_timestamp(kind) or pa.types.is_boolean(kind):  # as pandas writes them to CSV
            text = pa.array(column.to_pandas().astype("string"), pa.string())
        else:
            text = pc.cast(column, pa.large_string() if pa.types.is_large_string(kind) else pa.string())
            text.validate(full=True)
    except pa.ArrowException as error:
        raise CpfdError(f"{path}: column {name} is of type {kind}, not text: {error}") from error
    text = pc.fill_null(text, "")
    return pa.chunked_array(pc.utf8_normalize(text, "NFC") if nfc else text)


def typed_column(table: pa.Table, name: str) -> pd.Series:
    """One column with its values as they are in the file; those that are true or false, or decimal, as float64."""
    column = _plain(table[name])
    if pa.types.is_boolean(column.type) or pa.types.is_decimal(column.type):
        column = column.cast(pa.float64())
    return column.to_pandas()


def read_dense(path: Path, video_id: str = "video_id") -> pd.DataFrame:
    """Read a dense table: ids as text, and as numbers every column whose cells are all numbers or missing.

    `video_id` names the column of the ids. A column with any other text keeps its cells as they are, for validation
    to judge. Raises CpfdError as `read_columns` and `as_text`, and where there is no such column.
    """
    require_columns(path, [video_id])
    table = read_columns(path)
    columns = {}
    for name in table.column_names:
        if name == video_id:
            columns[name] = text_column(table, name, path).to_pandas().astype(object)
            continue
        columns[name] = typed_column(table, name)
        if is_string_dtype(columns[name]):
            values, missing = numbers(columns[name])
            columns[name] = pd.Series(values) if (np.isnan(values) == missing).all() else columns[name]
    return pd.DataFrame(columns)


def numbers(column: pd.Series) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """A column as numbers, float64[N], NaN where a cell holds none; and where a cell is missing or blank, bool[N].

    Of text, decimal numbers and infinities are numbers, true and false are 1 and 0; `nan` and `1_000` are none.
    """
    if is_numeric_dtype(column):
        return column.to_numpy(np.float64, na_value=np.nan), column.isna().to_numpy(bool)
    if not is_string_dtype(column):
        return np.full(len(column), np.nan), column.isna().to_numpy(bool)
    trimmed = pc.utf8_trim_whitespace(pa.array(column, pa.large_string(), from_pandas=True))
    written = pc.if_else(pc.match_substring_regex(trimmed, _NUMBER), trimmed, None)
    truth = pc.index_in(pc.utf8_lower(trimmed), pa.array(["false", "true"], pa.large_string()), skip_nulls=True)
    values = pc.coalesce(pc.cast(written, pa.float64()), pc.cast(truth, pa.float64()))
    missing = pc.fill_null(pc.equal(trimmed, ""), True)
    return values.to_numpy(zero_copy_only=False), missing.to_numpy(zero_copy_only=False)


@contextmanager
def open_csv(path: Path) -> Iterator[tuple[list[str], Any]]:
    """The header of a CSV file, and a `csv.reader` of the rows below it, blank lines included, for the block.

    Raises CpfdError as `column_names`, and from within the block where the file is not UTF-8 or wrongly quoted.
    """
    with _explained(path), path.open(encoding="utf-8-sig", newline="") as stream:
        reader = _reader(stream)
        names = [unicodedata.normalize("NFC", name) for name in next(reader, [])]
        if not names:
            raise CpfdError(f"{path}: not a readable csv table: its first line is empty")
        if "\0" in "".join(names):
            raise CpfdError(f"{path}: is not UTF-8; {_NOT_UTF_8}")
        if len(names) == 1 and (other := next((mark for mark in ";\t|" if mark in names[0]), None)):
            raise CpfdError(
                f"{path}: its header is one column, {names[0]!r}, which {other!r} seems to divide; write it with commas"
            )
        yield _refuse_names(path, names), reader


def _csv_batches(path: Path, columns: Collection[str] | None, rows: int) -> Iterator[pa.Table]:
    """At least one table, without rows where the file has none."""
    # Not pyarrow.csv: a quote that is never closed swallows the rest of the file there, without a word.
    with open_csv(path) as (names, reader):
        wanted = {name: place for place, name in enumerate(names) if columns is None or name in columns}
        lines = list(islice(reader, rows))
        while True:
            filled = [row for row in lines if row]
            if set(map(len, filled)) - {len(names)}:
                raise CpfdError(_fault(path))
            cells = list(zip(*filled, strict=True)) or [()] * len(names)
            arrays = {name: pa.array(cells[place], pa.string()) for name, place in wanted.items()}
            yield pa.table({name: pc.if_else(pc.equal(cell, ""), None, cell) for name, cell in arrays.items()})
            if not (lines := list(islice(reader, rows))):
                return


def _reader(stream: IO[str]) -> Any:
    csv.field_size_limit(sys.maxsize)  # a transcript may be longer than 131,072 characters
    return csv.reader(stream, strict=True)


def _fault(path: Path) -> str:
    """What is wrong with a CSV file that could not be read, and in which line: slow, but needed once."""
    with path.open("rb") as binary:
        for number, line in enumerate(binary, start=1):
            try:
                line.decode()
            except UnicodeDecodeError:
                return f"{path}: line {number} is not UTF-8; {_NOT_UTF_8}"
    start, width = 1, 0
    with path.open(encoding="utf-8-sig", newline="") as stream:
        reader = _reader(stream)
        try:
            for row in reader:
                width = width or len(row)
                if row and len(row) != width:
                    return (
                        f"{path}: the row in line {start} has {len(row)} cells, the header {width}; put text that holds"
                        " a comma in quotes, and end no line with a comma"
                    )
                start = reader.line_num + 1
        except csv.Error as error:
            return f"{path}: not a readable csv table: the row that begins in line {start} is wrongly quoted ({error})"
    return f"{path}: changed while it was read; try again"


def _stored_names(path: Path, file: pq.ParquetFile, columns: Collection[str] | None = None) -> dict[str, str]:
    """The name in the file of each column that is among `columns`, by its name in NFC."""
    stored = [name for name in file.schema_arrow.names if not _INDEX.fullmatch(name)]
    names = _refuse_names(path, [unicodedata.normalize("NFC", name) for name in stored])
    return {name: old for name, old in zip(names, stored, strict=True) if columns is None or name in columns}


def _refuse_names(path: Path, names: list[str]) -> list[str]:
    if twice := [name for name, times in Counter(names).items() if name and times > 1]:
        raise CpfdError(f"{path}: more than one column is called {', '.join(twice)}; rename or remove all but one")
    if "" in names:
        raise CpfdError(f"{path}: column {names.index('') + 1} has no name; name or remove it")
    return names


def _is_csv(path: Path) -> bool:
    if not path.is_file():
        raise CpfdError(f"{path}: no such file")
    if path.suffix not in (".parquet", ".csv"):
        raise CpfdError(f"{path}: expected a .parquet or .csv table")
    return path.suffix == ".csv"


def _plain(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """A column with each value in its place, not in a dictionary."""
    return column.cast(column.type.value_type) if pa.types.is_dictionary(column.type) else column


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    try:
        yield
    except (UnicodeDecodeError, csv.Error) as error:
        raise CpfdError(_fault(path)) from error
    except (OSError, pa.ArrowException) as error:
        raise CpfdError(f"{path}: not a readable {path.suffix[1:]} table: {error}") from error
