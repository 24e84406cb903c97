"""What the confidence stage estimates, on data whose truth is known."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import softmax

from cpfd.distill.confidence import (
    OutOfFold,
    calibrate,
    choose_method,
    class_prior,
    confidences,
    estimate_eta,
    fit_temperature,
    fit_transition,
    gather_evidence,
    pool_target,
    posterior,
    shown_eta,
    uniform_noise,
)
from cpfd.reports.confidence import Evidence

TASKS = ("single_label", "multi_label")


def noisy_world(eta: float, seed: int = 0, clips: int = 4000, classes: int = 5) -> tuple[np.ndarray, np.ndarray]:
    """Logits of a good teacher, calibrated for clean labels, and labels of which `eta` are replaced at random."""
    rng = np.random.default_rng(seed)
    logits = 3 * rng.normal(size=(clips, classes))
    truth = np.array([rng.choice(classes, p=p) for p in softmax(logits, axis=1)])
    label = np.where(rng.random(clips) < eta, rng.integers(classes, size=clips), truth)
    return logits, np.eye(classes)[label]


def weak_world(
    transition: np.ndarray, seed: int = 0, clips: int = 4000, skill: float = 1.0
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Logits, given and true labels of clips that a teacher of this `skill` is often wrong about, and knows it."""
    rng = np.random.default_rng(seed)
    classes = len(transition)
    logits = skill * rng.normal(size=(clips, classes))
    truth = np.array([rng.choice(classes, p=p) for p in softmax(logits, axis=1)])
    label = np.array([rng.choice(classes, p=transition[true]) for true in truth])
    return logits, np.eye(classes)[label], np.eye(classes)[truth]


@pytest.mark.parametrize("skill", [3.0, 1.0])
@pytest.mark.parametrize("eta", [0.0, 0.2, 0.4, 0.6])
def test_the_rate_of_random_labels_is_found_however_weak_the_teacher(eta: float, skill: float) -> None:
    logits, labels, _ = weak_world(uniform_noise(eta, 5), skill=skill)
    held_back, _, true = weak_world(uniform_noise(eta, 5), seed=1, skill=skill)
    estimated, error = estimate_eta(logits, labels, held_back, true, "single_label")
    assert error < 0.06
    assert estimated == pytest.approx(eta, abs=3 * error)


def test_honest_disagreement_about_hard_clips_is_no_noise() -> None:
    """A teacher that is right on two clips of five, and clean labels: an estimate that blames labels would say 0.7."""
    logits, labels, _ = weak_world(np.eye(5), skill=0.7)
    held_back, _, true = weak_world(np.eye(5), seed=1, skill=0.7)
    found = gather_evidence(OutOfFold(labels, logits, logits, "single_label"), held_back, true)
    assert found.teacher_agreement < 0.5
    assert shown_eta(found, least=0.0) == 0


def test_a_teacher_no_better_than_chance_cannot_tell() -> None:
    rng = np.random.default_rng(0)
    labels = np.eye(4)[rng.integers(4, size=400)]
    wrong = np.roll(labels, 1, axis=1)
    assert estimate_eta(wrong, labels, wrong, labels, "single_label") == (0.0, None)
    found = gather_evidence(OutOfFold(labels, wrong, wrong, "single_label"), wrong, labels)
    assert shown_eta(found, least=0.0) == 0
    assert "eta is unknown" in choose_method(found, 0.0, unlabelled=5, min_gain=0.0)[1]


def test_noise_in_pairs_of_classes_shows_in_the_transition() -> None:
    pairs = 0.7 * np.eye(6) + 0.3 * np.eye(6)[[1, 0, 3, 2, 5, 4]]
    logits, labels, truth = weak_world(pairs, skill=3)
    probabilities = softmax(logits, axis=1)
    fitted, strength = fit_transition(probabilities, labels, eta=0.3)
    assert np.isfinite(strength)
    np.testing.assert_allclose(fitted, pairs, atol=0.06)
    uniform = posterior(probabilities, labels, uniform_noise(0.3, 6), "single_label")
    by_pairs = posterior(probabilities, labels, fitted, "single_label")
    assert (by_pairs * truth).sum(1).mean() > (uniform * truth).sum(1).mean() + 0.02


def test_uniform_noise_needs_no_matrix() -> None:
    logits, labels, _ = weak_world(uniform_noise(0.3, 6), skill=3, clips=1000)
    fitted, _ = fit_transition(softmax(logits, axis=1), labels, eta=0.3)
    np.testing.assert_allclose(fitted, uniform_noise(0.3, 6), atol=0.05)


@given(st.integers(0, 2**20), st.floats(0, 0.95))
@settings(max_examples=20, deadline=None)
def test_every_row_of_a_transition_is_a_distribution(seed: int, eta: float) -> None:
    rng = np.random.default_rng(seed)
    fitted, _ = fit_transition(softmax(rng.normal(size=(40, 4)), axis=1), np.eye(4)[rng.integers(4, size=40)], eta)
    assert (fitted >= 0).all()
    np.testing.assert_allclose(fitted.sum(1), 1)


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
    r = posterior(p, labels, uniform_noise(eta, 4 if task == "single_label" else 2), task)
    assert r.shape == p.shape
    assert (r >= 0).all()
    assert (r <= 1).all()
    if task == "single_label":
        np.testing.assert_allclose(r.sum(1), 1)


@given(st.integers(0, 2**20), st.sampled_from(TASKS))
@settings(max_examples=50, deadline=None)
def test_the_posterior_is_the_label_without_noise_and_the_teacher_without_a_label_to_trust(
    seed: int, task: str
) -> None:
    rng = np.random.default_rng(seed)
    p = calibrate(2 * rng.normal(size=(7, 4)), 1.0, task)
    labels = (
        np.eye(4)[rng.integers(4, size=7)] if task == "single_label" else rng.integers(2, size=(7, 4)).astype(float)
    )
    classes = 4 if task == "single_label" else 2
    np.testing.assert_allclose(posterior(p, labels, uniform_noise(0.0, classes), task), labels, atol=1e-12)
    np.testing.assert_allclose(posterior(p, labels, uniform_noise(1.0, classes), task), p, atol=1e-4)


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


def test_the_rule_that_chooses_the_method() -> None:
    def choice(eta: float, gain: float, unlabelled: int) -> str:
        evidence = Evidence(
            temperature=1.0,
            true_temperature=1.0,
            eta=eta,
            eta_error=0.05,
            gain=gain,
            gain_error=0.02,
            teacher_agreement=0.7 + gain,
            student_agreement=0.7,
            validation_agreement=0.7,
        )
        return choose_method(evidence, shown_eta(evidence, 0.1), unlabelled, min_gain=0.03)[0]

    assert choice(0.3, 0.1, 0) == "posterior"
    assert choice(0.05, 0.1, 50) == "posterior"  # for its pool of unlabelled clips
    assert choice(0.05, 0.1, 0) == "none"
    assert choice(0.5, 0.01, 50) == "none"


@pytest.mark.parametrize("task", TASKS)
def test_a_teacher_that_knows_more_shows_in_the_gain(task: str) -> None:
    logits, labels = noisy_world(0.3)
    blind = np.random.default_rng(1).normal(size=logits.shape)
    assert gather_evidence(OutOfFold(labels, logits, blind, task), logits, labels).gain > 0.1
    assert gather_evidence(OutOfFold(labels, logits, logits, task), logits, labels).gain == 0
