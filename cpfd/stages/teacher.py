"""Stage `teacher`: DF-X-VLM, trained on the whole training split with its dense features."""

import numpy as np

from cpfd.features.store import FeatureStore
from cpfd.files import SCRATCH, fingerprint, write_table, written_aside
from cpfd.params.load import load_params
from cpfd.paths import CODE, CONTENT, DENSE, MODELS
from cpfd.stages import run
from cpfd.training.batches import ClipDataset, load_dense, logits_table
from cpfd.training.fit import fit, network_config, predict_logits


def main() -> None:
    """Read both feature folders; write models/teacher: the network, its curves and its logits of every clip."""
    params = load_params("teacher")
    store = FeatureStore(CONTENT)
    dense = load_dense(DENSE, store)
    state = fingerprint(
        [CONTENT / "meta.json", CONTENT / "index.parquet", DENSE, CODE / "teacher.txt"], params.model_dump()
    )
    config = network_config(store, params.model, params.train, dense_values=dense.shape[1])
    with written_aside(MODELS / "teacher") as aside:
        model = fit(
            config,
            ClipDataset(store, store.rows("train", labelled=True), dense=dense),
            ClipDataset(store, store.rows("validation", labelled=True), dense=dense),
            params.train,
            seed=params.teacher.seed,
            title="teacher",
            scratch=SCRATCH / f"teacher-{state}",
            curves=aside / "curves",
        )
        every = np.arange(len(store.index))
        logits = predict_logits(model, ClipDataset(store, every, dense=dense))
        model.save_pretrained(aside)
        write_table(aside / "logits.parquet", logits_table(store, every, logits))


if __name__ == "__main__":
    run(main)
