"""What the flow `train` costs and what it gains, held against `dvc repro`: `python -m bench.orchestration`.

`python -m flows.train`, which starts a Prefect server for itself, and `dvc repro` run in turn, each in a project of its
own below a temporary folder: first where nothing was ever run, then where all is up to date. What such a server needs
until it answers is measured in between, alone. Only times of the same run of this program are comparable.
"""

import json
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from statistics import median
from typing import Annotated, Any

import typer
from ruamel.yaml import YAML

from bench import command
from bench.tasks import ROOT
from cpfd.errors import CpfdError
from cpfd.paths import LOCK_FILE, PARAMS_FILE, PIPELINE_FILE
from flows.workspace import parse_overrides, rewrite_params

DVC = (sys.executable, "-m", "dvc")
SERVER = """
import os, time, urllib.request
from flows.local import serverless
began = time.perf_counter()
serverless()
urllib.request.urlopen(os.environ["PREFECT_API_URL"] + "/health").read()
print(time.perf_counter() - began)
"""
STATES = ("from empty", "all cached")
COLUMNS = (
    "",
    "`dvc repro`",
    "flow",
    "flow / `dvc repro`",
    "server's start",
    "(flow - start) / `dvc repro`",
    "(flow - start - `dvc repro`) / stage",
)
HIDDEN = ("PREFECT_API_URL", "PREFECT_PROFILE", "PREFECT_UI_URL")
"""What would lead the flow to a server that runs already."""

Times = dict[str, dict[str, list[float]]]


def main(
    stages: Annotated[int, typer.Option(min=1, help="Stages of a project whose commands do next to nothing.")] = 25,
    rounds: Annotated[int, typer.Option(min=1, help="Runs of everything; the table shows medians.")] = 3,
    demo: Annotated[
        bool, typer.Option("--demo", help="In place of that project, run a clone of this repository, in one round.")
    ] = False,
    changes: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="A key of the clone's params.yaml.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print every single time as JSON.")] = False,
) -> None:
    """Measure `python -m flows.train` against `dvc repro`, from empty and with everything cached.

    Each time is told on standard error as it comes.

    Example: python -m bench.orchestration --stages 10

    Example: python -m bench.orchestration --demo --set demo.clips=100
    """
    with tempfile.TemporaryDirectory(prefix="cpfd-bench-") as name:
        template = Path(name, "template")
        if demo:
            _clone(template, changes or [])
        else:
            _make(template, stages)
        count = len(_run(template, *DVC, "stage", "list", "--name-only").split())
        times: Times = {state: {"dvc": [], "flow": [], "server": []} for state in STATES}
        for number in range(1 if demo else rounds):
            _round(template, Path(name, str(number)), times)
    if as_json:
        print(json.dumps({"stages": count, "cpus": os.cpu_count(), "seconds": times}, indent=2))
    else:
        print(f"{count} stages, {os.cpu_count()} CPUs\n")
        print(_table(times, count))


def _make(folder: Path, stages: int) -> None:
    """A project of stages that write a line, two and two: a stage waits for both of the pair before its own."""
    folder.mkdir()
    shutil.copy(ROOT / PARAMS_FILE, folder)
    pipeline = {}
    for number in range(stages):
        above = [f"out/{each}" for each in range(number // 2 * 2 - 2, number // 2 * 2) if each >= 0]
        command = f"mkdir -p out && echo {number} > out/{number}"
        pipeline[f"s{number}"] = {"cmd": command, "deps": above, "outs": [f"out/{number}"]}
    YAML().dump({"stages": pipeline}, folder / PIPELINE_FILE)
    (folder / ".gitignore").write_text("/.scratch/\n/.prefect/\n")
    _run(folder, "git", "init", "--quiet")
    _run(folder, *DVC, "init", "--quiet")
    _commit(folder)


def _clone(folder: Path, changes: list[str]) -> None:
    """A clone of this repository's last commit: nothing is in its cache."""
    _run(ROOT, "git", "clone", "--quiet", str(ROOT), str(folder))
    rewrite_params(folder / PARAMS_FILE, parse_overrides(changes))
    _commit(folder)


def _commit(folder: Path) -> None:
    _run(folder, "git", "add", ".")
    identity = ("-c", "user.name=bench", "-c", "user.email=bench@localhost")
    _run(folder, "git", *identity, "commit", "--quiet", "--allow-empty", "-m", "bench")


def _round(template: Path, folder: Path, times: Times) -> None:
    """Run everything once; both ways must come to the same dvc.lock."""
    projects = {"dvc": folder / "dvc", "flow": folder / "flow"}
    commands = {"dvc": (*DVC, "repro"), "flow": (sys.executable, "-m", "flows.train")}
    for project in projects.values():
        shutil.copytree(template, project, symlinks=True)
    for state in STATES:
        times[state]["server"].append(float(_run(projects["dvc"], sys.executable, "-c", SERVER)))
        for way, project in projects.items():
            began = time.perf_counter()
            _run(project, *commands[way])
            times[state][way].append(time.perf_counter() - began)
            print(f"{state}, {way}: {times[state][way][-1]:.1f} s", file=sys.stderr, flush=True)
        if len({(project / LOCK_FILE).read_bytes() for project in projects.values()}) > 1:
            raise CpfdError(f"{state}: the flow has left another {LOCK_FILE} than `dvc repro`")
    shutil.rmtree(folder)


def _run(folder: Path, *words: str) -> str:
    """What a command prints; one that fails ends the benchmark."""
    environment = {
        **{key: value for key, value in os.environ.items() if key not in HIDDEN},
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
        "PYTHONPATH": str(ROOT),
        "PREFECT_HOME": str(folder / ".prefect"),
        "DVC_NO_ANALYTICS": "1",
    }
    done = subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True)
    if done.returncode:
        lines = (done.stdout + done.stderr).splitlines()
        raise CpfdError("\n".join([f"{shlex.join(words)} failed:", *lines[-20:]]))
    return done.stdout


def _table(times: Mapping[str, Mapping[str, list[float]]], stages: int) -> str:
    rows: list[Any] = [COLUMNS, ["---"] * len(COLUMNS)]
    for state, measured in times.items():
        dvc, flow, server = (median(measured[way]) for way in ("dvc", "flow", "server"))
        rows.append(
            [
                state,
                f"{dvc:.1f} s",
                f"{flow:.1f} s",
                f"{flow / dvc:.2f}",
                f"{server:.1f} s",
                f"{(flow - server) / dvc:.2f}",
                f"{1000 * (flow - server - dvc) / stages:.0f} ms",
            ]
        )
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


if __name__ == "__main__":
    command.run(main)
