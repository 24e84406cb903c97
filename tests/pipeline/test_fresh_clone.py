"""A colleague starts from a fresh clone and the DVC remote: no data, no models, no cache."""

import json
import subprocess
from pathlib import Path

import pytest

from cpfd.project.revision import open_revision
from tests.support.project import ROOT, Project
from tests.support.team import Team, found_team

START = ("--pull", "--allow-missing")


@pytest.fixture(scope="module")
def team(project: Project, tmp_path_factory: pytest.TempPathFactory) -> Team:
    """A team whose main branch holds a finished run, and whose DVC remote has all of it."""
    return found_team(project, tmp_path_factory.mktemp("team"))


def fresh_clone(team: Team, folder: Path) -> Project:
    subprocess.run(["git", "clone", "--quiet", team.origin, folder], check=True)
    return Project(folder)


def test_a_fresh_clone_has_nothing_to_run_and_nothing_to_fetch(team: Team, tmp_path: Path) -> None:
    clone = fresh_clone(team, tmp_path / "clone")

    assert clone.repro(*START) == []

    assert clone.run("git", "status", "--porcelain").stdout == ""
    assert not list((clone.folder / ".dvc/cache").glob("files/md5/*/*"))


def test_what_a_change_runs_in_a_fresh_clone_is_what_it_runs_where_all_data_are(
    team: Team, project: Project, tmp_path: Path
) -> None:
    clone, whole = fresh_clone(team, tmp_path / "clone"), project.copy(tmp_path / "whole")
    for each in (clone, whole):
        each.set(evaluation={"seed": 5}, gate={"min_gap_closed": -1e8})

    clone.run("dvc", "pull", "student")  # all of them: the one folder that DVC cannot find by itself, see pipeline.md
    ran = clone.repro(*START)

    assert {"evaluate", "gate", "report"} <= set(ran) <= {"evaluate", "champion", "gate", "export", "report"}
    assert ran == whole.repro()
    assert clone.lock() == whole.lock()
    assert not (clone.folder / "data/features/dense").exists()
    assert json.loads((clone.folder / "reports/gate.json").read_text())["passed"]


def test_what_judges_one_student_fetches_no_other(team: Team, tmp_path: Path) -> None:
    clone = fresh_clone(team, tmp_path / "clone")
    clone.set(gate={"min_gap_closed": -1e8})

    assert {"gate", "report"} <= set(clone.repro(*START)) <= {"gate", "export", "report"}

    assert not (clone.folder / "models/students").exists()


def test_a_stage_depends_on_outputs_and_not_on_a_folder_of_several(monkeypatch: pytest.MonkeyPatch) -> None:
    """Such a folder is there in part in a fresh clone, which DVC takes for a change."""
    monkeypatch.chdir(ROOT)
    stages = open_revision(None).stages
    outs = [out for each in stages.values() for out in each.get("outs", []) if isinstance(out, str)]
    parents = {
        (name, dep) for name, each in stages.items() for dep in each["deps"] if any(f"{dep}/" in out for out in outs)
    }
    assert parents == {("evaluate", "models/students")}  # dvc.yaml cannot list what a matrix leaves
