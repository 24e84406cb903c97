"""A night costs what has changed since yesterday: clips that come and go, corrected labels, fresh counts."""

import re
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from tests.support.clips import write_clip
from tests.support.project import Project, forget_content
from tests.support.team import found_team

RAW = "data/raw/demo"


@pytest.fixture(scope="module")
def yesterday(project: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """The tiny project, whose data set is no longer generated but kept by DVC as a team's own is."""
    made = project.copy(tmp_path_factory.mktemp("nights") / "project")
    made.set(dataset={"name": "ours"})
    (made.folder / RAW).rename(made.folder / "data/raw/ours")
    made.run("dvc", "add", "--quiet", "data/raw/ours")
    made.repro()
    made.run("git", "add", ".")
    made.run("git", "commit", "--quiet", "-m", "yesterday")
    return made


def change(project: Project, table: str, edit: Callable[[pd.DataFrame], pd.DataFrame]) -> None:
    """Edit a table of the data set."""
    path = project.folder / f"data/raw/ours/{table}.parquet"
    edit(pd.read_parquet(path)).to_parquet(path, index=False)


def night(project: Project) -> tuple[set[str], int | None]:
    """The stages before any training that a night runs, and how many clips it decodes; None where `extract` rests."""
    project.run("dvc", "add", "--quiet", "data/raw/ours")
    said = project.reproduce("extract", "dense").stdout
    ran = {line.split("'")[1].partition("@")[0] for line in said.splitlines() if line.startswith("Running stage")}
    if "extract" not in ran:
        return ran, None
    return ran, int(re.findall(r"clips are known, (\d+) to decode", said)[0])


def store(project: Project) -> dict[str, bytes]:
    folder = project.folder / "data/features/content"
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_corrected_labels_and_fresh_counts_decode_nothing(yesterday: Project, tmp_path: Path) -> None:
    today = yesterday.copy(tmp_path / "project")
    other = pd.read_parquet(today.folder / "data/raw/ours/manifest.parquet")["label"].max()

    change(today, "manifest", lambda table: table.assign(label=table["label"].mask(table.index == 0, other)))
    ran, decoded = night(today)
    assert decoded is None
    assert ran == {"validate", "dense"}

    change(today, "dense", lambda table: table.assign(**{table.columns[1]: table[table.columns[1]] * 2}))
    ran, decoded = night(today)
    assert decoded is None
    assert ran == {"validate", "dense"}


def test_clips_that_come_go_or_change_are_decoded_and_no_others(yesterday: Project, tmp_path: Path) -> None:
    today = yesterday.copy(tmp_path / "project")
    videos = today.folder / "data/raw/ours/videos"
    before = store(today)

    write_clip(videos / "new.mp4", seed=99)
    change(today, "manifest", lambda table: pd.concat([table, table.iloc[:1].assign(video_id="new", path="new.mp4")]))
    assert night(today)[1] == 1
    shards = {name for name in store(today) if name.startswith("shards/")}
    assert 1 <= len(shards - before.keys()) <= 2

    changed = videos / pd.read_parquet(today.folder / "data/raw/ours/manifest.parquet")["path"].iloc[5]
    changed.unlink()
    write_clip(changed, seed=100)
    assert night(today)[1] == 1

    change(today, "manifest", lambda table: table.drop(index=[7]))
    assert night(today)[1] == 0

    known = store(today)
    forget_content(today)
    today.run("dvc", "repro", "--force", "--single-item", "extract")
    assert store(today) == known, "the bytes of a fresh start"


def test_a_fresh_clone_fetches_the_clips_that_it_decodes(yesterday: Project, tmp_path: Path) -> None:
    team = found_team(yesterday, tmp_path)
    clone = Project(tmp_path / "clone")
    yesterday.run("git", "clone", "--quiet", str(team.origin), str(clone.folder))
    clone.set(video={"frames": 1})
    said = clone.run("dvc", "repro", "--pull", "--allow-missing", "extract").stdout
    assert "Running stage 'extract'" in said
    assert "Running stage 'validate'" not in said
    assert not (clone.folder / "data/raw/ours").exists()
    assert not (clone.folder / ".scratch/clips").exists()
