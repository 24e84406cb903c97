"""What a task does to the labels of its training clips; those of all others are left as they are."""

import numpy as np
import pandas as pd

from cpfd.errors import CpfdError


def flip(labels: pd.Series, train: np.ndarray, rate: float, pairs: list[list[str]] | None, seed: int) -> pd.Series:
    """Make a share `rate` of the training labels wrong.

    A wrong label is any other class with the same probability, or with `pairs`, the other class of its pair; raises
    CpfdError where a class is in no pair.
    """
    rng = np.random.default_rng([seed, 1])
    classes = sorted(set(labels) - {""})
    at = np.flatnonzero(train & (labels != "").to_numpy())
    wrong = rng.permutation(at)[: round(rate * len(at))]
    given = labels.to_numpy(object).copy()
    if pairs is not None:
        partner = {a: b for pair in pairs for a, b in (pair, pair[::-1])}
        if alone := set(classes) - set(partner):
            raise CpfdError(f"noise.pairs: lacks the class(es) {', '.join(sorted(alone))}")
        given[wrong] = [partner[label] for label in given[wrong]]
    else:
        code = {name: number for number, name in enumerate(classes)}
        true = np.array([code[label] for label in given[wrong]], int)
        given[wrong] = np.array(classes, object)[(true + rng.integers(1, len(classes), len(wrong))) % len(classes)]
    return pd.Series(given, labels.index, name="label")


def hide(labels: pd.Series, train: np.ndarray, kept: float, seed: int) -> pd.Series:
    """Take the label from training clips but for a share `kept` of each class, at least two clips."""
    rng = np.random.default_rng([seed, 2])
    given = labels.copy()
    for name in sorted(set(labels) - {""}):
        at = rng.permutation(np.flatnonzero(train & (labels == name).to_numpy()))
        given.iloc[at[max(2, round(kept * len(at))) :]] = ""
    return given
