"""Many clips through one student: whole or not at all, resumed after a kill, and no clip lost."""

import json
import os
import shutil
import subprocess
import sys
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cpfd.errors import CpfdError
from cpfd.reports.gate import GateReport, Rule
from cpfd.scoring import clips as scoring_clips
from cpfd.scoring import shards as scoring_shards
from cpfd.scoring.clips import Clips
from cpfd.scoring.models import Model, find_model
from cpfd.scoring.options import ScoringOptions
from cpfd.scoring.shards import Scoring, open_scoring
from cpfd.student import student as student_module
from cpfd.student.student import Student
from tests.support.clips import write_clip
from tests.support.commands import cpfd, invoke
from tests.support.deadly import deadly_sample
from tests.support.project import IDENTITY, Project
from tests.support.small import CLASSES
from tests.support.student import save_student

TABLES = ["predictions.parquet", "quarantine.parquet", "summary.json"]


@pytest.fixture(scope="module")
def student(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_student(tmp_path_factory.mktemp("student") / "student")


@pytest.fixture(autouse=True)
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def write_clips(folder: Path, count: int) -> Path:
    for number in range(count):
        write_clip(folder / "ab"[number % 2] / f"{number:02}.mp4", seed=number, frames=6)
    return folder


def score(source: Path, student: Path, output: Path = Path("out"), *options: str | Path) -> dict[str, Any]:
    """Run the command and return its summary."""
    result = invoke("score", source, "--model", student, "--output", output, "--json", *options)
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def refused(source: Path, student: Path | str, *options: str | Path) -> str:
    """What the command says when it refuses; nothing is written then."""
    before = sorted(Path().glob("out/*"))
    with pytest.raises(CpfdError) as error:
        invoke("score", source, "--model", student, "--output", "out", *options)
    assert sorted(Path().glob("out/*")) == before
    return str(error.value)


class InterruptionError(Exception):
    """As good as a kill: nothing is tidied up that a kill would leave."""


def options(clips: Path, shard_clips: int = 256) -> ScoringOptions:
    return ScoringOptions(source=clips, output=Path("out"), shard_clips=shard_clips, max_quarantine_share=1)


@contextmanager
def interrupted(clips: Path, student: Path, shard_clips: int) -> Iterator[Scoring]:
    """Score until the end of the block, and stop there."""
    with suppress(InterruptionError), open_scoring(options(clips, shard_clips), Model(student)) as job:
        yield job
        raise InterruptionError


def forget() -> None:
    """Have nothing left of earlier runs."""
    shutil.rmtree(".scratch")


def bytes_of(folder: Path) -> list[bytes]:
    return [(folder / name).read_bytes() for name in TABLES]


def read(name: str, output: Path = Path("out")) -> pd.DataFrame:
    return pd.read_parquet(output / f"{name}.parquet")


def test_a_folder_is_classified_as_predict_would_and_no_clip_is_lost(student: Path) -> None:
    clips = write_clips(Path("clips"), 5)
    (clips / "broken.mp4").write_text("this is no video")
    (clips / "a/empty.MOV").touch()
    (clips / "notes.txt").write_text("left out")
    (clips / ".hidden.mp4").touch()

    summary = score(clips, student, Path("out"), "--max-quarantine-share", "0.5")

    assert sorted(path.name for path in Path("out").iterdir()) == sorted(TABLES)
    good, bad = read("predictions"), read("quarantine")
    assert good["video_id"].to_list() == ["a/00", "a/02", "a/04", "b/01", "b/03"]
    assert dict(zip(bad["path"], bad["reason"], strict=True)) == {
        "a/empty.MOV": "file is empty (0 bytes)",
        "broken.mp4": "cannot be decoded: Invalid data found when processing input",
    }
    files = [clips / path for path in good["path"]]
    for row, said in zip(
        good.to_dict("records"), json.loads(invoke("predict", *files, "--model", student, "--json").stdout), strict=True
    ):
        chances = said["probabilities"]
        assert row["predicted"] == next(iter(chances))
        assert row["probability"] == pytest.approx(max(chances.values()))
        assert {name: row[f"probability_{name}"] for name in CLASSES} == pytest.approx(chances)
    assert summary == json.loads(Path("out/summary.json").read_text())
    assert (summary["clips"], summary["classified"], summary["quarantined"]) == (7, 5, 2)
    assert summary["predicted"] == {name: int((good["predicted"] == name).sum()) for name in CLASSES}
    assert summary["reasons"] == {"cannot be decoded": 1, "file is empty (0 bytes)": 1}
    assert (summary["left_out_files"], summary["missing_text_columns"]) == (1, ["title"])
    assert good["model"].unique().tolist() == [summary["model"]]
    assert [path.suffix for path in Path(".scratch/score").iterdir()] == [".sqlite"]


def test_a_killed_run_goes_on_where_it_was_and_ends_with_the_same_bytes(student: Path) -> None:
    clips = write_clips(Path("clips"), 40)
    (clips / "broken.mp4").write_text("this is no video")
    score(clips, student, Path("whole"))
    forget()

    command = ["cpfd", "score", "clips", "--model", str(student), "--output", "out", "--shard-clips", "4"]

    def kept() -> list[Path]:
        return sorted(Path(".scratch/score").glob("*/0*"))

    Project(Path.cwd()).kill_when(command, lambda: len(kept()) >= 3)
    assert not Path("out").exists()

    before = {shard: shard.stat().st_mtime_ns for shard in kept()}
    with interrupted(clips, student, 4) as again:
        shards = list(again.shards())
        assert {shard.folder for shard in shards if shard.finished} == set(before)
        again.classify(shards[:-1])
        assert {shard: shard.stat().st_mtime_ns for shard in before} == before
    assert len(kept()) == len(shards) - 1

    score(clips, student, Path("out"), "--shard-clips", "4")
    assert bytes_of(Path("out")) == bytes_of(Path("whole"))


def test_neither_threads_nor_shards_change_a_byte(student: Path) -> None:
    clips = write_clips(Path("clips"), 7)
    for output, options in {"one": ("1", "1"), "two": ("3", "5"), "three": ("2", "256")}.items():
        score(clips, student, Path(output), "--threads", options[0], "--shard-clips", options[1])
        forget()
    assert bytes_of(Path("one")) == bytes_of(Path("two")) == bytes_of(Path("three"))


def test_row_groups_do_not_follow_the_shards(student: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scoring_shards, "ROW_GROUP", 4)
    clips = write_clips(Path("clips"), 11)
    score(clips, student, Path("one"), "--shard-clips", "3")
    forget()
    score(clips, student, Path("two"), "--shard-clips", "10")
    assert bytes_of(Path("one")) == bytes_of(Path("two"))
    metadata = pq.read_metadata("one/predictions.parquet")
    assert [metadata.row_group(number).num_rows for number in range(metadata.num_row_groups)] == [4, 4, 3]


def test_a_folder_that_grows_costs_what_is_new(student: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    predict = Student.predict

    def noted(self: Student, files: list[Path], *arguments: Any) -> Any:
        asked.extend(file.name for file in files)
        return predict(self, files, *arguments)

    monkeypatch.setattr(Student, "predict", noted)
    clips = write_clips(Path("clips"), 6)
    (clips / "broken.mp4").write_text("this is no video")
    for output, new in {"first": 7, "second": 1, "third": 3}.items():
        if output == "third":
            write_clip(clips / "a/02.mp4", seed=99, frames=9)
            write_clip(clips / "new.mp4", seed=100)
        asked.clear()
        score(clips, student, Path(output), "--max-quarantine-share", "0.5")
        assert len(asked) == new, "what cannot be classified is tried again each time"
    assert sorted(asked) == ["02.mp4", "broken.mp4", "new.mp4"]
    forget()
    score(clips, student, Path("fresh"), "--max-quarantine-share", "0.5")
    assert bytes_of(Path("third")) == bytes_of(Path("fresh"))

    table = pd.DataFrame({"video_id": ["x"], "path": ["new.mp4"]})
    for title, new in {"my cat": 1, "a dog": 1}.items():
        table.assign(title=title).to_csv("clips/table.csv", index=False)
        asked.clear()
        score(Path("clips/table.csv"), student, Path(title))
        assert len(asked) == new
    score(Path("clips/table.csv"), student, Path("again"))
    assert len(asked) == new


def test_what_has_changed_since_the_kill_is_scored_anew(student: Path) -> None:
    clips = write_clips(Path("clips"), 6)
    with interrupted(clips, student, 2) as first:
        first.classify(first.shards())
    write_clip(clips / "a/02.mp4", seed=99, frames=9)
    with open_scoring(options(clips, 2), Model(student)) as again:
        assert [shard.finished for shard in again.shards()] == [False, True, True]
        again.classify(again.shards())
        again.write()
    forget()
    score(clips, student, Path("whole"))
    assert bytes_of(Path("out")) == bytes_of(Path("whole"))


def test_a_clip_that_goes_meanwhile_is_said(student: Path) -> None:
    clips = write_clips(Path("clips"), 4)
    with interrupted(clips, student, 2) as job:
        (clips / "b/03.mp4").unlink()
        job.classify(job.shards())
        with pytest.raises(CpfdError, match=r"^clips: its clips changed while they were scored; score them again$"):
            job.write()
    assert not Path("out").exists()


def test_too_much_quarantine_stops_the_run_and_a_higher_limit_goes_on(student: Path) -> None:
    clips = write_clips(Path("clips"), 8)
    for name in ("a/x.mp4", "a/y.mp4"):
        (clips / name).write_text("this is no video")
    said = refused(clips, student, "--shard-clips", "2", "--max-quarantine-share", "0.1")
    assert said == (
        "clips: 2 of 10 clips cannot be classified, at most 1 may be (max_quarantine_share 0.1): 2 cannot be decoded;"
        " the first is a/x.mp4: cannot be decoded: Invalid data found when processing input"
    )
    kept = list(Path(".scratch/score").glob("*/0*"))
    assert len(kept) == 3  # it did not go on when there was no hope
    summary = score(clips, student, Path("out"), "--shard-clips", "2", "--max-quarantine-share", "0.2")
    assert (summary["classified"], summary["quarantined"]) == (8, 2)


def test_a_manifest_brings_texts_and_keeps_ids_as_they_are(student: Path) -> None:
    for name in ("1.mp4", "2.mp4"):
        write_clip(Path("mp4") / name, seed=3)
    rows = pd.DataFrame(
        {
            "video_id": ["007", "NA", "text", "blank", "007", "", "away"],
            "path": ["1.mp4", "2.mp4", "", "", "2.mp4", "1.mp4", "../clips.csv"],
            "title": ["my cat", "my\n eel", "my dog", " ", "again", "no id", "out"],
            "views": range(7),
        }
    )
    rows.to_csv("clips.csv", index=False)
    rows.to_parquet("clips.parquet")
    options = ("--videos", "mp4", "--max-quarantine-share", "1")
    summaries = [score(Path(f"clips.{suffix}"), student, Path(suffix), *options) for suffix in ("csv", "parquet")]
    assert bytes_of(Path("csv"))[:2] == bytes_of(Path("parquet"))[:2]
    assert [summary.pop("source") for summary in summaries] == ["clips.csv", "clips.parquet"]
    assert summaries[0] == summaries[1]
    assert summaries[0]["missing_text_columns"] == []

    good, bad = read("predictions", Path("csv")), read("quarantine", Path("csv"))
    assert good["video_id"].to_list() == ["007", "NA", "text"]
    assert bad[["video_id", "reason"]].to_numpy().tolist() == [
        ["blank", "nothing to go by: this student was trained on videos, title"],
        ["007", "video_id is there more than once: the first is taken"],
        ["", "no video_id"],
        ["away", "path leaves mp4/: '../clips.csv'"],
    ]
    said = json.loads(
        invoke(
            "predict", "mp4/1.mp4", "mp4/2.mp4", "--text", "my cat", "--text", "my eel", "--model", student, "--json"
        ).stdout
    )
    for row, clip in zip(good.to_dict("records")[:2], said, strict=True):
        assert {name: row[f"probability_{name}"] for name in CLASSES} == pytest.approx(clip["probabilities"])


def test_a_data_set_is_scored_by_its_manifest(student: Path) -> None:
    write_clip(Path("set/videos/1.mp4"))
    pd.DataFrame({"video_id": ["one"], "path": ["1.mp4"], "title": ["my cat"]}).to_csv("set/manifest.csv", index=False)
    score(Path("set"), student, Path("folder"))
    score(Path("set/manifest.csv"), student, Path("manifest"))
    assert read("predictions", Path("folder"))["video_id"].to_list() == ["one"]
    assert bytes_of(Path("folder")) == bytes_of(Path("manifest"))


def test_a_table_of_texts_alone_needs_no_videos(student: Path) -> None:
    Path("posts.csv").write_text('video_id,title\n1,my cat\n2,"my\neel"\n3,\n')
    score(Path("posts.csv"), student, Path("out"), "--max-quarantine-share", "0.5")
    assert read("predictions")["path"].to_list() == ["", ""]
    assert read("quarantine")["video_id"].to_list() == ["3"]


def test_ids_are_exact_and_in_one_unicode_form_whatever_they_come_from(student: Path) -> None:
    name = unicodedata.normalize("NFD", "café")
    write_clip(Path("clips") / f"{name}.mp4")
    score(Path("clips"), student, Path("folder"))
    assert read("predictions", Path("folder"))[["video_id", "path"]].to_numpy().tolist() == [["café", f"{name}.mp4"]]

    ids = pd.array([7301234567890123457, 7301234567890123458, None], "Int64")
    pd.DataFrame({"video_id": ids, "title": "my cat"}).to_parquet("posts.parquet")
    score(Path("posts.parquet"), student, Path("table"), "--max-quarantine-share", "1")
    assert read("predictions", Path("table"))["video_id"].to_list() == ["7301234567890123457", "7301234567890123458"]
    assert read("quarantine", Path("table"))["reason"].to_list() == ["no video_id"]


def test_several_labels_are_written_as_in_a_manifest(student: Path) -> None:
    folder = Path(shutil.copytree(student, "student"))
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "task": "multi_label"}))
    summary = score(write_clips(Path("clips"), 4), folder)
    for row in read("predictions").to_dict("records"):
        above = [name for name in CLASSES if row[f"probability_{name}"] > 0.5]
        assert row["predicted"] == ("|".join(above) or "|")
        assert row["probability"] == max(row[f"probability_{name}"] for name in CLASSES)
    assert list(summary["predicted"]) == [*CLASSES, "|"]


def test_a_name_that_is_no_utf_8_and_a_link_to_nowhere_are_quarantined(student: Path) -> None:
    clips = write_clips(Path("clips"), 1)
    try:
        shutil.copy(clips / "a/00.mp4", os.fsdecode(b"clips/caf\xe9.mp4"))
    except OSError:
        pytest.skip("this file system takes UTF-8 names alone")
    (clips / "gone.mp4").symlink_to("nowhere.mp4")
    (clips / "twice.mp4").symlink_to("a/00.mp4")
    (clips / "twice.webm").symlink_to("a/00.mp4")
    score(clips, student, Path("out"), "--max-quarantine-share", "1")
    assert read("predictions")["video_id"].to_list() == ["a/00", "twice"]
    assert read("quarantine")[["path", "reason"]].to_numpy().tolist() == [
        ["caf\\xe9.mp4", "its name is not valid UTF-8"],
        ["gone.mp4", "file is missing"],
        ["twice.webm", "video_id is there more than once: the first is taken"],
    ]


def test_links_are_followed_before_paths_are_compared(student: Path) -> None:
    clips = write_clips(Path("clips"), 1)
    write_clip(Path("outside/clip.mp4"))
    write_clip(Path(".dvc/cache/files/md5/ab/cdef.mp4"))
    (clips / "linked.mp4").symlink_to(Path("outside/clip.mp4").absolute())
    (clips / "cached.mp4").symlink_to(Path(".dvc/cache/files/md5/ab/cdef.mp4").absolute())
    (clips / "folder").symlink_to(Path("outside").absolute())
    write_clip(clips / "a" / "own.mp4")
    (clips / "inside.mp4").symlink_to("a/own.mp4")
    paths = ["a/00.mp4", "linked.mp4", "cached.mp4", "folder/clip.mp4", "inside.mp4"]
    pd.DataFrame({"video_id": paths, "path": paths}).to_csv("table.csv", index=False)
    summary = score(Path("table.csv"), student, Path("out"), "--videos", "clips", "--max-quarantine-share", "1")
    assert (summary["classified"], summary["reasons"]) == (2, {"path leaves clips/": 3})
    reasons = read("quarantine").set_index("video_id")["reason"]
    assert reasons["linked.mp4"].endswith("is or passes a symbolic link to elsewhere")
    assert "(cache.type symlink); `dvc config cache.type reflink,hardlink,copy`" in reasons["cached.mp4"]
    summary = score(Path("clips"), student, Path("folder"), "--max-quarantine-share", "1")
    assert summary["reasons"] == {"path leaves clips/": 2}


def test_clips_beyond_the_limits_are_quarantined_and_another_limit_tries_again(student: Path) -> None:
    clips = write_clips(Path("clips"), 2)
    with interrupted(clips, student, 1) as job:
        job.classify(job.shards())
    write_clip(clips / "wide.mp4", width=320)
    limit = ("--max-quarantine-share", "1", "--max-side", "100")
    assert score(clips, student, Path("out"), *limit)["reasons"] == {"too large": 1}
    assert read("quarantine")["reason"].to_list() == ["too large: 320 x 48, at most 100 pixels (max_side)"]
    said = invoke("predict", clips / "wide.mp4", "--model", student, "--max-side", "100", "--json")
    assert said.exit_code == 1
    assert json.loads(said.stdout)[0]["error"] == "too large: 320 x 48, at most 100 pixels (max_side)"
    assert score(clips, student, Path("again"), "--max-side", "320")["classified"] == 3


def test_a_clip_that_kills_its_reader_is_quarantined_and_the_rest_goes_on(
    student: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(student_module, "sample_frames", deadly_sample)
    clips = write_clips(Path("clips"), 2)
    write_clip(clips / "11.mp4")
    score(clips, student, Path("out"), "--max-quarantine-share", "1")
    assert read("predictions")["video_id"].to_list() == ["a/00", "b/01"]
    assert read("quarantine")["reason"].to_list() == ["kills the process that reads it: SIGSEGV"]


@settings(max_examples=30, deadline=None)
@given(st.lists(st.sampled_from(["", "a", "b", "c", "ü", "NA"]), min_size=1, max_size=20), st.integers(1, 5))
def test_every_row_is_a_clip_and_of_those_that_share_an_id_only_the_first_is_good(ids: list[str], chunk: int) -> None:
    pd.DataFrame({"video_id": ids, "title": [str(number) for number in range(len(ids))]}).to_parquet("ids.parquet")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scoring_clips, "READ_TOGETHER", chunk)
        clips = Clips(Path("ids.parquet"), ["title"])
        rows = list(clips)
        assert rows == list(clips)
    assert clips.count == len(ids)
    assert [(clip.video_id, clip.text) for clip in rows] == [(name, str(row)) for row, name in enumerate(ids)]
    good = [row for row, name in enumerate(ids) if name and name not in ids[:row]]
    assert [row for row, clip in enumerate(rows) if not clip.problem] == good


# what is refused


def test_wrong_sources_are_explained(student: Path) -> None:
    Path("empty").mkdir()
    Path("clips.txt").write_text("clip.mp4")
    Path("broken.parquet").write_text("this is no table")
    Path("names.csv").write_text("name,title\nx,my cat\n")
    Path("ids.csv").write_text("video_id,label\nx,cat\n")
    Path("none.csv").write_text("video_id,title\n")
    Path("nothing.csv").write_text("")
    Path("ragged.csv").write_text("video_id,title\nx,my cat\ny,my,dog\n")
    Path("shifted.csv").write_text("video_id,title\nx,my cat,\ny,my dog,\n")
    Path("twice.csv").write_text("video_id,title,title\nx,my cat,\n")
    pd.DataFrame({"video_id": [7301234567890123457, None], "title": "x"}).to_parquet("floats.parquet")
    for source, why in {
        "absent": "no such file or folder",
        "empty": "there is no clip to score; expected files such as clip.mp4",
        "clips.txt": "expected a folder, or a .parquet or .csv table",
        "broken.parquet": "not a readable parquet table",
        "names.csv": "no column video_id; the table has: name, title",
        "ids.csv": r"none of the columns that this student reads (path, title); the table has: video_id, label",
        "none.csv": "there is no clip to score; no row",
        "nothing.csv": "not a readable csv table",
        "ragged.csv": "the row in line 3 has 3 cells, the header 2; put text that holds a comma in quotes",
        "shifted.csv": "the row in line 2 has 3 cells, the header 2; put text that holds a comma in quotes, and end no",
        "twice.csv": "more than one column is called title; rename or remove all but one",
        "floats.parquet": "column video_id holds floating-point numbers, which cannot tell long ids apart; write it as",
    }.items():
        said = refused(Path(source), student)
        assert said.startswith(f"{source}: {why}"), said
    said = refused(Path("ids.csv"), student, "--videos", "absent")
    assert said == "--videos absent: no such folder"
    assert "--videos goes with a manifest" in refused(Path("empty"), student, "--videos", "empty")


def test_only_an_earlier_result_is_replaced_and_only_when_asked(student: Path) -> None:
    clips = write_clips(Path("clips"), 2)
    score(clips, student)
    assert refused(clips, student) == "out: is there already; --force replaces it"
    write_clip(clips / "c.mp4")
    assert score(clips, student, Path("out"), "--force")["clips"] == 3
    Path("out/notes.txt").write_text("mine")
    assert refused(clips, student, "--force") == (
        "out: holds notes.txt, which is no earlier result; name another --output"
    )
    shutil.rmtree("out")
    Path("out").touch()
    assert refused(clips, student) == "out: is a file; --output names the folder to make"


def test_two_runs_do_not_work_on_the_same(student: Path) -> None:
    clips = write_clips(Path("clips"), 2)
    with open_scoring(options(clips), Model(student)):
        assert "another process is scoring these clips" in refused(clips, student)


@pytest.mark.parametrize(
    ("limit", "said"),
    [
        (0.3, "passed by the gate"),
        (0.9, "rejected by the gate: macro-F1 on the test split must be >= 0.9"),
    ],
)
def test_it_says_who_classifies_and_what_the_gate_said(student: Path, tmp_path: Path, limit: float, said: str) -> None:
    own = Path(shutil.copytree(student, tmp_path / "own"))
    rule = Rule(
        name="macro_f1",
        description="macro-F1 on the test split",
        value=0.4,
        comparison=">=",
        limit=limit,
        passed=limit < 0.4,
        note="",
    )
    gate = GateReport(passed=rule.passed, method="posterior", seed=2, champion=None, rules=[rule])
    gate.write(own / "gate.json")
    clip = write_clips(Path("clips"), 1) / "a/00.mp4"

    for command in (["score", "clips", "--output", "out"], ["predict", clip]):
        assert f"student {own}, by method posterior with seed 2: {said}\n" in invoke(*command, "--model", own).stderr


@pytest.mark.parametrize(
    ("options", "why"),
    [
        (["--shard-clips", "0"], "'--shard-clips'"),
        (["--max-quarantine-share", "1.5"], "'--max-quarantine-share'"),
        ([], "'--output'"),
    ],
)
def test_misuse_exits_with_two(options: list[str], why: str) -> None:
    result = invoke("score", "clips", *options, *(["--output", "out"] if options else []))
    assert result.exit_code == 2
    assert why in result.stderr


def test_outside_of_a_project_the_models_folder_must_be_named(student: Path) -> None:
    write_clips(Path("clips"), 1)
    run = cpfd(Path.cwd(), "score", "clips", "--output", "out")
    assert run.returncode == 1
    assert run.stderr.startswith("error: model production: not a CPFD project")
    assert "`--model models/student` takes the student of that folder, and `--model ./production` that of" in run.stderr
    assert "no exported student there" in refused(Path("clips"), "models/student")
    shutil.copytree(student, "production")
    assert score(Path("clips"), "./production")["classified"] == 1  # type: ignore[arg-type]


# the registry


@pytest.fixture
def registry(tmp_path: Path, student: Path) -> Project:
    """A project in which v1.0.0 is in production and v1.1.0 is registered; the work tree has neither."""
    project = Project(tmp_path / "project")
    project.folder.mkdir()
    project.run("git", "init", "--quiet")
    project.run("dvc", "init", "--quiet")
    for number, columns in enumerate((("title",), ("title", "caption"))):
        shutil.rmtree(project.folder / "models", ignore_errors=True)
        save_student(project.folder / "models/student", text_columns=columns)
        project.run("dvc", "add", "--quiet", "models/student")
        project.run("git", "add", ".")
        project.run("git", "commit", "--quiet", "-m", f"student {number}")
        project.run("git", "tag", "-a", f"student@v1.{number}.0", "-m", "registered")
    project.run("git", "tag", "-a", "student#production#1", "-m", "assigned", "student@v1.0.0^{}")
    shutil.rmtree(project.folder / "models/student")
    return project


def test_the_student_in_production_is_fetched_once_and_scores(
    registry: Project, student: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(registry.folder)
    write_clips(Path("clips"), 3)
    command = [str(Path(sys.executable).with_name("cpfd")), "score", "clips", "--json", "--output"]
    run = subprocess.run([*command, "out"], capture_output=True, text=True, env={**os.environ, **IDENTITY})
    assert run.returncode == 0, run.stderr
    assert json.loads(run.stdout)["model"] == "v1.0.0"
    by_folder = score(Path("clips"), student, Path("folder"))
    assert by_folder["model"] != "v1.0.0"
    assert read("predictions").drop(columns="model").equals(read("predictions", Path("folder")).drop(columns="model"))
    shutil.rmtree(".dvc/cache")
    assert find_model("production") == find_model("v1.0.0")
    assert Path(find_model("production").folder, "config.json").is_file()

    with pytest.raises(CpfdError, match=r"models/student of student@v1\.1\.0 is neither in DVC's cache nor in its"):
        find_model("v1.1.0")
    assert sorted(path.name[:6] for path in Path(".scratch/models").iterdir()) == ["v1.0.0"]
    with pytest.raises(CpfdError, match=r"this clone knows no version in staging; .* `--model models/student` takes"):
        find_model("staging")
    with pytest.raises(CpfdError, match=r"no student v9\.9\.9 is registered in this clone"):
        find_model("v9.9.9")
