"""What a hostile clip would make its reader do: run in processes of their own, so nothing heavy is imported here."""

import os
import signal
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cpfd.datasets.limits import Limits
from cpfd.datasets.video import Probe, probe
from cpfd.features.decoding import sample_frames


def crash(path: Path) -> None:
    os.kill(os.getpid(), signal.SIGSEGV)


def crash_once(path: Path) -> str:
    """Crash where there is no file yet, and make it."""
    if path.exists():
        return "read"
    path.touch()
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError


def spin(path: Path) -> None:
    while True:
        pass


def deadly_probe(path: Path, limits: Limits) -> Probe:
    """`probe`, but clip 11.mp4 is deadly."""
    if path.name == "11.mp4":
        crash(path)
    return probe(path, limits)


def deadly_sample(path: Path, count: int, size: int, limits: Limits) -> NDArray[np.uint8]:
    """`sample_frames`, but clip 11.mp4 is deadly."""
    if path.name == "11.mp4":
        crash(path)
    return sample_frames(path, count, size, limits)
