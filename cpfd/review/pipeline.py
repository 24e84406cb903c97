"""Where dvc.lock is out of step with the rest of a revision, and what `dvc repro` would run.

Everything is read from git, dvc.lock, and DVC's cache and run cache on this machine; data that somebody changed in the
work tree without `dvc add` or `dvc commit` is not noticed.
"""

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from cpfd.errors import CpfdError
from cpfd.params import PARAMS_FILE, PIPELINE_FILE
from cpfd.paths import TIMINGS
from cpfd.review.code import families
from cpfd.review.parameters import parameter_problems
from cpfd.revisions import LOCK_FILE, Revision, git, load_yaml

Kind = Literal["command", "parameter", "dependency", "output", "code", "data", "report", "missing"]
_WARNINGS = {"code", "data"}
_REMEDY = f"`dvc repro`, then commit {LOCK_FILE}"
_SHOWN = 5
_ABSENT = object()


@dataclass(frozen=True)
class Drift:
    """One thing in which dvc.lock is out of step: `recorded` there, but `now` something else (None: nothing).

    `key` is the parameter for "parameter", the path for "dependency" (listed in one of dvc.yaml and dvc.lock),
    "output" (likewise), "code" (a file in git), "data" (what other stages or .dvc files account for) and "report" (an
    output that git holds), the stage for "command" and "missing" (no entry in dvc.lock).
    """

    stage: str
    kind: Kind
    key: str
    recorded: Any
    now: Any

    @property
    def sentence(self) -> str:
        """What is out of step and what to do about it."""
        return _sentence([self])


def drift(revision: Revision) -> list[Drift]:
    """How a revision's dvc.lock is out of step with its dvc.yaml, its params.yaml and its files, by stage.

    Raises CpfdError where dvc.yaml or params.yaml cannot be read.
    """
    pipeline = _Pipeline(revision)
    return [found for stage in pipeline.order for found in pipeline.drift(stage)]


def check(revision: Revision) -> tuple[list[str], list[str]]:
    """Errors and warnings about params.yaml and dvc.lock, one sentence each; a warning may be committed.

    Files of code or data that changed are warnings, because work in progress is committed like that.
    """
    try:
        errors = [f"{PARAMS_FILE}: {key}: {message}" for key, message in parameter_problems(revision)]
        found = drift(revision)
    except CpfdError as error:
        return [str(error)], []
    groups = _grouped(found)
    warnings = [_sentence(group) for group in groups if group[0].kind in _WARNINGS]
    return [*errors, *(_sentence(group) for group in groups if group[0].kind not in _WARNINGS)], warnings


def sentences(found: list[Drift]) -> list[str]:
    """Tell all findings in as few sentences as can be: what many stages share is told once."""
    return [_sentence(group) for group in _grouped(found)]


def forecast(base: Revision, head: Revision) -> list[dict[str, Any]]:
    """What became of each stage between two revisions and what `dvc repro` at `head` would do, in running order.

    Each has `stage`, `outcome`, `why` (short reasons), `seconds` (of earlier runs here, else the mean of its family,
    else None) and `removed`. Outcomes: "unchanged"; "reran" (dvc.lock of head has its new results); "from cache" (DVC's
    run cache has results for these inputs); "will run"; "may run" (something before it will run, and may leave the same
    bytes as before). Stages that head no longer has come last, as "unchanged" and `removed`.

    Raises CpfdError where dvc.yaml or params.yaml of head cannot be read.
    """
    pipeline = _Pipeline(head)
    before = {stage: _recorded(entry) for stage, entry in base.lock.items()}
    seconds = _timings()
    entries = []
    hashes: dict[str, str | None] = {}
    for stage in pipeline.order:
        now = pipeline.now(stage, hashes)
        outcome, outs = pipeline.outcome(stage, now)
        hashes |= outs
        if outcome == "unchanged" and pipeline.locked[stage] != before.get(stage):
            outcome = "reran"
        why = [] if outcome == "unchanged" else pipeline.reasons(stage, now, before.get(stage), base.name)
        entries.append(_entry(stage, outcome, why, _expected(stage, seconds)))
    try:
        known: Iterable[str] = base.stages
    except CpfdError:
        known = base.lock
    gone = [stage for stage in known if stage not in pipeline.stages]
    return entries + [_entry(stage, "unchanged", [f"no longer in {PIPELINE_FILE}"], None, True) for stage in gone]


@dataclass(frozen=True)
class _Run:
    """What a run of a stage starts from and leaves: parameters by the key that dvc.yaml lists, hashes by path.

    The hash of a file in git that is missing is ""; None is one that only a run of another stage can tell.
    """

    command: Any
    params: Mapping[str, Any]
    deps: Mapping[str, str | None]
    outs: Mapping[str, str | None]

    def starts_like(self, other: "_Run") -> bool:
        """Whether both start from the same and leave files of the same names."""
        mine, others = ((run.command, run.params, run.deps, set(run.outs)) for run in (self, other))
        return mine == others


class _Pipeline:
    """The stages of a revision, what dvc.lock says about them, and how they hang together."""

    def __init__(self, revision: Revision) -> None:
        self.revision = revision
        self.stages = revision.stages
        self.locked = {stage: _recorded(entry) for stage, entry in revision.lock.items() if stage in self.stages}
        self.outs = {stage: _outs(definition) for stage, definition in self.stages.items()}
        self.made_by = {out: stage for stage, outs in self.outs.items() for out in outs}
        self.locked_outs = {path: md5 for run in self.locked.values() for path, md5 in run.outs.items()}
        graph = {
            stage: [self.made_by[out] for dep in definition.get("deps", []) for out in self.touching(dep)]
            for stage, definition in self.stages.items()
        }
        in_git = {
            dep for definition in self.stages.values() for dep in definition.get("deps", []) if not self.is_data(dep)
        }
        in_git |= {out for outs in self.outs.values() for out, cached in outs.items() if not cached}
        contents = revision.read_all(Path(path) for path in sorted(in_git))
        self.files = {path.as_posix(): hashlib.md5(content).hexdigest() for path, content in contents.items()}
        try:
            self.order = list(TopologicalSorter(graph).static_order())
        except CycleError as error:
            raise CpfdError(f"{PIPELINE_FILE}: stages depend on each other: {' <- '.join(error.args[1])}") from None

    def touching(self, path: str) -> list[str]:
        """The outputs of stages that are `path`, hold it, or lie below it."""
        if path in self.made_by:
            return [path]
        return [out for out in self.made_by if path.startswith(f"{out}/") or out.startswith(f"{path}/")]

    def is_data(self, path: str) -> bool:
        """Whether DVC, and not git, accounts for a path."""
        tracked = self.revision.hashes
        return bool(self.touching(path)) or any(str(each) in tracked for each in [path, *PurePosixPath(path).parents])

    def now(self, stage: str, hashes: Mapping[str, str | None]) -> _Run:
        """What a run of the stage would start from, where its inputs from other stages have the given hashes."""
        definition = self.stages[stage]
        values = {key: _value(self.revision.params, key) for key in definition.get("params", [])}
        recorded = self.locked[stage].deps if stage in self.locked else {}
        deps = {}
        for dep in definition.get("deps", []):
            sources = self.touching(dep)
            deps[dep] = self._hash(dep, sources, hashes)
            # What the cache does not tell about is as recorded if it comes from outputs that are as recorded.
            as_recorded = all(hashes.get(out) and hashes[out] == self.locked_outs.get(out) for out in sources)
            if deps[dep] is None and as_recorded:
                deps[dep] = recorded.get(dep)
        return _Run(
            command=definition["cmd"],
            params={key: value for key, value in values.items() if value is not _ABSENT},
            deps=deps,
            outs=dict.fromkeys(self.outs[stage]),
        )

    def drift(self, stage: str) -> Iterator[Drift]:
        """How the stage's entry in dvc.lock is out of step."""
        recorded = self.locked.get(stage)
        if recorded is None:
            yield Drift(stage, "missing", stage, None, None)
            return
        now = self.now(stage, self.locked_outs)
        for kind, key, old, new in _differences(recorded, now):
            if kind == "command":
                yield Drift(stage, "command", stage, old, new)
            elif kind != "input":
                yield Drift(stage, kind, key, old, new)
            elif new is not None:
                yield Drift(stage, "data" if self.is_data(key) else "code", key, old, new)
        for path in sorted(set(recorded.outs) ^ set(now.outs)):
            yield Drift(stage, "output", path, *(path if path in run.outs else None for run in (recorded, now)))
        for path, md5 in self._edited_reports(stage).items():
            yield Drift(stage, "report", path, recorded.outs[path], md5)

    def outcome(self, stage: str, now: _Run) -> tuple[str, Mapping[str, str | None]]:
        """What `dvc repro` would do with a stage that starts like `now`, and the hashes of the outputs then."""
        recorded = self.locked.get(stage)
        in_step = recorded is not None and now.starts_like(recorded)
        if recorded is not None and in_step:
            if not self._edited_reports(stage):
                return "unchanged", recorded.outs
            if self._all_cached(recorded.outs):
                return "from cache", recorded.outs
        waits = None in now.deps.values()
        cached = None if waits else self._run_cache(now)
        if cached is not None:
            return "from cache", cached
        # Whatever the stages before it leave, a stage whose own code or parameters changed has not been run like that.
        own = recorded is None or any(
            kind != "input" or new is not None for kind, _, _, new in _differences(recorded, now)
        )
        return "may run" if waits and not own else "will run", now.outs

    def reasons(self, stage: str, now: _Run, before: _Run | None, base: str) -> list[str]:
        """In what the stage differs from the run that `base` recorded, in few words."""
        if before is None:
            return [f"not in {LOCK_FILE} of {base}"]
        edited = [f"{path} edited" for path in self._edited_reports(stage)]
        recorded = self.locked.get(stage, before)
        found = [*self._named(before, now), *edited] or list(self._named(recorded, now))
        if found:
            return found
        others = [path for path, md5 in recorded.outs.items() if before.outs.get(path) != md5]
        return [f"same inputs, but other bytes in {', '.join(others)}"] if others else [f"not yet in {LOCK_FILE}"]

    def _named(self, old: _Run, new: _Run) -> Iterator[str]:
        for kind, key, was, now in _differences(old, new):
            if kind == "command":
                yield "command"
            elif kind == "parameter":
                yield f"{key} {_shown(was)} -> {_shown(now)}"
            elif sources := families(self.made_by[out] for out in self.touching(key)):
                yield f"{key} (from {', '.join(sources)})"
            else:
                yield key

    def _hash(self, path: str, sources: list[str], hashes: Mapping[str, str | None]) -> str | None:
        if sources == [path]:
            return hashes.get(path)
        if any(hashes.get(out) is None for out in sources):
            return None
        if not sources:
            if self.is_data(path):
                return self.revision.hash_of(Path(path))
            return self.files.get(path, "")
        if path.startswith(f"{sources[0]}/"):
            return (self.revision.files_of(hashes[sources[0]]) or {}).get(
                str(PurePosixPath(path).relative_to(sources[0]))
            )
        return self._folder_hash(path, {out: hashes[out] for out in sources})

    def _folder_hash(self, folder: str, outs: Mapping[str, str | None]) -> str | None:
        """The hash that DVC gives a folder that holds several outputs and whatever else lies there."""
        files = self._strangers(folder, outs)
        for out, md5 in outs.items():
            name = out.removeprefix(f"{folder}/")
            if md5 is None or not md5.endswith(".dir"):
                files |= {name: str(md5)}
                continue
            inside = self.revision.files_of(md5)
            if inside is None:
                return None
            files |= {f"{name}/{path}": file for path, file in inside.items()}
        listing = [{"md5": files[path], "relpath": path} for path in sorted(files)]  # dvc_data.hashfile.tree.Tree
        return hashlib.md5(json.dumps(listing).encode()).hexdigest() + ".dir"

    def _strangers(self, folder: str, outs: Iterable[str]) -> dict[str, str]:
        """Hash of each file below a folder that belongs to none of the outputs, such as DVC's .gitignore."""
        if self.revision.commit is None:
            paths = [path for path in Path(folder).rglob("*") if path.is_file()]
        else:
            listed = git("ls-tree", "-r", "--name-only", "-z", self.revision.commit, "--", f"{folder}/")
            paths = [Path(path) for path in listed.split("\0") if path]
        strange = [path for path in paths if not any(path.is_relative_to(out) for out in outs)]
        contents = self.revision.read_all(strange)
        return {
            path.relative_to(folder).as_posix(): hashlib.md5(content).hexdigest() for path, content in contents.items()
        }

    def _edited_reports(self, stage: str) -> dict[str, str]:
        """Hash of each output that git holds with other bytes than dvc.lock records."""
        recorded = self.locked[stage].outs if stage in self.locked else {}
        reports = [path for path, cached in self.outs[stage].items() if not cached and path in recorded]
        return {path: self.files[path] for path in reports if self.files.get(path, recorded[path]) != recorded[path]}

    def _run_cache(self, run: _Run) -> Mapping[str, str | None] | None:
        """The outputs that DVC's run cache has for a run that starts like this; None for none (dvc.stage.cache)."""
        from dvc.utils import dict_sha256

        entry: dict[str, Any] = {"cmd": run.command, "outs": sorted(run.outs)}
        entry["deps"] = [{"path": path, "hash": "md5", "md5": run.deps[path]} for path in sorted(run.deps)]
        if run.params:
            entry["params"] = {str(PARAMS_FILE): run.params}
        key = dict_sha256(entry)
        folder = Path(self.revision.repo.cache.legacy.path, "runs", key[:2], key)
        if not folder.is_dir():
            return None
        newest = max(folder.iterdir(), key=os.path.getmtime)
        outs = _recorded(load_yaml(newest.read_bytes())).outs
        return outs if self._all_cached(outs) else None

    def _all_cached(self, outs: Mapping[str, str | None]) -> bool:
        for md5 in outs.values():
            files = (
                [md5]
                if md5 is None or not md5.endswith(".dir")
                else [md5, *(self.revision.files_of(md5) or {}).values()]
            )
            if any(self.revision.in_cache(file) is None for file in files):
                return False
        return True


def _recorded(entry: Mapping[str, Any]) -> _Run:
    deps, outs = ({each["path"]: each.get("md5") for each in entry.get(name, [])} for name in ("deps", "outs"))
    return _Run(entry["cmd"], entry.get("params", {}).get(str(PARAMS_FILE), {}), deps, outs)


def _outs(definition: Mapping[str, Any]) -> dict[str, bool]:
    """Whether DVC caches it, for each output."""
    found = {}
    for listed in ("outs", "metrics", "plots"):
        for out in definition.get(listed, []):
            ((path, options),) = out.items() if isinstance(out, Mapping) else [(out, {})]
            found[path] = options.get("cache", True)
    return found


def _value(params: Mapping[str, Any], key: str) -> Any:
    value: Any = params
    for part in key.split("."):
        if not isinstance(value, Mapping) or part not in value:
            return _ABSENT
        value = value[part]
    return value


def _differences(
    old: _Run, new: _Run
) -> Iterator[tuple[Literal["command", "parameter", "dependency", "input"], str, Any, Any]]:
    """Kind, key, old and new value of all in which two runs start differently; "input": a dependency's content."""
    if old.command != new.command:
        yield "command", "", old.command, new.command
    was, now = _leaves(old.params), _leaves(new.params)
    for key in {**was, **now}:
        if was.get(key) != now.get(key) or (key in was) != (key in now):
            yield "parameter", key, was.get(key), now.get(key)
    for path in sorted({*old.deps, *new.deps}):
        if (path in old.deps) != (path in new.deps):
            yield "dependency", path, old.deps.get(path), new.deps.get(path)
        elif old.deps[path] != new.deps[path]:
            yield "input", path, old.deps[path], new.deps[path]


def _leaves(params: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in params.items():
        found |= _leaves(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return found


def _grouped(found: list[Drift]) -> list[list[Drift]]:
    groups: dict[Any, list[Drift]] = {}
    for each in found:
        groups.setdefault(_group(each), []).append(each)
    return list(groups.values())


def _group(drift: Drift) -> tuple[Any, ...]:
    """What findings have in common that are told in one sentence."""
    match drift.kind:
        case "parameter":
            return drift.kind, drift.key, repr(drift.recorded), repr(drift.now)
        case "dependency":
            return drift.kind, drift.key, drift.recorded is None
        case "data" | "report":
            return drift.kind, drift.key
    return (drift.kind,)


def _sentence(group: list[Drift]) -> str:
    first, keys = group[0], list(dict.fromkeys(each.key for each in group))
    names = list(dict.fromkeys(each.stage for each in group))
    stages = f"stage {names[0]}" if len(names) == 1 else f"{len(names)} stages ({', '.join(families(names))})"
    listed = ", ".join(keys[:_SHOWN]) + (f" and {len(keys) - _SHOWN} more" if len(keys) > _SHOWN else "")
    match first.kind:
        case "missing":
            found = f"{LOCK_FILE} has no entry for {stages}"
        case "command":
            found = f"{PIPELINE_FILE} has another command for {stages} than {LOCK_FILE}"
        case "parameter":
            now = "null or absent" if first.now is None else _shown(first.now)
            recorded = "without it" if first.recorded is None else f"with {_shown(first.recorded)}"
            found = f"{first.key} is {now} in {PARAMS_FILE}, but {stages} of {LOCK_FILE} ran {recorded}"
        case "dependency" if first.recorded is None:
            found = f"{PIPELINE_FILE} lists {first.key} as a dependency, but {stages} of {LOCK_FILE} ran without it"
        case "dependency":
            found = (
                f"{PIPELINE_FILE} no longer lists {first.key} as a dependency, but {stages} of {LOCK_FILE} ran with it"
            )
        case "output":
            found = f"{PIPELINE_FILE} and {LOCK_FILE} disagree about outputs of {stages} ({listed})"
        case "report":
            found = f"{first.key} was changed after {stages} wrote it"
        case "code" | "data":
            found = f"{listed} changed after {stages} of {LOCK_FILE} ran"
    return f"{found}: {_REMEDY}"


def _shown(value: Any) -> str:
    return value if isinstance(value, str) else "absent" if value is None else json.dumps(value, default=str)


def _timings() -> dict[str, float]:
    """Seconds of each stage's last run here, by name."""
    files = sorted(TIMINGS.glob("*.json"))
    return {file.name.removesuffix(".json"): json.loads(file.read_bytes())["seconds"] for file in files}


def _expected(stage: str, seconds: Mapping[str, float]) -> float | None:
    """Seconds that the stage took, or stages of its family on average; None where none has run here."""
    family = [time for name, time in seconds.items() if name.partition("@")[0] == stage.partition("@")[0]]
    return seconds.get(stage, round(sum(family) / len(family), 1) if family else None)


def _entry(stage: str, outcome: str, why: list[str], seconds: float | None, removed: bool = False) -> dict[str, Any]:
    return {"stage": stage, "outcome": outcome, "why": why, "seconds": seconds, "removed": removed}
