"""The stages of dvc.yaml and how they hang together, as DVC reads them; the order of dvc.lock."""

import os
import re
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from cpfd.errors import CpfdError
from cpfd.files import written_aside
from cpfd.paths import LOCK_FILE, PIPELINE_FILE
from cpfd.project.revision import git, load_yaml

_LOCK_WAITS = (0.5, 1, 2, 4, 8, 16)
"""Seconds between attempts to get at data that another process works on."""


@dataclass(frozen=True)
class Pipeline:
    """What is to be done: `stages` in the order in which `dvc repro` goes through them.

    `upstream` has those stages that a stage waits for. `stale` has those that `dvc repro` would not skip as they are,
    and all that come after one. `gpu` has those whose `meta` in dvc.yaml says `gpu: true`.
    """

    stages: Sequence[str]
    upstream: dict[str, list[str]]
    stale: Collection[str]
    gpu: Collection[str]

    def only(self, stage: str) -> "Pipeline":
        """The same with one stage, which waits for none."""
        return replace(self, stages=[stage], upstream={stage: []})

    def without(self, stage: str) -> "Pipeline":
        """The same without a stage, which no other waits for any more."""
        upstream = {name: [each for each in of if each != stage] for name, of in self.upstream.items()}
        return replace(self, stages=[name for name in self.stages if name != stage], upstream=upstream)


def read_pipeline(folder: Path, targets: Collection[str] = ()) -> Pipeline:
    """Read the pipeline of the project in `folder`: all of it, or `targets` (stages or families) and what they need.

    A data set that DVC tracks is a stage too where it has changed: `dvc repro` takes down its new state. Outputs of
    stages that will run are written into .gitignore files, as DVC does. Raises CpfdError where dvc.yaml cannot be read,
    has no such target, or somebody else works there for a minute.
    """
    from dvc.exceptions import DvcException
    from dvc.lock import LockError

    for wait in (*_LOCK_WAITS, None):
        try:
            return _read(folder, targets)
        except LockError as error:
            if wait is None:
                raise CpfdError(f"another DVC process works in {folder}: {error}") from None
            time.sleep(wait)
        except DvcException as error:
            raise CpfdError(str(error)) from None
    raise AssertionError


def _read(folder: Path, targets: Collection[str]) -> Pipeline:
    from dvc.repo import Repo, lock_repo
    from dvc.repo.reproduce import get_active_graph, plan_repro

    with Repo(str(folder), _wait_for_lock=True) as repo, lock_repo(repo):
        graph = get_active_graph(repo.index.graph)
        order = plan_repro(graph, _wanted(repo, targets))
        stale: set[Any] = set()
        for stage in order:
            if any(each in stale for each in graph.successors(stage)) or stage.changed():
                stale.add(stage)
        _ignore_outputs(repo, [stage for stage in order if stage in stale])
        kept = [stage for stage in order if stage.cmd or stage in stale]
        names = {stage: _address(repo, stage) for stage in kept}
        return Pipeline(
            stages=list(names.values()),
            upstream={names[stage]: [names[each] for each in kept if graph.has_edge(stage, each)] for stage in kept},
            stale={names[stage] for stage in stale},
            gpu={names[stage] for stage in kept if (stage.meta or {}).get("gpu") is True},
        )


def _ignore_outputs(repo: Any, stages: Sequence[Any]) -> None:
    """Write what the stages will leave into .gitignore files, in the order in which `dvc repro` would.

    Stages side by side would write them as they end, and a stage that reads a whole folder also reads its .gitignore.
    """
    with repo.scm_context(quiet=True):
        for stage in stages:
            for out in stage.outs:
                if out.use_scm_ignore:
                    Path(out.fs_path).parent.mkdir(parents=True, exist_ok=True)
            stage.ignore_outs()


def _wanted(repo: Any, targets: Collection[str]) -> list[Any]:
    """The stages that are asked for, all of dvc.yaml's without targets; in dvc.yaml's order, as DVC collects them."""
    path = str(Path(repo.root_dir, PIPELINE_FILE))
    stages = {stage.name: stage for stage in repo.index.stages if stage.path == path}
    unknown = [name for name in targets if not any(name in (stage, stage.partition("@")[0]) for stage in stages)]
    if unknown:
        families = dict.fromkeys(stage.partition("@")[0] for stage in stages)
        raise CpfdError(f"{PIPELINE_FILE}: no stage {', '.join(unknown)}; there are: {', '.join(families)}")
    found = [name for target in targets for name in stages if target in (name, name.partition("@")[0])]
    return [stages[name] for name in dict.fromkeys(found or stages)]


def sort_lock(folder: Path, order: Sequence[str]) -> None:
    """Bring the entries of dvc.lock in the order in which `dvc repro` would have written them since the last commit.

    Stages that run side by side add theirs as they end. Those of the last commit come first, in its order; what else
    was there before follows, and then come those of `order`, the stages of this run.
    """
    from dvc.repo import Repo, lock_repo

    path = folder / LOCK_FILE
    with Repo(str(folder), _wait_for_lock=True) as repo, lock_repo(repo):
        if not path.exists():
            return
        try:
            committed = list(load_yaml(git("show", f"HEAD:./{LOCK_FILE}", cwd=folder).encode())["stages"])
        except CpfdError:  # not there yet
            committed = []
        ranks = {name: (2, rank) for rank, name in enumerate(order)}
        ranks |= {name: (0, rank) for rank, name in enumerate(committed)}
        old = path.read_text(encoding="utf-8")
        new = _sorted(old, ranks)
        if new != old:
            with written_aside(path) as aside:
                aside.write_text(new, encoding="utf-8")


def _sorted(lock: str, ranks: Mapping[str, tuple[int, int]]) -> str:
    """The text of a dvc.lock with its stages in the order of their ranks; as text, so that no other byte changes."""
    start, marker, stages = lock.partition("\nstages:\n")
    end = re.search(r"^\S", stages, re.MULTILINE)
    stages, rest = (stages, "") if end is None else (stages[: end.start()], stages[end.start() :])
    blocks = re.split(r"^(?=  \S)", stages, flags=re.MULTILINE)[1:]
    blocks.sort(key=lambda block: ranks.get(next(iter(load_yaml(block.partition("\n")[0].encode()))), (1, 0)))
    return start + marker + "".join(blocks) + rest


def _address(repo: Any, stage: Any) -> str:
    """What the stage is called in the project's own folder, whatever the current one is."""
    file = os.path.relpath(stage.path, repo.root_dir)
    if not hasattr(stage, "name"):
        return file
    return str(stage.name) if file == str(PIPELINE_FILE) else f"{file}:{stage.name}"
