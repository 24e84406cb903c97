"""Damaged tables: `python -m bench.faults tables`."""

import tempfile
import unicodedata
from collections import Counter
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.random import Generator
from tqdm import tqdm

from bench.tasks import ROOT
from cpfd.datasets.contract import RawDataset, read_dataset
from cpfd.errors import CpfdError
from cpfd.params.load import load_params
from cpfd.paths import PARAMS_FILE
from cpfd.validation.checks import check_dataset


def damage_tables(count: int, seed: int) -> tuple[dict[str, Counter[str]], list[str]]:
    """Damage manifests in CSV and Parquet, read them, and check their rows as the stage validate does.

    What is done to the form of a table (cells too many, another encoding, rows in quotes that never end) must be
    refused by a sentence that names the file, or change nothing. A changed byte may change its own cell alone. Returns
    what became of how many by kind of damage, and the faults.
    """
    rng = np.random.default_rng(seed)
    rows: dict[str, Counter[str]] = {}
    faults: list[str] = []
    kinds = [*FORMS, "bytes of csv", "bytes of parquet"]
    with tempfile.TemporaryDirectory(prefix="cpfd-faults-") as name:
        for number in tqdm(range(count), "tables", leave=False):
            kind = kinds[number % len(kinds)]
            folder = Path(name, str(number))
            outcome, why = _read_damaged(folder, kind, rng)
            rows.setdefault(kind, Counter())[outcome] += 1
            if why:
                faults.append(f"{number}, {kind}: {why}")
    return rows, faults


def _table() -> pd.DataFrame:
    """A manifest of texts alone, with what readers like to guess about."""
    count = 24
    titles = ["NA", "null", "007", "1e5", "12345678901234567890", 'say "hi", twice', "two\nlines", "café", "😀 | 🐈"]
    return pd.DataFrame(
        {
            "video_id": [str(7301234567890123457 + number) for number in range(count)],
            "title": [titles[number % len(titles)] for number in range(count)],
            "label": ["cat" if number % 2 else "dog" for number in range(count)],
            "creator_id": [("NA", "x1", "")[number % 3] for number in range(count)],
        }
    )


def _csv(table: pd.DataFrame) -> bytes:
    return table.to_csv(index=False, lineterminator="\n").encode()


def _lines(change: Callable[[list[bytes], int], list[bytes]]) -> Callable[[Generator], bytes]:
    """Damage the lines of the table; the second argument of `change` is the place of a row that is one line."""

    def damaged(rng: Generator) -> bytes:
        lines = _csv(_table()).split(b"\n")[:-1]
        return b"\n".join(change(lines, len(lines) - 1 - int(rng.integers(0, 3)))) + b"\n"

    return damaged


def _replaced(lines: list[bytes], place: int, line: bytes) -> list[bytes]:
    return [*lines[:place], line, *lines[place + 1 :]]


FORMS: dict[str, Callable[[Generator], bytes]] = {
    "a comma ends every row": _lines(lambda lines, _: [lines[0], *(line + b"," for line in lines[1:])]),
    "a comma ends one row": _lines(lambda lines, at: _replaced(lines, at, lines[at] + b",")),
    "a cell is missing": _lines(lambda lines, at: _replaced(lines, at, lines[at].rpartition(b",")[0])),
    "a quote never ends": _lines(lambda lines, at: _replaced(lines, at, lines[at].replace(b",", b',"', 1))),
    "a column twice": _lines(lambda lines, _: [lines[0].replace(b"title", b"label"), *lines[1:]]),
    "a column without a name": _lines(lambda lines, _: [lines[0].replace(b"title", b""), *lines[1:]]),
    "semicolons": lambda _: _table().to_csv(index=False, sep=";").encode(),
    "tabs": lambda _: _table().to_csv(index=False, sep="\t").encode(),
    "UTF-16": lambda _: _table().to_csv(index=False).encode("utf-16"),
    "Latin-1": lambda _: _table().replace("😀 | 🐈", "smile").to_csv(index=False).encode("latin-1"),
    "cut off": lambda rng: _csv(_table())[: int(rng.integers(1, 700))],
    "a byte order mark": lambda _: b"\xef\xbb\xbf" + _csv(_table()),
    "Windows line ends": lambda _: _table().to_csv(index=False, lineterminator="\r\n").encode(),
    "blank lines": _lines(lambda lines, at: [*lines[:at], b"", b"", *lines[at:], b""]),
    "decomposed letters": lambda _: unicodedata.normalize("NFD", _csv(_table()).decode()).encode(),
    "columns in another order": lambda _: _csv(_table()[["label", "creator_id", "title", "video_id"]]),
    "ids as floats": lambda _: _parquet(_table().assign(video_id=lambda table: table["video_id"].astype(float))),
    "ids as integers": lambda _: _parquet(_table().assign(video_id=lambda table: table["video_id"].astype("Int64"))),
    "labels as categories": lambda _: _parquet(_table().astype({"label": "category"})),
    "empty": lambda _: b"",
}
"""What is done to the form of a table, each as bytes of the whole file."""


def _parquet(table: pd.DataFrame) -> bytes:
    stream = BytesIO()
    pq.write_table(pa.Table.from_pandas(table, preserve_index=False), stream)
    return stream.getvalue()


def _read_damaged(folder: Path, kind: str, rng: Generator) -> tuple[str, str]:
    """Write a damaged manifest, read and check it: what became of it, and what is wrong with that."""
    flips = int(rng.integers(1, 4))
    content = _flipped(_csv(_table()) if kind.endswith("csv") else _parquet(_table()), flips, rng)
    content = FORMS[kind](rng) if kind in FORMS else content
    file = folder / f"manifest.{'parquet' if content[:4] == b'PAR1' or kind.endswith('parquet') else 'csv'}"
    folder.mkdir()
    file.write_bytes(content)
    try:
        raw = read_dataset(folder)
        _check_rows(raw)
    except CpfdError as error:
        named = str(folder) in str(error)
        return ("refused", "") if named else ("FAULT", f"the file is not named: {error}")
    except Exception as error:
        return "FAULT", f"{type(error).__name__}: {error}"
    cells = _differences(raw.manifest)
    if cells == 0:
        return "as before", ""
    # Of a column whose name has changed, validation warns. Parquet as people write it has no checksums.
    renamed = cells is None and bool(raw.other_columns) and len(raw.manifest) == len(_expected())
    if kind == "bytes of parquet" or (kind == "bytes of csv" and (renamed or (cells is not None and cells <= flips))):
        return "read, and differs", ""
    if kind == "cut off" and raw.manifest.equals(_expected().iloc[: len(raw.manifest)].reset_index(drop=True)):
        return "read, and differs", ""  # at the end of a row, or in its last cell
    return "FAULT", f"read with {cells} other cells"


def _flipped(content: bytes, flips: int, rng: Generator) -> bytes:
    data = bytearray(content)
    for place in rng.integers(0, len(data), flips):
        data[place] ^= 1 << int(rng.integers(0, 8))
    return bytes(data)


def _expected() -> pd.DataFrame:
    return _table().assign(path="")


def _differences(manifest: pd.DataFrame) -> int | None:
    """Cells that differ from the table's; None where rows or columns do."""
    expected = _expected()
    if len(manifest) != len(expected) or set(manifest.columns) != set(expected.columns):
        return None
    return int((manifest[expected.columns].to_numpy(object) != expected.to_numpy(object)).sum())


def _check_rows(raw: RawDataset) -> None:
    """As the stage validate; every row is kept or in quarantine."""
    params = load_params(path=ROOT / PARAMS_FILE)
    checked = check_dataset(raw, "single_label", params.split, params.validation)
    if len(checked.manifest) + checked.quarantined_clips != len(raw.manifest):
        raise AssertionError(f"{len(raw.manifest) - len(checked.manifest) - checked.quarantined_clips} rows are lost")
