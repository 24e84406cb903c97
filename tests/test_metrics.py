"""Scores agree with scikit-learn and with what can be counted by hand."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.calibration import calibration_curve
from sklearn.metrics import accuracy_score, f1_score, precision_recall_fscore_support

from cpfd import metrics
from cpfd.errors import CpfdError

Scored = tuple[NDArray[np.float32], NDArray[np.float32], str]


@st.composite
def scored_clips(draw: st.DrawFn) -> Scored:
    """Targets and logits of either task; some classes may have no clip, and some logits are equal."""
    clips, classes = draw(st.integers(1, 40)), draw(st.integers(2, 6))
    task = draw(st.sampled_from(["single_label", "multi_label"]))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    logits = rng.integers(-6, 7, size=(clips, classes)).astype(np.float32) / 2
    if task == "multi_label":
        targets = rng.random((clips, classes)) < 0.3
        targets[0, 0] = True
    else:
        targets = np.eye(classes)[rng.integers(0, classes, clips)]
    return targets.astype(np.float32), logits, task


def as_sklearn(targets: NDArray[np.float32], logits: NDArray[np.float32], task: str) -> tuple[NDArray, NDArray]:
    if task == "multi_label":
        return targets.astype(int), (logits > 0).astype(int)
    return targets.argmax(axis=1), logits.argmax(axis=1)


@given(scored_clips())
def test_f1_and_accuracy_are_those_of_scikit_learn(scored: Scored) -> None:
    targets, logits, task = scored
    actual, predicted = as_sklearn(*scored)
    present = np.flatnonzero(targets.any(axis=0))

    def theirs(average: str) -> float:
        return float(f1_score(actual, predicted, labels=present, average=average, zero_division=0))

    assert metrics.macro_f1(targets, logits, task) == pytest.approx(theirs("macro"))
    assert metrics.weighted_f1(targets, logits, task) == pytest.approx(theirs("weighted"))
    assert metrics.accuracy(targets, logits, task) == pytest.approx(accuracy_score(actual, predicted))


@given(scored_clips())
def test_the_per_class_table_is_that_of_scikit_learn(scored: Scored) -> None:
    targets, logits, task = scored
    classes = [f"class {index}" for index in range(targets.shape[1])]

    table = metrics.per_class(targets, logits, classes, task)

    theirs = precision_recall_fscore_support(*as_sklearn(*scored), labels=range(len(classes)), zero_division=0)
    assert table["class"].tolist() == classes
    np.testing.assert_allclose(table[["precision", "recall", "f1", "support"]].to_numpy().T, np.array(theirs))


@given(scored_clips(), st.integers(2, 12))
def test_reliability_is_that_of_scikit_learn(scored: Scored, bins: int) -> None:
    targets, logits, task = scored
    probability = metrics.probabilities(logits, task)
    if task == "multi_label":
        right, confidence = targets.ravel(), probability.ravel()
    else:
        right, confidence = metrics.correct(*scored), probability.max(axis=1)

    table = metrics.reliability(targets, logits, task, bins)

    accuracy, mean_confidence = calibration_curve(right, confidence, n_bins=bins)
    filled = table[table["predictions"] > 0]
    np.testing.assert_allclose(filled["accuracy"], accuracy)
    np.testing.assert_allclose(filled["confidence"], mean_confidence)
    assert table["predictions"].sum() == len(right)


@given(scored_clips(), st.floats(-50, 50))
def test_probabilities_are_probabilities_and_stay_finite(scored: Scored, scale: float) -> None:
    _, logits, task = scored

    probability = metrics.probabilities(logits * np.float32(scale * 1000), task)

    assert np.isfinite(probability).all()
    assert ((probability >= 0) & (probability <= 1)).all()
    if task == "single_label":
        np.testing.assert_allclose(probability.sum(axis=1), 1)


def test_sure_and_always_wrong_is_the_worst_calibration_and_sure_and_right_the_best() -> None:
    targets = np.eye(2, dtype=np.float32)

    assert metrics.calibration_error(metrics.reliability(targets, targets * 200, "single_label", 10)) == 0
    assert metrics.calibration_error(metrics.reliability(targets, targets * -200, "single_label", 10)) == 1


def test_a_class_that_nobody_can_get_right_is_left_out_of_the_average() -> None:
    targets = np.eye(3, dtype=np.float32)[[0, 0, 1]]

    assert metrics.macro_f1(targets, targets, "single_label") == 1


def test_a_multi_label_clip_is_accurate_only_when_every_class_is() -> None:
    targets = np.array([[1, 1, 0], [0, 0, 0]], dtype=np.float32)
    logits = np.array([[2, -1, -3], [-1, -1, -1]], dtype=np.float32)

    assert metrics.accuracy(targets, logits, "multi_label") == 0.5


def test_clips_without_any_class_cannot_be_scored() -> None:
    nothing = np.zeros((4, 3), dtype=np.float32)

    with pytest.raises(CpfdError, match="none of the 4 clips"):
        metrics.macro_f1(nothing, nothing, "multi_label")


def test_targets_and_logits_of_different_clips_are_refused() -> None:
    with pytest.raises(ValueError, match=r"targets\[4, 3\] and logits\[5, 3\]"):
        metrics.macro_f1(np.zeros((4, 3)), np.zeros((5, 3)), "single_label")
