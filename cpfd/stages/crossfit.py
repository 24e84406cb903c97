"""Stage `crossfit`: K networks, each judging the fold of the training split that it has not seen."""

import numpy as np
from scipy.special import log_softmax

from cpfd.datasets.splits import assign_folds
from cpfd.features.store import FeatureStore
from cpfd.files import SCRATCH, fingerprint, remove, write_table, written_aside
from cpfd.params import load_params
from cpfd.paths import CONTENT, CROSSFIT, DENSE
from cpfd.stages import CODE, LOCK, run
from cpfd.training.data import ClipDataset, load_dense, logits_table
from cpfd.training.fit import fit, network_config, predict_logits


def main(role: str) -> None:
    """Cross-fit the `role`: "teacher", with dense features, or "student", on content alone.

    Reads the feature folders; writes data/crossfit/<role>.parquet: video_id, split, logits, fold. A labelled clip's
    logits are out-of-fold; an unlabelled clip (fold -1) gets the mean log-probability of all folds' networks.
    """
    params = load_params("crossfit")
    store = FeatureStore(CONTENT)
    dense = load_dense(DENSE, store) if role == "teacher" else None
    inputs = [CONTENT / "meta.json", CONTENT / "index.parquet", CODE, LOCK, *([DENSE] if role == "teacher" else [])]
    scratch = SCRATCH / f"crossfit-{role}-{fingerprint(inputs, params.model_dump())}"
    config = network_config(store, params.model, params.train, dense_values=0 if dense is None else dense.shape[1])
    validation = ClipDataset(store, store.rows("validation", labelled=True), dense=dense)
    labelled, unlabelled = store.rows("train", labelled=True), store.rows("train", labelled=False)
    creators = store.index["creator_id"].iloc[labelled]
    folds = assign_folds(store.targets[labelled], creators, params.crossfit.folds, params.crossfit.seed)
    out_of_fold = np.zeros((len(labelled), len(store.classes)), np.float32)
    ensemble = np.zeros((len(unlabelled), len(store.classes)), np.float32)
    for fold in range(params.crossfit.folds):
        held_out = labelled[folds == fold]
        finished = scratch / f"fold-{fold}.npy"
        if not finished.exists():
            model = fit(
                config,
                ClipDataset(store, labelled[folds != fold], dense=dense),
                validation,
                params.train,
                seed=params.crossfit.seed + fold,
                title=f"{role} without fold {fold + 1}/{params.crossfit.folds}",
                scratch=scratch / f"fold-{fold}",
            )
            with written_aside(finished) as aside, aside.open("wb") as stream:
                asked = ClipDataset(store, np.concatenate([held_out, unlabelled]), dense=dense)
                np.save(stream, predict_logits(model, asked))
        logits = np.load(finished)
        out_of_fold[folds == fold] = logits[: len(held_out)]
        pool = logits[len(held_out) :]
        ensemble += log_softmax(pool, axis=1) if store.meta["task"] == "single_label" else pool
    table = logits_table(
        store, np.concatenate([labelled, unlabelled]), np.concatenate([out_of_fold, ensemble / params.crossfit.folds])
    )
    folds = np.concatenate([folds, np.full(len(unlabelled), -1)])
    write_table(CROSSFIT / f"{role}.parquet", table.assign(fold=folds))
    remove(scratch)


if __name__ == "__main__":
    run(main)
