"""Paired bootstrap: how far macro-F1, its differences and the closed gap would move on other clips and other seeds.

Every resample draws clusters of test clips and training seeds with replacement, the same for all models. A creator's
clips resemble each other, so creators are the clusters; drawing clip by clip would give intervals that are too narrow
(Field and Welsh 2007, "Bootstrapping clustered data"). With few seeds the intervals are still somewhat too narrow.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cpfd import metrics
from cpfd.metrics import Floats
from cpfd.pages.formatting import signed, span
from cpfd.reports.metrics import Difference, GapClosed

_CHUNK_VALUES = 2**23  # 64 MiB of float64: the largest array that a chunk of resamples makes


def resample_macro_f1(
    targets: NDArray[np.floating],
    logits: Mapping[str, NDArray[np.floating]],
    task: str,
    clusters: NDArray[np.integer],
    samples: int,
    seed: int,
) -> dict[str, Floats]:
    """Draw `samples` macro-F1 values of each model, each the mean over R drawn seeds on K drawn clusters of clips.

    targets[N, C]; logits[R, N, C] of each model (a model with one run is repeated R times); clusters[N]: 0 to K - 1.
    Classes without a clip in a resample are left out of its average, for all models alike. The result does not depend
    on the order of the clips as long as they keep their cluster.
    """
    count = int(clusters.max()) + 1
    runs = next(iter(logits.values())).shape[0]
    predicted = [metrics.predictions(run, task) for model in logits.values() for run in model]
    counts = count_by_cluster(targets, predicted, clusters, count)
    rng = np.random.default_rng(seed)
    seed_draws = draw(rng, runs, samples)
    chunk = max(1, _CHUNK_VALUES // max(count, counts.hits[0].size))
    means = np.empty((samples, len(logits)))
    for start in range(0, samples, chunk):
        seeds = seed_draws[start : start + chunk]
        scores = macro_f1_of_draws(draw(rng, count, len(seeds)), counts)
        by_run = scores.reshape(len(seeds), len(logits), runs)
        means[start : start + chunk] = (by_run * seeds[:, None]).sum(axis=2) / runs
    return {model: means[:, column] for column, model in enumerate(logits)}


@dataclass(frozen=True)
class ClusterCounts:
    """Clips of each class in each of K clusters: all of them, and as M models see them.

    support[K, C]: clips of the class; claims[K, M, C]: clips predicted as the class; hits[K, M, C]: rightly so.
    """

    support: Floats
    claims: Floats
    hits: Floats


def count_by_cluster(
    targets: NDArray[np.floating],
    predicted: Sequence[NDArray[np.bool_]],
    clusters: NDArray[np.integer],
    count: int,
) -> ClusterCounts:
    """Count targets[N, C] and each prediction[N, C] within `count` clusters; clusters[N]: 0 to `count` - 1."""
    actual = targets > 0
    return ClusterCounts(
        support=_cluster_sums(actual, clusters, count),
        claims=np.stack([_cluster_sums(each, clusters, count) for each in predicted], axis=1),
        hits=np.stack([_cluster_sums(each & actual, clusters, count) for each in predicted], axis=1),
    )


def draw(rng: np.random.Generator, count: int, samples: int) -> Floats:
    """Draw `count` of so many things with replacement: [samples, count], how often each is drawn.

    Whole numbers in float64: sums are exact whatever their order, so threads do not change bits.
    """
    return rng.multinomial(count, np.full(count, 1 / count), size=samples).astype(np.float64)


def macro_f1_of_draws(draws: Floats, counts: ClusterCounts) -> Floats:
    """Macro-F1[S, M] of each model on the clusters of each draw, from draws[S, K]: how often each cluster is drawn."""
    support = (draws @ counts.support)[:, None]
    scores = metrics.f1(_weigh(draws, counts.hits), _weigh(draws, counts.claims), support)
    return metrics.macro(scores, support)


def interval(values: Floats, coverage: float) -> tuple[float, float]:
    """The percentile interval, low and high, that holds the share `coverage` of the resampled values[S]."""
    low, high = np.quantile(values, [(1 - coverage) / 2, (1 + coverage) / 2])
    return float(low), float(high)


def difference(observed: float, method: Floats, baseline: Floats, coverage: float) -> Difference:
    """Describe macro-F1 of a method minus that of a baseline: as `observed`, over seeds, and in resamples[S]."""
    drawn = method - baseline
    low, high = interval(drawn, coverage)
    return Difference(mean=observed, low=low, high=high, probability=float((drawn >= 0).mean()))


def gap_closed(observed: Mapping[str, float], drawn: Mapping[str, Floats], method: str, coverage: float) -> GapClosed:
    """Describe (F1_method - F1_none) / (F1_teacher - F1_none), from macro-F1.

    There is no share of a gap that is not shown, which is where the interval of teacher minus `none` includes zero: the
    ratio then has no bounded interval either (Fieller 1954, "Some problems in interval estimation"). The few resamples
    without a gap of an interval that excludes zero count at both ends against the interval of the share: as minus
    infinity for `low`, as plus infinity for `high`.
    """
    gap = difference(observed["teacher"] - observed["none"], drawn["teacher"], drawn["none"], coverage)
    if min(gap.mean, gap.low) <= 0:
        return GapClosed(mean=None, low=None, high=None, reason=_no_gap(gap))
    gaps = drawn["teacher"] - drawn["none"]
    shares = np.divide(drawn[method] - drawn["none"], gaps, out=np.full_like(gaps, np.nan), where=gaps > 0)
    tail = (1 - coverage) / 2
    # Towards the middle, where no infinity is: `gap.low`, which may lie between two resamples, is positive.
    low = np.quantile(np.where(gaps > 0, shares, -np.inf), tail, method="higher")
    high = np.quantile(np.where(gaps > 0, shares, np.inf), 1 - tail, method="lower")
    share = (observed[method] - observed["none"]) / gap.mean
    return GapClosed(mean=share, low=float(low), high=float(high), reason=None)


def _no_gap(gap: Difference) -> str:
    """Say why a gap, teacher minus student alone, is none that could be closed."""
    if gap.mean <= 0:
        return f"the teacher is not better than the student alone ({signed(gap.mean)})"
    return f"the teacher is not shown to be better than the student alone ({signed(gap.mean)} {span(gap, signed)})"


def _cluster_sums(marks: NDArray[np.bool_], clusters: NDArray[np.integer], count: int) -> Floats:
    """Sum marks[N, C] within each cluster: [K, C]."""
    sums = np.zeros((count, marks.shape[1]))
    np.add.at(sums, clusters, marks)
    return sums


def _weigh(draws: Floats, sums: Floats) -> Floats:
    """Weigh cluster sums[K, M, C] by draws[S, K]: [S, M, C]."""
    return np.asarray((draws @ sums.reshape(len(sums), -1)).reshape(len(draws), *sums.shape[1:]))
