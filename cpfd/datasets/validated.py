"""What stage `validate` leaves of each clip in data/validated.

content.parquet  video_id, path, text columns, content_hash (SHA-256 of the clip's file, "" without one)
labels.parquet   video_id, split, label and, where the data set has them, creator_id, published_at
dense.parquet    video_id and the dense columns, float64
task.json        task, classes (in the order of logits), has_dense
content.json     rows of the raw manifest, and how many of them are in quarantine
dataset.json     all that is told of the data set: name, version, counts by split and class
quarantine.parquet

A stage depends on what it reads: a changed label or dense value makes no clip's content new.
"""

from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from cpfd.datasets.contract import MANIFEST_COLUMNS, TEXT_COLUMNS
from cpfd.files import read_table
from cpfd.paths import CONTENT, VALIDATED

if TYPE_CHECKING:
    from cpfd.project.revision import Revision

_CONTENT = ("video_id", "path", *TEXT_COLUMNS, "content_hash")
_LABELS = tuple(name for name in MANIFEST_COLUMNS if name == "video_id" or name not in _CONTENT)
_TABLES = ("content.parquet", "labels.parquet")
_ONE_TABLE = ("manifest.parquet",)
"""What versions of CPFD left that did not tell content from labels."""


def split_tables(clips: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """The tables of validated clips, by file name."""
    columns = {_TABLES[0]: _CONTENT, _TABLES[1]: _LABELS}
    return {table: clips[[name for name in names if name in clips]] for table, names in columns.items()}


def read_clips(folder: Path) -> pd.DataFrame:
    """All that is known of each validated clip, by video_id; `folder` is data/validated of this version or before."""
    if (folder / _ONE_TABLE[0]).is_file():
        return read_table(folder / _ONE_TABLE[0])
    content, labels = (read_table(folder / name) for name in _TABLES)
    return content.merge(labels, on="video_id", validate="1:1")


def clip_tables(revision: "Revision") -> tuple[str, ...]:
    """The files in a revision's data/validated that `read_clips` reads."""
    deps = {dep["path"] for stage in revision.lock.values() for dep in stage.get("deps", [])}
    return _ONE_TABLE if (VALIDATED / _ONE_TABLE[0]).as_posix() in deps else _TABLES


def label_files(revision: "Revision") -> tuple[Path, Path]:
    """Where a revision keeps splits and labels by video_id (Parquet), and task and classes (JSON)."""
    if clip_tables(revision) == _ONE_TABLE:
        return CONTENT / "index.parquet", CONTENT / "meta.json"
    return VALIDATED / _TABLES[1], VALIDATED / "task.json"


def encoded_clips(clips: pd.DataFrame, index: pd.DataFrame) -> pd.DataFrame:
    """Those of `clips` (of `read_clips`) with features, by a store's index; `creator_id` is empty where unknown."""
    encoded = clips[clips["video_id"].isin(index["video_id"])].reset_index(drop=True)
    return encoded if "creator_id" in encoded else encoded.assign(creator_id="")
