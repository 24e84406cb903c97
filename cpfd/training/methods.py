"""What each method teaches the student, clip by clip."""

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cpfd.features.store import FeatureStore
from cpfd.params import Distill
from cpfd.training.data import Array, Targets


def method_targets(
    method: str, store: FeatureStore, confidence: pd.DataFrame, teacher: pd.DataFrame, distill: Distill
) -> tuple[NDArray[np.int64], Targets]:
    """Rows of the store that a student of `method` trains on, and their targets (the matrix in `distillation_loss`).

    `confidence` is data/confidence/confidence.parquet and `teacher` the logits of models/teacher, both with video_id.
    """
    labelled, unlabelled = store.rows("train", labelled=True), store.rows("train", labelled=False)
    if method == "none":
        return labelled, Targets.of_labels(store.targets[labelled])
    rows = np.concatenate([labelled, unlabelled])
    evidence = confidence.set_index("video_id").loc[store.index["video_id"].iloc[rows]]
    if method == "posterior":
        return rows, Targets.of_labels(_stack(evidence["target"]))
    if distill.soft_targets == "crossfit":
        soft_logits = _stack(evidence["oof_logits"])
    else:
        soft_logits = _stack(teacher.set_index("video_id").loc[evidence.index, "logits"])
    certainty = 1.0 if method == "pfd" else evidence[distill.confidence].to_numpy() ** distill.gamma
    soft_weight = np.full(len(rows), distill.alpha, np.float32) * np.float32(certainty)
    label_weight = np.where(store.labelled[rows], 1 - soft_weight, 0).astype(np.float32)
    return rows, Targets(store.targets[rows], label_weight, soft_logits, soft_weight)


def _stack(lists: "pd.Series[Any]") -> Array:
    return np.stack(lists.to_list()).astype(np.float32)
