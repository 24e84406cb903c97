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

from cpfd import metrics
from cpfd.params.schema import Method
from cpfd.reports.confidence import Evidence

Array = NDArray[np.float64]

FLOOR = 1e-6
"""Least probability of a class under the teacher: a label must never be ruled out altogether."""
STRENGTHS = (np.inf, 100.0, 20.0, 5.0)
"""How many clips per class the assumption of uniform noise may be worth; infinite: it is taken as given."""
SIGNIFICANT = 1.645
"""Standard errors above zero from which on a rate counts as shown: one-sided, 95 %."""
EM_STEPS = 30
TEMPERATURES = (0.05, 20.0)


@dataclass(frozen=True)
class OutOfFold:
    """Labelled training clips: labels[N, C], and logits[N, C] of a teacher and a student that have not seen them."""

    labels: Array
    teacher: Array
    student: Array
    task: str


def gather_evidence(clips: OutOfFold, held_back: Array, held_labels: Array) -> Evidence:
    """Fit and measure on out-of-fold logits.

    `held_back`[V, C] are the teachers' logits of validation clips, `held_labels`[V, C] the labels of these.
    """
    labels, teacher, student, task = clips.labels, clips.teacher, clips.student, clips.task
    teacher_agreement, student_agreement = _agreement(teacher, labels, task), _agreement(student, labels, task)
    eta, error = estimate_eta(teacher, labels, held_back, held_labels, task)
    ahead = _agrees(teacher, labels, task).astype(np.float64) - _agrees(student, labels, task)
    return Evidence(
        temperature=fit_temperature(teacher, labels, task),
        true_temperature=fit_temperature(held_back, held_labels, task),
        eta=eta,
        eta_error=error,
        gain=teacher_agreement - student_agreement,
        gain_error=float(ahead.std() / np.sqrt(len(ahead))),
        teacher_agreement=teacher_agreement,
        student_agreement=student_agreement,
        validation_agreement=_agreement(held_back, held_labels, task),
    )


def shown_eta(evidence: Evidence, least: float) -> float:
    """Eta where it is at least `least` and can be told from zero, else 0."""
    known = evidence.eta_error is not None and evidence.eta >= max(least, SIGNIFICANT * evidence.eta_error)
    return evidence.eta if known else 0.0


def choose_method(evidence: Evidence, eta: float, unlabelled: int, min_gain: float) -> tuple[Method, str]:
    """The method to ship and the reason in a sentence, before any student is trained; `eta` is the rate applied."""
    gain = f"the teacher agrees with held-out labels {evidence.gain:+.3f} compared with the student (g)"
    if evidence.gain < min_gain:
        return "none", f"{gain}, less than {min_gain:g}: there is too little to distil"
    if eta:
        return "posterior", f"{gain}, and an estimated {eta:.0%} of labels are noise (eta)"
    if evidence.eta_error is None:
        measured = "eta is unknown, the teacher being no better than chance on validation clips"
    else:
        measured = f"eta {evidence.eta:.2f} ± {evidence.eta_error:.2f} counts as 0"
    if unlabelled:
        return "posterior", f"{gain}, and {unlabelled} unlabelled clips can learn from it; {measured}"
    return "none", f"no label noise is shown ({measured}) and no clip is unlabelled"


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
    return metrics.probabilities(logits / temperature, task)


def estimate_eta(
    teacher: Array, labels: Array, held_back: Array, held_labels: Array, task: str
) -> tuple[float, float | None]:
    """Rate of label noise and its standard error, from networks that have seen neither clip nor label.

    They agree with a share V of the validation labels, which are taken for true, and with a share A of the training
    labels. A label that is uniformly random agrees once in C times, so A = (1 - eta) V + eta / C, however weak the
    networks are:

        eta = clip((V - A) / (V - 1 / C), 0, 0.95)

    Validation labels that are as noisy as those of training give eta = 0, and labels are then left as they are. No
    better than chance, the networks cannot tell, and the error is None.
    """
    right, held_right = _agrees(teacher, labels, task), _agrees(held_back, held_labels, task)
    classes = labels.shape[1] if task == "single_label" else 2
    clips, held_clips = len(labels), len(held_labels)
    given, true = float(right.mean()), float(held_right.mean())
    reach = true - 1 / classes
    if reach <= 0:
        return 0.0, None
    error = np.sqrt(given * (1 - given) / clips + true * (1 - true) / held_clips) / reach
    return float(np.clip((true - given) / reach, 0, 0.95)), float(error)


def uniform_noise(eta: float, classes: int) -> Array:
    """Transition[C, C]: a label is kept with probability 1 - eta, and else drawn from all classes alike."""
    return np.asarray((1 - eta) * np.eye(classes) + eta / classes, np.float64)


def fit_transition(probabilities: Array, labels: Array, eta: float) -> tuple[Array, float]:
    """Transition[C, C], row c: the probability of each given label where c is the true class; and its strength.

    Starts from uniform noise at rate `eta` and follows the data by expectation-maximisation as far as they are worth:
    with r(c) proportional to P(c) * transition[c, y~], each row is the count of given labels among clips of the class,
    plus `strength` clips of uniform noise (a Dirichlet prior). The strength is the one of STRENGTHS under which labels
    of held-out fifths are most likely; infinite, the result is uniform noise itself. `probabilities`[N, C] must be
    those of the true class. Noise that follows pairs of classes, which one rate cannot describe, shows in the rows.

    Source: Dawid and Skene 1979, "Maximum likelihood estimation of observer error-rates", with one observer and the
    teacher for a prior of each item.
    """
    classes = labels.shape[1]
    uniform = uniform_noise(eta, classes)
    if eta == 0:
        return uniform, float("inf")
    part = np.arange(len(labels)) % 5

    def held_out(strength: float) -> float:
        score = 0.0
        for fold in range(5):
            fitted = _maximise(probabilities[part != fold], labels[part != fold], uniform, strength)
            likelihood = _joint(probabilities[part == fold], labels[part == fold], fitted).sum(1)
            score += float(np.log(np.maximum(likelihood, 1e-12)).sum())
        return score

    strength = max(STRENGTHS, key=held_out)
    return _maximise(probabilities, labels, uniform, strength), strength


def _maximise(probabilities: Array, labels: Array, uniform: Array, strength: float) -> Array:
    transition = uniform
    for _ in range(EM_STEPS if np.isfinite(strength) else 0):
        joint = _joint(probabilities, labels, transition)
        counts = (joint / joint.sum(1, keepdims=True)).T @ labels + strength * uniform
        transition = counts / counts.sum(1, keepdims=True)
    return transition


def _joint(probabilities: Array, labels: Array, transition: Array) -> Array:
    """Probability[N, C] of each true class together with the given label."""
    return np.asarray(probabilities * (labels @ transition.T), np.float64)


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


def posterior(probabilities: Array, labels: Array, transition: Array, task: str) -> Array:
    """Posterior r[N, C] of the true label, given the label y~ and the out-of-fold teacher P calibrated to true labels:

        r(c) proportional to P(c) * transition[c, y~]

    The identity, no noise, gives the label itself. For multi_label, r[N, C] is the probability that the class applies,
    and `transition`[2, 2] that of a class that applies, then of one that does not.
    """
    p, y = as_choices(probabilities, labels, task)
    joint = _joint(np.maximum(p, FLOOR), y, transition)
    r = joint / joint.sum(1, keepdims=True)
    return np.asarray(r if task == "single_label" else r[:, 0].reshape(labels.shape), np.float64)


def as_choices(probabilities: Array, labels: Array, task: str) -> tuple[Array, Array]:
    """Probabilities and labels as choices of one class; multi_label's [N, C] as N * C choices of applies or not."""
    if task == "single_label":
        return probabilities, labels
    return tuple(np.stack([values, 1 - values], -1).reshape(-1, 2) for values in (probabilities, labels))  # type: ignore[return-value]


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


def _agrees(logits: Array, labels: Array, task: str) -> NDArray[np.bool_]:
    """Whether each prediction is the label: one of each clip, or for multi_label of each clip and class."""
    if task == "single_label":
        return np.asarray(logits.argmax(1) == labels.argmax(1))
    return np.asarray((logits > 0) == (labels > 0.5)).ravel()


def _agreement(logits: Array, labels: Array, task: str) -> float:
    """Accuracy; macro-F1 for multi_label, where accuracy would mostly count the classes that do not apply."""
    if task == "single_label":
        return float((logits.argmax(1) == labels.argmax(1)).mean())
    return metrics.macro_f1(labels, logits, task)
