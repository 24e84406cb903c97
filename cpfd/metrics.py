"""How good a classifier is, from targets[N, C] (float32, multi-hot) and logits[N, C] of the same clips and classes.

`single_label` predicts the class of the largest logit, `multi_label` every class whose probability exceeds 0.5; all
scores follow from the multi-hot prediction[N, C], so that both tasks share one definition of each score.

A class without a clip in `targets` has no F1 that could be measured: averages leave it out (in scikit-learn's words:
`labels` are the classes that occur in the targets).
"""

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cpfd.errors import CpfdError

Floats = NDArray[np.float64]


def probabilities(logits: NDArray[np.floating], task: str) -> Floats:
    """Turn logits[N, C] into probabilities[N, C], float64: softmax for `single_label`, sigmoid for `multi_label`."""
    wide = np.asarray(logits, dtype=np.float64)
    from scipy.special import expit, softmax  # a review scores predictions, and needs no probability

    return np.asarray(softmax(wide, axis=1) if task == "single_label" else expit(wide))


def predictions(logits: NDArray[np.floating], task: str) -> NDArray[np.bool_]:
    """Turn logits[N, C] into multi-hot predictions[N, C]; equal largest logits go to the first class."""
    if task == "multi_label":
        return np.asarray(logits > 0)
    return np.asarray(np.arange(logits.shape[1]) == logits.argmax(axis=1)[:, None])


def f1(hits: Floats, predicted: Floats, support: Floats) -> Floats:
    """F1 = 2 hits / (predicted + support) of each class, for counts[..., C]; 0 for a class neither there nor predicted.

    hits: clips of the class predicted as such; predicted: clips predicted as the class; support: clips of the class.
    """
    return np.asarray(2 * hits / np.maximum(predicted + support, 1))


def macro(scores: Floats, support: Floats) -> Floats:
    """Mean of scores[..., C] over the classes with support; 0 where no class has any."""
    present = support > 0
    return np.asarray((scores * present).sum(axis=-1) / np.maximum(present.sum(axis=-1), 1))


def macro_f1(targets: NDArray[np.floating], logits: NDArray[np.floating], task: str) -> float:
    """Mean F1 of the classes that occur in `targets`, each class weighted alike."""
    table = _class_scores(targets, logits, task)
    return float(macro(table["f1"].to_numpy(), table["support"].to_numpy()))


def weighted_f1(targets: NDArray[np.floating], logits: NDArray[np.floating], task: str) -> float:
    """Mean F1 of the classes that occur in `targets`, weighted by their number of clips."""
    table = _class_scores(targets, logits, task)
    return float(np.average(table["f1"], weights=table["support"]))


def correct(targets: NDArray[np.floating], logits: NDArray[np.floating], task: str) -> NDArray[np.bool_]:
    """Whether each clip's prediction is right: correct[N]; for `multi_label`, right in every class."""
    _check(targets, logits)
    return np.asarray((predictions(logits, task) == (targets > 0)).all(axis=1))


def accuracy(targets: NDArray[np.floating], logits: NDArray[np.floating], task: str) -> float:
    """Share of clips whose prediction is right; for `multi_label`, right in every class (subset accuracy)."""
    return float(correct(targets, logits, task).mean())


def per_class(
    targets: NDArray[np.floating], logits: NDArray[np.floating], classes: list[str], task: str
) -> pd.DataFrame:
    """Tabulate `class`, `precision`, `recall`, `f1` and `support` (clips), one row per class in the order of `classes`.

    Precision of a class that is never predicted and recall of a class without clips are 0.
    """
    table = _class_scores(targets, logits, task)
    table.insert(0, "class", classes)
    return table


def reliability(targets: NDArray[np.floating], logits: NDArray[np.floating], task: str, bins: int) -> pd.DataFrame:
    """Tabulate how often predictions of a confidence come true, in `bins` bins of equal width over [0, 1].

    Columns: `low` and `high` (a bin holds low < confidence <= high), `predictions` (how many), `confidence` and
    `accuracy` (means; NaN in an empty bin). A `single_label` clip makes one prediction, its most probable class; a
    `multi_label` clip makes one for each class: that the class applies.
    """
    _check(targets, logits)
    probability = probabilities(logits, task)
    if task == "multi_label":
        confidence, right = probability.ravel(), targets.ravel() > 0
    else:
        confidence, right = probability.max(axis=1), correct(targets, logits, task)
    edges = np.linspace(0, 1, bins + 1)
    bin_of = np.searchsorted(edges[1:-1], confidence)
    count = np.bincount(bin_of, minlength=bins)
    with np.errstate(invalid="ignore"):
        mean_confidence = np.bincount(bin_of, weights=confidence, minlength=bins) / count
        mean_accuracy = np.bincount(bin_of, weights=right, minlength=bins) / count
    return pd.DataFrame(
        {
            "low": edges[:-1],
            "high": edges[1:],
            "predictions": count,
            "confidence": mean_confidence,
            "accuracy": mean_accuracy,
        }
    )


def calibration_error(table: pd.DataFrame) -> float:
    """Expected calibration error of a `reliability` table: mean |accuracy - confidence|, weighted by predictions.

    Source: Guo et al. 2017, "On calibration of modern neural networks", arXiv 1706.04599, equation 3.
    """
    filled = table[table["predictions"] > 0]
    return float(np.average((filled["accuracy"] - filled["confidence"]).abs(), weights=filled["predictions"]))


def _class_scores(targets: NDArray[np.floating], logits: NDArray[np.floating], task: str) -> pd.DataFrame:
    _check(targets, logits)
    actual, predicted = targets > 0, predictions(logits, task)
    hits = (actual & predicted).sum(axis=0).astype(np.float64)
    claimed, support = predicted.sum(axis=0).astype(np.float64), actual.sum(axis=0).astype(np.float64)
    if not support.any():
        raise CpfdError(
            f"none of the {len(targets)} clips to be scored carries a class, and F1 needs one: label some clips of this"
            " split in the manifest"
        )
    return pd.DataFrame(
        {
            "precision": hits / np.maximum(claimed, 1),
            "recall": hits / np.maximum(support, 1),
            "f1": f1(hits, claimed, support),
            "support": support.astype(np.int64),
        }
    )


def _check(targets: NDArray[np.floating], logits: NDArray[np.floating]) -> None:
    if targets.shape != logits.shape or targets.ndim != 2:
        raise ValueError(f"targets{list(targets.shape)} and logits{list(logits.shape)} must both be [N, C]")
