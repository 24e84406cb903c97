"""Two students on the same test clips: whatever their classes, the comparison is fair, or says why there is none."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from cpfd.comparing.contenders import Contender, HeldOutClips, classify, compare, describe_clips, match, select_clips
from cpfd.datasets.validated import encoded_clips
from cpfd.errors import CpfdError
from cpfd.evaluation.results import Shipped, build_split, summarise
from cpfd.reports.champion import Comparison, LeftOut, OwnClasses, Sides
from cpfd.student.student import Student
from tests.support.clips import write_clip
from tests.support.contenders import SETTINGS, contender, slices_of, sure, table_of
from tests.support.small import CLASSES, write_videos
from tests.support.student import save_student


def held(
    clips: pd.DataFrame, champion: Contender, challenger: Contender, least_clips: int = 1, slices: Any = None
) -> Comparison:
    pair = match(HeldOutClips(clips, seen_by_champion=0), champion, challenger)
    return compare(pair, slices_of(clips) if slices is None else slices, SETTINGS, least_clips)


def sides(champion: float, challenger: float) -> Sides:
    return Sides(champion=champion, challenger=challenger)


@st.composite
def rounds(draw: st.DrawFn) -> tuple[pd.DataFrame, NDArray[np.float32], NDArray[np.float32], str]:
    """Labelled clips of few creators and the logits of two students over CLASSES."""
    task = draw(st.sampled_from(["single_label", "multi_label"]))
    some = st.sampled_from(CLASSES) if task == "single_label" else st.sampled_from(["|", "cat", "cat|eel", "dog"])
    labels = draw(st.lists(some, min_size=2, max_size=12).filter(lambda all_of: set(all_of) != {"|"}))
    creators = draw(st.lists(st.sampled_from(["", "a", "b"]), min_size=len(labels), max_size=len(labels)))
    rng = np.random.default_rng(draw(st.integers(0, 1000)))
    first, second = rng.normal(size=(2, len(labels), len(CLASSES))).astype(np.float32)
    return table_of(labels, creators), first, second, task


@settings(max_examples=40, deadline=None)
@given(rounds())
def test_a_student_is_no_worse_than_itself(drawn: Any) -> None:
    clips, logits, _, task = drawn
    report = held(clips, contender(logits, task=task), contender(logits, task=task))
    for each in (report.macro_f1, *report.per_slice):
        assert (each.mean, each.low, each.high, each.probability) == (0, 0, 0, 1)
    assert all(each.champion == each.challenger for each in report.per_class)
    assert report.calibration_error.champion == report.calibration_error.challenger
    assert report.note is None


@settings(max_examples=40, deadline=None)
@given(rounds())
def test_changing_sides_changes_the_sign(drawn: Any) -> None:
    clips, first, second, task = drawn
    there = held(clips, contender(first, task=task), contender(second, task=task))
    back = held(clips, contender(second, task=task), contender(first, task=task))
    f1, reverse = there.macro_f1, back.macro_f1
    assert f1.mean == -reverse.mean
    assert (f1.low, f1.high) == pytest.approx((-reverse.high, -reverse.low))
    assert f1.champion == reverse.challenger
    assert there.accuracy.champion == back.accuracy.challenger
    assert there.calibration_error.champion == back.calibration_error.challenger


@settings(max_examples=40, deadline=None)
@given(rounds(), st.permutations(range(3)), st.integers(0, 1000))
def test_neither_the_order_of_clips_nor_that_of_classes_matters(drawn: Any, order: list[int], seed: int) -> None:
    clips, first, second, task = drawn
    report = held(clips, contender(first, task=task), contender(second, task=task))
    rows = np.random.default_rng(seed).permutation(len(clips))
    classes = [CLASSES[column] for column in order]
    shuffled = held(
        clips.iloc[rows].reset_index(drop=True),
        contender(first[rows][:, order], classes, task),
        contender(second[rows], task=task),
        slices=slices_of(clips).iloc[rows].reset_index(drop=True),
    )
    found, expected = shuffled.content(), report.content()
    for key in ("calibration_error", "accuracy"):
        assert found.pop(key) == pytest.approx(expected.pop(key), abs=1e-9)
    assert found == expected


def test_it_says_what_the_evaluation_says_of_the_same_logits() -> None:
    rng = np.random.default_rng(0)
    clips = table_of(rng.choice(CLASSES, 60).tolist(), rng.choice(["", "a", "b", "c", "d"], 60).tolist())
    logits = {model: rng.normal(size=(60, 3)).astype(np.float32) for model in ("teacher", "none", "pfd")}
    tables = {
        model: {
            f"{model}.parquet": pd.DataFrame({"video_id": clips["video_id"], "split": "test", "logits": list(values)})
        }
        for model, values in logits.items()
    }
    split = build_split("test", clips.assign(split="test"), CLASSES, "single_label", tables)
    evaluated = summarise(split, split, Shipped("pfd", 0, 0), SETTINGS)

    report = held(clips, contender(logits["none"]), contender(logits["pfd"]))

    assert evaluated.comparisons["pfd"]["none"].content().items() <= report.macro_f1.content().items()
    for side, model in (("champion", "none"), ("challenger", "pfd")):
        scores = evaluated.test[model]
        assert getattr(report.macro_f1, side) == scores.macro_f1.mean
        assert getattr(report.accuracy, side) == scores.accuracy.mean
        assert getattr(report.calibration_error, side) == pytest.approx(scores.calibration_error.mean, abs=1e-12)


def test_a_class_that_the_champion_does_not_know_is_left_out_and_told() -> None:
    labels = ["cat", "dog", "cat", "dog", "eel"]
    champion = contender(sure(labels, CLASSES[:2]), CLASSES[:2])
    challenger = contender(sure(["cat", "dog", "cat", "eel", "eel"], CLASSES))
    report = held(table_of(labels), champion, challenger)
    assert (report.clips, report.left_out) == (4, LeftOut(unknown_class=1, seen_by_champion=0))
    assert report.classes.content() == {"shared": 2, "only": {"champion": [], "challenger": ["eel"]}}
    assert report.note == "compared on the 2 classes that both know: only the challenger knows eel"
    # It takes a dog for an eel: a mistake, though no eel is among the clips.
    assert report.accuracy == sides(1.0, 0.75)
    assert [each.name for each in report.per_class] == ["cat", "dog"]


def test_a_class_that_only_the_champion_knows_may_be_wrongly_chosen() -> None:
    labels = ["cat", "dog", "cat", "dog"]
    champion = contender(sure(["cat", "dog", "fox", "fox"], ["fox", "dog", "cat"]), ["fox", "dog", "cat"])
    report = held(table_of(labels), champion, contender(sure(labels, CLASSES[:2]), CLASSES[:2]))
    assert report.accuracy == sides(0.5, 1.0)
    assert report.classes.only == OwnClasses(champion=["fox"], challenger=[])
    assert report.clips == 4


def test_multi_label_clips_are_judged_by_the_shared_classes() -> None:
    labels = ["cat|eel", "dog", "eel", "|"]
    logits = np.array([[1, -1, 1], [-1, 1, -1], [-1, -1, 1], [-1, -1, -1]], np.float32)
    champion = contender(logits[:, :2], CLASSES[:2], "multi_label")
    report = held(table_of(labels), champion, contender(logits, task="multi_label"))
    assert (report.clips, report.left_out) == (4, LeftOut(unknown_class=0, seen_by_champion=0))
    assert report.accuracy == sides(1.0, 1.0)
    assert [(each.name, each.clips) for each in report.per_class] == [("cat", 1), ("dog", 1)]
    assert report.calibration_error.champion == report.calibration_error.challenger


@pytest.mark.parametrize(
    ("labels", "champion", "challenger", "why"),
    [
        (["cat"], (["ant", "bee"], "single_label"), (CLASSES, "single_label"), "no class is known to both"),
        (["cat"], (CLASSES, "multi_label"), (CLASSES, "single_label"), "the champion is multi_label, the challenger"),
        (["eel", "eel"], (["cat"], "single_label"), (CLASSES, "single_label"), "no test clip"),
        (["eel", "|"], (["cat"], "multi_label"), (CLASSES, "multi_label"), "no test clip"),
        ([], (CLASSES, "single_label"), (CLASSES, "single_label"), "no test clip"),
    ],
)
def test_what_cannot_be_compared_is_explained(labels: list[str], champion: Any, challenger: Any, why: str) -> None:
    students = [
        contender(np.ones((len(labels), len(classes)), np.float32), classes, task)
        for classes, task in (champion, challenger)
    ]
    report = held(table_of(labels), *students)
    assert report.note.startswith(f"not comparable: {why}")
    for key in ("macro_f1", "accuracy", "calibration_error", "per_class", "per_slice"):
        assert getattr(report, key) is None
    assert report.bytes == sides(4, 4)


def test_only_parts_of_enough_clips_are_compared() -> None:
    labels = ["cat"] * 6 + ["dog"] * 2
    clips = table_of(labels)
    slices = pd.DataFrame(
        {
            "length": ["clips of 10.0 to 12.0 s"] * 3 + ["clips of 2.0 to 9.0 s"] * 3 + ["no video"] * 2,
            "text": "with text",
        }
    )
    students = contender(sure(labels, CLASSES)), contender(sure(["cat"] * 8, CLASSES))
    report = held(clips, *students, least_clips=3, slices=slices)
    assert [each.name for each in report.per_class] == ["cat"]
    # By value, not by letter; and what all clips have in common is no slice.
    assert [each.slice for each in report.per_slice] == ["clips of 2.0 to 9.0 s", "clips of 10.0 to 12.0 s"]
    assert len(held(clips, *students, least_clips=2, slices=slices).per_slice) == 3
    assert held(clips, *students, least_clips=9, slices=slices).per_slice == []


def test_the_champions_clips_are_left_out_by_name_and_by_content() -> None:
    index = pd.DataFrame(
        {
            "video_id": ["e", "d", "c", "b", "a"],
            "split": ["test", "test", "test", "test", "train"],
            "label": ["cat", "dog", "cat", "", "dog"],
            "creator_id": ["", "me", "", "", ""],
        }
    )
    manifest = pd.DataFrame({"video_id": list("abcde"), "path": "", "content_hash": ["1", "2", "", "4", "5"]})
    learnt = pd.DataFrame(
        {
            "video_id": ["e", "z", "c", "y"],
            "split": ["train", "validation", "test", "train"],
            "content_hash": ["6", "4", "", ""],
        }
    )
    encoded = encoded_clips(manifest.merge(index), index)
    clips = select_clips(encoded, learnt)
    assert (clips.table["video_id"].to_list(), clips.seen_by_champion) == (["c"], 2)
    clips = select_clips(encoded, learnt[2:])
    assert (clips.table["video_id"].to_list(), clips.seen_by_champion) == (["c", "d", "e"], 0)
    assert clips.table["creator_id"].to_list() == ["", "me", ""]


def index_of(clips: pd.DataFrame) -> pd.DataFrame:
    return clips[["video_id", "creator_id"]]


def test_clips_are_sliced_by_creator_length_and_text(tmp_path: Path) -> None:
    clips = write_videos(tmp_path)[:9]
    for number, row in clips.iterrows():
        if row["path"]:
            write_clip(tmp_path / row["path"], frames=12 * (1 + int(str(number)) % 3))
    clips = clips.assign(creator_id=["", "a", "a", "b", "b", "b", "c", "d", "d"])
    slices = describe_clips(clips, index_of(clips), tmp_path)
    assert slices["creator"].to_list() == [
        "creator unknown",
        *["creators of 2 clips"] * 2,
        *["creators of 3 clips"] * 3,
        "creators of 1 clips",
        *["creators of 2 clips"] * 2,
    ]
    assert slices["length"].to_list()[:4] == [
        "clips of 1.0 s",
        "clips of 2.0 s",
        "clips of 3.0 s",
        "no video",
    ]
    assert slices["text"].to_list()[1:3] == ["with text", "without text"]


def test_clips_without_any_video_or_creator_are_sliced_too(tmp_path: Path) -> None:
    clips = table_of(["cat"] * 4).assign(path="", title="my cat")
    slices = describe_clips(clips, index_of(clips), tmp_path)
    assert slices.drop_duplicates().to_numpy().tolist() == [["creator unknown", "no video", "with text"]]
    logits = sure(["cat", "cat", "dog", "dog"], CLASSES)
    assert held(clips, contender(logits), contender(logits), slices=slices).per_slice == []
    none = clips[:0]
    assert describe_clips(none, index_of(none), tmp_path).empty


def test_equal_values_share_a_slice_and_mixed_ones_are_sorted(tmp_path: Path) -> None:
    clips = write_videos(tmp_path)[:6].assign(creator_id="a")
    slices = describe_clips(clips, index_of(clips), tmp_path)
    assert set(slices["creator"]) == {"creators of 6 clips"}
    assert set(slices["length"]) == {"clips of 0.5 s", "no video"}
    logits = sure(clips["label"].to_list(), CLASSES)
    report = held(clips, contender(logits), contender(logits), slices=slices)
    assert [each.slice for each in report.per_slice if each.by == "length"] == [
        "clips of 0.5 s",
        "no video",
    ]


@pytest.fixture(scope="module")
def student(tmp_path_factory: pytest.TempPathFactory) -> Student:
    return Student.load(save_student(tmp_path_factory.mktemp("student") / "student"))


def test_scores_do_not_depend_on_threads_and_are_those_of_a_prediction(student: Student, tmp_path: Path) -> None:
    clips = write_videos(tmp_path)[:8]
    one, three = (classify(student, clips, tmp_path, threads, "student") for threads in (1, 3))
    assert (one.logits == three.logits).all()
    assert one.logits.shape == (8, len(one.classes))
    assert (one.classes, one.task, one.parameters) == (CLASSES, "single_label", student.network.num_parameters())
    paths = [tmp_path / path if path else None for path in clips["path"]]
    for logits, path, text in zip(one.logits, paths, clips["title"], strict=True):
        assert (student.logits(path, text).numpy() == logits).all()


def test_no_clips_are_scored_as_none(student: Student, tmp_path: Path) -> None:
    clips = write_videos(tmp_path)[:0]
    assert classify(student, clips, tmp_path, 2, "student").logits.shape == (0, 3)


def test_a_clip_that_cannot_be_decoded_is_named(student: Student, tmp_path: Path) -> None:
    clips = write_videos(tmp_path)[:2]
    (tmp_path / "01.mp4").write_text("this is no video")
    with pytest.raises(CpfdError, match="test clip 'clip-01' cannot be classified: cannot be decoded"):
        classify(student, clips, tmp_path, 2, "student")
    with pytest.raises(CpfdError, match="test clip 'clip-01' cannot be measured: cannot be decoded"):
        describe_clips(clips, index_of(clips), tmp_path)
