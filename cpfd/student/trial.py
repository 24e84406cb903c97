"""An assembled student tried on files of test clips, one by one, as in production."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import numpy as np
from numpy.typing import NDArray

from cpfd.student.student import Student


@dataclass(frozen=True)
class Trial:
    """What the assembled student did with test clips' files, no dense feature in sight."""

    milliseconds: float
    """Median time per clip, from file to logits, on this machine."""
    champion_milliseconds: float | None
    """The same of the champion, where there is one."""
    latency_ratio: float | None
    """Median over the clips of the student's time as a multiple of the champion's."""
    largest_difference: float | None
    """Largest absolute difference of a logit to that of the evaluation; None where that was not given."""
    clips: int


def try_student(
    student: Student,
    champion: Student | None,
    clips: Sequence[tuple[Path | None, str]],
    champion_texts: Sequence[str],
    evaluated: NDArray[np.float32] | None,
) -> Trial:
    """Classify `clips`, (file, text) each, one by one, and compare with the `evaluated` logits[N, C], if given.

    The champion, which reads its own columns of text, takes turns with the student, and in turns goes first: a busy
    machine slows both, and who goes first reads the file for both.
    """
    students = [(student, [text for _, text in clips])]
    if champion is not None:
        students.append((champion, list(champion_texts)))
    times: list[list[float]] = [[] for _ in students]
    differences = []
    for each, texts in students:
        each.logits(clips[0][0], texts[0])  # the first call also pays for setting up
    for number, (video, _) in enumerate(clips):
        turns = list(enumerate(students))
        for side, (each, texts) in turns if number % 2 else reversed(turns):
            start = time.perf_counter()
            logits = each.logits(video, texts[number])
            times[side].append(1000 * (time.perf_counter() - start))
            if each is student and evaluated is not None:
                differences.append(float(np.abs(logits.numpy() - evaluated[number]).max()))
    return Trial(
        milliseconds=median(times[0]),
        champion_milliseconds=median(times[1]) if champion else None,
        latency_ratio=median(mine / its for mine, its in zip(*times, strict=True)) if champion else None,
        largest_difference=max(differences, default=None),
        clips=len(clips),
    )
