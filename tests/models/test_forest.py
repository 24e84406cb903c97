"""The forest that judges clips by their dense features alone."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit

from cpfd.models.forest import forest_logits


def clips(seed: int, task: str, count: int = 60) -> tuple[np.ndarray, np.ndarray]:
    """Dense features[N, 4] of which one column tells the class, and labels[N, 3] in which no clip has the third."""
    rng = np.random.default_rng(seed)
    classes = rng.permutation(np.arange(count) % 2)
    dense = rng.normal(size=(count, 4)).astype(np.float32)
    dense[:, 0] += 6 * classes
    labels = np.eye(3, dtype=np.float32)[classes]
    if task == "multi_label":
        labels[:, 1] = 1  # a class that applies to every clip
    return dense, labels


@given(st.integers(0, 2**20), st.sampled_from(["single_label", "multi_label"]))
@settings(max_examples=10, deadline=None)
def test_what_dense_features_tell_is_learnt_and_the_rest_stays_in_doubt(seed: int, task: str) -> None:
    dense, labels = clips(seed, task)
    judged, truth = clips(seed + 1, task)
    logits = forest_logits(dense, labels, judged, task=task, trees=20, seed=seed)

    assert logits.dtype == np.float32
    assert np.isfinite(logits).all(), "not even a class without any clip is ruled out"
    if task == "single_label":
        np.testing.assert_allclose(np.exp(logits).sum(1), 1, rtol=1e-5)
        assert (logits.argmax(1) == truth.argmax(1)).mean() > 0.9
        assert (np.exp(logits[:, 2]) < 0.01).all()
    else:
        assert ((logits > 0) == (truth > 0)).mean() > 0.9
        assert (expit(logits[:, 1]) > 0.99).all()


def test_the_same_seed_gives_the_same_bytes_and_another_does_not() -> None:
    dense, labels = clips(0, "single_label")
    first, again, other = (
        forest_logits(dense, labels, dense, task="single_label", trees=5, seed=seed) for seed in (1, 1, 2)
    )
    assert first.tobytes() == again.tobytes() != other.tobytes()


@pytest.mark.parametrize("scale", [1e-3, 1e6])
def test_the_scale_of_dense_features_does_not_matter(scale: float) -> None:
    dense, labels = clips(0, "single_label")
    plain, scaled = (
        forest_logits(values, labels, values, task="single_label", trees=5, seed=0)
        for values in (dense, np.float32(scale) * dense)
    )
    assert (plain.argmax(1) == scaled.argmax(1)).mean() > 0.95


def test_a_rare_class_is_not_drowned() -> None:
    """Features that tell nothing: clips of a rare class weigh more, so that it is not written off."""
    rng = np.random.default_rng(0)
    labels = np.eye(2, dtype=np.float32)[(np.arange(400) < 40).astype(int)]
    dense = rng.normal(size=(400, 3)).astype(np.float32)
    judged = rng.normal(size=(400, 3)).astype(np.float32)
    rare = np.exp(forest_logits(dense, labels, judged, task="single_label", trees=30, seed=0))[:, 1].mean()
    assert 0.15 < rare <= 0.25  # of 10 % of the clips; at most the share of the odds 1 : 3, the square root of 1 : 9
