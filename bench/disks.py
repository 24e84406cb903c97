"""Commands on disks that are full or cannot be written to: `python -m bench.faults disks`."""

import os
import shutil
import subprocess
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from bench.kills import files, left_over, tags
from bench.tiny import IMPORT, PREDICTIONS, SCORE, Found, Site, differences, ended
from cpfd.errors import CpfdError
from cpfd.files import remove
from cpfd.paths import CONTENT, LOCK_FILE

ROOM = 4 << 30
"""Bytes of a disk with room."""
REASONS = ("No space left on device", "Out of diskspace", "Read-only file system")


@dataclass(frozen=True)
class Writer:
    """A command and what it writes; `outputs` are removed before, as DVC would."""

    command: Sequence[str]
    results: Callable[[Site], Found]
    outputs: Sequence[str | Path] = ()


def _stage(name: str, *outputs: Path | str) -> Writer:
    return Writer(["dvc", "repro", "--single-item", "--force", name], files(LOCK_FILE, *outputs), outputs)


WRITERS = {
    "import": Writer(IMPORT, files("data/raw/uploads")),
    "score": Writer(SCORE, files(*PREDICTIONS)),
    "extract": _stage("extract", CONTENT),
    "student": _stage("student@pfd-0", "models/students/pfd-0"),
    "export": _stage("export", "models/student"),
    "promote": Writer(["cpfd", "promote"], tags),
}


def spoil_disks(count: int, seed: int, only: Sequence[str] = ()) -> tuple[dict[str, Counter[str]], list[str]]:
    """Run commands where the disk becomes full at a random moment, or cannot be written to; then where it has room.

    The first run must fail by a sentence with the reason, without a stack trace, and leave nothing that passes for
    whole; the second must end with the bytes of an undisturbed run. Without root, nothing is done.
    Returns what became of how many by command, and the faults.
    """
    rows: dict[str, Counter[str]] = {}
    faults: list[str] = []
    if not may_mount():
        return rows, faults
    with tempfile.TemporaryDirectory(prefix="cpfd-faults-") as name:
        site = Site(Path(name))
        with disk(site.place):
            for writer, how in WRITERS.items():
                if only and writer not in only:
                    continue
                rng = np.random.default_rng([seed, *writer.encode()])
                _renew(site, how)
                before = how.results(site)
                needed = _needed(site, how.command)
                expected = how.results(site)
                for number in tqdm(range(count), writer, leave=False):
                    # Every fourth finds a disk that cannot be written to at all.
                    free = None if number % 4 == 3 else int(rng.uniform(0, needed))
                    outcome, why = _spoil(site, how, free, before, expected)
                    rows.setdefault(writer, Counter())["FAULT" if why else outcome] += 1
                    if why:
                        room = "read-only" if free is None else f"{free >> 10} of {needed >> 10} KiB free"
                        faults.append(f"{writer}, {room}: {why}")
    return rows, faults


def may_mount() -> bool:
    """Whether disks of memory can be mounted, which root alone can; says so where not."""
    if os.geteuid():
        print("left out: full and read-only disks, which root alone can mount (in a container say)", file=sys.stderr)
    return not os.geteuid()


@contextmanager
def disk(folder: Path) -> Iterator[None]:
    """Make a folder that is a disk of memory, for as long as the block runs."""
    folder.mkdir()
    _mount("-t", "tmpfs", "-o", f"size={ROOM}", "tmpfs", str(folder))
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def _mount(*arguments: str) -> None:
    subprocess.run(["mount", *arguments], check=True)


def resize(folder: Path, options: str) -> None:
    """Mount a disk again with other options, such as its size."""
    _mount("-o", f"remount,{options}", str(folder))


def _renew(site: Site, how: Writer) -> None:
    resize(site.place, f"rw,size={ROOM}")
    site.renew()
    for path in how.outputs:
        remove(site.project / path)


def used(folder: Path) -> int:
    """Bytes that are taken on a disk."""
    found = shutil.disk_usage(folder)
    return found.total - found.free


def _needed(site: Site, command: Sequence[str]) -> int:
    """Run a command; how many more bytes it has needed at any moment."""
    before, done, most = used(site.place), threading.Event(), 0

    def watch() -> None:
        nonlocal most
        while not done.wait(0.005):
            most = max(most, used(site.place))

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        code, said = ended(command, site.project)
    finally:
        done.set()
        watcher.join()
    if code:
        raise CpfdError(f"`{' '.join(command)}` failed:\n{said[-2000:]}")
    return most - before


def _spoil(site: Site, how: Writer, free: int | None, before: Found, expected: Found) -> tuple[str, str]:
    """Run a command where so many bytes are free, None: none can be written; then where there is room."""
    _renew(site, how)
    resize(site.place, "ro" if free is None else f"size={used(site.place) + free}")
    code, said = ended(how.command, site.project)
    resize(site.place, f"rw,size={ROOM}")
    if code == 0:
        return "as before", differences(how.results(site), expected)
    told = next((line for line in reversed(said.splitlines()) if any(each in line for each in REASONS)), "")
    if "Traceback" in said or not told:
        return "FAULT", said[-3000:]
    left = how.results(site)
    if any(left[name] not in (before[name], expected[name]) for name in expected):
        return "FAULT", f"something half is left: {differences(left, before)}"
    code, said = ended(how.command, site.project)
    if code and not (how.results is tags and "is in production already" in said):
        return "FAULT", f"after {told!r}: {said[-2000:]}"
    why = differences(how.results(site), expected) or left_over(site)
    return ("FAULT", f"after {told!r}: {why}") if why else ("refused", "")
