"""A CPFD project in a folder of its own, with tiny parameters."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap

from bench import tiny_params
from tests.support.warm import warm_commands

ROOT = Path(__file__).parents[2]
TINY: dict[str, dict[str, Any]] = {
    **tiny_params.TINY,
    "extract": {"shard_clips": 24, "threads": 1},
    "train": {"epochs": 2, "threads": 1},
    "champion": {
        "min_slice_clips": 3,
        "min_not_worse_probability": 0.0,
        "max_class_f1_drop": 1.0,
        "max_slice_f1_drop": 1.0,
        "max_calibration_rise": 1.0,
        "max_latency_ratio": 100.0,
    },
}
DENSE_READERS = {"validate", "dense", "teacher", "crossfit@teacher"}
"""The stages that may read dense features."""
PATIENCE = 1200.0
"""Seconds after which what a test waits for will not come, however busy the machine is."""
NOISE = ("mtime may not be reliable", "Loading weights", "Writing model shards", " 0clip", "autostage", "auto staging")
"""What libraries print that is no news to anybody."""
PREFECT = ("prefect.yaml", "prefect.toml")
IDENTITY = {
    f"GIT_{who}_{key}": value
    for who in ("AUTHOR", "COMMITTER")
    for key, value in {"NAME": "Ann", "EMAIL": "ann@localhost"}.items()
}


@dataclass(frozen=True)
class Project:
    """A CPFD project in a folder of its own."""

    folder: Path

    def set(self, **groups: dict[str, Any]) -> None:
        """Change keys of params.yaml."""
        path = self.folder / "params.yaml"
        params = YAML().load(path)
        for group, values in groups.items():
            params[group].update(values)
        YAML().dump(params, path)

    def run(self, *command: str, check: bool = True, warm: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a command in the project; a failure shows what it printed. If `warm`, stages, `dvc` and `cpfd` are."""
        environment = self.environment()
        if warm:
            environment["PATH"] = f"{warm_commands()}:{environment['PATH']}"
        done = subprocess.run(
            command, cwd=self.folder, env=environment, capture_output=True, text=True, timeout=PATIENCE
        )
        assert not check or done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
        return done

    def repro(self, *arguments: str) -> list[str]:
        """Run `dvc repro` and name the stages whose command ran."""
        lines = self.reproduce(*arguments).stdout.splitlines()
        return [line.split("'")[1] for line in lines if line.startswith("Running stage")]

    def reproduce(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return self.run("dvc", "repro", *arguments)

    def kill_when(self, command: list[str], ready: Callable[[], bool], *, alone: bool = False) -> None:
        """Start a command and kill -9 it once `ready`, with all its children or alone; it must not end before."""
        process = subprocess.Popen(
            command,
            cwd=self.folder,
            env=self.environment(),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        deadline = time.monotonic() + PATIENCE
        try:
            while not ready():
                assert process.poll() is None, "it ended before it could be killed"
                assert time.monotonic() < deadline, "it never came to the point where it should be killed"
                time.sleep(0.005)
        finally:
            if alone:
                process.kill()
            else:
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def lock(self) -> str:
        return (self.folder / "dvc.lock").read_text()

    def copy(self, target: Path) -> "Project":
        """Copy the project, its cache included, but no lock of a command that runs there."""
        shutil.copytree(self.folder, target, symlinks=True, ignore=shutil.ignore_patterns("rwlock*"))
        return Project(target)

    def environment(self) -> dict[str, str]:
        binaries = str(Path(sys.executable).parent)
        return {
            **os.environ,
            "PATH": f"{binaries}:{os.environ['PATH']}",
            "OMP_NUM_THREADS": "1",
            "COLUMNS": "200",
            **IDENTITY,
        }


def new_project(folder: Path) -> Project:
    """Make a project with the repository's code and pipeline and tiny parameters, as a clone would be."""
    folder.mkdir(parents=True)
    for name in (
        "backbones",
        "cpfd",
        "flows",
        "dvc.yaml",
        "params.yaml",
        "constraints.txt",
        ".dvcignore",
        ".gitignore",
        *PREFECT,
    ):
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, folder / name)
    project = Project(folder)
    project.set(**TINY)
    project.run("git", "init", "--quiet")
    project.run("dvc", "init", "--quiet")
    project.run("git", "add", ".")
    project.run("git", "commit", "--quiet", "-m", "start")
    return project


def bare_project(folder: Path, **groups: dict[str, Any]) -> Project:
    """What stages need that run in this process: dvc.yaml, code/, tiny parameters and over them `groups`; no git."""
    folder.mkdir(exist_ok=True)
    for name in ("dvc.yaml", "params.yaml"):
        shutil.copy(ROOT / name, folder / name)
    shutil.copytree(ROOT / "code", folder / "code")
    project = Project(folder)
    project.set(**TINY)
    project.set(**groups)
    return project


def read_pipeline() -> CommentedMap:
    """The repository's dvc.yaml."""
    return YAML().load(ROOT / "dvc.yaml")


def body(stage: CommentedMap) -> CommentedMap:
    """The definition itself, also where `foreach` wraps it."""
    return stage.get("do", stage)


def forget_content(project: Project) -> None:
    """Lose the list of files of the recorded feature store, so that stage extract knows no clip."""
    md5 = YAML().load(project.folder / "dvc.lock")["stages"]["extract"]["outs"][0]["md5"]
    (project.folder / ".dvc/cache/files/md5" / md5[:2] / md5[2:]).unlink()


def wait_for(condition: Callable[[], Any]) -> Any:
    """What the condition gives, once that is neither None nor False."""
    deadline = time.monotonic() + PATIENCE
    while (found := condition()) is None or found is False:
        assert time.monotonic() < deadline, "it never came to that"
        time.sleep(0.05)
    return found


def read_trace(trace: Path, stage: str) -> tuple[set[str], set[str]]:
    """Params and files that the stage's runs have read."""
    runs = [json.loads(path.read_text()) for path in trace.glob(f"{stage}[-@]*.json")]
    assert runs, f"stage {stage} left no trace"
    return {key for run in runs for key in run["params"]}, {file for run in runs for file in run["files"]}
