"""Models that anyone would try first."""

from collections.abc import Callable

import numpy as np
import pandas as pd
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression

from cpfd.datasets.contract import TEXT_COLUMNS
from cpfd.features.store import FeatureStore

Model = Callable[[np.ndarray], np.ndarray]
"""From rows to train on to logits[N, C] of all clips."""

SETTINGS = {"tfidf": (1.0, 10.0), "boosting": (8, 31)}
"""Inverse regularisation of the logistic regression; leaves of a tree."""


def models(store: FeatureStore, manifest: pd.DataFrame, dense: pd.DataFrame) -> dict[str, Model]:
    """Each model that the data set has inputs for, in each of its settings: majority-0, tfidf-0, tfidf-1, ..."""
    ids = store.index["video_id"]
    labels = store.targets.argmax(1)
    columns = [name for name in TEXT_COLUMNS if name in manifest]
    texts = manifest.set_index("video_id").loc[ids, columns].agg(" ".join, axis=1) if columns else None
    values = dense.set_index("video_id").reindex(ids).to_numpy(np.float64)

    def majority(rows: np.ndarray) -> np.ndarray:
        return np.tile(store.targets[rows].mean(0), (len(ids), 1))

    def tfidf(rows: np.ndarray, strength: float) -> np.ndarray:
        words = TfidfVectorizer(sublinear_tf=True, ngram_range=(1, 2)).fit(texts.iloc[rows])
        vectors = words.transform(texts)
        model = LogisticRegression(C=strength, max_iter=300).fit(vectors[rows], labels[rows])
        return _all_classes(model.predict_log_proba(vectors), model.classes_, len(store.classes))

    def boosting(rows: np.ndarray, leaves: int) -> np.ndarray:
        model = HistGradientBoostingClassifier(max_iter=30, max_leaf_nodes=leaves, random_state=0)
        model.fit(values[rows], labels[rows])
        return _all_classes(np.log(model.predict_proba(values) + 1e-12), model.classes_, len(store.classes))

    found: dict[str, Model] = {"majority-0": majority}
    for number in range(2):
        if texts is not None:
            found[f"tfidf-{number}"] = lambda rows, at=number: tfidf(rows, SETTINGS["tfidf"][at])
        found[f"boosting-{number}"] = lambda rows, at=number: boosting(rows, SETTINGS["boosting"][at])
    return found


def _all_classes(log_probabilities: np.ndarray, seen: np.ndarray, classes: int) -> np.ndarray:
    """Logits of all classes, very small for those that no training clip has."""
    logits = np.full((len(log_probabilities), classes), -1e3)
    logits[:, seen] = log_probabilities
    return logits
