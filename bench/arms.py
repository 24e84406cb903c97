"""Every model of the table on one seed of a task: its logits of validation and test clips, and what it cost."""

import hashlib
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from bench import simple_models
from bench.replicates import project, seed_folder
from bench.tasks import Method, Task
from cpfd.datasets.validated import read_clips
from cpfd.distill.assessment import Assessment, assess
from cpfd.features.store import FeatureStore
from cpfd.files import fingerprint, read_json, read_table, write_json, write_table
from cpfd.metrics import macro_f1
from cpfd.params.schema import Params
from cpfd.paths import CODE, CONTENT, CROSSFIT, MODELS, VALIDATED
from cpfd.training.batches import ClipDataset, logits_table
from cpfd.training.fit import TrainingRun
from cpfd.training.methods import method_targets
from cpfd.training.students import train_student

ARMS = Path("arms")
TRAINED = ARMS / "trained"
"""A folder for each key: models that several arms may share."""


def train_arms(task: Task, seed: int, methods: list[Method]) -> None:
    """Train what is not trained yet; every finished arm is kept, whatever happens to the next.

    An arm is kept under a fingerprint of all that decides its bits: the clips, their targets, parameters and code.
    """
    with project(seed_folder(task, seed), task.params(seed)) as params:
        store = FeatureStore(CONTENT, VALIDATED)
        tables = {role: read_table(CROSSFIT / f"{role}.parquet") for role in ("teacher", "student")}
        teacher = read_table(MODELS / "teacher" / "logits.parquet")
        inputs = [*FeatureStore.files(CONTENT, VALIDATED), CODE / "student.txt"]
        assess(store, tables["teacher"], tables["student"], params.distill).report.write(ARMS / "summary.json")
        for method in methods:
            for number, overlay in enumerate(method.grid):
                own = task.checked(seed, overlay)
                found = assess(store, tables[method.judge], tables["student"], own.distill)
                _train_arm(f"{method.name}-{number}", inputs, store, method.method, found, teacher, own, seed)
        _simple_arms(store, [CONTENT / "index.parquet", VALIDATED])


def _train_arm(
    arm: str,
    inputs: list[Path],
    store: FeatureStore,
    method: str,
    found: Assessment,
    teacher: pd.DataFrame,
    params: Params,
    seed: int,
) -> None:
    clips = ClipDataset(store, *method_targets(method, store, found.table, teacher, params.distill))
    parts = (clips.rows, *vars(clips.targets).values())
    digest = hashlib.sha256(b"".join(np.ascontiguousarray(part).tobytes() for part in parts))
    tau = params.distill.tau
    key = fingerprint(inputs, digest.hexdigest(), params.model.model_dump(), params.train.model_dump(), tau, seed)
    run = TrainingRun(seed, arm, TRAINED / key / "scratch")
    _kept(arm, key, store, lambda: train_student(clips, params.model, params.train, run, tau=tau)[1])


def _simple_arms(store: FeatureStore, inputs: list[Path]) -> None:
    """Majority, TF-IDF with logistic regression, gradient boosting on dense features; at most two settings of each."""
    manifest, dense = read_clips(VALIDATED), read_table(VALIDATED / "dense.parquet")
    inside = [*inputs, Path(simple_models.__file__)]
    for name, model in simple_models.models(store, manifest, dense).items():
        _kept(name, fingerprint(inside, name), store, partial(_simple_logits, store, model))


def _simple_logits(store: FeatureStore, model: simple_models.Model) -> pd.DataFrame:
    judged = np.concatenate([store.rows(split, labelled=True) for split in ("validation", "test")])
    return logits_table(store, judged, model(store.rows("train", labelled=True))[judged])


def _kept(arm: str, key: str, store: FeatureStore, train: Callable[[], pd.DataFrame]) -> None:
    """Train what no arm with this key has trained before: where a method's targets are another's, so are its bits."""
    folder = TRAINED / key
    if not (folder / "result.json").exists():
        started = time.process_time()
        logits = train()
        seconds = time.process_time() - started
        write_table(folder / "logits.parquet", logits)
        score = validation_score(store, logits)
        write_json(folder / "result.json", {"validation_macro_f1": score, "seconds": round(seconds, 2)})
    write_json(ARMS / f"{arm}.json", {"arm": arm, "key": key, **read_json(folder / "result.json")})


def validation_score(store: FeatureStore, logits: pd.DataFrame) -> float:
    """Macro-F1 of a table of logits on the validation split: what settings are chosen by."""
    judged = logits[logits["split"] == "validation"]
    rows = pd.Index(store.index["video_id"]).get_indexer(judged["video_id"])
    return macro_f1(store.targets[rows], np.stack(judged["logits"].to_list()), store.task)


def chosen(folder: Path, arms: list[str]) -> tuple[dict[str, Any], Path] | None:
    """Of a method's arms in a seed's project, the one with the best validation macro-F1; of equal ones, the first.

    Returns what is known of it and its table of logits; None where none is trained.
    """
    trained = [read_json(path) for arm in arms if (path := folder / ARMS / f"{arm}.json").exists()]
    if not trained:
        return None
    best = max(trained, key=lambda result: result["validation_macro_f1"])
    return best, folder / TRAINED / best["key"] / "logits.parquet"
