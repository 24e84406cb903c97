"""What out-of-fold logits say: how far to trust the teacher, and which labels to doubt.

Everything here is numpy on float64. Shapes: N clips, C classes. For multi_label every formula is applied to each class
as a problem of two classes, and per-clip values are means over classes.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.special import expit, log_expit, log_softmax, softmax
from sklearn.isotonic import IsotonicRegression

from cpfd.metrics import macro_f1

Array = NDArray[np.float64]

MOST_CONFIDENT = 0.2
"""Share of the clips on which eta is measured: there disagreement is the label's fault rather than the teacher's."""
FLOOR = 1e-4
"""Least probability of a class in the de-noised teacher, before normalisation."""
TEMPERATURES = (0.05, 20.0)


@dataclass(frozen=True)
class Evidence:
    """What the cross-fitted networks say of the training data as a whole."""

    temperature: float
    """T that calibrates the teacher's out-of-fold logits."""
    eta: float
    """Estimated rate of uniformly random labels."""
    gain: float
    """g: out-of-fold agreement of the teacher with the labels, minus that of an equally cross-fitted student."""
    teacher_agreement: float
    student_agreement: float


def gather_evidence(teacher: Array, student: Array, labels: Array, task: str) -> Evidence:
    """Fit and measure on out-of-fold logits `teacher`[N, C] and `student`[N, C] of labelled clips, `labels`[N, C]."""
    temperature = fit_temperature(teacher, labels, task)
    teacher_agreement, student_agreement = _agreement(teacher, labels, task), _agreement(student, labels, task)
    return Evidence(
        temperature=temperature,
        eta=estimate_eta(calibrate(teacher, temperature, task), labels, task),
        gain=teacher_agreement - student_agreement,
        teacher_agreement=teacher_agreement,
        student_agreement=student_agreement,
    )


def choose_method(evidence: Evidence, unlabelled: int, min_eta: float, min_gain: float) -> tuple[str, str]:
    """The design's rule: the method to ship and the reason in a sentence, before any student is trained."""
    gain = f"the teacher agrees with held-out labels {evidence.gain:+.3f} compared with the student (g)"
    if evidence.gain < min_gain:
        return "none", f"{gain}, less than {min_gain:g}: there is too little to distil"
    if evidence.eta >= min_eta:
        return "posterior", f"{gain}, and an estimated {evidence.eta:.0%} of labels are noise (eta)"
    if unlabelled:
        return (
            "posterior",
            f"{gain}, and {unlabelled} unlabelled clips can learn from it; eta {evidence.eta:.2f} counts as 0",
        )
    return "none", f"labels look clean (eta {evidence.eta:.2f} < {min_eta:g}) and no clip is unlabelled"


def fit_temperature(logits: Array, labels: Array, task: str) -> float:
    """Temperature T minimising the negative log-likelihood of `labels`[N, C] under logits / T (arXiv 1706.04599)."""

    def loss(log_temperature: float) -> float:
        scaled = logits / np.exp(log_temperature)
        if task == "single_label":
            return float(-(labels * log_softmax(scaled, axis=1)).sum(1).mean())
        return float(-(labels * log_expit(scaled) + (1 - labels) * log_expit(-scaled)).mean())

    low, high = np.log(TEMPERATURES)
    return float(np.exp(minimize_scalar(loss, bounds=(low, high), method="bounded").x))


def calibrate(logits: Array, temperature: float, task: str) -> Array:
    """Calibrated probabilities P[N, C]."""
    scaled = logits / temperature
    return np.asarray(softmax(scaled, axis=1) if task == "single_label" else expit(scaled), np.float64)


def estimate_eta(probabilities: Array, labels: Array, task: str) -> float:
    """Rate of uniformly random labels: clip((1 - A) * C / (C - 1), 0, 0.95).

    A is the agreement of the most confident fifth of the out-of-fold points with their labels; a uniformly random label
    agrees by chance once in C times.
    """
    if task == "single_label":
        confidence, classes = probabilities.max(1), probabilities.shape[1]
        agrees = probabilities.argmax(1) == labels.argmax(1)
    else:
        flat, classes = probabilities.ravel(), 2
        confidence, agrees = np.maximum(flat, 1 - flat), (flat > 0.5) == (labels.ravel() > 0.5)
    most_confident = np.argsort(-confidence, kind="stable")[: max(1, round(MOST_CONFIDENT * len(confidence)))]
    agreement = float(agrees[most_confident].mean())
    return float(np.clip((1 - agreement) * classes / (classes - 1), 0, 0.95))


def confidences(probabilities: Array, labels: Array, labelled: NDArray[np.bool_], task: str) -> dict[str, Array]:
    """Confidence c[N] in [0, 1] of calibrated P[N, C] by each estimator; where there is no label to look up, max_prob.

    max_prob     max_c P(c)                              (Hendrycks & Gimpel 2017, arXiv 1610.02136)
    margin       P(first) - P(second)                    (Scheffer et al. 2001)
    neg_entropy  1 - H(P) / log C                        (Shannon entropy)
    true_class   P(given label)                          (Corbiere et al. 2019, arXiv 1910.04851)
    correctness  probability that argmax P is the label, by isotonic regression on max_prob over the labelled clips
                 (Zadrozny & Elkan 2002)
    """
    if task == "single_label":
        p, y = probabilities[:, None, :], labels[:, None, :]  # one problem of C classes
    else:
        p, y = np.stack([probabilities, 1 - probabilities], -1), np.stack([labels, 1 - labels], -1)  # C problems of two
    ranked = np.sort(p, axis=-1)
    entropy = -(p * np.log(np.maximum(p, 1e-300))).sum(-1)
    max_prob = ranked[..., -1]
    agrees = p.argmax(-1) == y.argmax(-1)
    isotonic = IsotonicRegression(y_min=0, y_max=1, out_of_bounds="clip")
    isotonic.fit(max_prob[labelled].ravel(), agrees[labelled].ravel())
    result = {
        "max_prob": max_prob,
        "margin": ranked[..., -1] - ranked[..., -2],
        "neg_entropy": 1 - entropy / np.log(p.shape[-1]),
        "true_class": np.where(labelled[:, None], (p * y).sum(-1), max_prob),
        "correctness": isotonic.predict(max_prob.ravel()).reshape(max_prob.shape),
    }
    return {name: np.clip(value.mean(1), 0, 1) for name, value in result.items()}


def posterior(probabilities: Array, labels: Array, eta: float, task: str) -> Array:
    """Posterior r[N, C] of the true label, given the label y~ and the calibrated out-of-fold teacher P:

        p(c) proportional to max(P(c) - eta / C, 1e-4)
        r(c) proportional to p(c) * ((1 - eta) * [c = y~] + eta / C)

    eta = 0 gives the label itself. For multi_label, r[N, C] is the probability that the class applies.
    """
    if task == "multi_label":
        pairs = np.stack([probabilities, 1 - probabilities], -1)
        given = np.stack([labels, 1 - labels], -1)
        return posterior(pairs.reshape(-1, 2), given.reshape(-1, 2), eta, "single_label")[:, 0].reshape(labels.shape)
    classes = probabilities.shape[1]
    clean = np.maximum(probabilities - eta / classes, FLOOR)
    clean /= clean.sum(1, keepdims=True)
    joint = clean * ((1 - eta) * labels + eta / classes)
    return np.asarray(joint / joint.sum(1, keepdims=True), np.float64)


def pool_target(logits: Array, prior: Array, task: str) -> Array:
    """Target q[N, C] of unlabelled clips: the ensemble's `logits` with the class prior[C] divided out.

    softmax(o - log prior): soft targets of an unbalanced teacher would cost macro-F1 (Menon et al. 2021, arXiv
    2007.07314). For multi_label the prior odds of each class are divided out.
    """
    if task == "single_label":
        return np.asarray(softmax(logits - np.log(prior), axis=1), np.float64)
    return np.asarray(expit(logits - np.log(prior) + np.log1p(-prior)), np.float64)


def class_prior(labels: Array, task: str) -> Array:
    """Share of each class among `labels`[N, C], from counts plus one half (so that none is 0 or 1)."""
    total = len(labels) + (0.5 * labels.shape[1] if task == "single_label" else 1.0)
    return np.asarray((labels.sum(0) + 0.5) / total, np.float64)


def _agreement(logits: Array, labels: Array, task: str) -> float:
    """Accuracy; macro-F1 for multi_label, where accuracy would mostly count the classes that do not apply."""
    if task == "single_label":
        return float((logits.argmax(1) == labels.argmax(1)).mean())
    return macro_f1(labels, logits, task)
