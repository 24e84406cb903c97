"""The registry: which version of the student serves where, kept in git as annotated tags of GTO's format.

`student@v1.1.0` registers a commit's models/student as a version, `student#production#3` is the third assignment of a
version to the stage production: the last one made holds the stage. `gto show` and `dvc artifacts get` read the same.
"""

import fcntl
import json
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from hashlib import file_digest, md5
from pathlib import Path
from typing import Any, Literal

from cpfd.errors import CpfdError
from cpfd.paths import PACKAGE
from cpfd.project.lock import check
from cpfd.project.revision import ARTIFACT, Revision, git, open_revision, open_version, version_tag
from cpfd.reports.gate import GateReport
from cpfd.reports.metrics import MetricsReport

Stage = Literal["production", "staging"]
Bump = Literal["major", "minor", "patch"]


@dataclass(frozen=True)
class Event:
    """A registration (`stage` is None) or an assignment of a version to a stage, as one tag tells it."""

    tag: str
    version: str
    stage: str | None
    commit: str
    who: str
    when: datetime
    message: str

    @property
    def reason(self) -> str | None:
        """The reason that was given, if any."""
        reasons = [line.removeprefix("Reason: ") for line in self.message.splitlines() if line.startswith("Reason: ")]
        return reasons[0] if reasons else None

    @property
    def _order(self) -> tuple[datetime, int]:
        return self.when, int(self.tag.rpartition("#")[2]) if self.stage else 0


@dataclass(frozen=True)
class Outcome:
    """What a promotion or rollback did: `replaced` held the stage before, `pushed_to` is git's remote, if any."""

    version: str
    stage: str
    replaced: str | None
    tags: list[str]
    pushed_to: str | None

    @property
    def place(self) -> str:
        """Where the version is: `in production instead of v1.0.0`."""
        return f"in {self.stage}" + (f" instead of {self.replaced}" if self.replaced else "")


def events() -> list[Event]:
    """Every registration and assignment that this clone knows, oldest first."""
    from gto.api import history

    found = [
        Event(
            tag=entry["ref"],
            version=entry["version"],
            stage=entry["stage"] if entry["event"] == "assignment" else None,
            commit=entry["commit"],
            who=f"{entry['author']} <{entry['author_email']}>",
            when=entry["timestamp"],
            message=entry["message"] or "",
        )
        for entry in history(".", ARTIFACT)
        if entry["event"] in ("registration", "assignment")
    ]
    return sorted(found, key=lambda event: event._order)


def holders(told: Iterable[Event] | None = None) -> dict[str, Event]:
    """The assignment that holds each stage, by the events `told`, oldest first (None: all that this clone knows)."""
    return {event.stage: event for event in (events() if told is None else told) if event.stage}


def list_versions() -> list[dict[str, Any]]:
    """Every registered version, the newest first: its stages, who registered it and when, its metrics.

    `metrics` come from the reports of the version's own commit; `served` are its assignments, oldest first.
    """
    told = events()
    held, project = holders(told), open_revision(None)
    versions = []
    for event in told:
        if event.stage:
            continue
        revision = replace(project, name=event.tag, commit=event.commit)
        metrics, gate = revision.json(MetricsReport.path) or {}, revision.json(GateReport.path) or {}
        shipped = metrics.get("shipped", {})
        versions.append(
            {
                "version": event.version,
                "commit": event.commit,
                "stages": sorted(stage for stage, holder in held.items() if holder.version == event.version),
                "who": event.who,
                "when": event.when.isoformat(),
                "reason": event.reason,
                "method": shipped.get("method"),
                "seed": shipped.get("seed"),
                "metrics": {**shipped.get("test", {}), "clips": metrics.get("clips", {}).get("test")},
                "champion": gate.get("champion"),
                "served": [
                    {"stage": each.stage, "who": each.who, "when": each.when.isoformat(), "reason": each.reason}
                    for each in told
                    if each.stage and each.version == event.version
                ],
            }
        )
    return versions[::-1]


def promote(
    rev: str, stage: Stage, *, reason: str | None = None, bump: Bump = "minor", dry_run: bool = False
) -> Outcome:
    """Register the student of revision `rev` as a version, where it is none yet, and assign it to `stage`.

    With `dry_run` everything is checked and nothing is changed: the outcome, without tags, is what would be.
    Raises CpfdError where the work tree is dirty, the gate of that revision has not passed or was held against another
    champion than the one in production, the model is not in the DVC remote or not byte by byte what dvc.lock records,
    and where somebody else was quicker. Nothing has changed then.
    """
    from gto.api import assign, register

    with _alone():
        remote = _fetch_tags()
        _refuse_dirty()
        revision = open_revision(rev)
        _refuse_drift(revision)
        gate, metrics = _reports(revision)
        told = events()
        held, registrations = holders(told), [event for event in told if not event.stage]
        registered = [event for event in registrations if event.commit == revision.commit]
        if registered and stage in held and held[stage].version == registered[0].version:
            holder = held[stage]
            raise CpfdError(f"{rev}: {ARTIFACT} {holder.version} is in {stage} already, by {holder.who}")
        if stage == "production":
            _refuse_other_champion(revision, gate, held.get(stage))
        model = check_model(revision)
        replaced = held[stage].version if stage in held else None
        version = registered[0].version if registered else _next_version(registrations, bump)
        if dry_run:
            return Outcome(version, stage, replaced, [], remote)

        def write() -> list[str]:
            tags = []
            if not registered:
                message = _registration_message(version, reason, revision, gate, metrics, model)
                register(".", ARTIFACT, str(revision.commit), version=version, message=message)
                tags = [version_tag(version)]
            message = _assignment_message(f"{ARTIFACT} {version} to {stage}", reason, replaced)
            return [*tags, assign(".", ARTIFACT, stage, version=version, message=message, force=True).tag]

        tags = _publish(write, version, stage, remote)
        return Outcome(version, stage, replaced, tags, remote)


def rollback(stage: Stage, *, version: str | None = None, reason: str | None = None) -> Outcome:
    """Assign `stage` to `version`, else to the one that held it before the present holder was first assigned.

    Raises CpfdError where there is no such version, where its model is not in the DVC remote byte by byte, and where
    somebody else was quicker. Nothing has changed then.
    """
    from gto.api import assign

    with _alone():
        remote = _fetch_tags()
        assignments = [event for event in events() if event.stage == stage]
        if not assignments:
            raise CpfdError(f"no version has been in {stage}; `cpfd models` lists versions and their stages")
        current = assignments[-1].version
        if version is None:
            first = next(index for index, event in enumerate(assignments) if event.version == current)
            if first == 0:
                raise CpfdError(f"{ARTIFACT} {current} was the first in {stage}: there is none to go back to")
            version = assignments[first - 1].version
        elif version not in {event.version for event in assignments}:
            raise CpfdError(f"{version} has never been in {stage}: `cpfd promote` is the way there")
        if version == current:
            raise CpfdError(f"{ARTIFACT} {version} is in {stage} already, by {assignments[-1].who}")
        check_model(open_version(version))
        message = _assignment_message(f"{stage} back to {ARTIFACT} {version}", reason, current)

        def write() -> list[str]:
            return [assign(".", ARTIFACT, stage, version=version, message=message, force=True).tag]

        tags = _publish(write, version, stage, remote)
        return Outcome(version, stage, current, tags, remote)


def check_model(revision: Revision) -> dict[str, Any]:
    """Read the whole model of a revision from the DVC remote and compare it with dvc.lock; {md5, bytes, files}.

    Where the revision is what the work tree has checked out, models/student there is compared as well. Raises CpfdError
    that names the first file that is missing or differs.
    """
    from dvc.config import NoRemoteError
    from dvc.exceptions import DvcException

    recorded = revision.recorded(PACKAGE)
    try:
        remote = revision.repo.cloud.get_remote_odb()
    except NoRemoteError:
        raise CpfdError(
            "no default DVC remote is set, so nobody else could get the model: `dvc remote add --default NAME URL`,"
            " commit .dvc/config, `dvc push`"
        ) from None
    except DvcException as error:
        raise CpfdError(f"the DVC remote cannot be used: {error}") from None
    where = f"{PACKAGE} of {revision.name}"
    index = b"".join(_read_object(remote, recorded, where))
    _refuse_other_bytes(md5(index, usedforsecurity=False).hexdigest(), recorded, f"the list of files of {where}")
    entries, size = json.loads(index), 0
    for entry in entries:
        file, digest = f"{PACKAGE / entry['relpath']} of {revision.name}", md5(usedforsecurity=False)
        for block in _read_object(remote, entry["md5"], file):
            digest.update(block)
            size += len(block)
        _refuse_other_bytes(digest.hexdigest(), entry["md5"], f"{file}, as it is in the DVC remote,")
    if revision.commit == git("rev-parse", "HEAD").strip() and PACKAGE.is_dir():
        _check_work_tree({entry["relpath"]: entry["md5"] for entry in entries})
    return {"md5": recorded, "bytes": size, "files": len(entries)}


def _read_object(remote: Any, oid: str, what: str) -> Iterator[bytes]:
    try:
        with remote.fs.open(remote.oid_to_path(oid), "rb") as stream:
            while block := stream.read(1 << 20):
                yield block
    except FileNotFoundError:
        raise CpfdError(f"{what} is not in the DVC remote: `dvc push` it from where it was made") from None
    except OSError as error:
        raise CpfdError(f"{what} cannot be read from the DVC remote: {error}") from None


def _refuse_other_bytes(found: str, recorded: str, what: str) -> None:
    if found != recorded.removesuffix(".dir"):
        raise CpfdError(
            f"{what} is not what dvc.lock records (md5 {found}, recorded {recorded}): it was changed after it was made;"
            " delete that copy, `dvc repro` and `dvc push`"
        )


def _check_work_tree(recorded: Mapping[str, str]) -> None:
    present = {path.relative_to(PACKAGE).as_posix(): path for path in PACKAGE.rglob("*") if path.is_file()}
    for name in sorted(recorded.keys() | present.keys()):
        if name not in present:
            raise CpfdError(f"{PACKAGE / name} is missing in the work tree: `dvc checkout {PACKAGE}`")
        if name not in recorded:
            raise CpfdError(f"{PACKAGE / name} is no part of the model in dvc.lock: `dvc checkout {PACKAGE}`")
        with present[name].open("rb") as stream:
            digest = file_digest(stream, lambda: md5(usedforsecurity=False))
        _refuse_other_bytes(digest.hexdigest(), recorded[name], f"{PACKAGE / name} in the work tree")


def _reports(revision: Revision) -> tuple[dict[str, Any], dict[str, Any]]:
    """The gate's verdict and the metrics of a revision; refuses a rejection."""
    gate, metrics = revision.json(GateReport.path), revision.json(MetricsReport.path)
    if gate is None or metrics is None:
        raise CpfdError(
            f"{revision.name} has no {MetricsReport.path if gate else GateReport.path}: run `dvc repro` and commit it"
        )
    if not gate["passed"]:
        failed = [rule for rule in gate["rules"] if not rule["passed"]]
        sentences = [
            rule["description"]
            + (f" {rule['value']:.3f}" if rule["value"] is not None else "")
            + f" (limit {rule['limit']:g})"
            for rule in failed
        ]
        raise CpfdError(f"the gate of {revision.name} has not passed: {'; '.join(sentences)}")
    return gate, metrics


def _refuse_other_champion(revision: Revision, gate: Mapping[str, Any], holder: Event | None) -> None:
    judged, serving = gate.get("champion"), holder.version if holder else None
    if judged != serving:
        raise CpfdError(
            f"the gate of {revision.name} was held against {judged or 'no champion'}, but {serving or 'no version'} is"
            f" in production: set champion.version to {serving or 'null'} in params.yaml, `dvc repro`, commit"
        )


def _refuse_drift(revision: Revision) -> None:
    errors, _ = check(revision)
    if errors:
        raise CpfdError("\n".join(f"{revision.name}: {error}" for error in errors))


def _refuse_dirty() -> None:
    changed = git("status", "--porcelain", "--untracked-files=no").splitlines()
    if changed:
        raise CpfdError(
            f"the work tree is dirty: {', '.join(line[3:] for line in changed[:3])}{' ...' if len(changed) > 3 else ''}"
            " differs from the last commit; commit or stash it first"
        )


def _next_version(registrations: Sequence[Event], bump: Bump) -> str:
    from gto.versions import SemVer

    if not registrations:
        return "v1.0.0"
    newest = max(SemVer(event.version) for event in registrations)
    return str(newest.bump(**{f"bump_{bump}": True}).version)


def _registration_message(
    version: str,
    reason: str | None,
    revision: Revision,
    gate: Mapping[str, Any],
    metrics: Mapping[str, Any],
    model: Mapping[str, Any],
) -> str:
    shipped = metrics["shipped"]
    lines = [
        f"{ARTIFACT} {version}: {shipped['method']}, seed {shipped['seed']}, macro-F1"
        f" {shipped['test']['macro_f1']:.3f} on {metrics['clips']['test']} test clips",
        "",
        *([f"Reason: {reason}"] if reason else []),
        f"Data set: {revision.params['dataset']['name']}",
        f"Model: {model['files']} files, {model['bytes'] / 1e6:.1f} MB, md5 {model['md5']}",
        f"Champion: {gate.get('champion') or 'none'}",
        "Gate: passed",
        *(
            f"- {rule['name']}: {'' if rule['value'] is None else format(rule['value'], '.4g') + ' '}"
            f"(limit {rule['comparison']} {rule['limit']:g})"
            for rule in gate["rules"]
        ),
    ]
    return "\n".join(lines) + "\n"


def _assignment_message(subject: str, reason: str | None, replaced: str | None) -> str:
    lines = [subject, "", *([f"Reason: {reason}"] if reason else []), f"Replaces: {replaced or 'none'}"]
    return "\n".join(lines) + "\n"


@contextmanager
def _alone() -> Iterator[None]:
    """Let one promotion at a time touch this clone's tags; a second waits for the first."""
    with (Path(git("rev-parse", "--git-common-dir").strip()) / "cpfd-registry.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _fetch_tags() -> str | None:
    """Bring the remote's registry tags here; returns the remote's name, None where git has no remote."""
    remotes = git("remote").split()
    if not remotes:
        return None
    remote = "origin" if "origin" in remotes else remotes[0]
    tags = [f"refs/tags/{ARTIFACT}@*", f"refs/tags/{ARTIFACT}#*"]
    git("fetch", "--quiet", "--no-tags", remote, *(f"{each}:{each}" for each in tags))
    there = {line.split("\t")[1] for line in git("ls-remote", "--refs", remote, *tags).splitlines()}
    here = set(git("for-each-ref", "--format=%(refname)", *tags).split())
    if here - there:
        names = sorted(tag.removeprefix("refs/tags/") for tag in here - there)
        raise CpfdError(
            f"{', '.join(names)} is in this clone alone, left by a promotion that was cut off: keep it with"
            f" `git push --atomic {remote} {' '.join(names)}`, or drop it with `git tag -d {' '.join(names)}`"
        )
    return remote


def _publish(write: Callable[[], list[str]], version: str, stage: str, remote: str | None) -> list[str]:
    """Make tags by `write`, which put `version` in `stage`, and push them together, or leave none of them behind."""
    from gto.exceptions import GTOException
    from scmrepo.exceptions import SCMError

    before = _registry_tags()
    _wait_for_the_next_second()
    try:
        tags = write()
        if holders()[stage].version != version:
            raise CpfdError(f"the clock of this machine is behind the last assignment of {stage}: set it, try again")
        if remote is not None:
            _push(remote, tags)
    except BaseException as error:
        _drop(_registry_tags() - before)
        if isinstance(error, GTOException | SCMError):
            raise CpfdError(f"git does not take the tag: {error}") from error
        raise
    return tags


def _push(remote: str, tags: list[str]) -> None:
    pushed = subprocess.run(
        ["git", "push", "--quiet", "--atomic", remote, *(f"refs/tags/{tag}" for tag in tags)],
        capture_output=True,
        text=True,
        check=False,
    )
    if pushed.returncode == 0:
        return
    taken = git("ls-remote", "--refs", remote, *(f"refs/tags/{tag}" for tag in tags)).strip()
    if taken:
        raise CpfdError(
            f"somebody else was quicker: {', '.join(tags)} is in {remote} already, and nothing of this promotion is;"
            f" `git fetch {remote} --tags` and `cpfd models` show by whom"
        )
    raise CpfdError(f"git push to {remote} failed, nothing is promoted: {pushed.stderr.strip()}")


def _registry_tags() -> set[str]:
    return set(git("tag", "--list", f"{ARTIFACT}@*", f"{ARTIFACT}#*").split())


def _drop(tags: set[str]) -> None:
    if tags:
        git("tag", "--delete", *sorted(tags))


def _wait_for_the_next_second() -> None:
    """Tags carry whole seconds, and DVC takes the last tag by time: no two may carry the same."""
    if told := events():
        ahead = (told[-1].when - datetime.now(UTC)).total_seconds() + 1
        time.sleep(min(max(ahead, 0), 2))
