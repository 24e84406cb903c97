"""Cross-fitting: every training clip is judged by a network that has not seen it."""

from pathlib import Path

import numpy as np
import pandas as pd
from scipy.special import log_softmax

from cpfd.datasets.splits import assign_folds
from cpfd.features.store import FeatureStore
from cpfd.files import remove, written_aside
from cpfd.models.forest import forest_logits
from cpfd.params.schema import Crossfit, Model, Train
from cpfd.training.batches import Array, ClipDataset, logits_table
from cpfd.training.fit import fit, network_config, predict_logits


def cross_fit(
    role: str,
    store: FeatureStore,
    dense: Array | None,
    model: Model,
    train: Train,
    crossfit: Crossfit,
    scratch: Path,
) -> pd.DataFrame:
    """Judge clips by networks of the `role`: "teacher", with `dense`[N, M] of the store's clips, or "student".

    Training clips are dealt into crossfit.folds folds, crossfit.repeats times. A labelled training clip is judged, each
    time, by the one network that was trained without its fold; an unlabelled one by all networks. Labelled validation
    clips are dealt to the networks like another set of folds, so that as many judge them as judge a training clip: the
    difference between the two is the labels, not the judge. Beside each network of the teacher a forest of
    crossfit.trees trees judges by the dense features alone; the two count alike, and together err less than either.

    Returns video_id, split, logits: the mean log-probability of each clip's judges (multi_label: their mean logit).

    Finished networks wait in `scratch`, from where a killed run goes on.
    """
    config = network_config(store, model, train, dense_values=0 if dense is None else dense.shape[1])
    task = store.meta["task"]
    labelled, unlabelled = store.rows("train", labelled=True), store.rows("train", labelled=False)
    held_back = store.rows("validation", labelled=True)
    creators = store.index["creator_id"].iloc[labelled]
    rows = np.concatenate([labelled, unlabelled, held_back])
    total = np.zeros((len(rows), len(store.classes)), np.float32)
    for repeat in range(crossfit.repeats):
        # Networks are seeded one after the other, so folds that are seeded by their first one's are other folds.
        seed = crossfit.seed + repeat * crossfit.folds
        folds = np.concatenate(
            [
                assign_folds(store.targets[labelled], creators, crossfit.folds, seed),
                np.full(len(unlabelled), -1),
                np.arange(len(held_back)) % crossfit.folds,
            ]
        )
        for fold in range(crossfit.folds):
            asked = (folds == fold) | (folds == -1)
            finished = scratch / f"{repeat}-{fold}.npy"
            if not finished.exists():
                taught, judged = labelled[folds[: len(labelled)] != fold], rows[asked]
                network = fit(
                    config,
                    ClipDataset(store, taught, dense=dense),
                    ClipDataset(store, held_back, dense=dense),
                    train,
                    seed=seed + fold,
                    title=f"{role} without fold {fold + 1}/{crossfit.folds}",
                    scratch=scratch / f"{repeat}-{fold}",
                )
                logits = predict_logits(network, ClipDataset(store, judged, dense=dense))
                if task == "single_label":
                    logits = np.asarray(log_softmax(logits, axis=1))
                if dense is not None and dense.shape[1] and crossfit.trees:
                    facts = dense[taught], store.targets[taught], dense[judged]
                    logits += forest_logits(*facts, task=task, trees=crossfit.trees, seed=seed + fold)
                    logits /= 2
                with written_aside(finished) as aside, aside.open("wb") as stream:
                    np.save(stream, logits)
            total[asked] += np.load(finished)
    judges = np.where(folds == -1, crossfit.repeats * crossfit.folds, crossfit.repeats)
    remove(scratch)
    return logits_table(store, rows, (total / judges[:, None]).astype(np.float32))
