"""Where the shipped student is wrong: class by class where several may apply, and clip by clip."""

import numpy as np
import pandas as pd

from cpfd import metrics
from cpfd.evaluation.results import Shipped, Split

MISTAKES = 12
"""Clips that the report shows."""


def decision_table(test: Split, shipped: Shipped) -> pd.DataFrame:
    """Count test clips by class: `class`, `found` and `missed` ones of it, and `wrong`, others that were given it.

    Where several classes may apply this takes the place of a confusion matrix: a clip then has no one cell.
    """
    actual, predicted = test.targets > 0, metrics.predictions(test.logits[shipped.method][shipped.run], test.task)
    counts = {"found": actual & predicted, "missed": actual & ~predicted, "wrong": ~actual & predicted}
    return pd.DataFrame({"class": test.classes, **{name: each.sum(axis=0) for name, each in counts.items()}})


def surest_mistakes(test: Split, shipped: Shipped) -> pd.DataFrame:
    """The MISTAKES wrong test clips that the shipped student is surest of: `video_id`, `actual`, `predicted`, `sure`.

    `actual` and `predicted` are classes joined by "|", empty for none. `sure` is the probability of the predicted
    class; where several may apply, that of the decision that is furthest from the label.
    """
    logits = test.logits[shipped.method][shipped.run]
    chances, predicted = metrics.probabilities(logits, test.task), metrics.predictions(logits, test.task)
    sure = chances.max(axis=1) if test.task == "single_label" else np.abs(chances - test.targets).max(axis=1)
    table = pd.DataFrame(
        {
            "video_id": test.video_ids,
            "actual": _names(test.targets > 0, test.classes),
            "predicted": _names(predicted, test.classes),
            "sure": sure,
        }
    )
    wrong = table[~metrics.correct(test.targets, logits, test.task)]
    return wrong.sort_values("sure", ascending=False, kind="stable").head(MISTAKES)


def _names(marks: "np.ndarray[tuple[int, int], np.dtype[np.bool_]]", classes: list[str]) -> list[str]:
    return ["|".join(np.array(classes, dtype=object)[row]) for row in marks]
