"""Training one student: the same for the pipeline's stage and for the benchmark."""

import numpy as np
import pandas as pd

from cpfd.models.xvlm import XVlmForVideoClassification
from cpfd.params.schema import Model, Train
from cpfd.training.batches import ClipDataset, logits_table
from cpfd.training.fit import TrainingRun, fit, network_config, predict_logits


def train_student(
    clips: ClipDataset, model: Model, train: Train, run: TrainingRun, *, tau: float
) -> tuple[XVlmForVideoClassification, pd.DataFrame]:
    """Train X-VLM on `clips` with the targets of a method (`method_targets`); `run` and `tau`: see `fit`.

    Returns the network and its logits of the labelled clips of the validation and test split (`logits_table`).
    """
    store = clips.store
    validation, test = (store.rows(split, labelled=True) for split in ("validation", "test"))
    network = fit(network_config(store, model, train), clips, ClipDataset(store, validation), train, run, tau=tau)
    judged = np.concatenate([validation, test])
    return network, logits_table(store, judged, predict_logits(network, ClipDataset(store, judged)))
