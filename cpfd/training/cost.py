"""What a run will cost, told before it starts: networks, optimiser steps, and what to lower."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from cpfd.datasets.contract import SPLITS, TEXT_COLUMNS, parse_labels, read_dataset
from cpfd.datasets.tables import column_names
from cpfd.datasets.validated import read_clips
from cpfd.demo.story import TOPICS
from cpfd.files import read_json
from cpfd.params.schema import Params, Train
from cpfd.paths import GENERATED, RAW, VALIDATED
from cpfd.training.budget import epoch_steps


@dataclass(frozen=True)
class Clips:
    """What of a data set decides on the cost of a training."""

    labelled: int
    """Labelled clips of the training split, about."""
    classes: int
    videos: bool
    texts: bool
    dense: bool
    """Whether there are dense features, without which no teacher is trained, nor a student taught by one."""


@dataclass(frozen=True)
class Networks:
    """Networks that one stage trains, each in at most so many optimiser steps."""

    stage: str
    count: int
    steps: int


def count_clips(params: Params, project: Path = Path()) -> Clips | None:
    """Count the clips of the data set that params.yaml names: as validated, else as they lie in data/raw.

    The demo that is not generated yet is counted by its parameters; None for another data set that is not there.
    Raises CpfdError where its tables cannot be read.
    """
    validated, raw = project / VALIDATED, project / RAW / params.dataset.name
    if (validated / "dataset.json").is_file() and _name(validated) == params.dataset.name:
        dense = column_names(validated / "dense.parquet")
        return _count(read_clips(validated), dense, params)
    if raw.is_dir():
        dataset = read_dataset(raw)
        return _count(dataset.manifest, list(dataset.dense.columns), params)
    if params.dataset.name != GENERATED:
        return None
    demo = params.demo
    training = demo.clips * (1 - demo.validation_share - demo.test_share)
    return Clips(round(training * (1 - demo.unlabelled_share)), len(TOPICS), videos=True, texts=True, dense=True)


def count_networks(stages: Iterable[str], params: Params, clips: Clips) -> list[Networks]:
    """The networks of those stages that train some on these clips."""
    folds = params.crossfit.folds
    found = []
    for stage in stages:
        name, _, variant = stage.partition("@")
        if not clips.dense and not variant.startswith("none-"):
            continue
        match name:
            case "teacher" | "student":
                found.append(Networks(stage, 1, _steps(clips.labelled, params.train)))
            case "crossfit":
                taught = clips.labelled - clips.labelled // folds
                found.append(Networks(stage, folds * params.crossfit.repeats, _steps(taught, params.train)))
    return found


def total_steps(networks: Iterable[Networks]) -> int:
    """Optimiser steps of all of them together, at most."""
    return sum(each.count * each.steps for each in networks)


def tell_cost(networks: list[Networks], params: Params) -> Iterator[str]:
    """Lines on networks, steps, and which parameters to lower; none where no network is trained."""
    if not networks:
        return
    families: dict[str, list[Networks]] = {}
    for each in networks:
        families.setdefault(each.stage.partition("@")[0], []).append(each)
    parts = [f"{name} {sum(each.count for each in of)} x {of[0].steps}" for name, of in families.items()]
    count = sum(each.count for each in networks)
    yield f"to train: {count} networks, {total_steps(networks)} optimiser steps at most ({', '.join(parts)})"
    yield f"to lower: {'; '.join(_levers(families, params))}"


def _levers(families: dict[str, list[Networks]], params: Params) -> Iterator[str]:
    """The parameters that decide on the cost, and by how much."""
    train, crossfit, students = params.train, params.crossfit, params.students
    yield f"train.epochs {train.epochs} (steps in proportion)"
    yield f"train.batch_size {train.batch_size} (twice that: half the steps)"
    if judges := families.get("crossfit"):
        yield f"crossfit.repeats {crossfit.repeats} ({len(judges) * crossfit.folds} networks each)"
        yield f"crossfit.folds {crossfit.folds} ({len(judges) * crossfit.repeats} networks each)"
    if "student" in families:
        yield f"students.seeds {len(students.seeds)} ({len(students.methods)} networks each)"
        yield f"students.methods {len(students.methods)} ({len(students.seeds)} networks each)"


def _steps(labelled: int, train: Train) -> int:
    return train.epochs * epoch_steps(labelled, train.batch_size)


def _name(validated: Path) -> str:
    return str(read_json(validated / "dataset.json")["name"])


def _count(manifest: pd.DataFrame, dense: list[str], params: Params) -> Clips:
    labelled = manifest[manifest["label"] != ""]
    named = {name for label in labelled["label"].unique() for name in parse_labels(label, params.dataset.task)}
    split = labelled.get("split", pd.Series("", labelled.index))
    if split.isin(SPLITS).all():
        training = int((split == "train").sum())
    else:
        training = round(len(labelled) * (1 - params.split.validation_share - params.split.test_share))
    texts = [name for name in TEXT_COLUMNS if name in manifest and name in params.text.columns]
    return Clips(
        labelled=training,
        classes=len(named),
        videos="path" in manifest and bool((manifest["path"] != "").any()),
        texts=bool((manifest[texts] != "").any(axis=None)) if texts else False,
        dense=len(dense) > 1,
    )
