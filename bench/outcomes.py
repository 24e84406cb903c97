"""What came out on each task, and on all of them: from trained models to numbers."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bench import intervals
from bench.arms import ARMS, chosen
from bench.intervals import SeedResult
from bench.record import BASELINE, Change, Clips, OverallRow, PairedChange, Row, TaskRecord, best_pfd
from bench.replicates import clusters, seed_folder, stage_seconds
from bench.simple_models import TITLES as SIMPLE
from bench.tasks import Method, Task
from cpfd.evaluation import bootstrap
from cpfd.features.store import FeatureStore
from cpfd.files import read_json, read_table
from cpfd.metrics import Floats
from cpfd.paths import CONTENT, MODELS, VALIDATED

SAMPLES = 2000


@dataclass
class Outcome:
    """What came out on one task, and resampled macro-F1[SAMPLES] of each model."""

    task: Task
    record: TaskRecord
    drawn: dict[str, Floats]


def task_outcome(task: Task, seeds: list[int], methods: list[Method]) -> Outcome:
    """Read what was trained on a task, and compare it."""
    results = [_read_seed(task, seed, methods) for seed in seeds]
    kind = task.checked(seeds[0]).dataset.task
    scores = intervals.observed(results, kind)
    drawn = intervals.resampled(results, kind, SAMPLES, seed=0)
    means = {model: float(each.mean()) for model, each in scores.items()}
    clips = Clips(
        tested=float(np.mean([len(result.targets) for result in results])),
        trained=float(np.mean([result.train_clips for result in results])),
    )

    def change(model: str, against: str | None) -> PairedChange | None:
        if against is None or model == against:
            return None
        low, high = bootstrap.interval(drawn[model] - drawn[against], intervals.COVERAGE)
        corrected = intervals.seed_interval(scores[model] - scores[against], clips.tested, clips.trained)
        return PairedChange(mean=means[model] - means[against], low=low, high=high, seed_interval=corrected)

    gap = change("teacher", BASELINE)

    def row(model: str, title: str) -> Row:
        low, high = bootstrap.interval(drawn[model], intervals.COVERAGE)
        return Row(
            title=title,
            macro_f1=means[model],
            low=low,
            high=high,
            by_seed=scores[model].tolist(),
            cpu_seconds=float(np.mean([result.seconds[model] for result in results])),
            settings=[result.settings[model] for result in results],
            against_none=change(model, BASELINE),
            against_pfd=change(model, best_pfd(means)),
            gap_closed=(means[model] - means[BASELINE]) / gap.mean if gap and gap.low > 0 else None,
        )

    titles = {"teacher": "Teacher", **SIMPLE, **{method.name: method.title for method in methods}}
    titles |= {"plain": "Student, clips weighed alike", "cpfd-default": "CPFD, params.yaml as it is"}
    titles["auto"] = "**auto** (what ships)"
    rows = {model: row(model, title) for model, title in titles.items() if model in scores}
    evidence = [_numbers(result.summary) for result in results]
    return Outcome(task, TaskRecord(task=task.name, seeds=seeds, clips=clips, evidence=evidence, models=rows), drawn)


def overall(outcomes: list[Outcome]) -> dict[str, OverallRow]:
    """Average over tasks of the relative change of macro-F1, against the student and the stronger form of PFD.

    Variants of a task share its weight. Models that a task lacks are left out, and from the share of the gap tasks on
    which none is shown.
    """
    owners = [outcome.task.variant_of or outcome.task.name for outcome in outcomes]
    weights = np.array([1 / owners.count(owner) for owner in owners])
    weights /= weights.sum()

    def change(model: str, others: list[str | None]) -> Change | None:
        mean, drawn = 0.0, np.zeros(SAMPLES)
        for weight, outcome, other in zip(weights, outcomes, others, strict=True):
            if other is None:
                return None
            rows = outcome.record.models
            mean += weight * (rows[model].macro_f1 / rows[other].macro_f1 - 1)
            drawn += weight * (outcome.drawn[model] / outcome.drawn[other] - 1)
        low, high = bootstrap.interval(drawn, intervals.COVERAGE)
        return Change(mean=mean, low=low, high=high)

    def share(model: str) -> float | None:
        closed = np.array([outcome.record.models[model].gap_closed for outcome in outcomes], np.float64)
        shown = ~np.isnan(closed)
        return float(np.average(closed[shown], weights=weights[shown])) if shown.any() else None

    found = {}
    tables = [outcome.record.models for outcome in outcomes]
    for model in [name for name in (tables[0] if tables else ()) if all(name in rows for rows in tables)]:
        found[model] = OverallRow(
            title=tables[0][model].title,
            against_none=change(model, [BASELINE] * len(outcomes)),
            against_pfd=change(model, [outcome.record.best_pfd for outcome in outcomes]),
            gap_closed=share(model),
        )
    return found


def _read_seed(task: Task, seed: int, methods: list[Method]) -> SeedResult:
    folder = seed_folder(task, seed)
    store = FeatureStore(folder / CONTENT, folder / VALIDATED)
    rows = store.rows("test", labelled=True)
    ids = store.index["video_id"].iloc[rows]
    train = len(store.rows("train", labelled=True))
    result = SeedResult(store.targets[rows], clusters(task, ids), train)
    result.summary = read_json(folder / ARMS / "summary.json")

    def add(model: str, path: Path, seconds: float, setting: str) -> None:
        logits = read_table(path).set_index("video_id")["logits"].loc[ids]
        result.logits[model] = np.stack(logits.to_list())
        result.seconds[model], result.settings[model] = seconds, setting

    add("teacher", folder / MODELS / "teacher" / "logits.parquet", stage_seconds(task, seed, "teacher"), "")
    arms = {method.name: [f"{method.name}-{number}" for number in range(len(method.grid))] for method in methods}
    arms |= {name: [f"{name}-0", f"{name}-1"][: 1 if name == "majority" else 2] for name in SIMPLE}
    arms["plain"], arms["cpfd-default"] = ["none-0"], ["cpfd-max_prob-1"]
    arms["auto"] = arms.get(result.summary["method"], [])
    for model, names in arms.items():
        if best := chosen(folder, names):
            add(model, best[1], best[0]["seconds"], best[0]["arm"])
    return result


def _numbers(summary: dict[str, Any]) -> dict[str, Any]:
    """What `summary.json` of stage `confidence` says in numbers: neither its matrix nor its sentences."""
    told = {name: value for name, value in summary.items() if name not in ("transition", "why")}
    return told | {
        "distillability": {name: value for name, value in told["distillability"].items() if name != "advice"}
    }
