"""Where dvc.lock is out of step with the rest of a revision: `cpfd check`."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from cpfd.errors import CpfdError
from cpfd.params.load import parse_yaml
from cpfd.params.problems import problems
from cpfd.paths import LOCK_FILE, PARAMS_FILE, PIPELINE_FILE
from cpfd.project.graph import Pipeline, differences, families
from cpfd.project.inputs import missing_dataset, untracked_code
from cpfd.project.revision import Revision

Kind = Literal["command", "parameter", "dependency", "output", "code", "data", "report", "missing"]
_WARNINGS = {"code", "data"}
_REMEDY = f"`dvc repro`, then commit {LOCK_FILE}"
_SHOWN = 5


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
    pipeline = Pipeline(revision)
    return [found for stage in pipeline.order for found in _stage_drift(pipeline, stage)]


def check(revision: Revision) -> tuple[list[str], list[str]]:
    """Errors and warnings about params.yaml and dvc.lock, one sentence each; a warning may be committed.

    Files of code or data that changed are warnings, because work in progress is committed like that.
    """
    try:
        problems = [f"{PARAMS_FILE}: {key}: {message}" for key, message in parameter_problems(revision)]
        errors, warnings = check_lock(revision)
    except CpfdError as error:
        return [str(error)], []
    if revision.commit is None:
        warnings += _absent(revision)
    return problems + errors, warnings


def _absent(revision: Revision) -> list[str]:
    """What a run of the work tree, or one that starts from its commit, would not find."""
    code = untracked_code()
    found = (
        [f"{', '.join(code[:_SHOWN])}: in no commit, so `dvc exp run --temp` would lack it; `git add` it"]
        if code
        else []
    )
    name = dict(revision.params.get("dataset") or {}).get("name")
    missing = missing_dataset(revision, name) if isinstance(name, str) else None
    return [*found, *([missing] if missing else [])]


def check_lock(revision: Revision) -> tuple[list[str], list[str]]:
    """Errors and warnings of `check` about dvc.lock alone: what this version of CPFD asks of params.yaml is left out.

    Raises CpfdError where dvc.yaml or params.yaml cannot be read.
    """
    groups = _grouped(drift(revision))
    warnings = [_sentence(group) for group in groups if group[0].kind in _WARNINGS]
    return [_sentence(group) for group in groups if group[0].kind not in _WARNINGS], warnings


def sentences(found: list[Drift]) -> list[str]:
    """Tell all findings in as few sentences as can be: what many stages share is told once."""
    return [_sentence(group) for group in _grouped(found)]


def parameter_problems(revision: Revision) -> list[tuple[str, str]]:
    """Key and message of all that the schema has against a revision's params.yaml; raises CpfdError for no YAML."""
    content = revision.read(PARAMS_FILE)
    if content is None:
        return [(str(PARAMS_FILE), "no such file")]
    return problems(parse_yaml(content, f"{PARAMS_FILE} of {revision.name}"))


def _stage_drift(pipeline: Pipeline, stage: str) -> Iterator[Drift]:
    """How the stage's entry in dvc.lock is out of step."""
    recorded = pipeline.locked.get(stage)
    if recorded is None:
        yield Drift(stage, "missing", stage, None, None)
        return
    now = pipeline.now(stage, pipeline.locked_outs)
    for kind, key, old, new in differences(recorded, now):
        if kind == "command":
            yield Drift(stage, "command", stage, old, new)
        elif kind != "input":
            yield Drift(stage, kind, key, old, new)
        elif new is not None:
            yield Drift(stage, "data" if pipeline.is_data(key) else "code", key, old, new)
    for path in sorted(set(recorded.outs) ^ set(now.outs)):
        yield Drift(stage, "output", path, *(path if path in run.outs else None for run in (recorded, now)))
    for path, md5 in pipeline.edited_reports(stage).items():
        yield Drift(stage, "report", path, recorded.outs[path], md5)


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
            now = "null or absent" if first.now is None else shown(first.now)
            recorded = "without it" if first.recorded is None else f"with {shown(first.recorded)}"
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


def shown(value: Any) -> str:
    """A value as params.yaml would have it."""
    return value if isinstance(value, str) else "absent" if value is None else json.dumps(value, default=str)
