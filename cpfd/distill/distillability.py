"""What there is to gain by distilling, told before any student is trained."""

import numpy as np
from numpy.typing import NDArray

from cpfd.distill.confidence import SIGNIFICANT, Array, OutOfFold, as_choices
from cpfd.metrics import macro_f1
from cpfd.reports.confidence import Distillability, Evidence

SURE = 0.9
"""Calibrated probability from which on the teacher counts as sure."""


def distillability(
    clips: OutOfFold, probabilities: Array, target: Array, evidence: Evidence, *, eta: float, unlabelled: int
) -> Distillability:
    """Describe what can be gained from the teacher of labelled clips.

    `probabilities`[N, C] are the teacher's, calibrated to true labels, `target`[N, C] the posterior of the labels;
    `eta` is the rate of label noise that counts as shown, `unlabelled` the number of training clips without a label.
    """
    labels, task = clips.labels, clips.task
    followed = _decisions(clips.teacher, task) == _decisions(clips.student, task)
    p, y = as_choices(probabilities, labels, task)
    r, _ = as_choices(target, labels, task)
    given = y.argmax(1)
    follows, doubted = float(followed.mean()), int((r.argmax(1) != given).sum())
    return Distillability(
        teacher_macro_f1=macro_f1(labels, clips.teacher, task),
        student_macro_f1=macro_f1(labels, clips.student, task),
        follows_teacher=follows,
        sure_and_contradicted=int(((p.max(1) >= SURE) & (p.argmax(1) != given)).sum()),
        labels_doubted=doubted,
        advice=_advice(evidence, eta, follows, doubted, len(given), unlabelled),
    )


def _decisions(logits: Array, task: str) -> NDArray[np.intp]:
    """The class of each clip, or for multi_label whether each class applies to each clip."""
    return logits.argmax(1) if task == "single_label" else (logits > 0).ravel().astype(np.intp)


def _advice(evidence: Evidence, eta: float, follows: float, doubted: int, labels: int, unlabelled: int) -> str:
    ahead = evidence.gain > SIGNIFICANT * evidence.gain_error
    teacher = (
        f"out-of-fold the teacher is right {100 * evidence.gain:.0f} points more often than a student"
        if ahead
        else "the teacher cannot be told from a student: look for better dense features"
    )
    if eta:
        return (
            f"Distil: about {eta:.0%} of the labels are noise and {doubted} of {labels} are doubted; a"
            f" second look at those would help most; {teacher}."
        )
    if unlabelled:
        return f"Distil: no label noise is shown, but {unlabelled} unlabelled clips can be taught; {teacher}."
    if not ahead:
        return f"Do not distil: no label noise is shown, no clip is unlabelled, and {teacher}."
    return (
        "Expect little from distilling: no label noise is shown and no clip is unlabelled. Content alone makes"
        f" {follows:.0%} of the teacher's decisions, and {teacher}; unlabelled clips would help."
    )
