"""A stage whose `dvc repro` is killed does not go on behind the back of the next run."""

import os
import subprocess
import time
from pathlib import Path

import pytest

from cpfd.locks import try_lock
from tests.support.project import Project, wait_for

# Stage `code` alone needs no file in code/.
STAGE = """\
import os, time
from pathlib import Path
from cpfd.stages import run

def main() -> None:
    Path("pid").write_text(str(os.getpid()))
    while not Path("go").exists():
        time.sleep(0.01)
    Path("done").write_text("whole")

run(main)
"""


def make_project(folder: Path, command: str) -> Project:
    (folder / "work").mkdir(parents=True)
    (folder / "work/code.py").write_text(STAGE)
    (folder / "dvc.yaml").write_text(f"stages: {{code: {{cmd: '{command}', outs: [done]}}}}")
    project = Project(folder)
    project.run("git", "init", "--quiet")
    project.run("dvc", "init", "--quiet")
    return project


def state(process: int) -> str:
    """One letter of the kernel's, Z for one that has ended, or nothing."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return ""


# `exec` or not is the shell's own decision; a second command makes it wait.
@pytest.mark.parametrize("command", ["python work/code.py", "python work/code.py; true"])
def test_a_stage_ends_with_its_dvc(tmp_path: Path, command: str) -> None:
    project = make_project(tmp_path / "project", command)
    told = project.folder / "pid"

    project.kill_when(["dvc", "repro"], lambda: told.exists() and told.read_text() != "", alone=True)

    wait_for(lambda: state(int(told.read_text())) in ("", "Z"))
    (project.folder / "go").touch()
    project.run("dvc", "repro")
    assert (project.folder / "done").read_text() == "whole"
    assert not list((project.folder / ".scratch").iterdir())


def test_a_stage_started_by_hand_outlives_its_shell(tmp_path: Path) -> None:
    project = make_project(tmp_path / "project", "true")
    told = project.folder / "pid"
    subprocess.run(["sh", "-c", "python work/code.py & "], cwd=project.folder, env=project.environment(), check=True)
    wait_for(lambda: told.exists() and told.read_text() != "")
    (project.folder / "go").touch()
    wait_for(lambda: (project.folder / "done").exists())


def test_the_second_run_says_that_it_waits(tmp_path: Path) -> None:
    project = make_project(tmp_path / "project", "python work/code.py")
    (project.folder / "go").touch()
    held = try_lock(project.folder / ".scratch/running-code")
    assert held is not None
    log = tmp_path / "log"
    with log.open("wb") as stream:
        second = subprocess.Popen(["dvc", "repro"], cwd=project.folder, env=project.environment(), stdout=stream)
    wait_for(lambda: "code: waiting for the same stage of another run to end" in log.read_text())
    time.sleep(0.3)
    assert not (project.folder / "done").exists()
    os.close(held)
    assert second.wait() == 0
    assert (project.folder / "done").read_text() == "whole"
