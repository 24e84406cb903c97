"""The benchmark: what it does to labels, what it compares, and that no test label enters any choice."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from bench import arms, intervals, outcomes, replicates, run, tasks, thresholds
from bench.labels import flip, hide
from bench.page import markdown
from bench.record import Record
from bench.tasks import Method, Task
from cpfd.code import refuse_other_code
from cpfd.errors import CpfdError
from cpfd.evaluation import bootstrap
from cpfd.files import read_json, read_table

CLASSES = ["cat", "dog", "eel"]
LABELS = pd.Series(CLASSES * 100)
TRAIN = np.arange(300) < 200

METHODS = [
    Method("none", "Student", "none", "teacher", [{}, {"model": {"dropout": 0.0}}]),
    Method("self", "Self", "pfd", "student", [{}]),
    Method("posterior", "Posterior", "posterior", "teacher", [{}]),
]
SMALL = {
    "dataset": {"name": "words"},
    "validation": {"max_drift": 1.0, "min_class_clips": 1},
    "text": {"max_tokens": 8},
    "model": {"hidden_size": 16, "fusion_layers": 1, "attention_heads": 2},
    "train": {"epochs": 2, "batch_size": 16, "learning_rate": 0.01},
    "crossfit": {"folds": 2, "repeats": 1},
}


@pytest.mark.parametrize("pairs", [None, [["cat", "dog"], ["eel", "cat"]]])
def test_wrong_labels_are_as_many_as_asked_for_and_for_training_alone(pairs: list[list[str]] | None) -> None:
    given = flip(LABELS, TRAIN, 0.3, pairs, seed=0)
    wrong = given != LABELS
    assert wrong[TRAIN].sum() == 60
    assert not wrong[~TRAIN].any()
    assert set(given) == set(CLASSES)
    pd.testing.assert_series_equal(given, flip(LABELS, TRAIN, 0.3, pairs, seed=0))
    assert (given != flip(LABELS, TRAIN, 0.3, pairs, seed=1)).any()


def test_a_class_without_a_partner_is_refused() -> None:
    with pytest.raises(CpfdError, match=r"lacks the class.* eel"):
        flip(LABELS, TRAIN, 0.3, [["cat", "dog"]], seed=0)


def test_labels_are_hidden_class_by_class_in_training_alone() -> None:
    given = hide(LABELS, TRAIN, 0.2, seed=0)
    assert (given[~TRAIN] == LABELS[~TRAIN]).all()
    assert given[TRAIN].value_counts().to_dict() == {"": 161, "cat": 13, "dog": 13, "eel": 13}


def results(gain: float, clips: int = 400) -> list[intervals.SeedResult]:
    """Three seeds in which the better model has `gain` more margin than the worse."""
    found = []
    for seed in range(3):
        rng = np.random.default_rng(seed)
        targets = np.eye(3)[rng.integers(3, size=clips)]
        noise = rng.normal(size=targets.shape)
        names = np.array([f"creator {number:03}" for number in rng.integers(0, 150, clips)])
        logits = {"none": targets + noise, "better": (1 + gain) * targets + noise}
        found.append(intervals.SeedResult(targets, names, clips, logits))
    return found


def test_the_interval_of_a_real_gain_excludes_zero_and_that_of_none_holds_it() -> None:
    for gain, shown in [(0.5, True), (0.0, False)]:
        drawn = intervals.resampled(results(gain), "single_label", 500, seed=0)
        low, high = bootstrap.interval(drawn["better"] - drawn["none"], intervals.COVERAGE)
        assert (low > 0) == shown
        assert high >= 0


def test_resamples_centre_on_what_was_observed() -> None:
    drawn = intervals.resampled(results(0.5), "single_label", 2000, seed=0)
    observed = intervals.observed(results(0.5), "single_label")
    for model, scores in observed.items():
        assert drawn[model].mean() == pytest.approx(scores.mean(), abs=0.01)


def test_overlapping_splits_widen_the_interval_over_seeds() -> None:
    differences = np.array([0.01, 0.02, 0.03, 0.015, 0.02])
    naive, corrected = (intervals.seed_interval(differences, tested, 300) for tested in (0, 100))
    assert naive is not None
    assert corrected is not None
    assert corrected[0] < naive[0] < differences.mean() < naive[1] < corrected[1]
    assert intervals.seed_interval(differences[:1], 100, 300) is None


def test_every_task_and_method_of_the_repository_is_valid() -> None:
    found = tasks.load_tasks([], quick=False)
    assert {"youtube", "youtube-noisy", "youtube-few", "fights", "demo"} <= {task.name for task in found}
    for task in found:
        for method in tasks.load_methods([], quick=False):
            for overlay in method.grid:
                assert task.checked(3, overlay).split.seed == 3
    budgets = {len(method.grid) for method in tasks.load_methods([], quick=False)}
    assert len(budgets) == 1, "every method is tuned over as many settings"


def test_unknown_names_are_refused_and_absent_data_are_a_clear_skip(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(CpfdError, match="no task nowhere in bench/tasks; there are: demo, fights"):
        tasks.load_tasks(["nowhere"], quick=False)
    with pytest.raises(CpfdError, match=r"no method magic in bench/methods\.yaml; there are: none, smoothing"):
        tasks.load_methods(["magic"], quick=False)
    monkeypatch.setenv("CPFD_SHARED_DATA", str(tmp_path / "absent"))
    run.main(["youtube"])
    assert "youtube: skipped, no real data at" in capsys.readouterr().err


def evidence(eta: float, gain: float, unlabelled: int = 0) -> dict[str, float]:
    found = {"temperature": 1.0, "true_temperature": 1.0, "eta": eta, "eta_error": 0.05, "gain": gain}
    found |= {"gain_error": 0.01, "teacher_agreement": 0.7, "student_agreement": 0.6, "validation_agreement": 0.7}
    return found | {"unlabelled": unlabelled}


def test_thresholds_for_a_task_are_set_on_the_others() -> None:
    none, better, worse = np.full(2, 0.5), np.full(2, 0.6), np.full(2, 0.4)
    told = {"noisy": [evidence(0.3, 0.1)] * 2, "slightly": [evidence(0.12, 0.1)] * 2, "clean": [evidence(0.0, 0.1)] * 2}
    scores = {
        "noisy": {"none": none, "posterior": better},
        "slightly": {"none": none, "posterior": worse},
        "clean": {"none": none, "posterior": worse},
    }
    found = thresholds.leave_one_out(told, scores, (0.1, 0.03))
    assert found["noisy"]["min_eta"] == 0.15  # the nearest that keeps off the posterior where it was worse
    assert found["noisy"]["gain"] == pytest.approx(0.2)
    assert found["slightly"] == {"min_eta": 0.1, "min_gain": 0.03, "gain": pytest.approx(-0.2)}
    assert found["clean"]["gain"] == 0


@pytest.fixture
def words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Task:
    """A task of 90 texts, whose class is in the dense table and, less clearly, in the words."""
    monkeypatch.setattr(replicates, "WORK", tmp_path / "bench")
    return _words(tmp_path, "words", permuted=False)


def _words(folder: Path, name: str, *, permuted: bool) -> Task:
    rng = np.random.default_rng(0)
    label = np.array(CLASSES)[np.arange(90) % 3]
    split = np.repeat(["train", "validation", "test"], [54, 18, 18])
    said = np.where(rng.random(90) < 0.7, label, rng.choice(CLASSES, 90))
    ids = [f"clip-{number:02}" for number in range(90)]
    dense = pd.DataFrame({"video_id": ids, "hint": [CLASSES.index(x) for x in label] + rng.normal(0, 0.3, 90)})
    if permuted:
        test = np.flatnonzero(split == "test")
        label[test] = label[np.roll(test, 1)]
    given = np.where((split == "train") & (np.arange(90) % 9 == 0), "", label)
    clips = pd.DataFrame({"video_id": ids, "title": [f"my {x}" for x in said], "label": given, "split": split})
    clips.to_csv(folder / f"{name}.csv", index=False)
    dense.to_csv(folder / f"{name}-dense.csv", index=False)
    command = f"cpfd import table {folder}/{name}.csv --name {name} --dense {folder}/{name}-dense.csv --no-dvc"
    return Task(name, name, 3, [command], "given", tasks.overlaid(SMALL, {"dataset": {"name": name}}))


def _run(task: Task) -> Path:
    replicates.prepare(task)
    replicates.replicate(task, 5)
    arms.train_arms(task, 5, METHODS)
    return replicates.seed_folder(task, 5)


def test_a_stage_that_an_import_runs_finds_its_code(words: Task) -> None:
    with replicates.project(replicates.base_folder(words), words.params(0)):
        refuse_other_code("demo")


def test_no_test_label_changes_a_model_or_a_choice(words: Task, tmp_path: Path) -> None:
    folders = _run(words), _run(_words(tmp_path, "permuted", permuted=True))
    truth, other = (read_table(folder / "data/validated/labels.parquet") for folder in folders)
    changed = truth["label"] != other["label"]
    assert (truth["split"][changed] == "test").all()
    assert changed.sum() >= 12

    def everything(folder: Path) -> dict[str, object]:
        found: dict[str, object] = {"summary": read_json(folder / "arms/summary.json")}
        for path in sorted((folder / "arms").glob("*-*.json")):
            arm = read_json(path)
            logits = read_table(folder / "arms/trained" / arm["key"] / "logits.parquet")
            found[path.stem] = arm["validation_macro_f1"], np.stack(logits["logits"].to_list()).tobytes()
        for name in (
            "models/teacher/model.safetensors",
            "data/crossfit/teacher.parquet",
            "data/features/dense/values.npy",
        ):
            found[name] = (folder / name).read_bytes()
        for method in METHODS:
            best = arms.chosen(folder, [f"{method.name}-{number}" for number in range(len(method.grid))])
            assert best is not None
            found[f"setting of {method.name}"] = best[0]["arm"]
        return found

    first, second = (everything(folder) for folder in folders)
    assert first.keys() == second.keys()
    for name, value in first.items():
        assert value == second[name], f"{name} depends on a test label"


def test_a_second_run_trains_nothing_and_a_new_method_trains_itself_alone(
    words: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = _run(words)
    trained = []
    train = arms.train_student

    def remember(*arguments: Any, **options: Any) -> Any:
        trained.append(arguments[-1].title)
        return train(*arguments, **options)

    monkeypatch.setattr(arms, "train_student", remember)
    _run(words)
    assert trained == []
    (folder / "arms" / "none-0.json").unlink()
    harder = replace(METHODS[1], name="harder", grid=[{"distill": {"alpha": 0.9}}])
    arms.train_arms(words, 5, [METHODS[0], harder])
    assert trained == ["harder-0"]

    found = outcomes.task_outcome(words, [5], METHODS)
    assert {"teacher", "none", "self", "posterior", "auto", "majority", "tfidf", "boosting"} <= set(found.record.models)
    written = markdown(Record(tasks=[found.record], overall=outcomes.overall([found])), [words])
    assert "| Student |" in written
    assert "auto chooses" in written
