"""What became of each stage between two revisions, and what `dvc repro` would do.

Everything is read from git, dvc.lock, and DVC's cache and run cache on this machine.
"""

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from cpfd.errors import CpfdError
from cpfd.pages.formatting import duration
from cpfd.paths import LOCK_FILE, PARAMS_FILE, PIPELINE_FILE, TIMINGS
from cpfd.project.graph import Pipeline, Run, differences, families, recorded_run
from cpfd.project.lock import shown
from cpfd.project.revision import Revision, load_yaml


def forecast(base: Revision, head: Revision) -> list[dict[str, Any]]:
    """What became of each stage between two revisions and what `dvc repro` at `head` would do, in running order.

    Each has `stage`, `outcome`, `why` (short reasons), `seconds` (of earlier runs here, else the mean of its family,
    else None) and `removed`. Outcomes: "unchanged"; "reran" (dvc.lock of head has its new results); "from cache" (DVC's
    run cache has results for these inputs); "will run"; "may run" (something before it will run, and may leave the same
    bytes as before). Stages that head no longer has come last, as "unchanged" and `removed`.

    Raises CpfdError where dvc.yaml or params.yaml of head cannot be read.
    """
    pipeline = Pipeline(head)
    before = {stage: recorded_run(entry) for stage, entry in base.lock.items()}
    seconds = stage_seconds()
    entries = []
    hashes: dict[str, str | None] = {}
    for stage in pipeline.order:
        now = pipeline.now(stage, hashes)
        outcome, outs = _outcome(pipeline, stage, now)
        hashes |= outs
        if outcome == "unchanged" and pipeline.locked[stage] != before.get(stage):
            outcome = "reran"
        why = [] if outcome == "unchanged" else _reasons(pipeline, stage, now, before.get(stage), base.name)
        entries.append(_entry(stage, outcome, why, _expected(stage, seconds)))
    try:
        known: Iterable[str] = base.stages
    except CpfdError:
        known = base.lock
    gone = [stage for stage in known if stage not in pipeline.stages]
    return entries + [_entry(stage, "unchanged", [f"no longer in {PIPELINE_FILE}"], None, True) for stage in gone]


def _outcome(pipeline: Pipeline, stage: str, now: Run) -> tuple[str, Mapping[str, str | None]]:
    """What `dvc repro` would do with a stage that starts like `now`, and the hashes of the outputs then."""
    recorded = pipeline.locked.get(stage)
    in_step = recorded is not None and now.starts_like(recorded)
    if recorded is not None and in_step:
        if not pipeline.edited_reports(stage):
            return "unchanged", recorded.outs
        if _all_cached(pipeline.revision, recorded.outs):
            return "from cache", recorded.outs
    waits = None in now.deps.values()
    cached = None if waits else _run_cache(pipeline.revision, now)
    if cached is not None:
        return "from cache", cached
    # Whatever the stages before it leave, a stage whose own code or parameters changed has not been run like that.
    own = recorded is None or any(kind != "input" or new is not None for kind, _, _, new in differences(recorded, now))
    return "may run" if waits and not own else "will run", now.outs


def _reasons(pipeline: Pipeline, stage: str, now: Run, before: Run | None, base: str) -> list[str]:
    """In what the stage differs from the run that `base` recorded, in few words."""
    if before is None:
        return [f"not in {LOCK_FILE} of {base}"]
    edited = [f"{path} edited" for path in pipeline.edited_reports(stage)]
    recorded = pipeline.locked.get(stage, before)
    found = [*_named(pipeline, before, now), *edited] or list(_named(pipeline, recorded, now))
    if found:
        return found
    others = [path for path, md5 in recorded.outs.items() if before.outs.get(path) != md5]
    return [f"same inputs, but other bytes in {', '.join(others)}"] if others else [f"not yet in {LOCK_FILE}"]


def _named(pipeline: Pipeline, old: Run, new: Run) -> Iterator[str]:
    for kind, key, was, now in differences(old, new):
        if kind == "command":
            yield "command"
        elif kind == "parameter":
            yield f"{key} {shown(was)} -> {shown(now)}"
        elif sources := families(pipeline.made_by[out] for out in pipeline.touching(key)):
            yield f"{key} (from {', '.join(sources)})"
        else:
            yield key


def _run_cache(revision: Revision, run: Run) -> Mapping[str, str | None] | None:
    """The outputs that DVC's run cache has for a run that starts like this; None for none (dvc.stage.cache)."""
    from dvc.utils import dict_sha256

    entry: dict[str, Any] = {"cmd": run.command, "outs": sorted(run.outs)}
    entry["deps"] = [{"path": path, "hash": "md5", "md5": run.deps[path]} for path in sorted(run.deps)]
    if run.params:
        entry["params"] = {str(PARAMS_FILE): run.params}
    key = dict_sha256(entry)
    folder = Path(revision.repo.cache.legacy.path, "runs", key[:2], key)
    if not folder.is_dir():
        return None
    newest = max(folder.iterdir(), key=os.path.getmtime)
    outs = recorded_run(load_yaml(newest.read_bytes())).outs
    return outs if _all_cached(revision, outs) else None


def _all_cached(revision: Revision, outs: Mapping[str, str | None]) -> bool:
    for md5 in outs.values():
        files = [md5] if md5 is None or not md5.endswith(".dir") else [md5, *(revision.files_of(md5) or {}).values()]
        if any(revision.in_cache(file) is None for file in files):
            return False
    return True


def tell_wait(stages: Iterable[str]) -> str:
    """A line on how long these stages take one after the other, by earlier runs on this machine."""
    seconds = stage_seconds()
    expected = {stage: _expected(stage, seconds) for stage in stages}
    known = [each for each in expected.values() if each is not None]
    new = families(stage for stage, each in expected.items() if each is None)
    told = [f"about {duration(sum(known))} by earlier runs here, one stage after the other"] if known else []
    if new:
        told.append(f"{', '.join(new)} never ran here: `cpfd forecast` tells more, by a trial of some steps")
    return f"to wait: {'; '.join(told)}"


def stage_seconds() -> dict[str, float]:
    """Seconds of each stage's last run on this machine, by name; none where it has never run here."""
    files = sorted(TIMINGS.glob("*.json"))
    return {file.name.removesuffix(".json"): json.loads(file.read_bytes())["seconds"] for file in files}


def _expected(stage: str, seconds: Mapping[str, float]) -> float | None:
    """Seconds that the stage took, or stages of its family on average; None where none has run here."""
    family = [time for name, time in seconds.items() if name.partition("@")[0] == stage.partition("@")[0]]
    return seconds.get(stage, round(sum(family) / len(family), 1) if family else None)


def _entry(stage: str, outcome: str, why: list[str], seconds: float | None, removed: bool = False) -> dict[str, Any]:
    return {"stage": stage, "outcome": outcome, "why": why, "seconds": seconds, "removed": removed}
