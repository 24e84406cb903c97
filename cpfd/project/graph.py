"""The stages of a revision as DVC would see them: what dvc.lock records of each, and what a run would start from now.

Everything is read from git, dvc.lock and DVC's cache on this machine; data that somebody changed in the work tree
without `dvc add` or `dvc commit` is not noticed.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from cpfd.errors import CpfdError
from cpfd.paths import CODE, PARAMS_FILE, PIPELINE_FILE
from cpfd.project.code import code_files
from cpfd.project.revision import Revision

_ABSENT = object()


@dataclass(frozen=True)
class Run:
    """What a run of a stage starts from and leaves: parameters by the key that dvc.yaml lists, hashes by path.

    The hash of a file in git that is missing is ""; None is one that only a run of another stage can tell.
    """

    command: Any
    params: Mapping[str, Any]
    deps: Mapping[str, str | None]
    outs: Mapping[str, str | None]

    def starts_like(self, other: "Run") -> bool:
        """Whether both start from the same and leave files of the same names."""
        mine, others = ((run.command, run.params, run.deps, set(run.outs)) for run in (self, other))
        return mine == others


class Pipeline:
    """The stages of a revision, what dvc.lock says about them, and how they hang together."""

    def __init__(self, revision: Revision) -> None:
        """Read the stages of a revision; raises CpfdError where dvc.yaml cannot be read or has a circle."""
        self.revision = revision
        self.stages = revision.stages
        self.code = {f"{CODE}/{stage}.txt": _md5(text.encode()) for stage, text in code_files(revision).items()}
        """Hash of each file that stage `code` would write, or has written."""
        self.locked = {stage: recorded_run(entry) for stage, entry in revision.lock.items() if stage in self.stages}
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
        self.files = {path.as_posix(): _md5(content) for path, content in contents.items()}
        self.files |= {
            path: self._folder_hash(
                path, {out: md5 for out, md5 in revision.hashes.items() if out.startswith(f"{path}/")}
            )
            for path in in_git - set(self.files)
            if self.is_folder(path)
        }
        try:
            self.order = list(TopologicalSorter(graph).static_order())
        except CycleError as error:
            raise CpfdError(f"{PIPELINE_FILE}: stages depend on each other: {' <- '.join(error.args[1])}") from None

    def touching(self, path: str) -> list[str]:
        """The outputs of stages that are `path`, hold it, or lie below it."""
        if path in self.made_by:
            return [path]
        return [out for out in self.made_by if path.startswith(f"{out}/") or out.startswith(f"{path}/")]

    def is_folder(self, path: str) -> bool:
        """Whether git has files below a path."""
        return bool(self.revision.files(Path(path)))

    def is_data(self, path: str) -> bool:
        """Whether DVC, and not git, accounts for a path."""
        if path in self.code:
            return False
        tracked = self.revision.hashes
        return bool(self.touching(path)) or any(str(each) in tracked for each in [path, *PurePosixPath(path).parents])

    def now(self, stage: str, hashes: Mapping[str, str | None]) -> Run:
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
        return Run(
            command=definition["cmd"],
            params={key: value for key, value in values.items() if value is not _ABSENT},
            deps=deps,
            outs=dict.fromkeys(self.outs[stage]),
        )

    def _hash(self, path: str, sources: list[str], hashes: Mapping[str, str | None]) -> str | None:
        if path in self.code:
            return self.code[path]
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
        return _md5(json.dumps(listing).encode()) + ".dir"

    def _strangers(self, folder: str, outs: Iterable[str]) -> dict[str, str]:
        """Hash of each file below a folder that belongs to none of the outputs, such as DVC's .gitignore."""
        strange = [
            path for path in self.revision.files(Path(folder)) if not any(path.is_relative_to(out) for out in outs)
        ]
        contents = self.revision.read_all(strange)
        return {path.relative_to(folder).as_posix(): _md5(content) for path, content in contents.items()}

    def edited_reports(self, stage: str) -> dict[str, str]:
        """Hash of each output that git holds with other bytes than dvc.lock records."""
        recorded = self.locked[stage].outs if stage in self.locked else {}
        reports = [path for path, cached in self.outs[stage].items() if not cached and path in recorded]
        return {path: self.files[path] for path in reports if self.files.get(path, recorded[path]) != recorded[path]}


def families(stages: Iterable[str]) -> list[str]:
    """Name stages in few words, in their order: `student (12)` for the twelve `student@...`, others by their name."""
    members: dict[str, list[str]] = {}
    for stage in stages:
        members.setdefault(stage.partition("@")[0], []).append(stage)
    return [names[0] if len(names) == 1 else f"{family} ({len(names)})" for family, names in members.items()]


def differences(
    old: Run, new: Run
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


def recorded_run(entry: Mapping[str, Any]) -> Run:
    """The run that an entry of dvc.lock tells of."""
    deps, outs = ({each["path"]: each.get("md5") for each in entry.get(name, [])} for name in ("deps", "outs"))
    return Run(entry["cmd"], entry.get("params", {}).get(str(PARAMS_FILE), {}), deps, outs)


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


def _md5(content: bytes) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()
