"""Teacher and students with known logits: differences, intervals and the shipped student come out as they must."""

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from ruamel.yaml import YAML

from cpfd.errors import CpfdError
from cpfd.evaluation import bootstrap
from cpfd.files import read_json, read_table, write_table
from cpfd.metrics import macro_f1
from cpfd.pages.formatting import MINUS
from cpfd.stages import evaluate
from tests.support.trained import write_trained_project


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def evaluated() -> dict[str, Any]:
    evaluate.main()
    return dict(read_json(Path("reports/metrics.json")))


def contents(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_a_better_method_is_told_from_the_student_alone(project: Path) -> None:
    write_trained_project(project, clips=800)

    metrics = evaluated()

    gain = metrics["comparisons"]["posterior"]["none"]
    assert 0 < gain["low"] < gain["mean"] < gain["high"]
    assert gain["probability"] > 0.99
    gap = metrics["gap_closed"]["posterior"]
    assert 0 < gap["low"] < gap["mean"] < gap["high"] < 1
    f1 = metrics["test"]["posterior"]["macro_f1"]
    assert f1["low"] < f1["mean"] < f1["high"]
    assert f1["mean"] - metrics["test"]["none"]["macro_f1"]["mean"] == pytest.approx(gain["mean"])


def test_equal_methods_do_not_differ_in_any_resample(project: Path) -> None:
    write_trained_project(project, skill={"teacher": 9.0, "none": 0.6, "pfd": 0.6, "cpfd": 0.6, "posterior": 0.6})

    metrics = evaluated()

    assert metrics["comparisons"]["pfd"]["none"] == {"mean": 0, "low": 0, "high": 0, "probability": 1}
    assert metrics["gap_closed"]["pfd"] == {"mean": 0, "low": 0, "high": 0, "reason": None}
    perfect = metrics["test"]["teacher"]
    assert perfect["macro_f1"] == {"mean": 1, "std": None, "low": 1, "high": 1}
    assert perfect["accuracy"]["mean"] == 1


def test_without_a_better_teacher_there_is_no_gap_to_close(project: Path) -> None:
    write_trained_project(project, skill={"teacher": 0.2, "none": 0.6, "pfd": 0.6, "cpfd": 0.6, "posterior": 0.7})

    gap = evaluated()["gap_closed"]["posterior"]

    assert gap["reason"].startswith(f"the teacher is not better than the student alone ({MINUS}0.")
    assert {gap[key] for key in ("mean", "low", "high")} == {None}


def test_a_gap_that_other_clips_could_close_has_no_share_that_is_closed() -> None:
    drawn = {"none": np.zeros(100), "pfd": np.full(100, 0.1), "teacher": np.linspace(-0.1, 0.5, 100)}

    gap = bootstrap.gap_closed({"none": 0.0, "pfd": 0.1, "teacher": 0.0376}, drawn, "pfd", 0.95)

    assert gap.mean is gap.low is gap.high is None  # and not 266 %
    assert gap.reason == f"the teacher is not shown to be better than the student alone (+0.038 [{MINUS}0.085, +0.485])"


def test_a_rare_resample_without_a_gap_only_widens_the_interval() -> None:
    teacher = np.full(1000, 0.2)
    teacher[:5] = -0.1
    drawn = {"none": np.zeros(1000), "pfd": np.linspace(0, 0.2, 1000), "teacher": teacher}

    gap = bootstrap.gap_closed({"none": 0.0, "pfd": 0.1, "teacher": 0.2}, drawn, "pfd", 0.95)

    assert gap.mean == 0.5
    assert 0 < gap.low < 0.026
    assert 0.975 < gap.high <= 1


def test_the_seed_with_the_best_validation_score_is_shipped_and_of_equal_ones_the_first(project: Path) -> None:
    write_trained_project(project)
    shipped = evaluated()["shipped"]
    runs = pd.read_csv("reports/plots/runs.csv").query("model == 'posterior'")
    best = runs.loc[runs["validation"].idxmax()]
    assert (shipped["method"], shipped["seed"]) == ("posterior", best["seed"])
    assert shipped["test"]["macro_f1"] == pytest.approx(best["test"])

    twin = Path(f"models/students/posterior-{shipped['seed']}/logits.parquet").read_bytes()
    for seed in range(3):
        Path(f"models/students/posterior-{seed}/logits.parquet").write_bytes(twin)

    assert evaluated()["shipped"]["seed"] == 0


def test_the_order_of_rows_changes_nothing_and_two_runs_write_the_same_bytes(project: Path) -> None:
    write_trained_project(project)
    evaluate.main()
    first = contents(project / "reports")

    for path in [Path("data/validated/labels.parquet"), *Path("models").rglob("logits.parquet")]:
        write_table(path, read_table(path).sample(frac=1, random_state=3))
    evaluate.main()

    assert contents(project / "reports") == first
    assert {"metrics.json", "plots/f1.png", "plots/confusion.csv", "plots/reliability.png"} <= set(first)


def test_multi_label_students_are_compared_too_but_have_no_confusion_matrix(project: Path) -> None:
    write_trained_project(project, task="multi_label")

    metrics = evaluated()

    assert metrics["comparisons"]["posterior"]["none"]["mean"] > 0
    assert not Path("reports/plots/confusion.csv").exists()
    assert pd.read_csv("reports/plots/reliability.csv")["predictions"].sum() == metrics["clips"]["test"] * 8


def test_students_that_params_no_longer_have_are_removed_and_nothing_else(project: Path) -> None:
    write_trained_project(project)
    students = project / "models/students"
    for name in ("pfd-9", "notes"):
        (students / name).mkdir()

    evaluate.main()

    assert not (students / "pfd-9").exists()
    assert (students / "notes").exists()
    assert (students / "pfd-2").exists()


def test_a_missing_student_is_named_with_what_to_do(project: Path) -> None:
    write_trained_project(project)
    Path("models/students/cpfd-1/logits.parquet").unlink()

    with pytest.raises(CpfdError, match=r"cpfd-1/logits.parquet: no such file; `dvc pull models/students/cpfd-1`"):
        evaluate.main()


def test_logits_of_other_clips_are_refused_by_name(project: Path) -> None:
    write_trained_project(project)
    path = Path("models/teacher/logits.parquet")
    table = read_table(path)
    gone, stranger = table.query("split == 'validation'")["video_id"].min(), table.iloc[[0]].assign(video_id="stranger")

    write_table(path, table[table["video_id"] != gone])
    with pytest.raises(CpfdError, match=rf"teacher/logits\.parquet: lacks 1 clip \({gone}\) of the validation split"):
        evaluate.main()

    write_table(path, pd.concat([table, stranger]))
    with pytest.raises(CpfdError, match=r"is alone in having 1 clip \(stranger\)"):
        evaluate.main()

    write_table(path, pd.concat([table, table.iloc[[0]]]))
    with pytest.raises(CpfdError, match="in it twice"):
        evaluate.main()


def test_logits_that_are_no_numbers_or_of_other_classes_are_refused(project: Path) -> None:
    write_trained_project(project)
    path = Path("models/students/none-0/logits.parquet")
    table = read_table(path)

    for broken in (np.full(8, np.nan, np.float32), np.zeros(5, np.float32)):
        logits = table["logits"].to_list()
        logits[0] = broken
        write_table(path, table.assign(logits=logits))
        with pytest.raises(CpfdError, match=rf"none-0/logits\.parquet: 1 clip \({table['video_id'][0]}\) must have 8"):
            evaluate.main()


def test_a_chosen_method_that_was_not_trained_is_refused(project: Path) -> None:
    write_trained_project(project)
    params = YAML().load(Path("params.yaml"))
    params["students"]["methods"] = ["none", "pfd", "cpfd"]
    params["distill"]["method"] = "pfd"
    YAML().dump(params, Path("params.yaml"))

    with pytest.raises(CpfdError, match=r"method 'posterior' is to be shipped, but students\.methods"):
        evaluate.main()


def test_a_test_split_without_labels_is_refused(project: Path) -> None:
    write_trained_project(project)
    path = Path("data/validated/labels.parquet")
    labels = read_table(path)
    write_table(path, labels.assign(label=labels["label"].where(labels["split"] != "test", "")))

    with pytest.raises(CpfdError, match="the test split has no labelled clip"):
        evaluate.main()


@given(st.integers(0, 2**32 - 1), st.sampled_from(["single_label", "multi_label"]))
def test_a_resample_is_the_score_of_the_clips_and_seeds_that_it_drew(seed: int, task: str) -> None:
    """With one creator only the two seeds can vary: either one twice, or both."""
    rng = np.random.default_rng(seed)
    targets = np.eye(4, dtype=np.float32)[rng.integers(0, 4, 30)]
    logits = rng.normal(size=(2, 30, 4)).astype(np.float32)

    drawn = bootstrap.resample_macro_f1(targets, {"pfd": logits}, task, np.zeros(30, dtype=int), 40, seed)

    first, second = (macro_f1(targets, run, task) for run in logits)
    possible = np.array([first, (first + second) / 2, second])
    nearest = np.abs(drawn["pfd"][:, None] - possible)
    assert (nearest.min(axis=1) < 1e-12).all()
    assert (nearest < 1e-12).any(axis=0).all()


def test_intervals_hold_the_true_score_about_as_often_as_they_say() -> None:
    """Two classes, answers right with probability 0.8: the true macro-F1 is 0.8; creators' clips share their fate."""
    rng = np.random.default_rng(0)
    rounds, held = 200, 0
    for each in range(rounds):
        creators = np.repeat(np.arange(60), 3)
        targets = np.eye(2, dtype=np.float32)[rng.integers(0, 2, 180)]
        right = (rng.random(60) < 0.8)[creators]
        logits = np.where(right[:, None], targets, 1 - targets)
        drawn = bootstrap.resample_macro_f1(targets, {"none": logits[None]}, "single_label", creators, 400, each)
        low, high = bootstrap.interval(drawn["none"], 0.9)
        held += low <= 0.8 <= high

    assert 0.83 <= held / rounds <= 0.96


def test_clips_of_one_creator_widen_the_interval() -> None:
    rng = np.random.default_rng(0)
    creators = np.repeat(np.arange(40), 5)
    targets = np.eye(2, dtype=np.float32)[rng.integers(0, 2, 200)]
    logits = np.where((rng.random(40) < 0.7)[creators][:, None], targets, 1 - targets)[None]

    def width(clusters: np.ndarray) -> float:
        drawn = bootstrap.resample_macro_f1(targets, {"none": logits}, "single_label", clusters, 500, 0)
        return float(np.ptp(bootstrap.interval(drawn["none"], 0.95)))

    assert width(creators) > 1.5 * width(np.arange(200))


def test_chunks_do_not_change_the_resamples(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    targets = np.eye(3, dtype=np.float32)[rng.integers(0, 3, 50)]
    models = {name: rng.normal(size=(3, 50, 3)) for name in ("none", "pfd")}

    whole = bootstrap.resample_macro_f1(targets, models, "single_label", np.arange(50), 100, 0)
    monkeypatch.setattr(bootstrap, "_CHUNK_VALUES", 700)
    chunked = bootstrap.resample_macro_f1(targets, models, "single_label", np.arange(50), 100, 0)

    assert json.dumps({name: list(values) for name, values in whole.items()}) == json.dumps(
        {name: list(values) for name, values in chunked.items()}
    )
