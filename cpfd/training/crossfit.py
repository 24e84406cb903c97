"""Cross-fitting: every training clip is judged by a network that has not seen it."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import log_softmax

from cpfd.datasets.splits import assign_folds
from cpfd.features.store import FeatureStore
from cpfd.files import remove, written_aside
from cpfd.models.forest import forest_logits
from cpfd.models.xvlm import XVlmConfig
from cpfd.params.schema import Crossfit, Model, Train
from cpfd.training.batches import Array, Features, logits_table
from cpfd.training.fit import TrainingRun, fit, network_config, predict_logits

_EVERY_FOLD = -1
"""The fold of clips that no network learns from, so that all may judge them."""


def cross_fit(features: Features, model: Model, train: Train, crossfit: Crossfit, scratch: Path) -> pd.DataFrame:
    """Judge clips by networks: teachers where `features` has dense ones, else students.

    Training clips are dealt into crossfit.folds folds, crossfit.repeats times. A labelled training clip is judged, each
    time, by the one network that was trained without its fold; an unlabelled one by all networks. Labelled validation
    clips are dealt to the networks like another set of folds, so that as many judge them as judge a training clip: the
    difference between the two is the labels, not the judge. Beside each network of the teacher a forest of
    crossfit.trees trees judges by the dense features alone; the two count alike, and together err less than either.

    Returns video_id, split, logits: the mean log-probability of each clip's judges (multi_label: their mean logit).

    What finished judges say waits in `scratch`, from where a killed run goes on.
    """
    store = features.store
    config = network_config(store, model, train, features.dense_values)
    rows = np.concatenate(_clips_to_judge(store))
    total = np.zeros((len(rows), len(store.classes)), np.float32)
    judges = np.zeros(len(rows), np.int64)
    for number, fold in enumerate(_deal(store, crossfit)):
        said = scratch / f"{number}.npy"
        if not said.exists():
            of = crossfit.folds * crossfit.repeats
            title = f"{features.role} without fold {number % crossfit.folds + 1}, network {number + 1}/{of}"
            run = TrainingRun(crossfit.seed + number, title, scratch / str(number))
            logits = _judge(features, fold, config, train, crossfit.trees, run)
            with written_aside(said) as aside, aside.open("wb") as stream:
                np.save(stream, logits)
        asked = np.isin(rows, fold.judged)
        total[asked] += np.load(said)
        judges[asked] += 1
    remove(scratch)
    return logits_table(store, rows, (total / judges[:, None]).astype(np.float32))


@dataclass(frozen=True)
class _Fold:
    """The rows of the store that a network learns from, and those that it judges, of which it has learned none."""

    taught: NDArray[np.int64]
    judged: NDArray[np.int64]


def _clips_to_judge(store: FeatureStore) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Rows of labelled training clips, of unlabelled ones, and of labelled validation clips."""
    return (
        store.rows("train", labelled=True),
        store.rows("train", labelled=False),
        store.rows("validation", labelled=True),
    )


def _deal(store: FeatureStore, crossfit: Crossfit) -> Iterator[_Fold]:
    """Deal the clips into crossfit.folds folds, crossfit.repeats times; see `cross_fit`."""
    labelled, unlabelled, held_back = _clips_to_judge(store)
    rows = np.concatenate([labelled, unlabelled, held_back])
    creators = store.index["creator_id"].iloc[labelled]
    for repeat in range(crossfit.repeats):
        # Networks are seeded one after the other, so folds that are seeded by their first one's are other folds.
        seed = crossfit.seed + repeat * crossfit.folds
        of_labelled = assign_folds(store.targets[labelled], creators, crossfit.folds, seed)
        of_unlabelled = np.full(len(unlabelled), _EVERY_FOLD)
        of_held_back = np.arange(len(held_back)) % crossfit.folds
        folds = np.concatenate([of_labelled, of_unlabelled, of_held_back])
        for fold in range(crossfit.folds):
            yield _Fold(labelled[of_labelled != fold], rows[(folds == fold) | (folds == _EVERY_FOLD)])


def _judge(features: Features, fold: _Fold, config: XVlmConfig, train: Train, trees: int, run: TrainingRun) -> Array:
    """Log-probabilities[J, C] (multi_label: logits) of the fold's judged clips, by a network and, if any, a forest."""
    logits = _ask_network(features, fold, config, train, run)
    if features.dense is None or not features.dense_values or not trees:
        return logits
    of_forest = forest_logits(
        features.dense[fold.taught],
        features.store.targets[fold.taught],
        features.dense[fold.judged],
        task=config.task,
        trees=trees,
        seed=run.seed,
    )
    return np.asarray((logits + of_forest) / 2, np.float32)


def _ask_network(features: Features, fold: _Fold, config: XVlmConfig, train: Train, run: TrainingRun) -> Array:
    """Train a network without the fold and return its log-probabilities (multi_label: logits) of the judged clips."""
    held_back = features.store.rows("validation", labelled=True)
    network = fit(config, features.clips(fold.taught), features.clips(held_back), train, run)
    logits = predict_logits(network, features.clips(fold.judged))
    return np.asarray(log_softmax(logits, axis=1)) if config.task == "single_label" else logits
