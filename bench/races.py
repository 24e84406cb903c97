"""Commands of which two run at once: `python -m bench.faults races`."""

import re
import socket
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from bench.damaged_clips import PATIENCE
from bench.kills import TRAIN, experiments, files, left_over, tags
from bench.tiny import IMPORT, PREDICTIONS, SCORE, Found, Site, differences, run
from bench.warm import start
from cpfd.files import read_json

UP = [sys.executable, "-m", "flows.services", "up", "--port"]


@dataclass(frozen=True)
class Racer:
    """A command, what two of it must come to, and what the one that comes second may say instead of ending well."""

    command: Callable[[Site], Sequence[str]]
    results: Callable[[Site], Found]
    told: str = "no sentence"
    apart: bool = False
    """Whether every second race is one of two clones."""


def _services(site: Site) -> Found:
    """What runs of `make up`, by name; it is stopped."""
    state = read_json(site.project / ".prefect/services.json")
    working = sorted(name for name, each in state["processes"].items() if Path("/proc", str(each["pid"])).exists())
    password = (site.project / ".prefect/password").read_text()
    run([sys.executable, "-m", "flows.services", "down"], site.project)
    return {"working": " ".join(working), "password": password.partition(":")[0]}


RACERS = {
    "import": Racer(lambda _: IMPORT, files("data/raw/uploads"), r"uploads: is there already; --force replaces it"),
    "score": Racer(
        lambda _: SCORE,
        files(*PREDICTIONS),
        r"another process is scoring these clips with the same student|predictions: is there already",
    ),
    "promote": Racer(
        lambda _: ["cpfd", "promote"], tags, r"is in production already, by Ann|somebody else was quicker", apart=True
    ),
    "isolated flow": Racer(lambda _: TRAIN, experiments),
    "make up": Racer(lambda site: [*UP, str(_free_port())], _services),
}


def race_commands(count: int, seed: int, only: Sequence[str] = ()) -> tuple[dict[str, Counter[str]], list[str]]:
    """Start two of the same command, the second at a random moment in the life of the first.

    Both must end well, or one of them by a sentence that says who is at work or was first; what they leave must be what
    one alone leaves, and nothing else: no file, no process. Returns what became of how many by command, and the faults.
    """
    rows: dict[str, Counter[str]] = {}
    faults: list[str] = []
    with tempfile.TemporaryDirectory(prefix="cpfd-faults-") as name:
        site = Site(Path(name))
        for racer, how in RACERS.items():
            if only and racer not in only:
                continue
            rng = np.random.default_rng([seed, *racer.encode()])
            site.renew()
            began = time.monotonic()
            run(how.command(site), site.project)
            lasted, expected = time.monotonic() - began, how.results(site)
            for number in tqdm(range(count), racer, leave=False):
                moment = float(rng.uniform(0, lasted)) * (number % 3 > 0)
                outcome, why = _race(site, how, moment, apart=how.apart and number % 2 == 1)
                why = why or differences(how.results(site), expected) or left_over(site)
                rows.setdefault(racer, Counter())["FAULT" if why else outcome] += 1
                if why:
                    faults.append(f"{racer}, the second after {moment:.2f} of {lasted:.2f} s: {why}")
    return rows, faults


def _race(site: Site, how: Racer, moment: float, *, apart: bool) -> tuple[str, str]:
    """How two ended, and what is wrong with that."""
    folders = [site.renew()] * 2
    if apart:
        folders[1] = site.place / "other"
        run(["git", "clone", "--quiet", str(site.origin), str(folders[1])], site.place)
        run(["git", "config", "user.name", "Ann"], folders[1])
        run(["git", "config", "user.email", "ann@localhost"], folders[1])
    command = how.command(site)
    with tempfile.TemporaryFile("w+") as log, tempfile.TemporaryFile("w+") as other:
        first = start(command, folders[0], log)
        time.sleep(moment)
        second = start(command, folders[1], other)
        codes = first.wait(PATIENCE), second.wait(PATIENCE)
        said = []
        for each in (log, other):
            each.seek(0)
            said.append(each.read())
    if apart:
        run(["git", "fetch", "--quiet", "--tags", "origin"], site.project)
    if codes == (0, 0):
        return "both ended well", ""
    for code, text in zip(codes, said, strict=True):
        if code and (not re.search(how.told, text) or "Traceback" in text):
            return "FAULT", text[-2000:]
    return ("one was told to wait", "") if 0 in codes else ("FAULT", f"none ended well: {said}")


def _free_port() -> int:
    """A port that is free, as the next one probably is."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
