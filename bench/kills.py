"""Commands that are killed: `python -m bench.faults kills`."""

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import numpy as np
import psutil
from tqdm import tqdm

from bench.damaged_clips import PATIENCE
from bench.tiny import IMPORT, PREDICTIONS, SCORE, Found, Site, content, differences, ended, run
from bench.warm import start
from cpfd.errors import CpfdError
from cpfd.paths import CONTENT, CROSSFIT, LOCK_FILE

TRAIN = [sys.executable, "-m", "flows.train", "student@pfd-0", "--set", "distill.tau=3", "--isolated"]
ALL: list[str | Path] = [LOCK_FILE, "data", "models", "reports/metrics.json", "reports/gate.json", "reports/index.html"]
LOCK_CUT = "as before, with dvc.lock out of git"
_ORPHANS_SECONDS = 60.0


@dataclass(frozen=True)
class Victim:
    """A command that is killed once its work has begun, which `sign` shows, a pattern of paths in the project."""

    command: Sequence[str]
    sign: str
    results: Callable[[Site], Found]
    again: Sequence[str] = ()
    """How it is run again, where that differs."""


def files(*paths: Path | str) -> Callable[[Site], Found]:
    """What tells the content of files and folders of the project."""
    return lambda site: content(site.project, [str(path) for path in paths])


def _stage(name: str, *outputs: Path | str) -> Victim:
    # By force, since DVC knows the outputs.
    command = ["dvc", "repro", "--single-item", "--force", name]
    return Victim(command, f".scratch/running-{name}", files(LOCK_FILE, *outputs))


def tags(site: Site) -> Found:
    """The versions in both repositories; that they hold times and names is no matter."""
    listed = ["git", "for-each-ref", "--format=%(refname) %(*objectname)", "refs/tags"]
    return {folder.name: run(listed, folder) for folder in (site.project, site.origin)}


def experiments(site: Site) -> Found:
    """What the experiments hold, and which work trees there are."""
    refs = run(["git", "for-each-ref", "--format=%(refname)", "refs/exps/*/*/*"], site.project).split()
    trees = {_tree(site.project, ref) for ref in refs}
    return {"experiments": " ".join(sorted(trees)), "work trees": run(["git", "worktree", "list"], site.project)}


def _tree(project: Path, ref: str) -> str:
    """A digest of what an experiment holds, but for a file of DVC's own that has the experiment's name."""
    listed = run(["git", "ls-tree", "-r", ref], project).splitlines()
    return sha256("\n".join(line for line in listed if ".dvc/tmp/" not in line).encode()).hexdigest()[:16]


VICTIMS = {
    "import": Victim(IMPORT, "data/raw/.uploads.*.partial", files("data/raw/uploads"), [*IMPORT, "--force"]),
    "extract": _stage("extract", CONTENT),
    "crossfit": _stage("crossfit@teacher", CROSSFIT),
    "student": _stage("student@pfd-0", "models/students/pfd-0"),
    "score": Victim(SCORE, ".scratch/score/*", files(*PREDICTIONS), [*SCORE, "--force"]),
    "promote": Victim(["cpfd", "promote"], ".git/cpfd-registry", tags),
    "repro": Victim(["dvc", "repro", "--force"], ".scratch/running-*", files(*ALL)),
    "isolated flow": Victim(TRAIN, ".dvc/tmp/flows/1", experiments),
}


def kill_commands(count: int, seed: int, only: Sequence[str] = ()) -> tuple[dict[str, Counter[str]], list[str]]:
    """Kill commands by SIGKILL at random moments, run each again at once, and compare with an undisturbed run.

    The moments lie between the beginning of the command's work and its end. Every second kill takes the command alone,
    and leaves what it has started to itself. The second run must end well, with the bytes of the undisturbed one, and
    nothing of the first may be left: no file, no process. Where DVC was killed while it wrote dvc.lock, that is first
    taken out of git. Returns what became of how many by command, and the faults.
    """
    rows: dict[str, Counter[str]] = {}
    faults: list[str] = []
    with tempfile.TemporaryDirectory(prefix="cpfd-faults-") as name:
        site = Site(Path(name))
        for victim, how in VICTIMS.items():
            if only and victim not in only:
                continue
            rng = np.random.default_rng([seed, *victim.encode()])
            site.renew()
            lasted = _kill(site, how, PATIENCE, family=True) or PATIENCE
            expected = how.results(site)
            for number in tqdm(range(count), victim, leave=False):
                site.renew()
                moment = float(rng.uniform(0, lasted))
                took = _kill(site, how, moment, family=number % 2 == 0)
                lasted = min(lasted, took or lasted)
                outcome = "ended first" if took else LOCK_CUT if _lock_cut(site) else "as before"
                why = _ended_otherwise(site, how, expected)
                rows.setdefault(victim, Counter())["FAULT" if why else outcome] += 1
                if why:
                    faults.append(f"{victim}, killed {moment:.2f} of {lasted:.2f} s after its work began: {why}")
    return rows, faults


def _kill(site: Site, how: Victim, moment: float, *, family: bool) -> float | None:
    """Start a command and kill it, or all its family, so many seconds after its work began.

    Returns how long it worked where it ended by itself, else None.
    """
    with (site.place / "log").open("w") as log:
        process = start(how.command, site.project, log)
    deadline = time.monotonic() + PATIENCE
    while process.poll() is None and not any(site.project.glob(how.sign)):
        if time.monotonic() > deadline:
            raise CpfdError(f"{' '.join(how.command)}: its work has not begun after {PATIENCE} s")
        time.sleep(0.002)
    began = time.monotonic()
    try:
        code = process.wait(moment)
    except subprocess.TimeoutExpired:
        if family:
            os.killpg(process.pid, signal.SIGKILL)
        else:
            process.kill()
        process.wait()
        return None
    if code:
        raise CpfdError(f"`{' '.join(how.command)}` failed:\n{(site.place / 'log').read_text()[-2000:]}")
    return time.monotonic() - began


def _lock_cut(site: Site) -> bool:
    """Whether DVC was killed while it wrote dvc.lock, in place; then it is taken out of git, as docs say."""
    if not run(["git", "status", "--porcelain", str(LOCK_FILE)], site.project):
        return False
    run(["git", "checkout", "--quiet", str(LOCK_FILE)], site.project)
    return True


def _ended_otherwise(site: Site, how: Victim, expected: Found) -> str:
    """Run the command again to its end; what is wrong with how it ended, "" where nothing is."""
    command = how.again or how.command
    code, said = ended(command, site.project)
    if code and "is in this clone alone, left by a promotion that was cut off" in said:  # it says what to do
        run(["git", "tag", "-d", *run(["git", "tag"], site.project).split()], site.project)
        code, said = ended(command, site.project)
    if code and not (command == ["cpfd", "promote"] and "is in production already" in said):
        return said[-2000:]
    return differences(how.results(site), expected) or left_over(site)


def left_over(site: Site) -> str:
    """What is left of work that has ended: files that are not whole, processes; "" where nothing is."""
    if orphans := _orphans(site):
        return f"still at work: {'; '.join(orphans)}"
    left = [path for path in site.project.rglob(".*.partial") if ".git" not in path.parts]
    return f"left behind: {', '.join(str(path.relative_to(site.project)) for path in left)}" if left else ""


def _orphans(site: Site) -> list[str]:
    """Processes that work in the site and do not end, though nobody waits for them any longer."""
    deadline = time.monotonic() + _ORPHANS_SECONDS
    while (found := _processes(site.place)) and time.monotonic() < deadline:
        time.sleep(0.05)
    told = [" ".join(process.cmdline()) for process in found if process.is_running()]
    for process in found:
        process.kill()
    return told


def _processes(folder: Path) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        try:
            if Path(process.cwd()).is_relative_to(folder) and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except psutil.Error:
            continue
    return found
