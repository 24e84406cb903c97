"""A student's training on the small data set, undisturbed or interrupted."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from cpfd.features.store import FeatureStore
from cpfd.models.xvlm import XVlmForVideoClassification
from cpfd.training.batches import Batch, ClipDataset, Targets
from cpfd.training.fit import TrainingRun, fit, network_config
from tests.support.small import small_params

LABELLED, POOL = np.arange(12), np.arange(16)


class Interrupted(ClipDataset):
    """A data set that is interrupted when the batch of a given number is asked for."""

    def __init__(self, clips: ClipDataset, batches: int, interrupt: Callable[[], None]) -> None:
        super().__init__(clips.store, clips.rows, clips.targets, clips.dense)
        self.left, self.interrupt = batches, interrupt

    def __getitems__(self, positions: list[int]) -> Batch:
        if self.left == 0:
            self.interrupt()
        self.left -= 1
        return super().__getitems__(positions)


def pool(store: FeatureStore) -> ClipDataset:
    """All training clips, with soft targets for the unlabelled ones."""
    targets = store.targets[POOL].copy()
    targets[12:] = 1 / 3
    return ClipDataset(store, POOL, Targets.of_labels(targets))


def train(
    clips: ClipDataset, folder: Path, *, seed: int = 0, tau: float = 1.0, **params: Any
) -> XVlmForVideoClassification:
    """Fit a student to `clips`, with scratch and curves below `folder`."""
    small = small_params(train={"epochs": 4, "learning_rate": 0.01, **params})
    return fit(
        network_config(clips.store, small.model, small.train),
        clips,
        ClipDataset(clips.store, clips.store.rows("validation", labelled=True)),
        small.train,
        TrainingRun(seed, "student", scratch=folder / "scratch", curves=folder / "curves"),
        tau=tau,
    )
