"""The dataset contract: what a folder `data/raw/<name>/` holds.

    videos/                 clips; a still image is a clip of one frame
    manifest.parquet|csv    one row per clip, columns as in MANIFEST_COLUMNS
    dense.parquet|csv       optional: `video_id` and numeric columns; values and rows may be missing

Labels of a multi-label data set are written `a|b`; `|` alone says that no class applies, an empty label that
nobody has looked.
"""

import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd

from cpfd.datasets.tables import as_text, column_names, read_columns, read_dense
from cpfd.errors import CpfdError
from cpfd.files import link, write_table, written_aside

TEXT_COLUMNS = ("title", "caption", "overlay_text", "transcript")
MANIFEST_COLUMNS = ("video_id", "path", *TEXT_COLUMNS, "label", "creator_id", "published_at", "split")
SPLITS: Final = ("train", "validation", "test")


@dataclass(frozen=True)
class RawDataset:
    """A data set as it lies on disk, not yet validated.

    `manifest` has every column of the contract that the file has, missing values as empty strings, and always
    `video_id`, `path` and `label`; `other_columns` are those that the contract does not know. `dense` is as
    `tables.read_dense` reads it (only `video_id` where there is no file).
    """

    folder: Path
    manifest: pd.DataFrame
    dense: pd.DataFrame
    other_columns: Sequence[str] = ()

    @property
    def text_columns(self) -> list[str]:
        """The text columns that the manifest has, in the contract's order."""
        return [column for column in TEXT_COLUMNS if column in self.manifest]

    @property
    def videos(self) -> Path:
        """The folder that `path` is relative to."""
        return self.folder / "videos"


def read_dataset(folder: Path) -> RawDataset:
    """Read a data set folder without judging its rows.

    Raises CpfdError where the folder, the manifest or one of its necessary columns is missing, both forms of a table
    are there, or one cannot be read as it should (`tables`).
    """
    if not folder.is_dir():
        raise CpfdError(f"{folder}: no such data set; `cpfd import --help` shows how to make one")
    manifest_path = _table_path(folder, "manifest", necessary=True)
    assert manifest_path is not None
    names = column_names(manifest_path)
    if missing := {"video_id", "label"} - set(names):
        raise CpfdError(f"{folder}: the manifest lacks the column(s) {', '.join(sorted(missing))}")
    manifest = as_text(read_columns(manifest_path, MANIFEST_COLUMNS), manifest_path)
    if "path" not in manifest:
        manifest["path"] = ""
    dense_path = _table_path(folder, "dense", necessary=False)
    dense = pd.DataFrame({"video_id": pd.Series(dtype=object)}) if dense_path is None else read_dense(dense_path)
    if shared := [name for name in dense if name in MANIFEST_COLUMNS and name != "video_id"]:
        raise CpfdError(f"{dense_path}: {', '.join(shared)} belongs to the manifest; rename or remove it here")
    return RawDataset(folder, manifest, dense, [name for name in names if name not in MANIFEST_COLUMNS])


def write_dataset(
    folder: Path, manifest: pd.DataFrame, dense: pd.DataFrame | None, videos: Mapping[str, Path] | None = None
) -> None:
    """Write a data set folder whole or not at all; an existing folder is replaced.

    `videos` maps each clip's `path` in the manifest to the file to take: reflinked or hard-linked where the file system
    allows it, copied elsewhere.
    """
    unknown = set(manifest.columns) - set(MANIFEST_COLUMNS)
    if unknown:
        raise ValueError(f"not columns of the contract: {sorted(unknown)}")
    with written_aside(folder) as aside:
        (aside / "videos").mkdir(parents=True)
        for path, source in (videos or {}).items():
            target = aside / "videos" / path
            target.parent.mkdir(parents=True, exist_ok=True)
            link(source, target)
        ordered = [column for column in MANIFEST_COLUMNS if column in manifest]
        write_table(aside / "manifest.parquet", manifest[ordered].reset_index(drop=True))
        if dense is not None:
            write_table(aside / "dense.parquet", dense.reset_index(drop=True))


def parse_labels(label: str, task: str) -> list[str]:
    """The classes named by a manifest's label: at most one for `single_label`, any number for `multi_label`."""
    if task == "single_label":
        return [label] if label else []
    return sorted({part for part in label.split("|") if part})


def lookalikes(names: Iterable[str]) -> list[list[str]]:
    """Groups of names that differ in nothing but case, white space or Unicode form (NFKC), sorted; "" is always one."""
    alike: dict[str, list[str]] = {}
    for name in sorted({"", *names}):
        folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).casefold())
        alike.setdefault(" ".join(folded.split()), []).append(name)
    return [group for group in alike.values() if len(group) > 1]


def label_matrix(labels: pd.Series, classes: list[str], task: str) -> np.ndarray:
    """Turn manifest labels into targets[N, C], float32: 1 where the class applies; all 0 for an unlabelled clip."""
    column = {name: index for index, name in enumerate(classes)}
    targets = np.zeros((len(labels), len(classes)), dtype=np.float32)
    for row, label in enumerate(labels):
        for name in parse_labels(label, task):
            targets[row, column[name]] = 1
    return targets


def _table_path(folder: Path, name: str, *, necessary: bool) -> Path | None:
    found = [path for path in (folder / f"{name}.parquet", folder / f"{name}.csv") if path.exists()]
    if len(found) > 1:
        raise CpfdError(f"{folder}: both {name}.parquet and {name}.csv are there; keep one")
    if necessary and not found:
        raise CpfdError(f"{folder}: neither {name}.parquet nor {name}.csv is there")
    return found[0] if found else None
