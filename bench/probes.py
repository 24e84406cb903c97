"""How far linear probes get on the data set that was extracted last: `python -m bench.probes --help`."""

import warnings

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression

from bench import command
from bench.simple_models import all_classes
from cpfd.features.store import FeatureStore
from cpfd.metrics import macro_f1
from cpfd.paths import CONTENT, DENSE, VALIDATED
from cpfd.training.batches import load_dense

STRENGTHS = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0)


def main() -> None:
    """Fit logistic regressions on frozen features, and print a table of their macro-F1.

    Inputs are features averaged over frames and words, the scaled dense table, and both. Training has the labels of the
    training split, the validation split chooses the regularisation, the test split is scored.

    Example: dvc repro dense && python -m bench.probes
    """
    store = FeatureStore(CONTENT, VALIDATED)
    rows = {split: store.rows(split, labelled=True) for split in ("train", "validation", "test")}
    print("| input | macro-F1 on validation | macro-F1 on test |\n|---|---|---|")
    for name, features in _inputs(store).items():
        center, spread = features[rows["train"]].mean(0), features[rows["train"]].std(0) + 1e-6
        scaled = (features - center) / spread
        scores = [_fit(store, rows, scaled, strength) for strength in STRENGTHS]
        validation, test = max(scores)
        print(f"| {name} | {validation:.3f} | {test:.3f} |", flush=True)


def _inputs(store: FeatureStore) -> dict[str, np.ndarray]:
    """What there is to train on by name: features[N, D] of all clips."""
    content = store.content(np.arange(len(store.index)))
    mask = content["text_mask"][..., None]
    inputs = {}
    if store.meta["text_columns"]:
        inputs["text"] = (content["text"].astype(np.float32) * mask).sum(1) / np.maximum(mask.sum(1), 1)
    if store.meta["frames"]:
        inputs["frames"] = content["frames"].astype(np.float32).mean((1, 2))
    inputs["content"] = np.concatenate(list(inputs.values()), axis=1)
    inputs["dense"] = load_dense(DENSE, store)
    inputs["content and dense"] = np.concatenate([inputs["content"], inputs["dense"]], axis=1)
    return inputs


def _fit(
    store: FeatureStore, rows: dict[str, np.ndarray], features: np.ndarray, strength: float
) -> tuple[float, float]:
    """Macro-F1 on the validation and on the test split."""
    labels = store.targets[rows["train"]].argmax(1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model = LogisticRegression(C=strength, max_iter=300).fit(features[rows["train"]], labels)
    logits = all_classes(model.predict_log_proba(features), model.classes_, len(store.classes))
    validation, test = (
        macro_f1(store.targets[rows[split]], logits[rows[split]], "single_label") for split in ("validation", "test")
    )
    return validation, test


if __name__ == "__main__":
    command.run(main)
