"""Stage `teacher`: DF-X-VLM, trained on the whole training split with its dense features."""

import numpy as np

from cpfd.features.store import FeatureStore
from cpfd.files import SCRATCH, fingerprint, write_table, written_aside
from cpfd.params.load import load_params
from cpfd.paths import CODE, CONTENT, DENSE, MODELS, VALIDATED
from cpfd.reports.confidence import NoTeacher
from cpfd.stages import run
from cpfd.training.batches import Features, load_dense, logits_table, no_logits
from cpfd.training.fit import TrainingRun, fit, network_config, predict_logits


def main() -> None:
    """Read both feature folders; write models/teacher: the network, its curves and its logits of every clip.

    A data set without dense columns has no teacher: its logits are then an empty table.
    """
    params = load_params("teacher")
    store = FeatureStore(CONTENT, VALIDATED)
    if not store.has_teacher:
        with written_aside(MODELS / "teacher") as aside:
            write_table(aside / "logits.parquet", no_logits(store))
        print(f"teacher: not trained: {NoTeacher().why}")
        return
    features = Features(store, load_dense(DENSE, store))
    inputs = [*FeatureStore.files(CONTENT, VALIDATED), DENSE, CODE / "teacher.txt"]
    state = fingerprint(inputs, params.model_dump())
    config = network_config(store, params.model, params.train, features.dense_values)
    train, validation = (features.clips(store.rows(split, labelled=True)) for split in ("train", "validation"))
    with written_aside(MODELS / "teacher") as aside:
        training = TrainingRun(params.teacher.seed, "teacher", SCRATCH / f"teacher-{state}", aside / "curves")
        model = fit(config, train, validation, params.train, training)
        every = np.arange(len(store.index))
        logits = predict_logits(model, features.clips(every))
        model.save_pretrained(aside)
        write_table(aside / "logits.parquet", logits_table(store, every, logits))


if __name__ == "__main__":
    run(main)
