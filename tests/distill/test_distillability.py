"""What is told before any student is trained, on data whose truth is known."""

import numpy as np
import pytest

from cpfd.distill.confidence import (
    OutOfFold,
    calibrate,
    fit_transition,
    gather_evidence,
    posterior,
    shown_eta,
    uniform_noise,
)
from cpfd.distill.distillability import distillability


def told(eta: float, *, skill: float = 3.0, blind: bool = False, unlabelled: int = 0, clips: int = 1500) -> dict:
    """The report on labels of which `eta` are random; the student is as good as the teacher, or blind."""
    rng = np.random.default_rng(0)
    transition = uniform_noise(eta, 4)

    def world(count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        logits = skill * rng.normal(size=(count, 4))
        truth = np.array([rng.choice(4, p=p) for p in calibrate(logits, 1.0, "single_label")])
        return logits, np.eye(4)[[rng.choice(4, p=transition[true]) for true in truth]], np.eye(4)[truth]

    teacher, labels, truth = world(clips)
    held_back, _, held_labels = world(500)
    student = rng.normal(size=teacher.shape) if blind else teacher
    training = OutOfFold(labels, teacher, student, "single_label")
    evidence = gather_evidence(training, held_back, held_labels)
    shown = shown_eta(evidence, 0.1)
    p = calibrate(teacher, evidence.true_temperature, "single_label")
    target = posterior(p, labels, fit_transition(p, labels, shown)[0], "single_label")
    found = distillability(training, p, target, evidence, eta=shown, unlabelled=unlabelled)
    doubted = target.argmax(1) != labels.argmax(1)
    return found.content() | {"precision": float((labels != truth).any(1)[doubted].mean()) if doubted.any() else None}


def test_noise_is_named_and_most_doubted_labels_are_wrong() -> None:
    found = told(0.3, blind=True)
    assert found["advice"].startswith("Distil: about ")
    assert found["labels_doubted"] > 150
    assert found["precision"] > 0.7
    assert found["teacher_macro_f1"] > found["student_macro_f1"] + 0.3


def test_clean_labels_are_not_doubted() -> None:
    found = told(0.0, blind=True)
    assert found["labels_doubted"] == 0
    assert found["advice"].startswith("Expect little")


def test_a_teacher_that_knows_no_more_is_called_so() -> None:
    found = told(0.0)
    assert found["follows_teacher"] == 1
    assert found["advice"].startswith("Do not distil")


def test_unlabelled_clips_are_worth_it() -> None:
    assert "200 unlabelled clips can be taught" in told(0.0, blind=True, unlabelled=200)["advice"]


@pytest.mark.parametrize("task", ["single_label", "multi_label"])
def test_counts_are_of_clips_or_of_decisions(task: str) -> None:
    rng = np.random.default_rng(0)
    labels = (
        np.eye(3)[rng.integers(3, size=60)] if task == "single_label" else rng.integers(2, size=(60, 3)).astype(float)
    )
    teacher = 8 * labels - 4
    teacher[0] = -teacher[0]
    training = OutOfFold(labels, teacher, teacher, task)
    evidence = gather_evidence(training, teacher, labels)
    p = calibrate(teacher, 1.0, task)
    found = distillability(training, p, labels, evidence, eta=0.0, unlabelled=0)
    assert found.sure_and_contradicted == (3 if task == "multi_label" else 0)
    assert found.labels_doubted == 0
    assert found.follows_teacher == 1
