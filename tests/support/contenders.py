"""Students that are held against each other, as nothing but their logits."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cpfd.comparing.contenders import Contender
from cpfd.params.schema import Evaluation
from tests.support.small import CLASSES

SETTINGS = Evaluation(seed=3, bootstrap_samples=200, interval=0.9, calibration_bins=5)


def contender(logits: NDArray[Any], classes: Sequence[str] = CLASSES, task: str = "single_label") -> Contender:
    return Contender(list(classes), task, np.asarray(logits, np.float32), bytes=4, parameters=1)


def table_of(labels: Sequence[str], creators: Sequence[str] | None = None) -> pd.DataFrame:
    ids = [f"clip-{number:02}" for number in range(len(labels))]
    return pd.DataFrame({"video_id": ids, "label": labels, "creator_id": creators or [""] * len(labels)}, dtype=object)


def slices_of(clips: pd.DataFrame) -> pd.DataFrame:
    """Every other clip has text."""
    return pd.DataFrame({"text": np.resize(["with text", "without text"], len(clips))}, clips.index)


def sure(labels: Sequence[str], classes: Sequence[str]) -> NDArray[np.float32]:
    """Logits of a student that is sure of one class per clip."""
    return np.array([[3.0 if name == label else 0.0 for name in classes] for label in labels], np.float32)
