"""Models that anyone would try first."""

from collections.abc import Callable

import numpy as np
import pandas as pd
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression

from cpfd.datasets.contract import TEXT_COLUMNS
from cpfd.features.store import FeatureStore
from cpfd.metrics import Floats

Model = Callable[[np.ndarray], np.ndarray]
"""From rows to train on to logits[N, C] of all clips."""

TITLES = {"majority": "Majority class", "tfidf": "TF-IDF, logistic regression", "boosting": "Boosting on dense alone"}
STRENGTHS = (1.0, 10.0)
"""Inverse regularisation of the logistic regression."""
LEAVES = (8, 31)
"""Leaves of a tree of the boosting."""


def models(store: FeatureStore, manifest: pd.DataFrame, dense: pd.DataFrame) -> dict[str, Model]:
    """Each model that the data set has inputs for, in each of its settings: majority-0, tfidf-0, tfidf-1, ..."""
    ids = store.index["video_id"]
    columns = [name for name in TEXT_COLUMNS if name in manifest]
    found: dict[str, Model] = {"majority-0": lambda rows: np.tile(store.targets[rows].mean(0), (len(ids), 1))}
    if columns:
        texts = manifest.set_index("video_id").loc[ids, columns].agg(" ".join, axis=1)
        found |= {f"tfidf-{number}": _tfidf(store, texts, strength) for number, strength in enumerate(STRENGTHS)}
    values = dense.set_index("video_id").reindex(ids).to_numpy(np.float64)
    found |= {f"boosting-{number}": _boosting(store, values, leaves) for number, leaves in enumerate(LEAVES)}
    return found


def all_classes(log_probabilities: Floats, seen: np.ndarray, classes: int) -> Floats:
    """Logits[N, C] of all classes from those of the classes `seen` in training; very small for the others."""
    logits = np.full((len(log_probabilities), classes), -1e3)
    logits[:, seen] = log_probabilities
    return logits


def _tfidf(store: FeatureStore, texts: "pd.Series[str]", strength: float) -> Model:
    def model(rows: np.ndarray) -> np.ndarray:
        words = TfidfVectorizer(sublinear_tf=True, ngram_range=(1, 2)).fit(texts.iloc[rows])
        vectors = words.transform(texts)
        fitted = LogisticRegression(C=strength, max_iter=300).fit(vectors[rows], store.targets[rows].argmax(1))
        return all_classes(fitted.predict_log_proba(vectors), fitted.classes_, len(store.classes))

    return model


def _boosting(store: FeatureStore, values: Floats, leaves: int) -> Model:
    def model(rows: np.ndarray) -> np.ndarray:
        fitted = HistGradientBoostingClassifier(max_iter=30, max_leaf_nodes=leaves, random_state=0)
        fitted.fit(values[rows], store.targets[rows].argmax(1))
        return all_classes(np.log(fitted.predict_proba(values) + 1e-12), fitted.classes_, len(store.classes))

    return model
