"""Training learns from what each method says, for the same budget, and ends alike however often it is killed."""

import signal
import subprocess
import sys
from copy import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from scipy.special import log_softmax
from transformers import ResNetConfig

from cpfd.errors import CpfdError
from cpfd.features.store import FeatureStore
from cpfd.files import read_json
from cpfd.metrics import macro_f1
from cpfd.models.xvlm import XVlmConfig, XVlmForVideoClassification
from cpfd.params.schema import Distill
from cpfd.training import crossfit
from cpfd.training.batches import ClipDataset, Features, Targets, load_dense, logits_table
from cpfd.training.crossfit import cross_fit
from cpfd.training.fit import network_config, predict_logits
from cpfd.training.methods import method_targets
from tests.support.disk import no_file_above
from tests.support.project import ROOT
from tests.support.small import CLASSES, Extracted, extract, save_text, save_vision, small_params
from tests.support.training import LABELLED, POOL, Interrupted, pool, train

PATIENT = {"patience": 1000}


class StoppedError(Exception):
    pass


def stop() -> None:
    raise StoppedError


def outcome(model: XVlmForVideoClassification, folder: Path) -> dict[str, bytes]:
    """The bytes of everything that a stage would keep of a training."""
    model.save_pretrained(folder / "model")
    kept = [folder / "model" / "model.safetensors", *sorted((folder / "curves").rglob("*.*"))]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in kept}


def curve(folder: Path, name: str) -> pd.DataFrame:
    return pd.read_csv(folder / "curves" / "plots" / "metrics" / f"{name}.tsv", sep="\t")


@pytest.fixture
def labelled(store: FeatureStore) -> ClipDataset:
    return ClipDataset(store, LABELLED)


# learning


def test_a_student_learns_its_labels_from_text_and_frames(
    store: FeatureStore, labelled: ClipDataset, tmp_path: Path
) -> None:
    model = train(labelled, tmp_path, epochs=12, **PATIENT)
    logits = predict_logits(model, labelled)
    assert macro_f1(store.targets[LABELLED], logits, "single_label") > 0.9
    loss = curve(tmp_path, "loss")["loss"]
    assert loss.iloc[-1] < loss.iloc[0] / 2


def test_a_student_follows_its_teacher_where_it_is_told_to(store: FeatureStore, tmp_path: Path) -> None:
    labels = store.targets[LABELLED]
    contrary = np.roll(labels, 1, axis=1)
    targets = Targets(labels, np.zeros(12, np.float32), 6 * contrary, np.ones(12, np.float32))
    model = train(ClipDataset(store, LABELLED, targets), tmp_path, epochs=12, tau=2.0, **PATIENT)
    # Validation chooses among epochs by labels, so judge by what is learned of the training clips: not the labels.
    logits = predict_logits(model, ClipDataset(store, LABELLED))
    assert macro_f1(contrary, logits, "single_label") > macro_f1(labels, logits, "single_label")


def test_several_classes_may_apply_to_a_clip(extracted: Extracted, tmp_path: Path) -> None:
    manifest = extracted.manifest.copy()
    both = {"cat": "cat|eel", "dog": "dog", "eel": "|", "": ""}
    manifest["label"] = manifest["label"].map(both)
    manifest.loc[0, "label"] = "cat|dog|eel"
    (tmp_path / "videos").symlink_to(extracted.folder / "videos")
    store = extract(tmp_path, manifest, small_params(dataset={"task": "multi_label"}), task="multi_label")
    assert len(store.rows("train", labelled=True)) == 12
    clips = ClipDataset(store, LABELLED)
    model = train(
        clips, tmp_path, epochs=40, learning_rate=0.01, label_smoothing=0.05, class_weighting="balanced", **PATIENT
    )
    assert model.config.task == "multi_label"
    assert macro_f1(store.targets[LABELLED], predict_logits(model, clips), "multi_label") > 0.8


def test_balanced_classes_speak_up_for_the_rare_one(store: FeatureStore, tmp_path: Path) -> None:
    rows = np.array([0, 3, 6, 9, 1])  # four cats and a dog
    chances = {}
    for weighting in ("none", "balanced"):
        model = train(ClipDataset(store, rows), tmp_path / weighting, epochs=3, class_weighting=weighting, **PATIENT)
        logits = predict_logits(model, ClipDataset(store, np.arange(24)))
        chances[weighting] = (logits[:, 1] - logits[:, 0]).mean()
    assert chances["balanced"] > chances["none"] + 0.1


def test_backbones_are_trained_where_params_say_so(extracted: Extracted, tmp_path: Path) -> None:
    (tmp_path / "videos").symlink_to(extracted.folder / "videos")
    vision = ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic")
    backbone = {
        "mode": "finetune",
        "vision": save_vision(tmp_path / "resnet", vision),
        "text": save_text(tmp_path / "bert"),
    }
    store = extract(tmp_path, extracted.manifest, small_params(backbone=backbone))
    clips = ClipDataset(store, LABELLED)
    undisturbed = train(clips, tmp_path / "undisturbed", epochs=3)
    before = network_config(store, small_params().model, small_params().train)
    assert before.backbones
    for encoder in ("vision_encoder", "text_encoder"):
        assert any(name.startswith(encoder) for name in undisturbed.state_dict())
    with pytest.raises(StoppedError):
        train(Interrupted(clips, 5, stop), tmp_path / "resumed", epochs=3)
    resumed = train(clips, tmp_path / "resumed", epochs=3)
    assert outcome(resumed, tmp_path / "resumed") == outcome(undisturbed, tmp_path / "undisturbed")


# the same budget


def test_unlabelled_clips_add_no_steps(store: FeatureStore, labelled: ClipDataset, tmp_path: Path) -> None:
    for name, clips in [("labelled", labelled), ("pool", pool(store))]:
        train(clips, tmp_path / name, **PATIENT)
        # Twelve labelled clips in batches of four: three steps in each of four epochs.
        for metric in ("loss", "learning_rate", "eval_macro_f1"):
            assert curve(tmp_path / name, metric)["step"].to_list() == [3, 6, 9, 12]


def test_training_stops_early_and_keeps_the_best_epoch(
    store: FeatureStore, labelled: ClipDataset, tmp_path: Path
) -> None:
    model = train(labelled, tmp_path, epochs=30, patience=2)
    scores = curve(tmp_path, "eval_macro_f1")["eval_macro_f1"]
    assert len(scores) < 30
    assert len(scores) == scores.argmax() + 1 + 2
    validation = store.rows("validation", labelled=True)
    logits = predict_logits(model, ClipDataset(store, validation))
    assert macro_f1(store.targets[validation], logits, "single_label") == pytest.approx(scores.max())
    assert not (tmp_path / "scratch").exists()


# the same bytes


def test_the_seed_alone_decides(labelled: ClipDataset, tmp_path: Path) -> None:
    runs = [
        outcome(train(labelled, tmp_path / str(run), seed=seed), tmp_path / str(run))
        for run, seed in enumerate([7, 7, 8])
    ]
    assert runs[0] == runs[1]
    assert runs[0]["model/model.safetensors"] != runs[2]["model/model.safetensors"]


KILLED = """
import os, signal, sys
from pathlib import Path
from cpfd.features.store import FeatureStore
from tests.support.training import Interrupted, pool, train
content, folder = map(Path, sys.argv[1:])
kill = lambda: os.kill(os.getpid(), signal.SIGKILL)
train(Interrupted(pool(FeatureStore(content, content.parent)), 8, kill), folder)
"""


def test_a_killed_training_ends_at_the_same_weights(extracted: Extracted, store: FeatureStore, tmp_path: Path) -> None:
    undisturbed, killed = tmp_path / "undisturbed", tmp_path / "killed"
    expected = outcome(train(pool(store), undisturbed), undisturbed)

    command = [sys.executable, "-c", KILLED, str(extracted.folder / "content"), str(killed)]
    process = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert process.returncode == -signal.SIGKILL, process.stderr
    assert list((killed / "scratch").glob("checkpoint-*/trainer_state.json"))

    assert outcome(train(pool(store), killed), killed) == expected
    assert curve(killed, "loss")["step"].to_list() == [3, 6, 9, 12]


def test_wherever_training_is_interrupted_it_ends_alike(store: FeatureStore, tmp_path: Path) -> None:
    limits = {"epochs": 30, "patience": 3}
    expected = outcome(train(pool(store), tmp_path / "undisturbed", **limits), tmp_path / "undisturbed")
    steps = int(curve(tmp_path / "undisturbed", "loss")["step"].iloc[-1])
    assert 12 <= steps < 90
    for batches in range(5, steps, 5):
        folder = tmp_path / str(batches)
        with pytest.raises(StoppedError):
            train(Interrupted(pool(store), batches, stop), folder, **limits)
        assert outcome(train(pool(store), folder, **limits), folder) == expected, f"after {batches} batches"


def test_a_half_written_checkpoint_is_passed_over(labelled: ClipDataset, tmp_path: Path) -> None:
    expected = outcome(train(labelled, tmp_path / "undisturbed"), tmp_path / "undisturbed")
    folder = tmp_path / "killed"
    with pytest.raises(StoppedError):
        train(Interrupted(labelled, 8, stop), folder)
    newest = max((folder / "scratch").glob("checkpoint-*"), key=lambda path: int(path.name.split("-")[1]))
    state = newest / "trainer_state.json"
    state.write_bytes(state.read_bytes()[:100])
    (newest / "optimizer.pt").unlink()
    (newest.with_name("checkpoint-999")).mkdir()  # of which nothing but the folder was written
    assert outcome(train(labelled, folder), folder) == expected


def test_a_training_without_room_for_its_checkpoints_says_so_and_goes_on_where_there_is(
    store: FeatureStore, tmp_path: Path
) -> None:
    expected = outcome(train(pool(store), tmp_path / "undisturbed"), tmp_path / "undisturbed")
    folder = tmp_path / "crowded"
    with no_file_above(10_000), pytest.raises(CpfdError, match=r"crowded/scratch cannot be written: File too large$"):
        train(pool(store), folder)
    assert outcome(train(pool(store), folder), folder) == expected


@pytest.mark.parametrize("limits", [{"epochs": 30, "patience": 2}, {"epochs": 3, **PATIENT}])
@pytest.mark.parametrize(
    "moment", ["cpfd.training.fit.DistillationTrainer._load_best_model", "cpfd.training.fit.remove"]
)
def test_a_training_killed_after_its_last_step_does_not_go_on(
    moment: str, limits: dict[str, int], store: FeatureStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = outcome(train(pool(store), tmp_path / "undisturbed", **limits), tmp_path / "undisturbed")
    with monkeypatch.context() as patch:
        patch.setattr(moment, lambda *_: stop())
        with pytest.raises(StoppedError):
            train(pool(store), tmp_path / "killed", **limits)
    assert list((tmp_path / "killed" / "scratch").glob("checkpoint-*"))
    assert outcome(train(pool(store), tmp_path / "killed", **limits), tmp_path / "killed") == expected


def test_curves_hold_nothing_that_differs_from_run_to_run(labelled: ClipDataset, tmp_path: Path) -> None:
    train(labelled, tmp_path)
    assert sorted(read_json(tmp_path / "curves" / "metrics.json")) == [
        "eval_loss",
        "eval_macro_f1",
        "learning_rate",
        "loss",
        "step",
    ]
    assert curve(tmp_path, "loss").columns.to_list() == ["step", "loss"]


# tables


def test_logits_and_dense_values_belong_to_their_clips(store: FeatureStore, tmp_path: Path) -> None:
    logits = np.arange(9, dtype=np.float32).reshape(3, 3)
    table = logits_table(store, np.array([20, 0, 17]), logits)
    assert table["video_id"].to_list() == ["clip-20", "clip-00", "clip-17"]
    assert table["split"].to_list() == ["test", "train", "validation"]
    np.testing.assert_array_equal(np.stack(table["logits"].to_list()), logits)

    ids = store.index[["video_id"]].sample(frac=1, random_state=0)
    ids.to_parquet(tmp_path / "video_id.parquet")
    np.save(tmp_path / "values.npy", ids.index.to_numpy(np.float32)[:, None])
    np.testing.assert_array_equal(load_dense(tmp_path, store)[:, 0], np.arange(24))


# cross-fitting


def test_clips_are_judged_by_networks_that_have_not_seen_them(
    store: FeatureStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    networks: list[set[int]] = []  # a network is told by the rows that it was trained on
    asked: list[set[int]] = []

    def remember(_config: XVlmConfig, clips: ClipDataset, *_: Any, **__: Any) -> int:
        networks.append(set(clips.rows))
        return len(networks) - 1

    def judge(network: int, clips: ClipDataset) -> NDArray[np.float32]:
        asked.append(set(clips.rows))
        assert networks[network].isdisjoint(clips.rows)
        return np.full((len(clips), 3), network, np.float32) * [1, 0, 0]

    monkeypatch.setattr(crossfit, "fit", remember)
    monkeypatch.setattr(crossfit, "predict_logits", judge)
    small = small_params(crossfit={"folds": 3, "repeats": 2})
    table = cross_fit(Features(store), small.model, small.train, small.crossfit, tmp_path / "scratch")

    assert len(networks) == 6
    assert [len(rows) for rows in networks] == [8] * 6
    assert {frozenset(rows) for rows in networks[:3]} != {frozenset(rows) for rows in networks[3:]}
    for row, split in enumerate(store.index["split"]):
        times = sum(row in rows for rows in asked)
        assert times == (6 if 12 <= row < 16 else {"train": 2, "validation": 2, "test": 0}[split])
    # What is kept is the mean of the judges' log-probabilities.
    first = np.stack(table["logits"].to_list())[table["video_id"] == "clip-00"][0]
    own = [number for number, rows in enumerate(asked) if 0 in rows]
    expected = np.mean([log_softmax([number, 0, 0]) for number in own], axis=0)
    np.testing.assert_allclose(first, expected, rtol=1e-5)


def test_a_forest_that_has_not_seen_a_clip_judges_it_beside_the_network(
    store: FeatureStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The network knows nothing; one dense value tells the class, also of the clip whose label is wrong."""
    monkeypatch.setattr(crossfit, "fit", lambda *_, **__: None)
    monkeypatch.setattr(crossfit, "predict_logits", lambda _, clips: np.zeros((len(clips), 3), np.float32))
    truth = np.arange(24) % 3
    dense = (truth + np.random.default_rng(0).normal(0, 0.05, 24))[:, None].astype(np.float32)
    mislabelled = copy(store)
    mislabelled.targets = store.targets.copy()
    mislabelled.targets[0] = [0, 0, 1]

    def judged(trees: int) -> NDArray[np.float32]:
        small = small_params(crossfit={"folds": 6, "repeats": 1, "trees": trees})
        scratch = tmp_path / "scratch"
        table = cross_fit(Features(mislabelled, dense), small.model, small.train, small.crossfit, scratch)
        return np.stack(table["logits"].to_list())

    np.testing.assert_array_equal(judged(50).argmax(1), truth[:20])
    np.testing.assert_allclose(judged(0), np.log(1 / 3), rtol=1e-5)


# what each method says


@pytest.fixture(scope="module")
def evidence(store: FeatureStore) -> dict[str, NDArray[Any]]:
    """Made-up out-of-fold logits, teacher's logits, confidence and posterior of each training clip."""
    rng = np.random.default_rng(0)
    return {
        "oof_logits": rng.normal(size=(16, 3)).astype(np.float32),
        "teacher": rng.normal(size=(16, 3)).astype(np.float32),
        "target": rng.dirichlet(np.ones(3), 16).astype(np.float32),
        "max_prob": rng.random(16),
        "margin": rng.random(16),
    }


def targets_of(
    method: str, store: FeatureStore, evidence: dict[str, NDArray[Any]], **distill: Any
) -> tuple[NDArray[np.int64], Targets]:
    """The method's targets from tables whose rows are in an order of their own."""
    ids = store.index["video_id"].iloc[POOL]
    confidence = pd.DataFrame({"video_id": ids}).assign(**{name: list(values) for name, values in evidence.items()})
    teacher = confidence[["video_id"]].assign(logits=confidence["teacher"])
    params: Distill = small_params(distill={"balance": 0.0, **distill}).distill
    return method_targets(
        method, store, confidence.sample(frac=1, random_state=1), teacher.sample(frac=1, random_state=2), params
    )


IS_LABELLED = POOL < 12


def test_none_learns_from_labels_alone(store: FeatureStore, evidence: dict[str, NDArray[Any]]) -> None:
    rows, targets = targets_of("none", store, evidence)
    assert rows.tolist() == LABELLED.tolist()
    np.testing.assert_array_equal(targets.labels, store.targets[LABELLED])
    assert (targets.label_weight == 1).all()
    assert (targets.soft_weight == 0).all()


def test_pfd_weights_every_clip_alike(store: FeatureStore, evidence: dict[str, NDArray[Any]]) -> None:
    rows, targets = targets_of("pfd", store, evidence, alpha=0.25, gamma=3.0)
    assert rows.tolist() == POOL.tolist()
    np.testing.assert_array_equal(targets.soft_logits, evidence["oof_logits"])
    np.testing.assert_allclose(targets.soft_weight, 0.25)
    np.testing.assert_allclose(targets.label_weight, np.where(IS_LABELLED, 0.75, 0))
    np.testing.assert_array_equal(targets.labels, store.targets[POOL])


@pytest.mark.parametrize("estimator", ["max_prob", "margin"])
def test_cpfd_weights_a_clip_by_the_teachers_confidence(
    estimator: str, store: FeatureStore, evidence: dict[str, NDArray[Any]]
) -> None:
    rows, targets = targets_of("cpfd", store, evidence, alpha=0.8, gamma=2.0, confidence=estimator)
    assert rows.tolist() == POOL.tolist()
    weight = 0.8 * evidence[estimator] ** 2
    np.testing.assert_allclose(targets.soft_weight, weight, rtol=1e-6)
    np.testing.assert_allclose(targets.label_weight, np.where(IS_LABELLED, 1 - weight, 0), rtol=1e-6)


def test_cpfd_of_a_teacher_that_is_always_sure_is_pfd(store: FeatureStore, evidence: dict[str, NDArray[Any]]) -> None:
    sure = evidence | {"max_prob": np.ones(len(POOL))}
    _, cpfd = targets_of("cpfd", store, sure, alpha=0.6, gamma=2.0)
    _, pfd = targets_of("pfd", store, sure, alpha=0.6)
    for name, values in vars(pfd).items():
        np.testing.assert_array_equal(vars(cpfd)[name], values)


@pytest.mark.parametrize("method", ["pfd", "cpfd"])
def test_without_alpha_a_clip_teaches_its_label_and_an_unlabelled_one_nothing(
    method: str, store: FeatureStore, evidence: dict[str, NDArray[Any]]
) -> None:
    _, targets = targets_of(method, store, evidence, alpha=0.0)
    np.testing.assert_array_equal(targets.label_weight, IS_LABELLED)
    assert (targets.soft_weight == 0).all()


@pytest.mark.parametrize("method", ["none", "pfd", "posterior"])
def test_balance_gives_rare_classes_more_weight_and_leaves_the_whole_as_it_was(
    method: str, store: FeatureStore, evidence: dict[str, NDArray[Any]]
) -> None:
    first = np.flatnonzero(store.targets[LABELLED].argmax(1) == 0)
    rare = evidence | {"target": np.concatenate([store.targets[LABELLED], evidence["target"][12:]])}
    uneven = copy(store)
    uneven.targets = store.targets.copy()
    uneven.targets[first[1:]] = store.targets[LABELLED[store.targets[LABELLED].argmax(1) == 1][0]]
    _, plain = targets_of(method, uneven, rare, balance=0.0)
    _, balanced = targets_of(method, uneven, rare, balance=1.0)
    weight = balanced.label_weight[:12] / plain.label_weight[:12]
    assert weight.argmax() in first
    assert weight.mean() == pytest.approx(1, abs=1e-5)
    np.testing.assert_array_equal(balanced.label_weight[12:], plain.label_weight[12:])


def test_posterior_replaces_labels_and_teaches_the_pool_with_full_weight(
    store: FeatureStore, evidence: dict[str, NDArray[Any]]
) -> None:
    rows, targets = targets_of("posterior", store, evidence)
    assert rows.tolist() == POOL.tolist()
    np.testing.assert_array_equal(targets.labels, evidence["target"])
    assert (targets.label_weight == 1).all()
    assert (targets.soft_weight == 0).all()


@pytest.mark.parametrize("method", ["pfd", "cpfd"])
def test_soft_targets_may_come_from_the_teacher_trained_on_those_clips(
    method: str, store: FeatureStore, evidence: dict[str, NDArray[Any]]
) -> None:
    _, targets = targets_of(method, store, evidence, soft_targets="teacher")
    np.testing.assert_array_equal(targets.soft_logits, evidence["teacher"])


@pytest.mark.parametrize("method", ["none", "pfd", "cpfd", "posterior"])
def test_targets_have_the_types_that_training_takes(
    method: str, store: FeatureStore, evidence: dict[str, NDArray[Any]]
) -> None:
    rows, targets = targets_of(method, store, evidence)
    assert {values.dtype for values in vars(targets).values()} == {np.dtype(np.float32)}
    batch = ClipDataset(store, rows, targets).__getitems__([0, 5])
    np.testing.assert_array_equal(batch["soft_weight"], targets.soft_weight[[0, 5]])
    assert len(replace(targets).labels) == len(rows)
    assert batch["labels"].shape == (2, len(CLASSES))
