"""Training one student: the same for the pipeline's stage and for the benchmark."""

from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cpfd.features.store import FeatureStore
from cpfd.models.xvlm import XVlmForVideoClassification
from cpfd.params.schema import Model, Train
from cpfd.training.batches import ClipDataset, Targets, logits_table
from cpfd.training.fit import fit, network_config, predict_logits


def train_student(
    store: FeatureStore,
    rows: NDArray[np.int64],
    targets: Targets,
    model: Model,
    train: Train,
    *,
    tau: float,
    seed: int,
    title: str,
    scratch: Path,
    curves: Path | None = None,
) -> tuple[XVlmForVideoClassification, pd.DataFrame]:
    """Train X-VLM on `rows` of the store and their `targets` (of `method_targets`); `scratch`, `curves`: see `fit`.

    Returns the network and its logits of the labelled clips of the validation and test split (`logits_table`).
    """
    network = fit(
        network_config(store, model, train),
        ClipDataset(store, rows, targets),
        ClipDataset(store, store.rows("validation", labelled=True)),
        train,
        seed=seed,
        title=title,
        scratch=scratch,
        curves=curves,
        tau=tau,
    )
    judged = np.concatenate([store.rows(split, labelled=True) for split in ("validation", "test")])
    return network, logits_table(store, judged, predict_logits(network, ClipDataset(store, judged)))
