"""`cpfd import` turns a user's own files into data/raw/NAME, whole or not at all, and says what it did."""

import csv
import json
import os
import subprocess
import sys
import unicodedata
from collections.abc import Callable
from pathlib import Path
from random import Random

import numpy as np
import pandas as pd
import pytest
from dvc.repo import Repo
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from cpfd.cli import app
from cpfd.datasets.contract import read_dataset
from cpfd.errors import CpfdError
from cpfd.files import written_aside
from cpfd.importing.dataset import join_groups
from cpfd.importing.youtube import creator_history, embedded, hashed
from tests.support.clips import write_clip
from tests.support.commands import cpfd
from tests.support.disk import no_file_above
from tests.support.project import NOISE, ROOT

SHARED = Path(os.environ.get("CPFD_SHARED_DATA", ROOT.parent / "shared/data")).resolve()
Import = Callable[..., str]


@pytest.fixture
def cpfd_import(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Import:
    """Run `cpfd import ARGS --no-dvc` in an empty project and return what it prints; its CpfdError is raised."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str | Path) -> str:
        result = CliRunner().invoke(app, ["import", *map(str, arguments), "--no-dvc"])
        if isinstance(result.exception, CpfdError):
            raise result.exception
        assert result.exit_code == 0, result.output
        return result.output

    return run


@pytest.fixture
def clips(tmp_path: Path) -> Path:
    """Four clips of two classes and one without a label."""
    for seed, path in enumerate(["cat/a.mp4", "cat/b.mp4", "dog/c.mp4", "dog/deep/d.mp4", "unlabelled/e.mp4"]):
        write_clip(tmp_path / "clips" / path, seed=seed)
    return tmp_path / "clips"


def raw_files(project: Path) -> list[str]:
    return sorted(path.relative_to(project).as_posix() for path in project.glob("data/raw/*"))


# folder


def test_a_folder_of_classes_becomes_a_data_set_of_links_to_the_clips(
    cpfd_import: Import, clips: Path, tmp_path: Path
) -> None:
    output = cpfd_import("folder", clips, "--name", "pets", "--dense", "motion")

    dataset = read_dataset(Path("data/raw/pets"))
    assert dict(zip(dataset.manifest["video_id"], dataset.manifest["label"], strict=True)) == {
        "a": "cat",
        "b": "cat",
        "c": "dog",
        "d": "dog",
        "e": "",
    }
    probe = ["cp", "--reflink=always", clips / "cat/a.mp4", tmp_path / "probe.mp4"]
    reflinks = subprocess.run(probe, check=False, capture_output=True).returncode == 0
    for path in dataset.manifest["path"]:
        assert (dataset.videos / path).read_bytes() == (clips / path).read_bytes()
        assert (dataset.videos / path).samefile(clips / path) != reflinks
    assert dataset.dense["video_id"].tolist() == list("abcde")
    assert dataset.dense["motion_speed_mean"].gt(0).all()
    assert "5 clips, 4 labelled, 5 video files" in output
    assert "set dataset.name to pets and dataset.task to single_label in params.yaml" in output


def test_side_tables_are_joined_by_video_id_and_strangers_are_noted(cpfd_import: Import, clips: Path) -> None:
    Path("text.csv").write_text("video_id,title,note\na,NA,x\nc,None,x\nzz,gone,x\n")
    Path("creators.csv").write_text("video_id,creator_id\na,007\nb,007\n")
    pd.DataFrame({"video_id": ["a", "d"], "views": [3, 4], "odd": ["x", "y"]}).to_parquet("dense.parquet")
    options = ["--text", "text.csv", "--creators", "creators.csv", "--dense", "dense.parquet", "--dense", "motion"]

    output = cpfd_import("folder", clips, "--name", "pets", *options)

    dataset = read_dataset(Path("data/raw/pets"))
    assert dataset.manifest["title"].tolist() == ["NA", "", "None", "", ""]
    assert dataset.manifest["creator_id"].tolist() == ["007", "007", "", "", ""]
    assert dataset.dense.columns[:3].tolist() == ["video_id", "views", "odd"]
    assert "motion_block_22" in dataset.dense
    assert dataset.dense["views"].fillna(-1).tolist() == [3, -1, -1, 4, -1]
    assert "text.csv: 1 rows are of no imported clip and were left out: zz" in output
    assert "creators.csv: has no row for 3 of the 5 clips" in output


def test_clips_of_one_source_share_a_creator(cpfd_import: Import, tmp_path: Path) -> None:
    for number in range(1, 9):
        write_clip(tmp_path / f"clips/x/c{number:02d}.mp4", frames=2)
    lines = [
        *["https://one", "c01: 0.13.50 - 0.15.60", "c02: 1.30.00 - 1.32.50", "https://two ", "c03: 0 - 1"],
        *["https://three", "c04: 0 - 1", "c02: 3 - 4", "", "c05 - c06: Camera", "who knows", "c99: 1 - 2"],
    ]
    (tmp_path / "clips/videos.txt").write_bytes("\r\n".join(lines).encode())

    output = cpfd_import("folder", "clips", "--name", "cut")

    creators = read_dataset(Path("data/raw/cut")).manifest["creator_id"].tolist()
    assert creators == ["https://one", "https://one", "https://two", "https://one", "Camera", "Camera", "", ""]
    assert "1 lines are not understood: line 11 'who knows'" in output
    assert "1 clips are listed but not there: c99" in output
    assert "2 clips are not listed; each is a group of its own: c07, c08" in output


def test_two_clips_of_one_name_are_refused_with_their_paths(cpfd_import: Import, clips: Path, tmp_path: Path) -> None:
    write_clip(clips / "dog/a.mp4")

    with pytest.raises(CpfdError, match=r"share one: cat/a.mp4 and dog/a.mp4; rename"):
        cpfd_import("folder", clips, "--name", "pets")

    assert raw_files(tmp_path) == []


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("id,views\na,1\n", "lacks the column video_id; it has: id, views"),
        ("video_id,views\nx,1\ny,2\n", "none of its 2 video_ids is that of a clip"),
        ("video_id,views\na,1\na,2\n", "more than one row for a; keep one"),
        ("video_id,motion_speed_mean\na,1\n", "motion_speed_mean come from another --dense"),
    ],
)
def test_a_dense_table_that_cannot_be_joined_leaves_nothing_behind(
    cpfd_import: Import, clips: Path, tmp_path: Path, table: str, message: str
) -> None:
    Path("dense.csv").write_text(table)

    with pytest.raises(CpfdError, match=message):
        cpfd_import("folder", clips, "--name", "pets", "--dense", "motion", "--dense", "dense.csv")

    assert raw_files(tmp_path) == []


def test_a_broken_clip_is_imported_for_validation_to_judge(cpfd_import: Import, clips: Path) -> None:
    (clips / "cat/text.mp4").write_text("not a video")

    output = cpfd_import("folder", clips, "--name", "pets", "--dense", "motion")

    dense = read_dataset(Path("data/raw/pets")).dense.set_index("video_id")
    assert dense.loc["text"].isna().all()
    assert "motion: 1 clips could not be measured: text: " in output


def test_names_that_are_not_utf_8_are_refused_or_shown_escaped(cpfd_import: Import, clips: Path) -> None:
    try:
        Path(os.fsdecode(b"clips/cat/notes-\xe9.txt")).touch()
    except OSError:
        pytest.skip("this file system takes UTF-8 names alone")
    assert "left out: cat/notes-\\udce9.txt" in cpfd_import("folder", clips, "--name", "pets")

    write_clip(Path(os.fsdecode(b"clips/caf\xe9/f.mp4")))
    with pytest.raises(
        CpfdError, match=r"1 files have a name that is not UTF-8: .*clips/caf\\udce9/f.mp4; rename them"
    ):
        cpfd_import("folder", clips, "--name", "more")


def test_a_folder_whose_name_is_not_utf_8_can_be_imported(clips: Path, tmp_path: Path) -> None:
    folder = Path(os.fsdecode(b"caf\xe9"))
    try:
        clips.rename(tmp_path / folder)
    except OSError:
        pytest.skip("this file system takes UTF-8 names alone")
    (tmp_path / folder / "left-out.mp4").touch()
    program = [sys.executable, "-c", "from cpfd.cli import main; main()", "import", "folder", folder]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "PYTHONIOENCODING": "utf-8:strict"}

    done = subprocess.run(
        [*program, "--name", "pets", "--no-dvc"], cwd=tmp_path, env=environment, capture_output=True, text=True
    )

    assert done.returncode == 0, done.stderr
    assert "note: caf\\udce9: 1 files are no clips of a class and were left out: left-out.mp4" in done.stdout


def test_names_in_another_unicode_form_find_their_rows(cpfd_import: Import, clips: Path) -> None:
    name = unicodedata.normalize("NFD", "café")
    write_clip(clips / name / f"{name}.mp4")
    Path("text.csv").write_text(f"video_id,title\ncafé,{name}\n")
    Path("dense.csv").write_text("video_id,views\ncafé,1\n")

    cpfd_import("folder", clips, "--name", "pets", "--text", "text.csv", "--dense", "dense.csv")

    dataset = read_dataset(Path("data/raw/pets"))
    clip = dataset.manifest.set_index("video_id").loc["café"]
    assert clip[["label", "title", "path"]].tolist() == ["café", "café", f"{name}/{name}.mp4"]
    assert (dataset.videos / clip["path"]).is_file()
    assert dataset.dense.set_index("video_id")["views"]["café"] == 1


@pytest.mark.parametrize("option", ["--text", "--creators", "--dense"])
def test_side_tables_are_held_to_the_same_as_any(cpfd_import: Import, clips: Path, tmp_path: Path, option: str) -> None:
    Path("side.csv").write_text("video_id,title,creator_id\na,x,\nb,y,y,\n")
    with pytest.raises(CpfdError, match=r"side.csv: the row in line 3 has 4 cells, the header 3; "):
        cpfd_import("folder", clips, "--name", "pets", option, "side.csv")

    pd.DataFrame({"video_id": [1, None], "title": "x", "creator_id": "y"}).to_parquet("side.parquet")
    with pytest.raises(CpfdError, match=r"side.parquet: column video_id holds floating-point numbers"):
        cpfd_import("folder", clips, "--name", "pets", option, "side.parquet")

    assert raw_files(tmp_path) == []


def test_a_list_of_sources_that_is_not_utf_8_is_refused(cpfd_import: Import, clips: Path) -> None:
    (clips / "videos.txt").write_bytes("https://one\na: 0 - 1\nCaf\u00e9".encode("latin-1"))
    with pytest.raises(CpfdError, match=r"videos.txt: is not UTF-8: .*; save it as UTF-8"):
        cpfd_import("folder", clips, "--name", "pets")


# any adapter


def test_a_data_set_is_only_replaced_by_force(cpfd_import: Import, clips: Path) -> None:
    cpfd_import("folder", clips, "--name", "pets")
    write_clip(clips / "dog/f.mp4")

    with pytest.raises(CpfdError, match=r"data/raw/pets: is there already; --force replaces it"):
        cpfd_import("folder", clips, "--name", "pets")
    assert len(read_dataset(Path("data/raw/pets")).manifest) == 5

    cpfd_import("folder", clips, "--name", "pets", "--force")
    assert len(read_dataset(Path("data/raw/pets")).manifest) == 6


@pytest.mark.parametrize("name", ["demo", "../pets", "a b", ""])
def test_a_name_that_is_no_folder_of_ones_own_is_refused(cpfd_import: Import, clips: Path, name: str) -> None:
    with pytest.raises(CpfdError, match="--name"):
        cpfd_import("folder", clips, "--name", name)


def test_outside_of_a_dvc_repository_nothing_is_done(clips: Path, tmp_path: Path) -> None:
    program = [sys.executable, "-c", "from cpfd.cli import main; main()"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}

    outside = subprocess.run(
        [*program, "import", "folder", clips, "--name", "pets", "--dense", "motion"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
    )

    assert outside.returncode == 1
    assert "not the root of a DVC repository; go there, run `dvc init`, or import with --no-dvc" in outside.stderr
    assert "motion" not in outside.stderr  # refused before any clip is measured
    assert not (tmp_path / "data").exists()


def test_where_there_is_no_room_a_sentence_names_the_data_set_and_nothing_is_left(clips: Path, tmp_path: Path) -> None:
    with no_file_above(1000):
        crowded = cpfd(tmp_path, "import", "folder", clips, "--name", "pets", "--no-dvc")

    assert (crowded.returncode, crowded.stdout) == (1, "")
    assert crowded.stderr == "error: data/raw/pets/manifest.parquet cannot be written: File too large\n"
    assert raw_files(tmp_path) == []


def test_dvc_takes_the_data_set_into_its_care(clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    subprocess.run(["git", "init", "--quiet"], check=True)
    Repo.init()

    result = cpfd(tmp_path, "import", "folder", clips, "--name", "pets")

    assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines()[-1] == "then keep it: git add data/raw/pets.dvc data/raw/.gitignore"
    assert [words for words in NOISE if words in result.stdout + result.stderr] == []
    assert "nfiles: 6" in Path("data/raw/pets.dvc").read_text()
    assert os.access(clips / "cat/a.mp4", os.W_OK)  # DVC protects its own files, not the user's


def test_without_dvc_git_is_told_to_leave_the_clips_alone(cpfd_import: Import, clips: Path) -> None:
    def untracked() -> list[str]:
        status = ["git", "status", "--porcelain", "--untracked-files=all"]
        lines = subprocess.run(status, check=True, capture_output=True, text=True).stdout.splitlines()
        return [line.split()[1] for line in lines if not line.endswith(".mp4") or "data/" in line]

    subprocess.run(["git", "init", "--quiet"], check=True)
    cpfd_import("folder", clips, "--name", "pets")
    cpfd_import("folder", clips, "--name", "pets", "--force")
    assert untracked() == ["data/raw/.gitignore"]
    assert Path("data/raw/.gitignore").read_text() == "/pets\n"

    Path(".gitignore").write_text((ROOT / ".gitignore").read_text())
    with written_aside(Path("data/raw/dogs")) as unfinished:
        write_clip(unfinished / "videos/a.mp4")
        assert untracked() == [".gitignore", "data/raw/.gitignore"]


def test_the_summary_says_what_the_labels_are_and_what_to_set(cpfd_import: Import) -> None:
    Path("posts.csv").write_text("video_id,title,label\n1,x,a|b\n2,x,b\n3,x,|\n4,x,\n")
    output = cpfd_import("table", "posts.csv", "--name", "posts")
    assert "4 clips, 3 labelled" in output
    assert "classes: a 1, b 2\n" in output
    assert "note: 2 labels have a |, which divides the classes of a clip" in output
    assert "next: set dataset.name to posts and dataset.task to multi_label in params.yaml" in output

    Path("posts.csv").write_text("video_id,title,label\n1,x,Cat\n2,x,cat \n3,x,dog\n")
    output = cpfd_import("table", "posts.csv", "--name", "posts", "--force")
    assert "note: classes that differ in case, white space or Unicode form alone: 'Cat' and 'cat '\n" in output
    assert "next: set dataset.name to posts and dataset.task to single_label in params.yaml" in output


# table


def test_a_table_under_other_names_is_mapped(cpfd_import: Import, clips: Path) -> None:
    Path("clips.csv").write_text(
        "id,file,category,part,extra\n001,cat/a.mp4,cat,Dev,1\n002,dog/c.mp4,,training,2\n003,,dog,TEST,3\n"
        "004,dog/gone.mp4,dog,val,4\n"
    )
    mapping = ["video_id=id", "path=file", "label=category", "split=part"]
    options = [part for pair in mapping for part in ("--map", pair)]

    output = cpfd_import("table", "clips.csv", "--name", "mine", "--videos", clips, "--dense", "motion", *options)

    dataset = read_dataset(Path("data/raw/mine"))
    assert dataset.manifest["video_id"].tolist() == ["001", "002", "003", "004"]
    assert dataset.manifest["label"].tolist() == ["cat", "", "dog", "dog"]
    assert dataset.manifest["split"].tolist() == ["validation", "train", "test", "validation"]
    assert dataset.dense["motion_speed_mean"].notna().tolist() == [True, True, False, False]
    assert (dataset.videos / "dog/c.mp4").is_file()
    assert "1 files of the table are not there: dog/gone.mp4" in output
    assert "columns left out: extra" in output


def test_a_text_only_parquet_table_needs_no_videos(cpfd_import: Import) -> None:
    table = pd.DataFrame({"video_id": [1, 2], "title": ["x", None], "label": pd.array([7, None], "Int64")})
    table.to_parquet("posts.parquet")

    cpfd_import("table", "posts.parquet", "--name", "posts")

    manifest = read_dataset(Path("data/raw/posts")).manifest
    assert manifest["video_id"].tolist() == ["1", "2"]
    assert manifest["label"].tolist() == ["7", ""]
    assert manifest["title"].tolist() == ["x", ""]
    assert manifest["path"].tolist() == ["", ""]


def test_the_same_id_twice_is_left_to_validation(cpfd_import: Import) -> None:
    Path("posts.csv").write_text("video_id,title,label\na,x,1\na,y,2\nb,z,1\n")
    Path("dense.csv").write_text("video_id,views\na,1\nb,2\n")

    output = cpfd_import("table", "posts.csv", "--name", "posts", "--dense", "dense.csv")

    assert len(read_dataset(Path("data/raw/posts")).manifest) == 3
    assert read_dataset(Path("data/raw/posts")).dense["video_id"].tolist() == ["a", "b"]
    assert "1 video_ids are there more than once: a" in output


def test_links_in_a_loop_are_no_files(cpfd_import: Import, clips: Path) -> None:
    (clips / "cat/loop.mp4").symlink_to("loop.mp4")
    Path("clips.csv").write_text("video_id,path,label\n1,cat/loop.mp4,cat\n2,cat/a.mp4,cat\n3,dog/c.mp4,dog\n")
    output = cpfd_import("table", "clips.csv", "--name", "mine", "--videos", clips)
    assert "1 files of the table are not there: cat/loop.mp4" in output


@pytest.mark.parametrize("path", ["../secret.mp4", "cat/../../secret.mp4", "{root}/secret.mp4", "cat/link.mp4"])
def test_a_path_that_leaves_the_videos_is_refused(cpfd_import: Import, clips: Path, tmp_path: Path, path: str) -> None:
    secret = write_clip(tmp_path / "secret.mp4")
    (clips / "cat/link.mp4").symlink_to(secret)
    Path("clips.csv").write_text(f"video_id,path,label\n1,{path.format(root=tmp_path)},cat\n")

    with pytest.raises(CpfdError, match=r"clips.csv: these paths leave .*clips"):
        cpfd_import("table", "clips.csv", "--name", "mine", "--videos", clips)

    assert raw_files(tmp_path) == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--map", "label=kind"], "--map label=kind: no such column; the table has: video_id, path, category, split"),
        (["--map", "labels=category"], "--map labels=category: expected NAME=COLUMN"),
        ([], "no column label; name it with --map label=COLUMN"),
        (["--map", "label=category"], "--videos does not say"),
        (["--map", "label=category", "--map", "split=path", "--videos", "."], r"unknown split\(s\): a.mp4"),
        (["--map", "label=category", "--videos", "nowhere"], "--videos nowhere: no such folder"),
    ],
)
def test_what_a_table_lacks_is_named(cpfd_import: Import, tmp_path: Path, options: list[str], message: str) -> None:
    Path("clips.csv").write_text("video_id,path,category,split\n1,a.mp4,cat,train\n")

    with pytest.raises(CpfdError, match=message):
        cpfd_import("table", "clips.csv", "--name", "mine", *options)

    assert raw_files(tmp_path) == []


def test_one_table_serves_as_manifest_and_dense(cpfd_import: Import) -> None:
    Path("all.csv").write_text("id,title,topic,views,mood,created\n007,x,1,5,calm,2\nNA,y,2,,glad,3\n")
    Path("more.csv").write_text("id,likes\nNA,1\n007,2\n")
    mapping = ["--map", "video_id=id", "--map", "label=topic", "--map", "published_at=created"]

    output = cpfd_import("table", "all.csv", "--name", "posts", "--dense", "all.csv", "--dense", "more.csv", *mapping)

    dense = read_dataset(Path("data/raw/posts")).dense
    assert dense.fillna(-1).to_dict("list") == {"video_id": ["007", "NA"], "views": [5, -1], "likes": [2, 1]}
    assert "--dense all.csv: columns that are no dense features were left out: title, topic, mood, created" in output


def test_a_table_without_ids_is_told_what_could_be_one(cpfd_import: Import) -> None:
    Path("posts.csv").write_text("url,title,label\nu/1,x,a\nu/2,x,a\n")
    with pytest.raises(
        CpfdError, match=r"name it with --map video_id=COLUMN \(with another value in every row: url\);"
    ):
        cpfd_import("table", "posts.csv", "--name", "posts")
    Path("posts.csv").write_text("url,label\nu,a\nu,a\n")
    with pytest.raises(CpfdError, match="none has another value in every row: add one, such as the number of the row"):
        cpfd_import("table", "posts.csv", "--name", "posts")


def test_long_ids_in_parquet_stay_what_they_are(cpfd_import: Import) -> None:
    ids = pd.array([7301234567890123457, 7301234567890123458, None], "Int64")
    table = pd.DataFrame({"id": ids, "title": "x", "label": "a", "views": [1, 2, 3]})
    table.to_parquet("posts.parquet")
    cpfd_import(*("table", "posts.parquet", "--name", "posts", "--dense", "posts.parquet", "--map", "video_id=id"))
    dataset = read_dataset(Path("data/raw/posts"))
    assert dataset.manifest["video_id"].tolist() == ["7301234567890123457", "7301234567890123458", ""]
    assert dataset.dense["views"].tolist() == [1, 2, 3]

    table.astype({"id": float}).to_parquet("posts.parquet")
    with pytest.raises(CpfdError, match=r"posts.parquet: column id holds floating-point numbers"):
        cpfd_import("table", "posts.parquet", "--name", "more", "--map", "video_id=id")


# youtube-trending

SNAPSHOT = {"tags": "[none]", "likes": "5", "dislikes": "0", "comment_total": "1", "thumbnail_link": ""}


def write_youtube(folder: Path, rows: list[dict[str, str]]) -> Path:
    folder.mkdir()
    items = [{"id": "1", "snippet": {"title": "Film & Animation"}}, {"id": "10", "snippet": {"title": "Music"}}]
    (folder / "categories.json").write_text(json.dumps({"items": items}))
    columns = ["video_id", "title", "channel_title", "category_id", "views", "date", *SNAPSHOT]
    with (folder / "videos.csv").open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, columns)
        writer.writeheader()
        writer.writerows(SNAPSHOT | row for row in rows)
    return folder


def snapshot(video_id: str, day: str, views: str, *, creator: str = "Ann", category: str = "10") -> dict[str, str]:
    return {
        "video_id": video_id,
        "title": f"{video_id} on {day}",
        "channel_title": creator,
        "category_id": category,
        "views": views,
        "date": day,
    }


def test_snapshots_become_one_clip_per_video_and_malformed_rows_are_listed(cpfd_import: Import, tmp_path: Path) -> None:
    rows = [
        snapshot("v", "02.10", "400", creator="Ann TV", category="1"),
        snapshot("v", "30.09", "100"),
        snapshot("w", "01.10", "0", creator="Ann TV") | {"tags": "a song|live", "likes": "0"},
        snapshot("x", "01.10", "many"),
        snapshot("y", "01.10", "1", category="99"),
        snapshot("z", "31.09", "1"),
    ]

    output = cpfd_import("youtube-trending", write_youtube(tmp_path / "yt", rows), "--name", "yt", "--tags", "hashed")

    dataset = read_dataset(Path("data/raw/yt"))
    v, w = dataset.dense.iloc[0], dataset.dense.iloc[1]
    assert dataset.manifest[["video_id", "title", "label", "creator_id", "published_at"]].to_numpy().tolist() == [
        ["v", "v on 30.09", "Film & Animation", "Ann", "2017-09-30"],
        ["w", "w on 01.10", "Music", "Ann", "2017-10-01"],
    ]
    assert (v["first_views"], v["last_views"], v["views_growth"], v["days_trending"]) == (100, 400, 4, 2)
    assert (v["first_like_share"], v["first_likes_per_view"]) == (1, 0.05)
    assert np.isnan([w["first_like_share"], w["first_likes_per_view"]]).all()
    assert np.isnan(v["tag_00"])
    assert (v["tags"], w["tags"]) == (0, 2)
    assert np.linalg.norm(w[[f"tag_{index:02d}" for index in range(64)]].to_numpy(float)) == pytest.approx(1)
    assert (v["creator_earlier_videos"], w["creator_earlier_videos"]) == (0, 1)
    assert not any(column.startswith("creator_topic") for column in dataset.dense)  # unknown in every evaluation split
    assert "3 malformed rows were left out: line 5: " in output
    assert "line 6: category_id '99' is not in categories.json, line 7: day" in output


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda text: text.replace("views,date", "title,views,date"), "more than one column is called title"),
        (lambda text: text.replace(",", ";"), "which ';' seems to divide; write it with commas"),
        (lambda text: text.replace("Ann", '"Ann'), "the row that begins in line 2 is wrongly quoted"),
    ],
)
def test_snapshots_that_cannot_be_told_apart_are_refused(
    cpfd_import: Import, tmp_path: Path, change: Callable[[str], str], message: str
) -> None:
    source = write_youtube(tmp_path / "yt", [snapshot("v", "01.10", "1")])
    (source / "videos.csv").write_text(change((source / "videos.csv").read_text()))
    with pytest.raises(CpfdError, match=message):
        cpfd_import("youtube-trending", source, "--name", "yt", "--tags", "hashed")


def test_a_random_split_brings_the_topics_of_the_creators_earlier_videos(cpfd_import: Import, tmp_path: Path) -> None:
    rows = [
        snapshot(f"{creator}{day:02d}", f"{day:02d}.10", "9", creator=creator, category=category)
        for creator, category in [("Ann", "1"), ("Bob", "10")]
        for day in range(1, 31)
    ]
    source = write_youtube(tmp_path / "yt", rows)
    Path("params.yaml").write_text((ROOT / "params.yaml").read_text())

    cpfd_import("youtube-trending", source, "--name", "yt", "--group-by", "none", "--tags", "hashed")

    dataset = read_dataset(Path("data/raw/yt"))
    late = dataset.manifest["video_id"].str[3:].astype(int) > 20
    assert set(dataset.manifest["split"]) == {"train", "validation", "test"}
    assert "creator_id" not in dataset.manifest
    for label, column in [("Film & Animation", "creator_topic_film_animation"), ("Music", "creator_topic_music")]:
        assert dataset.dense.loc[late, column].tolist() == (dataset.manifest.loc[late, "label"] == label).tolist()


@st.composite
def channels(draw: st.DrawFn) -> tuple[pd.DataFrame, pd.Series]:
    count = draw(st.integers(1, 25))

    def column(values: list[str]) -> list[str]:
        return draw(st.lists(st.sampled_from(values), min_size=count, max_size=count))

    videos = pd.DataFrame(
        {
            "creator_id": column(["a", "b"]),
            "published_at": column([f"2017-10-0{day}" for day in range(1, 6)]),
            "label": column(["x", "y", "z"]),
        }
    )
    # Three videos that fix the set of labels, by a creator of their own.
    fixed = pd.DataFrame({"creator_id": "c", "published_at": "2017-10-01", "label": ["x", "y", "z"]})
    split = pd.Series(column(["train", "validation", "test"]) + ["train"] * 3)
    return pd.concat([videos, fixed], ignore_index=True), split


@settings(deadline=None)
@given(channels(), st.randoms(use_true_random=False))
def test_creator_history_looks_at_no_evaluation_label_nor_at_the_clip_itself(
    drawn: tuple[pd.DataFrame, pd.Series], random: Random
) -> None:
    videos, split = drawn
    before = creator_history(videos, split)

    other = videos.assign(label=videos["label"].where(split == "train", [random.choice("xyz") for _ in split]))
    assert creator_history(other, split).equals(before)

    own = random.randrange(len(videos) - 3)
    changed = videos.copy()
    changed.loc[own, "label"] = random.choice("xyz")
    assert creator_history(changed, split).iloc[own].equals(before.iloc[own])
    mixes = before.filter(like="creator_topic").sum(axis=1, skipna=False)
    assert mixes.dropna().between(1 - 1e-9, 1 + 1e-9).all()


@given(st.lists(st.text(min_size=1)), st.integers(1, 64))
def test_hashing_depends_on_the_set_of_words_alone(words: list[str], size: int) -> None:
    vector = hashed(words, size)

    assert vector.shape == (size,)
    assert np.array_equal(vector, hashed(reversed(words), size))
    assert np.linalg.norm(vector) == pytest.approx(1) or not vector.any()


@given(st.lists(st.tuples(st.sampled_from("ABCDEF"), st.sampled_from("uvwxyz"))))
def test_joined_groups_never_tear_what_was_listed_together(listed: list[tuple[str, str]]) -> None:
    joined = join_groups(listed)

    assert set(joined) == {member for _, member in listed}
    for group, member in listed:
        for other_group, other in listed:
            if group == other_group:
                assert joined[member] == joined[other]


def test_embedded_tags_put_what_is_alike_side_by_side() -> None:
    song, tune, game = embedded(["guitar song, live music", "music, concert", "football, goal"], 64)

    def cosine(a: np.ndarray, b: np.ndarray) -> float:
        return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))

    assert cosine(song, tune) > cosine(song, game)
    assert np.array_equal(embedded(["football, goal"], 64), embedded(["football, goal"], 64))


@pytest.mark.skipif(not SHARED.is_dir(), reason=f"real data is not at {SHARED} (CPFD_SHARED_DATA)")
def test_real_data_is_imported_whole(cpfd_import: Import) -> None:
    fights = cpfd_import("folder", SHARED / "fights", "--name", "fights")
    youtube = cpfd_import("youtube-trending", SHARED / "youtube", "--name", "youtube", "--tags", "hashed")

    creators = read_dataset(Path("data/raw/fights")).manifest["creator_id"]
    assert "300 clips, 300 labelled, 300 video files" in fights
    assert (creators != "").all()
    assert "2364 clips, 2364 labelled, 0 video files" in youtube
