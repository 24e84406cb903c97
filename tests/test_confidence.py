"""What the confidence stage estimates, on data whose truth is known."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import softmax

from cpfd.distill.confidence import (
    Evidence,
    calibrate,
    choose_method,
    class_prior,
    confidences,
    estimate_eta,
    fit_temperature,
    gather_evidence,
    pool_target,
    posterior,
)

TASKS = ("single_label", "multi_label")


def noisy_world(eta: float, seed: int = 0, clips: int = 4000, classes: int = 5) -> tuple[np.ndarray, np.ndarray]:
    """Logits of a good teacher, calibrated for clean labels, and labels of which `eta` are replaced at random."""
    rng = np.random.default_rng(seed)
    logits = 3 * rng.normal(size=(clips, classes))
    truth = np.array([rng.choice(classes, p=p) for p in softmax(logits, axis=1)])
    label = np.where(rng.random(clips) < eta, rng.integers(classes, size=clips), truth)
    return logits, np.eye(classes)[label]


@pytest.mark.parametrize("eta", [0.0, 0.2, 0.4, 0.6])
def test_the_rate_of_random_labels_is_found(eta: float) -> None:
    logits, labels = noisy_world(eta)
    estimated = estimate_eta(softmax(logits, axis=1), labels, "single_label")
    assert estimated == pytest.approx(eta, abs=0.05)


@given(st.floats(0.3, 4.0))
@settings(max_examples=10, deadline=None)
def test_the_temperature_undoes_overconfidence(temperature: float) -> None:
    logits, labels = noisy_world(0)
    assert fit_temperature(logits * temperature, labels, "single_label") == pytest.approx(temperature, rel=0.1)


@given(st.integers(0, 2**20), st.sampled_from(TASKS), st.floats(0, 0.95))
@settings(max_examples=50, deadline=None)
def test_the_posterior_lies_between_label_and_teacher(seed: int, task: str, eta: float) -> None:
    rng = np.random.default_rng(seed)
    p = calibrate(2 * rng.normal(size=(7, 4)), 1.0, task)
    labels = (
        np.eye(4)[rng.integers(4, size=7)] if task == "single_label" else rng.integers(2, size=(7, 4)).astype(float)
    )
    r = posterior(p, labels, eta, task)
    assert r.shape == p.shape
    assert (r >= 0).all()
    assert (r <= 1).all()
    if task == "single_label":
        np.testing.assert_allclose(r.sum(1), 1)
    np.testing.assert_allclose(posterior(p, labels, 0.0, task), labels, atol=1e-12)
    # A label that says nothing leaves the de-noised teacher: p itself where eta takes no probability from any class.
    nothing_given = posterior(p, np.full_like(p, 1 / 4 if task == "single_label" else 1 / 2), 0.0, task)
    np.testing.assert_allclose(nothing_given, p, atol=2e-3)


def test_with_hopeless_labels_the_posterior_is_the_teacher() -> None:
    p = np.array([[0.9, 0.05, 0.05], [0.2, 0.5, 0.3]])
    labels = np.eye(3)[[1, 0]]
    assert posterior(p, labels, 0.95, "single_label").argmax(1).tolist() == [0, 1]


@given(st.integers(0, 2**20), st.sampled_from(TASKS))
@settings(max_examples=30, deadline=None)
def test_every_confidence_is_a_probability_and_certainty_is_one(seed: int, task: str) -> None:
    rng = np.random.default_rng(seed)
    labels = np.eye(4)[rng.integers(4, size=30)]
    logits = 3 * rng.normal(size=(30, 4))
    logits[0] = np.where(labels[0] > 0, 500, -500)
    labelled = rng.random(30) < 0.8
    labelled[:2] = True
    estimated = confidences(calibrate(logits, 1.0, task), labels, labelled, task)
    assert set(estimated) == {"max_prob", "margin", "neg_entropy", "true_class", "correctness"}
    for values in estimated.values():
        assert values.shape == (30,)
        assert ((values >= 0) & (values <= 1)).all()
    for name in ("max_prob", "margin", "neg_entropy", "true_class"):
        assert estimated[name][0] == pytest.approx(1)
    # Nothing is known of an unlabelled clip's class: its estimate is that of the most probable one.
    np.testing.assert_allclose(estimated["true_class"][~labelled], estimated["max_prob"][~labelled])


def test_correctness_is_the_measured_rate_of_being_right() -> None:
    logits, labels = noisy_world(0.3)
    p = softmax(2 * logits, axis=1)  # overconfident
    correctness = confidences(p, labels, np.ones(len(p), bool), "single_label")["correctness"]
    right = p.argmax(1) == labels.argmax(1)
    assert correctness.mean() == pytest.approx(right.mean(), abs=1e-6)
    sure = correctness > np.median(correctness)
    assert correctness[sure].mean() == pytest.approx(right[sure].mean(), abs=0.02)


@pytest.mark.parametrize("task", TASKS)
def test_the_pool_target_takes_the_prior_out(task: str) -> None:
    labels = np.eye(3)[[0] * 80 + [1] * 15 + [2] * 5]
    prior = class_prior(labels, task)
    knows_nothing = np.log(prior) if task == "single_label" else np.log(prior) - np.log1p(-prior)
    expected = 1 / 3 if task == "single_label" else 1 / 2
    np.testing.assert_allclose(pool_target(knows_nothing[None], prior, task), expected)


def test_the_rule_of_the_design() -> None:
    def evidence(eta: float, gain: float) -> Evidence:
        return Evidence(1.0, eta, gain, 0.7 + gain, 0.7)

    def choice(eta: float, gain: float, unlabelled: int) -> str:
        return choose_method(evidence(eta, gain), unlabelled, min_eta=0.2, min_gain=0.03)[0]

    assert choice(0.3, 0.1, 0) == "posterior"
    assert choice(0.1, 0.1, 50) == "posterior"  # for its pool of unlabelled clips
    assert choice(0.1, 0.1, 0) == "none"
    assert choice(0.5, 0.01, 50) == "none"


@pytest.mark.parametrize("task", TASKS)
def test_a_teacher_that_knows_more_shows_in_the_gain(task: str) -> None:
    logits, labels = noisy_world(0.3)
    blind = np.random.default_rng(1).normal(size=logits.shape)
    found = gather_evidence(logits, blind, labels, task)
    assert found.gain > 0.1
    assert gather_evidence(logits, logits, labels, task).gain == 0
