"""How far simple models get on the data set that was extracted last: `python -m bench.probes`.

Logistic regression on frozen features, averaged over frames and words, on the scaled dense table, and on both, trained
on the labels of the training split; the regularisation is chosen on the validation split, and the test split is scored.
"""

import warnings

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression

from cpfd.features.store import FeatureStore
from cpfd.metrics import macro_f1
from cpfd.paths import CONTENT, DENSE
from cpfd.training.batches import load_dense

STRENGTHS = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0)


def main() -> None:
    store = FeatureStore(CONTENT)
    rows = {split: store.rows(split, labelled=True) for split in ("train", "validation", "test")}
    every = np.arange(len(store.index))
    content = store.content(every)
    mask = content["text_mask"][..., None]
    text = (content["text"].astype(np.float32) * mask).sum(1) / np.maximum(mask.sum(1), 1)
    inputs = {}
    if store.meta["text_columns"]:
        inputs["text"] = text
    if store.meta["frames"]:
        inputs["frames"] = content["frames"].astype(np.float32).mean((1, 2))
    inputs["content"] = np.concatenate(list(inputs.values()), axis=1)
    inputs["dense"] = load_dense(DENSE, store)
    inputs["content and dense"] = np.concatenate([inputs["content"], inputs["dense"]], axis=1)
    print("| input | macro-F1 on validation | macro-F1 on test |\n|---|---|---|")
    for name, features in inputs.items():
        center, spread = features[rows["train"]].mean(0), features[rows["train"]].std(0) + 1e-6
        scaled = (features - center) / spread
        scores = [_fit(store, rows, scaled, strength) for strength in STRENGTHS]
        validation, test = max(scores)
        print(f"| {name} | {validation:.3f} | {test:.3f} |", flush=True)


def _fit(
    store: FeatureStore, rows: dict[str, np.ndarray], features: np.ndarray, strength: float
) -> tuple[float, float]:
    """Macro-F1 on the validation and on the test split."""
    labels = store.targets[rows["train"]].argmax(1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model = LogisticRegression(C=strength, max_iter=300).fit(features[rows["train"]], labels)
    scores = []
    for split in ("validation", "test"):
        logits = np.full((len(rows[split]), len(store.classes)), -np.inf)
        logits[:, model.classes_] = (
            model.decision_function(features[rows[split]])
            if len(model.classes_) > 2
            else (np.outer(model.decision_function(features[rows[split]]), [-1, 1]))
        )
        scores.append(macro_f1(store.targets[rows[split]], logits, "single_label"))
    return scores[0], scores[1]


if __name__ == "__main__":
    main()
