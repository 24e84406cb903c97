"""A tiny project with a git remote and a DVC remote, after `dvc repro`: what faults are made in."""

import contextlib
import shutil
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryFile

from bench.damaged_clips import PATIENCE, write_film
from bench.tasks import ROOT
from bench.tiny_params import TINY
from bench.warm import preload, start
from cpfd.errors import CpfdError
from cpfd.files import fingerprint, link, remove
from cpfd.paths import PACKAGE, PARAMS_FILE
from flows.workspace import rewrite_params

_LARGE = 1 << 20
Found = dict[str, str | None]
"""What a command has come to, by the names of its parts."""
IMPORT = ["cpfd", "import", "folder", "uploads", "--name", "uploads", "--no-dvc"]
SCORE = ["cpfd", "score", "uploads", "--model", "./student", "--output", "predictions", "--shard-clips", "2"]
PREDICTIONS = ["predictions/predictions.parquet", "predictions/quarantine.parquet"]


class Site:
    """A folder `here` with project, origin.git, store and tmp, as often as it is asked for as good as new."""

    def __init__(self, folder: Path) -> None:
        """Build the project in `folder`: a clone of the last commit with small parameters, run, committed, pushed.

        It has clips to import and a student to score with, in `uploads` and `student`, which git ignores.
        """
        preload()
        self.place, self._whole = folder / "here", folder / "whole"
        self.project, self.origin = self.place / "project", self.place / "origin.git"
        (self.place / "tmp").mkdir(parents=True)
        run(["git", "clone", "--quiet", str(ROOT), str(self.project)], self.place)
        changes = {f"{group}.{key}": value for group, keys in TINY.items() for key, value in keys.items()}
        rewrite_params(self.project / PARAMS_FILE, changes)
        (self.project / ".git/info/exclude").write_text("/uploads/\n/student/\n/predictions/\n")
        for number in range(12):
            clip = self.project / "uploads" / ("cat" if number % 2 else "dog") / f"{number}.mp4"
            clip.parent.mkdir(parents=True, exist_ok=True)
            write_film(clip)
        for command in (
            ["git", "checkout", "--quiet", "-B", "main"],
            ["git", "config", "user.name", "Ann"],
            ["git", "config", "user.email", "ann@localhost"],
            ["dvc", "remote", "add", "--quiet", "--default", "store", str(self.place / "store")],
            ["dvc", "repro"],
            ["git", "add", "."],
            ["git", "commit", "--quiet", "-m", "train"],
            ["dvc", "push", "--quiet"],
            ["git", "clone", "--quiet", "--bare", str(self.project), str(self.origin)],
            ["git", "remote", "set-url", "origin", str(self.origin)],
        ):
            run(command, self.project)
        shutil.copytree(self.project / PACKAGE, self.project / "student")
        remove(self.project / ".dvc/cache/runs")  # what is run again runs, and is no copy of the first run
        self.place.rename(self._whole)

    def renew(self) -> Path:
        """Make the site anew, and return the project's folder."""
        for path in self.place.glob("*"):  # the folder itself may be a disk
            remove(path)
        shutil.copytree(self._whole, self.place, symlinks=True, copy_function=_copy, dirs_exist_ok=True)
        return self.project


def _copy(source: str, target: str) -> None:
    if Path(source).stat().st_size >= _LARGE:  # nobody writes into one: what is large is replaced as a whole
        link(Path(source), Path(target))
    else:
        shutil.copy2(source, target)


def run(command: Sequence[str], folder: Path) -> str:
    """What a command prints; raises CpfdError with the end of that where it fails."""
    code, said = ended(command, folder)
    if code:
        raise CpfdError(f"`{' '.join(command)}` ended with exit code {code}:\n{said[-2000:]}")
    return said


def ended(command: Sequence[str], folder: Path) -> tuple[int, str]:
    """Run a command to its end: its exit code and what it has printed."""
    with TemporaryFile("w+", errors="replace") as log:
        code = start(command, folder, log).wait(PATIENCE)
        log.seek(0)
        return code, log.read()


def content(folder: Path, results: Sequence[str]) -> Found:
    """Digests of files and folders in `folder`, None of what is not there."""
    with contextlib.chdir(folder):
        return {each: fingerprint([Path(each)]) if Path(each).exists() else None for each in results}


def differences(found: Found, expected: Found) -> str:
    """What differs, in words; "" where nothing does."""
    return "; ".join(
        f"{name}: {found[name]}, not {expected[name]}" for name in expected if found[name] != expected[name]
    )
