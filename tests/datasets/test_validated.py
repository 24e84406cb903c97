"""What `validate` leaves of clips, in this version's files and in those of versions before."""

from pathlib import Path

import pandas as pd
import pytest

from cpfd.comparing.contenders import select_clips
from cpfd.datasets.validated import clip_tables, encoded_clips, label_files, read_clips, split_tables
from cpfd.files import write_json, write_table
from cpfd.project.revision import open_revision
from tests.support.project import Project

CLIPS = pd.DataFrame(
    {
        "video_id": ["a", "b", "c", "d"],
        "path": ["a.mp4", "", "c.mp4", "d.mp4"],
        "title": ["one", "two", "", ""],
        "label": ["cat", "dog", "dog", ""],
        "creator_id": ["me", "", "me", "you"],
        "split": ["train", "test", "test", "test"],
        "content_hash": ["1", "", "3", "4"],
    }
)
LOCK = "stages:\n  dense:\n    cmd: make\n    deps:\n    - path: data/validated/{}\n      md5: {}\n"


@pytest.fixture(params=["labels.parquet", "manifest.parquet"])
def revision(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project whose dvc.lock and data/validated are of this version, or of one that had a single table."""
    project = Project(tmp_path)
    monkeypatch.chdir(tmp_path)
    project.run("git", "init", "--quiet")
    project.run("dvc", "init", "--quiet")
    Path("dvc.lock").write_text(LOCK.format(request.param, "0" * 32))
    index = CLIPS[["video_id"]]
    if request.param == "labels.parquet":
        for name, table in split_tables(CLIPS).items():
            write_table(Path("data/validated", name), table)
        write_json(Path("data/validated/task.json"), {"task": "single_label", "classes": ["cat", "dog"]})
    else:
        write_table(Path("data/validated/manifest.parquet"), CLIPS)
        index = CLIPS[["video_id", "split", "label", "creator_id"]]
        about = {"name": "pets", "task": "single_label", "classes": ["cat", "dog"]}
        write_json(Path("data/features/content/meta.json"), about)
    write_table(Path("data/features/content/index.parquet"), index[index["video_id"] != "c"])
    return Path("data/validated")


def test_clips_are_read_whole_from_either_version(revision: Path) -> None:
    names = clip_tables(open_revision(None))
    assert all((revision / name).is_file() for name in names)
    read = read_clips(revision)
    pd.testing.assert_frame_equal(read[CLIPS.columns], CLIPS, check_dtype=False)
    encoded = encoded_clips(read, pd.read_parquet("data/features/content/index.parquet"))
    assert encoded["video_id"].tolist() == ["a", "b", "d"]
    assert select_clips(encoded, read[:0]).table["video_id"].tolist() == ["b"]


def test_labels_and_task_are_found_in_either_version(revision: Path) -> None:
    labels, about = label_files(open_revision(None))
    table = pd.read_parquet(labels)
    assert {"video_id", "split", "label", "creator_id"} <= set(table.columns)
    assert '"classes"' in about.read_text()


def test_content_says_nothing_of_labels_and_labels_nothing_of_content() -> None:
    tables = split_tables(CLIPS)
    assert tables["content.parquet"].columns.tolist() == ["video_id", "path", "title", "content_hash"]
    assert tables["labels.parquet"].columns.tolist() == ["video_id", "label", "creator_id", "split"]
