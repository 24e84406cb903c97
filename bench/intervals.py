"""From the logits of every model and seed to means, paired bootstrap intervals and the share of the gap that is closed.

Seeds split the clips anew, so that a clip is tested by some of them. A resample draws seeds, and creators (or clips
without one) of the whole data set: a creator that is drawn twice counts twice wherever one of its clips is tested. All
models share the draws. With overlapping splits seeds are not independent; `seed_interval` allows for that.
"""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from scipy import stats

from cpfd import metrics
from cpfd.evaluation import bootstrap

Floats = np.ndarray
COVERAGE = 0.95


@dataclass
class SeedResult:
    """The test split of one seed: targets[N, C], cluster[N] by name, logits[N, C] and cost of each model."""

    targets: np.ndarray
    clusters: np.ndarray
    train_clips: int
    logits: dict[str, np.ndarray] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    settings: dict[str, str] = field(default_factory=dict)
    summary: dict[str, Any] = field(default_factory=dict)


def observed(results: list[SeedResult], task: str) -> dict[str, Floats]:
    """Macro-F1[S] of each model, one per seed."""
    models = results[0].logits
    return {model: np.array([metrics.macro_f1(r.targets, r.logits[model], task) for r in results]) for model in models}


def resampled(results: list[SeedResult], task: str, samples: int, seed: int) -> dict[str, Floats]:
    """Draw `samples` values of each model's macro-F1, mean over drawn seeds, each on the drawn clusters of its test."""
    rng = np.random.default_rng(seed)
    names = np.unique(np.concatenate([result.clusters for result in results]))
    models = list(results[0].logits)
    draws = bootstrap.draw(rng, len(names), samples)
    runs = bootstrap.draw(rng, len(results), samples)
    total = np.zeros((samples, len(models)))
    for number, result in enumerate(results):
        at = np.searchsorted(names, result.clusters)
        predicted = [metrics.predictions(result.logits[model], task) for model in models]
        counts = bootstrap.count_by_cluster(result.targets, predicted, at, len(names))
        total += bootstrap.macro_f1_of_draws(draws, counts) * runs[:, number : number + 1]
    return {model: total[:, column] / len(results) for column, model in enumerate(models)}


def seed_interval(differences: Floats, tested: float, trained: float) -> tuple[float, float] | None:
    """Interval of a mean difference over seeds whose training splits overlap; None for a single seed.

    Corrected resampled t-test: the variance of the mean is s^2 (1 / n + tested / trained) (Nadeau and Bengio 2003,
    "Inference for the generalization error", Machine Learning 52).
    """
    count = len(differences)
    if count < 2:
        return None
    spread = float(np.std(differences, ddof=1)) * np.sqrt(1 / count + tested / trained)
    reach = float(stats.t.ppf((1 + COVERAGE) / 2, count - 1)) * spread
    return float(differences.mean() - reach), float(differences.mean() + reach)
