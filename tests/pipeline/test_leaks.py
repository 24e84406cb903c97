"""What must not leak: dense features into a student, labels of test clips into anything that is fitted or chosen."""

import copy
from collections.abc import Collection
from itertools import product
from pathlib import Path, PurePath
from typing import Any

import numpy as np
import pandas as pd
import pytest

from cpfd.datasets.contract import write_dataset
from cpfd.files import read_json, read_table
from cpfd.project.revision import open_revision
from cpfd.stages import confidence, crossfit, dense, evaluate, extract, student, teacher, validate
from tests.support.project import DENSE_READERS, ROOT, bare_project

Stages = dict[str, dict[str, Any]]
DENSE_TABLES = ("data/validated/dense.parquet", "data/features/dense/values.npy")
WAYS = ("data", "data/validated", "data/features", "data/features/dense", *DENSE_TABLES)


@pytest.fixture
def stages(monkeypatch: pytest.MonkeyPatch) -> Stages:
    """Every stage of the repository's dvc.yaml as DVC resolves it, to be changed at will."""
    monkeypatch.chdir(ROOT)
    return copy.deepcopy(dict(open_revision(None).stages))


def test_no_student_stage_can_reach_a_dense_feature(stages: Stages) -> None:
    assert ways_to_dense(stages) == []
    assert {stage for stage, _ in ways_to_dense(stages, allowed=["validate"])} == DENSE_READERS - {"validate"}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("stage", ["extract", "crossfit@student", "confidence", "student@none-0", "evaluate", "gate"])
def test_a_way_to_a_dense_feature_is_noticed(stages: Stages, stage: str, way: str) -> None:
    stages[stage]["deps"].append(way)
    assert ways_to_dense(stages) == [(stage, way)]


def ways_to_dense(stages: Stages, allowed: Collection[str] = DENSE_READERS) -> list[tuple[str, str]]:
    """Stages and the dependencies by which they could read a dense table: one that it lies in, or that lies in it.

    Clips and dense features of raw data share a folder; tests/pipeline/test_pipeline.py sees who opens what of it.
    """
    tables = [PurePath(path) for path in (*DENSE_TABLES, *stages["dense"]["outs"])]
    return [
        (stage, dep)
        for stage, definition in stages.items()
        for dep in definition["deps"]
        if stage not in allowed
        and any(table.is_relative_to(dep) or PurePath(dep).is_relative_to(table) for table in tables)
    ]


METHODS, SEEDS = ("none", "cpfd", "posterior"), (0, 1)
# Where a test label may show itself: the tables of clips, and the version of the data set that hashes them.
TELL_LABELS = ("data/validated/",)


@pytest.mark.parametrize(
    ("task", "splits"), [("single_label", "given"), ("multi_label", "given"), ("single_label", "made")]
)
def test_no_test_label_changes_what_is_fitted_or_chosen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, task: str, splits: str
) -> None:
    clips, facts = make_clips(task)
    if splits == "made":
        clips = clips.drop(columns="split")
    truth = run_pipeline(tmp_path / "truth", clips, facts, task, monkeypatch)
    labels = read_table(truth / "data/validated/labels.parquet")
    moved = move_test_labels(labels, splits)
    assert (moved != labels["label"]).sum() >= 8
    clips["label"] = clips["video_id"].map(dict(zip(labels["video_id"], moved, strict=True)))
    other = run_pipeline(tmp_path / "other", clips, facts, task, monkeypatch)

    first, second = read_fitted(truth), read_fitted(other)
    assert first.keys() == second.keys()
    assert [name for name in first if first[name] != second[name]] == []
    before, after = (read_json(folder / "reports/metrics.json") for folder in (truth, other))
    assert before["validation"] == after["validation"]
    for choice in ("method", "seed", "validation"):
        assert before["shipped"][choice] == after["shipped"][choice]
    assert before["test"] != after["test"]


def make_clips(task: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    """A manifest of 120 texts by 30 creators and their dense table; words tell the class less well than the latter."""
    rng = np.random.default_rng(0)
    names, rows = np.array(["cat", "dog", "eel"]), np.arange(120)
    truth = rows % 3
    said = names[np.where(rng.random(120) < 0.6, truth, rng.integers(0, 3, 120))]
    given = names[np.where(rng.random(120) < 0.8, truth, rng.integers(0, 3, 120))].astype(object)
    if task == "multi_label":
        given[rows % 4 == 0] += "|" + names[(truth + 1) % 3][rows % 4 == 0]
        given[rows % 10 == 1] = "|"
    split = np.repeat(["train", "validation", "test"], [72, 24, 24])
    given[(split == "train") & (rows % 8 == 0)] = ""
    ids = [f"clip-{row:03}" for row in rows]
    creators = [f"creator-{row // 4}" for row in rows]
    titles = [f"my {word}" for word in said]
    clips = pd.DataFrame({"video_id": ids, "title": titles, "label": given, "creator_id": creators, "split": split})
    return clips, pd.DataFrame(
        {"video_id": ids, "hint": truth + rng.normal(0, 0.3, 120), "noise": rng.normal(size=120)}
    )


def move_test_labels(labels: pd.DataFrame, splits: str) -> pd.Series:
    """Labels with those of test clips handed on to the next test clip, and where splits are given one that spreads.

    Splits that are made have every class in the test, so there each of them stays.
    """
    test = labels[(labels["split"] == "test") & (labels["label"] != "")]
    moved = pd.Series(np.roll(test["label"], 1), test.index)
    if splits == "given":
        moved.iloc[:8] = moved.iloc[0]  # another number of each class, which must not become a weight or a prior
    return labels["label"].where(~labels.index.isin(test.index), moved)


def run_pipeline(
    folder: Path, clips: pd.DataFrame, facts: pd.DataFrame, task: str, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """Run all stages that fit or choose something, in this process, in a project of its own."""
    bare_project(
        folder,
        crossfit={"trees": 10},
        dataset={"name": "words", "task": task},
        students={"methods": list(METHODS), "seeds": list(SEEDS)},
    )
    write_dataset(folder / "data/raw/words", clips, facts)
    monkeypatch.chdir(folder)
    validate.main()
    extract.main()
    dense.main()
    teacher.main()
    for role in ("teacher", "student"):
        crossfit.main(role)
    confidence.main()
    for method, seed in product(METHODS, SEEDS):
        student.main(method, str(seed))
    evaluate.main()
    return folder


def read_fitted(folder: Path) -> dict[str, bytes]:
    """The content of all that the stages have made of the data set: features, scaler's values, networks, targets."""
    paths = [
        path for top in ("data", "models", "reports/confidence") for path in (folder / top).rglob("*") if path.is_file()
    ]
    files = {path.relative_to(folder).as_posix(): path for path in sorted(paths)}
    return {name: path.read_bytes() for name, path in files.items() if not name.startswith(("data/raw/", *TELL_LABELS))}
