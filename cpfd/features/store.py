"""The feature store: what the content of every clip became, in memory-mapped shards.

meta.json                  how the clips were encoded (ClipEncoder.describe), and the hash of all that this depends on
index.parquet              video_id, key, has_video, has_text: one row per clip, in the store's order
shards.parquet             name, clips: the shards in that order, and how many clips each holds
quarantine.parquet         table, video_id, key, reason of clips that could not be decoded
shards/<name>.safetensors  consecutive clips:
    frames  tokens[n, F, P, D] float16 (frozen) or rgb[n, F, H, W, 3] uint8 (finetune)
    text    tokens[n, L, D] float16 (frozen) or ids[n, L] int64 (finetune)
    mask    text mask[n, L] bool

A clip's `key` is the hash of its content, a shard's name that of its clips' keys and of how they were encoded. Labels
and splits are none of the store's business: they stay in data/validated.
"""

import json
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cpfd.datasets.contract import label_matrix
from cpfd.errors import CpfdError
from cpfd.files import read_json, read_table

PARTS = ("frames", "text", "mask")
OPEN_SHARDS = 128
"""How many shards are mapped at once; each takes a file descriptor, and a process may have as few as 1,024."""
_DTYPES = {"F16": np.float16, "U8": np.uint8, "I64": np.int64, "BOOL": np.bool_}


class Shards:
    """The arrays of a store's clips by row; they stay on disk until their rows are asked for."""

    def __init__(self, folder: Path) -> None:
        """Open the shards of the store in `folder`; raises CpfdError where its list of them cannot be read."""
        table = read_table(folder / "shards.parquet")
        self.names: list[str] = table["name"].to_list()
        self.starts: NDArray[np.int64] = np.cumsum([0, *table["clips"]])
        self.map = lru_cache(OPEN_SHARDS)(lambda number: map_shard(folder / "shards" / shard_file(self.names[number])))

    def read(self, rows: NDArray[np.int64]) -> dict[str, NDArray[Any]]:
        """Read an array[n, ...] for each of PARTS: `rows`[n], in any order."""
        shard_of = np.searchsorted(self.starts, rows, side="right") - 1
        shapes = self.map(0)
        found = {part: np.empty((len(rows), *shapes[part].shape[1:]), shapes[part].dtype) for part in PARTS}
        for shard in np.unique(shard_of):
            here = shard_of == shard
            for part, values in self.map(int(shard)).items():
                found[part][here] = values[rows[here] - self.starts[shard]]
        return found


class FeatureStore:
    """Clips' content features by row, with their labels and splits."""

    def __init__(self, folder: Path, validated: Path) -> None:
        """Open the store in `folder` with the labels, splits and classes in `validated` (cpfd.datasets.validated).

        Raises CpfdError where a file cannot be read or is of other clips, and where a class has no training clip left.
        """
        self.meta: dict[str, Any] = read_json(folder / "meta.json")
        about = read_json(validated / "task.json")
        self.task: str = about["task"]
        self.classes: list[str] = about["classes"]
        self.has_teacher: bool = about["has_dense"]
        """Whether the data set has dense columns, without which a teacher would know no more than a student."""
        self.index: pd.DataFrame = _labelled(read_table(folder / "index.parquet"), validated / "labels.parquet")
        self.targets = label_matrix(self.index["label"], self.classes, self.task)
        self.labelled: NDArray[np.bool_] = (self.index["label"] != "").to_numpy()
        self.split: NDArray[np.str_] = self.index["split"].to_numpy(str)
        self._has_video: NDArray[np.bool_] = self.index["has_video"].to_numpy(bool)
        self._shards = Shards(folder)
        if lost := np.array(self.classes)[~self.targets[self.split == "train"].any(axis=0)].tolist():
            raise CpfdError(f"no training clip of {', '.join(lost)} can be decoded: {folder / 'quarantine.parquet'}")

    @staticmethod
    def files(folder: Path, validated: Path) -> list[Path]:
        """The files that tell all that a store with these labels holds: arrays are named by what is in them."""
        return [folder / "meta.json", folder / "index.parquet", validated / "labels.parquet", validated / "task.json"]

    def rows(self, split: str, *, labelled: bool) -> NDArray[np.int64]:
        """Row numbers of the labelled, or of the unlabelled, clips of a split."""
        return np.flatnonzero((self.split == split) & (self.labelled == labelled))

    def content(self, rows: NDArray[np.int64]) -> dict[str, NDArray[Any]]:
        """Read the features of `rows`[n]: frames[n, F, ...], text[n, L, ...], text_mask[n, L], has_video[n]."""
        parts = self._shards.read(rows)
        return {
            "frames": parts["frames"],
            "text": parts["text"],
            "text_mask": parts["mask"],
            "has_video": self._has_video[rows],
        }


def shard_file(name: str) -> str:
    """The file name of a shard."""
    return f"{name}.safetensors"


def map_shard(path: Path) -> dict[str, NDArray[Any]]:
    """Map the arrays of a shard into memory, read-only.

    `safetensors` itself reads ranges of rows alone. Its format: 8 bytes with the header's length, the header, the data.
    """
    content = np.memmap(path, np.uint8, "r")
    begin = 8 + int.from_bytes(content[:8].tobytes(), "little")
    arrays = {}
    for part, about in json.loads(content[8:begin].tobytes()).items():
        start, end = about["data_offsets"]
        arrays[part] = content[begin + start : begin + end].view(_DTYPES[about["dtype"]]).reshape(about["shape"])
    return arrays


def _labelled(index: pd.DataFrame, labels: Path) -> pd.DataFrame:
    """The store's index with `split`, `label` and `creator_id` (empty where unknown)."""
    table = read_table(labels)
    row_of = pd.Index(table["video_id"]).get_indexer(index["video_id"])
    if (row_of < 0).any():
        raise CpfdError(f"{labels}: no row for clip {index['video_id'][row_of < 0].iloc[0]}; run `dvc repro`")
    found = table.iloc[row_of].reset_index(drop=True)
    return index.assign(split=found["split"], label=found["label"], creator_id=found.get("creator_id", ""))
