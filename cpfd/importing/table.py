"""Import adapter: a CSV or Parquet table with one row per clip, under any column names."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from cpfd.datasets.contract import MANIFEST_COLUMNS, SPLITS
from cpfd.datasets.tables import as_text, column_names, read_columns
from cpfd.errors import CpfdError
from cpfd.importing.dataset import Imported, dense_table, some
from cpfd.importing.sources import TableSource

SPLIT_NAMES = {name: name for name in SPLITS} | {
    "training": "train",
    "val": "validation",
    "valid": "validation",
    "dev": "validation",
    "testing": "test",
    "": "",
}


def import_table(source: TableSource) -> Imported:
    """Read the table `path`; `columns` maps names of the contract to those of the table, {"label": "category"}.

    Columns that bear a name of the contract already need no mapping; all others are left out and noted. `path` is
    relative to the folder `videos`; `dense` is as in `dense_table`. Rows with a file that is missing or an id that is
    there twice are imported as they are, for validation to judge, and noted.

    Raises CpfdError when a column is not there, a path leaves `videos`, or a split has an unknown name.
    """
    src, videos = source.path, source.videos
    _refuse_wrong_mapping(source.columns)
    manifest, notes = _mapped(src, source.columns)
    if "split" in manifest:
        manifest["split"] = _splits(manifest["split"], src)
    files: dict[str, Path] = {}
    if videos is not None:
        files = _files(manifest, src, videos)
        if absent := [path for path in manifest["path"] if path and path not in files]:
            notes.append(f"{videos}: {len(absent)} files of the table are not there: {some(absent)}")
    elif "path" in manifest:
        raise CpfdError(f"{src}: has paths, but --videos does not say which folder they are relative to")
    else:
        manifest["path"] = ""
    if twice := manifest["video_id"][manifest["video_id"].duplicated()].unique().tolist():
        notes.append(f"{src}: {len(twice)} video_ids are there more than once: {some(twice)}")
    first_rows = manifest.drop_duplicates("video_id")
    clips = {
        video_id: files[path]
        for video_id, path in zip(first_rows["video_id"], first_rows["path"], strict=True)
        if path in files
    }
    features, more = dense_table(source.dense, manifest["video_id"].tolist(), clips, source.columns, src)
    return Imported(manifest, features, files, [*notes, *more])


def parse_mapping(pairs: Sequence[str]) -> dict[str, str]:
    """Parse `label=category` and its like, contract column first; raises CpfdError naming the wrong one."""
    mapping: dict[str, str] = {}
    for pair in pairs:
        name, equals, column = pair.partition("=")
        if not equals or name in mapping:
            raise _wrong_mapping(pair)
        mapping[name] = column
    _refuse_wrong_mapping(mapping)
    return mapping


def _refuse_wrong_mapping(columns: Mapping[str, str]) -> None:
    for name, column in columns.items():
        if name not in MANIFEST_COLUMNS or not column:
            raise _wrong_mapping(f"{name}={column}")


def _wrong_mapping(pair: str) -> CpfdError:
    return CpfdError(
        f"--map {pair}: expected NAME=COLUMN, with each NAME once and one of {', '.join(MANIFEST_COLUMNS)}"
    )


def _mapped(src: Path, columns: Mapping[str, str]) -> tuple[pd.DataFrame, list[str]]:
    names = column_names(src)
    there = ", ".join(names)
    if absent := [f"{name}={column}" for name, column in columns.items() if column not in names]:
        raise CpfdError(f"{src}: --map {some(absent)}: no such column; the table has: {there}")
    taken = {name: columns.get(name, name) for name in MANIFEST_COLUMNS if columns.get(name, name) in names}
    for name in ("video_id", "label"):
        if name not in taken:
            hint = _ids(src) if name == "video_id" else ""
            raise CpfdError(f"{src}: no column {name}; name it with --map {name}=COLUMN{hint}; the table has: {there}")
    table = as_text(read_columns(src, taken.values()), src, verbatim=[taken.get("path", "path")])
    left_out = [column for column in names if column not in taken.values()]
    notes = [f"{src}: columns left out: {some(left_out)}"] if left_out else []
    return pd.DataFrame({name: table[column] for name, column in taken.items()}), notes


def _ids(src: Path) -> str:
    """Which columns of a table could be its ids: those with another value in every row."""
    table = read_columns(src)
    unique = [
        name
        for name in table.column_names
        if table[name].null_count == 0 and not pa.types.is_nested(table[name].type)
        if pc.count_distinct(table[name]).as_py() == table.num_rows
    ]
    if unique:
        return f" (with another value in every row: {some(unique)})"
    return " (none has another value in every row: add one, such as the number of the row)"


def _splits(given: pd.Series, src: Path) -> pd.Series:
    lowered = given.str.strip().str.lower()
    if unknown := sorted(set(given[~lowered.isin(list(SPLIT_NAMES))])):
        raise CpfdError(
            f"{src}: unknown split(s): {some(unknown)}; expected one of {', '.join(filter(None, SPLIT_NAMES))}"
        )
    return lowered.map(SPLIT_NAMES)


def _files(manifest: pd.DataFrame, src: Path, videos: Path) -> dict[str, Path]:
    if not videos.is_dir():
        raise CpfdError(f"--videos {videos}: no such folder")
    if "path" not in manifest:
        raise CpfdError(f"{src}: no column path; name it with --map path=COLUMN, relative to {videos}")
    paths = [path for path in manifest["path"].unique() if path]
    root = videos.resolve()
    # Other than Path.resolve(), os.path.realpath leaves links in a loop as they are: no such file.
    real = {path: Path(os.path.realpath(root / path)) for path in paths}
    leaving = [path for path in paths if ".." in Path(path).parts or not real[path].is_relative_to(root)]
    if leaving:
        raise CpfdError(f"{src}: these paths leave {videos}: {some(leaving)}; give paths of files inside it")
    return {path: videos / path for path in paths if (videos / path).is_file()}
