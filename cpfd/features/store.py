"""The feature store: what the content of every clip became, in memory-mapped shards of equal size.

meta.json               what the store holds and how it was made (Meta)
index.parquet           video_id, split, label, creator_id, has_video, has_text: one row per clip, in the store's order
quarantine.parquet      clips that could not be decoded, with the reason
shards/00000/frames.npy tokens[n, F, P, D] float16 (frozen) or rgb[n, F, H, W, 3] uint8 (finetune)
shards/00000/text.npy   tokens[n, L, D] float16 (frozen) or ids[n, L] int64 (finetune)
shards/00000/mask.npy   text mask[n, L] bool
"""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cpfd.datasets.contract import label_matrix
from cpfd.files import read_json, read_table

PARTS = ("frames", "text", "mask")


class FeatureStore:
    """Clips' content features by row; arrays stay on disk until their rows are asked for."""

    def __init__(self, folder: Path) -> None:
        """Open the store in `folder`; raises CpfdError or OSError where it is incomplete."""
        self.meta: dict[str, Any] = read_json(folder / "meta.json")
        self.index: pd.DataFrame = read_table(folder / "index.parquet")
        self.classes: list[str] = self.meta["classes"]
        self.targets = label_matrix(self.index["label"], self.classes, self.meta["task"])
        self.labelled: NDArray[np.bool_] = (self.index["label"] != "").to_numpy()
        self.split: NDArray[np.str_] = self.index["split"].to_numpy(str)
        shards = sorted((folder / "shards").iterdir())
        self._shards = [{part: np.load(shard / f"{part}.npy", mmap_mode="r") for part in PARTS} for shard in shards]
        self._starts = np.cumsum([0, *(len(shard["mask"]) for shard in self._shards)])
        self._has_video: NDArray[np.bool_] = self.index["has_video"].to_numpy(bool)

    @property
    def has_teacher(self) -> bool:
        """Whether the data set has dense columns, without which a teacher would know no more than a student."""
        return bool(self.meta["dense_columns"])

    def rows(self, split: str, *, labelled: bool) -> NDArray[np.int64]:
        """Row numbers of the labelled, or of the unlabelled, clips of a split."""
        return np.flatnonzero((self.split == split) & (self.labelled == labelled))

    def content(self, rows: NDArray[np.int64]) -> dict[str, NDArray[Any]]:
        """Read the features of `rows`[n]: frames[n, F, ...], text[n, L, ...], text_mask[n, L], has_video[n]."""
        shard_of = np.searchsorted(self._starts, rows, side="right") - 1
        parts: dict[str, NDArray[Any]] = {}
        for part in PARTS:
            first = self._shards[0][part]
            out = np.empty((len(rows), *first.shape[1:]), first.dtype)
            for shard in np.unique(shard_of):
                here = shard_of == shard
                out[here] = self._shards[shard][part][rows[here] - self._starts[shard]]
            parts[part] = out
        return {
            "frames": parts["frames"],
            "text": parts["text"],
            "text_mask": parts["mask"],
            "has_video": self._has_video[rows],
        }
