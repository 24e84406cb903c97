"""A project of shell scripts, which note when they run."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import psutil
from ruamel.yaml import YAML

from tests.support.project import ROOT, Project
from tests.support.toy import commit

DIAMOND = {
    "source": [],
    "left": ["out/source"],
    "right": ["out/source"],
    "join": ["sides"],
    "aside": [],
}
"""The stages of most tests, and what each reads; left and right write into sides/, the others into out/."""


class Toy(Project):
    """A project of shell scripts, one a stage; each run of one adds its name to the file `ran` beside the project."""

    def script(self, stage: str, text: str = "") -> None:
        """Give a stage other commands to begin with; in the end it writes all that it reads."""
        lines = [
            text,
            "mkdir -p out sides",
            f"echo {stage} reads",
            f"cat {stage}.sh $(find $READS -type f | sort) > $OUT",
            "",
        ]
        (self.folder / f"{stage}.sh").write_text("\n".join(lines))

    @property
    def ran(self) -> list[str]:
        """The stages that have run, in the order in which they began."""
        path = self.folder.parent / "ran"
        return path.read_text().split() if path.exists() else []

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """Start `python -m flows.train`."""
        return subprocess.Popen(
            [sys.executable, "-m", "flows.train", *arguments],
            cwd=self.folder,
            env=self.environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def processes(self) -> list[psutil.Process]:
        """What runs in the project, or in a work tree of it."""
        found = []
        for process in psutil.process_iter():
            try:
                inside = process.pid != os.getpid() and Path(process.cwd()).is_relative_to(self.folder)
                if inside and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
            except (psutil.Error, OSError):
                continue
        return found


def toy(folder: Path, reads: dict[str, list[str]] = DIAMOND) -> Toy:
    """Make and commit a project in folder/project."""
    project = Toy(folder / "project")
    project.folder.mkdir(parents=True)
    shutil.copy(ROOT / "params.yaml", project.folder)
    stages = {}
    for stage, deps in reads.items():
        project.script(stage)
        out = f"{'sides' if stage in ('left', 'right') else 'out'}/{stage}"
        stages[stage] = {
            "cmd": f"echo {stage} >> {folder}/ran; READS='{stage}.sh {' '.join(deps)}' OUT={out} bash -e {stage}.sh",
            "deps": [f"{stage}.sh", *deps],
            "params": ["distill.alpha"] if stage == "right" else ["train.epochs"],
            "outs": [out],
        }
    YAML().dump({"stages": stages}, project.folder / "dvc.yaml")
    (project.folder / ".gitignore").write_text("/.scratch/\n/.prefect/\n")
    project.run("git", "init", "--quiet", "--initial-branch", "main")
    project.run("dvc", "init", "--quiet")
    project.run("dvc", "config", "core.analytics", "false")
    commit(project, "start")
    return project
