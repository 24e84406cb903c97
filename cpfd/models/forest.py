"""A random forest on the dense features alone: the second of the two judges that cross-fitting calls the teacher."""

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_softmax, logit
from sklearn.ensemble import RandomForestRegressor

BALANCE = 0.5
"""A clip weighs as much as the inverse share of its class to this power: macro-F1 counts all classes alike."""
DOUBT = 0.01
"""Probability mass spread over all classes: one that no tree has seen is unlikely, not impossible."""
MIN_LEAF_CLIPS = 3


def forest_logits(
    dense: NDArray[np.float32],
    labels: NDArray[np.float32],
    judged: NDArray[np.float32],
    *,
    task: str,
    trees: int,
    seed: int,
) -> NDArray[np.float32]:
    """Logits[J, C] of clips with dense features `judged`[J, M], by a forest fitted to `dense`[N, M] and `labels`[N, C].

    For single_label they are log-probabilities, for multi_label the log-odds of each class. Trees are fitted to
    indicators of the classes, where the reduction of variance is that of the Gini impurity.

    Source: Breiman 2001, "Random forests", Machine Learning 45.
    """
    share = labels.mean(0) + 1 / len(labels)
    weight = labels @ share**-BALANCE if task == "single_label" else None
    # One thread: several add up their trees in the order in which they finish, which changes the last bits.
    forest = RandomForestRegressor(
        trees, min_samples_leaf=MIN_LEAF_CLIPS, max_features="sqrt", random_state=seed, n_jobs=1
    )
    found = forest.fit(dense, labels, sample_weight=weight).predict(judged).reshape(len(judged), -1)
    if task == "single_label":
        logits = log_softmax(np.log((1 - DOUBT) * found + DOUBT / found.shape[1]), axis=1)
    else:
        logits = logit((1 - DOUBT) * found + DOUBT / 2)
    return np.asarray(logits, np.float32)
