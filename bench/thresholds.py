"""Is the rule of `auto` right on tasks on which its thresholds were not set?

For each task in turn, the thresholds that would have served the other tasks best are applied to it.
"""

from itertools import product
from typing import Any

import numpy as np

from cpfd.distill.confidence import choose_method, shown_eta
from cpfd.reports.confidence import Evidence

MIN_ETAS = (0.05, 0.1, 0.15, 0.2, 0.3)
MIN_GAINS = (0.0, 0.03, 0.06, 0.1)
SHIPPED = ("none", "posterior")


def decide(summary: dict[str, Any], min_eta: float, min_gain: float) -> str:
    """What the rule chooses from the evidence of a seed (data/confidence/summary.json)."""
    evidence = Evidence.model_validate({name: summary[name] for name in Evidence.model_fields})
    return choose_method(evidence, shown_eta(evidence, min_eta), summary["unlabelled"], min_gain)[0]


def leave_one_out(
    tasks: dict[str, list[dict[str, Any]]], scores: dict[str, dict[str, np.ndarray]], default: tuple[float, float]
) -> dict[str, dict[str, Any]]:
    """For each task the thresholds set on the others, and the relative gain over the student that they bring on it.

    `tasks` holds the evidence of each seed, `scores` macro-F1[S] of each method. Of thresholds that serve the others
    alike, those nearest to the `default` (eta, then gain) are taken.
    """

    def gain(task: str, thresholds: tuple[float, float]) -> float:
        chosen = [decide(summary, *thresholds) for summary in tasks[task]]
        auto = np.mean([scores[task][method][seed] for seed, method in enumerate(chosen)])
        return float(auto / scores[task]["none"].mean() - 1)

    found = {}
    grid = sorted(product(MIN_ETAS, MIN_GAINS), key=lambda at: [abs(a - b) for a, b in zip(at, default, strict=True)])
    for task in tasks:
        others = [other for other in tasks if other != task]
        best = max(grid, key=lambda thresholds: round(sum(gain(other, thresholds) for other in others), 6))
        found[task] = {"min_eta": best[0], "min_gain": best[1], "gain": gain(task, best)}
    return found
