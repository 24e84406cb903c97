"""Commands that are killed: `python -m bench.faults kills`."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from bench.damaged_clips import PATIENCE, write_film
from bench.tasks import ROOT
from cpfd.errors import CpfdError
from cpfd.files import fingerprint, remove
from cpfd.paths import PACKAGE, PARAMS_FILE
from flows.workspace import rewrite_params

TINY: dict[str, dict[str, Any]] = {
    "demo": {"clips": 72, "creators": 24, "unlabelled_share": 0.2},
    "validation": {"max_drift": 1.0, "min_class_clips": 1},
    "video": {"frames": 2, "size": 64, "grid": 1},
    "text": {"max_tokens": 8},
    "extract": {"shard_clips": 24},
    "model": {"hidden_size": 16, "fusion_layers": 1, "attention_heads": 2},
    "train": {"epochs": 2},
    "crossfit": {"folds": 2, "repeats": 1},
    "students": {"seeds": [0]},
    "evaluation": {"bootstrap_samples": 200},
    "gate": {"trial_clips": 3},
}
"""Parameters of the project whose commands are killed."""
CPFD = [sys.executable, "-c", "from cpfd.cli import main; main()"]
IMPORT = [*CPFD, "import", "folder", "uploads", "--name", "uploads", "--no-dvc"]
SCORE = [*CPFD, "score", "uploads", "--model", "./student", "--output", "predictions", "--shard-clips", "4"]
REPRO = [sys.executable, "-m", "dvc", "repro"]
VICTIMS: dict[str, tuple[list[list[str]], list[str]]] = {
    "import": ([IMPORT, [*IMPORT, "--force"]], ["data/raw/uploads"]),
    "score": ([SCORE], ["predictions/predictions.parquet", "predictions/quarantine.parquet"]),
    "repro": (
        [REPRO],
        ["dvc.lock", "data", "models", "reports/metrics.json", "reports/gate.json", "reports/index.html"],
    ),
}
"""The commands that are killed: the first run, how it is run again, and the files that it makes."""


def kill_commands(count: int, seed: int) -> tuple[dict[str, Counter[str]], list[str]]:
    """Kill commands by SIGKILL at random moments, run each again at once, and compare with an undisturbed run.

    Every second kill takes the command alone, and leaves what it has started to itself. The second run must end well,
    with the bytes of the undisturbed one, and nothing of the first may be left. It works on a clone of the last commit.
    Returns what became of how many by command, and the faults.
    """
    rng = np.random.default_rng(seed)
    rows: dict[str, Counter[str]] = {}
    faults: list[str] = []
    with tempfile.TemporaryDirectory(prefix="cpfd-faults-") as name:
        template = _clone(Path(name, "template"))
        for victim, (commands, results) in VICTIMS.items():
            whole = shutil.copytree(template, Path(name, "whole"), symlinks=True)
            began = time.monotonic()
            _run(whole, commands[-1])
            lasted, expected = time.monotonic() - began, _content(whole, results)
            remove(whole)
            for number in tqdm(range(count), victim, leave=False):
                folder = shutil.copytree(template, Path(name, "killed"), symlinks=True)
                moment = float(rng.uniform(0, lasted))
                killed = _kill(folder, commands[0], moment, family=number % 2 == 0)
                why = _ended_otherwise(folder, commands[-1], results, expected)
                rows.setdefault(victim, Counter())["FAULT" if why else "as before" if killed else "ended first"] += 1
                if why:
                    faults.append(f"{victim}, killed after {moment:.2f} of {lasted:.2f} s: {why}")
                remove(folder)
    return rows, faults


def _clone(folder: Path) -> Path:
    """A clone of the last commit with small parameters, clips to import and a student to score with."""
    _run(ROOT, ["git", "clone", "--quiet", str(ROOT), str(folder)])
    changes = {f"{group}.{key}": value for group, keys in TINY.items() for key, value in keys.items()}
    rewrite_params(folder / PARAMS_FILE, changes)
    for number in range(12):
        clip = folder / "uploads" / ("cat" if number % 2 else "dog") / f"{number}.mp4"
        clip.parent.mkdir(parents=True, exist_ok=True)
        write_film(clip)
    if not (ROOT / PACKAGE).is_dir():
        raise CpfdError(f"{ROOT / PACKAGE}: no student to score with; `dvc repro` or `dvc pull` brings one")
    shutil.copytree(ROOT / PACKAGE, folder / "student")
    return folder


def _run(folder: Path, command: list[str]) -> None:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=PATIENCE)
    if done.returncode:
        raise CpfdError(f"`{' '.join(command)}` failed:\n{done.stderr[-2000:]}")


def _kill(folder: Path, command: list[str], moment: float, *, family: bool) -> bool:
    """Start a command and kill it, or all its family, after so many seconds; False where it has ended first."""
    process = subprocess.Popen(
        command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    try:
        process.wait(moment)
    except subprocess.TimeoutExpired:
        with contextlib.suppress(ProcessLookupError):
            if family:
                os.killpg(process.pid, signal.SIGKILL)
            else:
                process.kill()
        process.wait()
        return True
    return False


def _ended_otherwise(folder: Path, command: list[str], results: list[str], expected: str) -> str:
    """Run the command to its end; what is wrong with how it ended, "" where nothing is."""
    try:
        _run(folder, command)
    except CpfdError as error:
        return str(error)
    left = [path for path in folder.rglob(".*.partial") if ".git" not in path.parts]
    if _content(folder, results) != expected:
        return "other bytes than those of an undisturbed run"
    return f"left behind: {', '.join(str(path.relative_to(folder)) for path in left)}" if left else ""


def _content(folder: Path, results: list[str]) -> str:
    with contextlib.chdir(folder):
        return fingerprint([Path(each) for each in results])
