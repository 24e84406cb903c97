"""What each method teaches the student, clip by clip."""

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cpfd.features.store import FeatureStore
from cpfd.params.schema import Distill
from cpfd.training.batches import Array, Targets


def method_targets(
    method: str, store: FeatureStore, confidence: pd.DataFrame, teacher: pd.DataFrame, distill: Distill
) -> tuple[NDArray[np.int64], Targets]:
    """Rows of the store that a student of `method` trains on, and their targets (the matrix in `distillation_loss`).

    `confidence` is data/confidence/confidence.parquet and `teacher` the logits of models/teacher, both with video_id.
    """
    labelled, unlabelled = store.rows("train", labelled=True), store.rows("train", labelled=False)
    if method == "none":
        labels = store.targets[labelled]
        return labelled, _balanced(Targets.of_labels(labels), store.targets[labelled], distill.balance)
    rows = np.concatenate([labelled, unlabelled])
    evidence = confidence.set_index("video_id").loc[store.index["video_id"].iloc[rows]]
    if method == "posterior":
        return rows, _balanced(Targets.of_labels(_stack(evidence["target"])), store.targets[labelled], distill.balance)
    if distill.soft_targets == "crossfit":
        soft_logits = _stack(evidence["oof_logits"])
    else:
        soft_logits = _stack(teacher.set_index("video_id").loc[evidence.index, "logits"])
    certainty = 1.0 if method == "pfd" else evidence[distill.confidence].to_numpy() ** distill.gamma
    soft_weight = np.full(len(rows), distill.alpha, np.float32) * np.float32(certainty)
    label_weight = np.where(store.labelled[rows], 1 - soft_weight, 0).astype(np.float32)
    targets = Targets(store.targets[rows], label_weight, soft_logits, soft_weight)
    return rows, _balanced(targets, store.targets[labelled], distill.balance)


def _balanced(targets: Targets, given: Array, balance: float) -> Targets:
    """Targets whose labelled clips, which come first, weigh more where their class is rare, with mean 1.

    A class with the share s of the `given`[N, C] labels weighs s ** -balance, a clip the mean over the classes that it
    may have. Unlabelled clips keep their weight: the prior is divided out of their targets already.
    """
    if not balance:
        return targets
    share = given.sum(0) + np.float32(0.5)
    labels = targets.labels[: len(given)]
    weight = labels @ (share / share.sum()) ** -balance / np.maximum(labels.sum(1), 1e-6)
    weight = np.concatenate([weight / weight.mean(), np.ones(len(targets.labels) - len(given))]).astype(np.float32)
    return replace(targets, label_weight=targets.label_weight * weight, soft_weight=targets.soft_weight * weight)


def _stack(lists: "pd.Series[Any]") -> Array:
    return np.stack(lists.to_list()).astype(np.float32)
