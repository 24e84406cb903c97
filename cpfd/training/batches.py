"""Batches of clips: features from the store, and what the network is to learn from each."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from cpfd.errors import CpfdError
from cpfd.features.store import FeatureStore
from cpfd.files import read_table

Array = NDArray[np.float32]
Batch = dict[str, Tensor]


@dataclass(frozen=True)
class Targets:
    """What each of N clips teaches, the arguments of `distillation_loss`: arrays [N, C] and weights [N], float32."""

    labels: Array
    label_weight: Array
    soft_logits: Array
    soft_weight: Array

    @staticmethod
    def of_labels(labels: Array) -> "Targets":
        """Learn from labels[N, C] alone."""
        ones, zeros = np.ones(len(labels), np.float32), np.zeros(len(labels), np.float32)
        return Targets(labels, ones, np.zeros_like(labels), zeros)


class ClipDataset(Dataset[Batch]):
    """Rows of a feature store with their targets; a teacher's data set adds the dense features of each row."""

    def __init__(
        self, store: FeatureStore, rows: NDArray[np.int64], targets: Targets | None = None, dense: Array | None = None
    ) -> None:
        """Take `rows` of the store; `targets` (default: their labels) has one entry per row, `dense`[N, M] one per clip
        of the store.
        """
        self.store, self.rows, self.dense = store, rows, dense
        self.targets = targets or Targets.of_labels(store.targets[rows])

    def __len__(self) -> int:
        """Return the number of clips."""
        return len(self.rows)

    def __getitem__(self, position: int) -> Batch:
        """Return a batch of one clip."""
        return self.__getitems__([position])

    def __getitems__(self, positions: list[int]) -> Batch:
        """Return a batch; torch's loader calls this with all positions of a batch at once."""
        rows = self.rows[positions]
        content: dict[str, Any] = self.store.content(rows)
        # Padding that no clip of the batch needs is not worth computing on.
        longest = max(1, int(content["text_mask"].sum(1).max()))
        content["text"], content["text_mask"] = content["text"][:, :longest], content["text_mask"][:, :longest]
        if self.dense is not None:
            content["dense"] = self.dense[rows]
        for name, values in vars(self.targets).items():
            content[name] = values[positions]
        return {name: torch.from_numpy(np.ascontiguousarray(values)) for name, values in content.items()}


@dataclass(frozen=True)
class Features:
    """All that a network may read of the clips of a store: their content and, for a teacher, `dense`[N, M]."""

    store: FeatureStore
    dense: Array | None = None

    @property
    def role(self) -> str:
        """Who reads this: "teacher" or "student"."""
        return "student" if self.dense is None else "teacher"

    @property
    def dense_values(self) -> int:
        """M; 0 for a student, and for the teacher of a data set without dense features."""
        return 0 if self.dense is None else self.dense.shape[1]

    def clips(self, rows: NDArray[np.int64]) -> ClipDataset:
        """Rows of the store, with their labels for targets."""
        return ClipDataset(self.store, rows, dense=self.dense)


def load_dense(folder: Path, store: FeatureStore) -> Array:
    """Dense features[N, M] in the order of the store, from stage `dense`; raises CpfdError where a clip lacks them."""
    ids = pd.Index(read_table(folder / "video_id.parquet")["video_id"])
    values: Array = np.load(folder / "values.npy", mmap_mode="r")
    rows = ids.get_indexer(store.index["video_id"])
    if (rows < 0).any():
        raise CpfdError(f"{folder}: no row for clip {store.index['video_id'][rows < 0].iloc[0]}; run `dvc repro`")
    return np.asarray(values[rows])


def no_logits(store: FeatureStore) -> pd.DataFrame:
    """The table of a network that is not trained, because the data set has no teacher: it judges no clip."""
    return logits_table(store, np.arange(0), np.empty((0, len(store.classes)), np.float32))


def logits_table(store: FeatureStore, rows: NDArray[np.int64], logits: Array) -> pd.DataFrame:
    """Table of logits[N, C] of `rows`[N]: video_id, split, logits (a list of C float32 in the order of the classes)."""
    table = store.index.iloc[rows][["video_id", "split"]].reset_index(drop=True)
    return table.assign(logits=list(logits))
