"""DVC remotes that are away, full, slow or cut off: `python -m bench.faults remotes`."""

import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Literal

import numpy as np
from tqdm import tqdm

from bench.disks import disk, may_mount, resize, used
from bench.kills import TRAIN, experiments, files, left_over, tags
from bench.tasks import ROOT
from bench.tiny import PREDICTIONS, Found, Site, differences, ended, run
from cpfd.errors import CpfdError
from cpfd.files import remove

BLOCK = 1 << 18
Trouble = Literal["away", "nobody listens", "error 503", "cut off", "slow", "full", "read-only"]


@dataclass(frozen=True)
class User:
    """A command that needs the remote, what must have been done before, and what it comes to."""

    command: Sequence[str]
    troubles: tuple[Trouble, ...]
    results: Callable[[Site], Found]
    prepare: Callable[[Site], object] = lambda site: None


def _promote_and_forget(site: Site) -> None:
    """Have a student in production that this clone has to fetch."""
    run(["cpfd", "promote"], site.project)
    remove(site.project / ".dvc/cache")


READ: tuple[Trouble, ...] = ("away", "nobody listens", "error 503", "cut off", "slow")
FETCH = ["cpfd", "score", "uploads", "--model", "production", "--output", "predictions"]
USERS = {
    "promote": User(["cpfd", "promote"], READ, tags),
    "score that fetches": User(FETCH, READ, files(*PREDICTIONS), _promote_and_forget),
    "isolated flow that pushes": User([*TRAIN, "--push"], ("full", "read-only"), experiments),
}


def spoil_remotes(count: int, seed: int, only: Sequence[str] = ()) -> tuple[dict[str, Counter[str]], list[str]]:
    """Run commands while the DVC remote is in trouble, and again when it is well.

    Where the remote is only slow, the first run must end well; else it must fail by a sentence, without a stack trace,
    with nothing promoted, fetched or scored. The second must end with the results of an undisturbed run. What is full
    is a disk of memory, which is left out without root. Returns what became of how many by command and trouble, and the
    faults.
    """
    rows: dict[str, Counter[str]] = {}
    faults: list[str] = []
    with tempfile.TemporaryDirectory(prefix="cpfd-faults-") as name:
        site = Site(Path(name))
        for user, how in USERS.items():
            if only and user not in only:
                continue
            rng = np.random.default_rng([seed, *user.encode()])
            site.renew()
            how.prepare(site)
            run(how.command, site.project)
            expected = how.results(site)
            troubles = [each for each in how.troubles if each not in ("full", "read-only") or may_mount()]
            for number in tqdm(range(count if troubles else 0), user, leave=False):
                trouble = troubles[number % len(troubles)]
                outcome, why = _trouble(site, how, trouble, float(rng.uniform()), expected)
                rows.setdefault(f"{user}: {trouble}", Counter())["FAULT" if why else outcome] += 1
                if why:
                    faults.append(f"{user}, {trouble}: {why}")
    return rows, faults


def _trouble(site: Site, how: User, trouble: Trouble, share: float, expected: Found) -> tuple[str, str]:
    site.renew()
    how.prepare(site)
    before = how.results(site)
    with _spoilt(site, trouble, share):
        code, said = ended(how.command, site.project)
        if code == 0:
            return "as before", differences(how.results(site), expected) or left_over(site)
        if trouble == "slow" or "Traceback" in said:
            return "FAULT", said[-3000:]
        if how.results is not experiments and (changed := differences(how.results(site), before)):
            return "FAULT", f"something else is left than before: {changed}"
    code, again = ended(how.command, site.project)
    if code:
        return "FAULT", f"after {said[-500:]!r}: {again[-2000:]}"
    return "refused", differences(how.results(site), expected) or left_over(site)


@contextmanager
def _spoilt(site: Site, trouble: Trouble, share: float) -> Iterator[None]:
    """Let the remote be in trouble while the block runs."""
    store, aside = site.place / "store", site.place / "aside"
    if trouble in ("full", "read-only"):
        store.rename(aside)
        with disk(store):
            shutil.copytree(aside, store, dirs_exist_ok=True)
            resize(store, "ro" if trouble == "read-only" else f"size={used(store) + int(share * 200_000)}")
            yield
        store.rmdir()
        aside.rename(store)
    elif trouble == "away":
        store.rename(aside)
        yield
        remove(store)
        aside.rename(store)
    else:
        size = sum(file.stat().st_size for file in (site.project / "models/student").rglob("*"))
        with _server(store, trouble, int(share * size)) as url:
            run(["dvc", "remote", "modify", "--local", "store", "url", url], site.project)
            yield
        run(["dvc", "remote", "modify", "--local", "--unset", "store", "url"], site.project)


@contextmanager
def _server(folder: Path, trouble: Trouble, limit: int) -> Iterator[str]:
    """The address of a server of files; where nobody listens, of none."""
    program = "import sys; from bench.remotes import serve; serve(*sys.argv[1:])"
    command = [sys.executable, "-c", program, str(folder), trouble, str(limit)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as server:
        try:
            assert server.stdout is not None
            url = server.stdout.readline().strip()
            if not url:
                raise CpfdError("the server of a remote has not started")
            if trouble == "nobody listens":
                server.kill()
                server.wait()
            yield url
        finally:
            server.kill()


class _Handler(SimpleHTTPRequestHandler):
    """Sends files, but slowly, or so many bytes in all, or none."""

    protocol_version = "HTTP/1.1"
    trouble = ""
    left = 0

    def send_head(self):  # type: ignore[no-untyped-def]
        if self.trouble == "error 503":
            self.send_error(503)
            return None
        return super().send_head()

    def copyfile(self, source, outputfile) -> None:  # type: ignore[no-untyped-def]
        while block := source.read(BLOCK):
            if self.trouble == "slow":
                time.sleep(0.02)
            if self.trouble == "cut off":
                block = block[: _Handler.left]
                _Handler.left -= len(block)
                if not block:
                    self.close_connection = True
                    self.connection.close()
                    return
            outputfile.write(block)

    def log_message(self, *_: object) -> None:
        """Print nothing."""


def serve(folder: str, trouble: str, limit: str) -> None:
    """Serve a folder as a remote in trouble, and print its address; `limit` is when it is cut off, in bytes."""
    _Handler.trouble, _Handler.left = trouble, int(limit)
    with ThreadingHTTPServer(("127.0.0.1", 0), lambda *given: _Handler(*given, directory=folder)) as server:
        print(f"http://127.0.0.1:{server.server_port}", flush=True)
        server.serve_forever()
