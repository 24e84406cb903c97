"""Promotion and rollback: register a student as a version and decide which version serves in a stage."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cpfd.errors import CpfdError
from cpfd.project.lock import check_lock
from cpfd.project.revision import ARTIFACT, Revision, artifact_name, git, open_revision, open_version, version_tag
from cpfd.promotion import Bump, Stage
from cpfd.promotion.events import Event, current_assignments, read_events
from cpfd.promotion.tags import fetch_tags, lock_registry, publish
from cpfd.promotion.timing import time_student
from cpfd.promotion.verify import check_model
from cpfd.reports.gate import GateReport, Rule
from cpfd.reports.metrics import MetricsReport


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


def promote(
    rev: str, stage: Stage, *, reason: str | None = None, bump: Bump = "minor", dry_run: bool = False
) -> Outcome:
    """Register the student of revision `rev` as a version, where it is none yet, and assign it to `stage`.

    With `dry_run` everything is checked and nothing is changed: the outcome, without tags, is what would be.
    Raises CpfdError where the work tree is dirty, the gate of that revision has not passed or was held against another
    champion than the one in production, the model is not in the DVC remote or not byte by byte what dvc.lock records,
    its time per clip, measured here, is above a limit, and where somebody else was quicker. Nothing has changed then.
    """
    from gto.api import assign, register

    with lock_registry():
        remote = fetch_tags()
        _refuse_dirty()
        revision = open_revision(rev)
        _refuse_drift(revision)
        gate, metrics = _reports(revision)
        events = read_events()
        holder, registrations = current_assignments(events).get(stage), [event for event in events if not event.stage]
        registered = [event for event in registrations if event.commit == revision.commit]
        if registered and holder and holder.version == registered[0].version:
            raise CpfdError(f"{rev}: {ARTIFACT} {holder.version} is in {stage} already, by {holder.who}")
        if stage == "production":
            _refuse_other_champion(revision, gate, holder)
        model = check_model(revision)
        times = _refuse_slow(revision, gate)
        replaced = holder.version if holder else None
        version = registered[0].version if registered else _next_version(registrations, bump)
        if dry_run:
            return Outcome(version, stage, replaced, [], remote)

        def write() -> list[str]:
            tags = []
            if not registered:
                message = _registration_message(
                    version, reason, revision, gate.champion, [*gate.rules, *times], metrics, model
                )
                register(".", artifact_name(), str(revision.commit), version=version, message=message)
                tags = [version_tag(version)]
            message = _assignment_message(f"{ARTIFACT} {version} to {stage}", reason, replaced)
            return [*tags, assign(".", artifact_name(), stage, version=version, message=message, force=True).tag]

        tags = publish(write, version, stage, remote)
        return Outcome(version, stage, replaced, tags, remote)


def rollback(stage: Stage, *, version: str | None = None, reason: str | None = None) -> Outcome:
    """Assign `stage` to `version`, else to the one that held it before the present holder was first assigned.

    Raises CpfdError where there is no such version, where its model is not in the DVC remote byte by byte, and where
    somebody else was quicker. Nothing has changed then.
    """
    from gto.api import assign

    with lock_registry():
        remote = fetch_tags()
        assignments = [event for event in read_events() if event.stage == stage]
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
            return [assign(".", artifact_name(), stage, version=version, message=message, force=True).tag]

        tags = publish(write, version, stage, remote)
        return Outcome(version, stage, current, tags, remote)


def _reports(revision: Revision) -> tuple[GateReport, MetricsReport]:
    """The gate's verdict and the metrics of a revision; refuses a rejection."""
    gate, metrics = revision.report(GateReport), revision.report(MetricsReport)
    if gate is None or metrics is None:
        raise CpfdError(
            f"{revision.name} has no {MetricsReport.path if gate else GateReport.path}: run `dvc repro` and commit it"
        )
    if not gate.passed:
        raise CpfdError(f"the gate of {revision.name} has not passed: {_told(gate.failed)}")
    return gate, metrics


def _told(rules: Sequence[Rule]) -> str:
    return "; ".join(
        rule.description + (f" {rule.value:.3f}" if rule.value is not None else "") + f" (limit {rule.limit:g})"
        for rule in rules
    )


def _refuse_slow(revision: Revision, gate: GateReport) -> list[Rule]:
    """How long the student takes here, beside the champion of its gate."""
    rules = time_student(revision, open_version(gate.champion) if gate.champion else None)
    failed = [rule for rule in rules if not rule.passed]
    if failed:
        raise CpfdError(f"the student of {revision.name} is too slow on this machine: {_told(failed)}")
    return rules


def _refuse_other_champion(revision: Revision, gate: GateReport, holder: Event | None) -> None:
    judged, serving = gate.champion, holder.version if holder else None
    if judged != serving:
        raise CpfdError(
            f"the gate of {revision.name} was held against {judged or 'no champion'}, but {serving or 'no version'} is"
            f" in production: set champion.version to {serving or 'null'} in params.yaml, `dvc repro`, commit"
        )


def _refuse_drift(revision: Revision) -> None:
    errors, _ = check_lock(revision)  # the schema of another version is no matter: the run is over
    if errors:
        raise CpfdError("\n".join(f"{revision.name}: {error}" for error in errors))


def _refuse_dirty() -> None:
    changed = git("status", "--porcelain", "--untracked-files=no", "--", ".").splitlines()
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
    champion: str | None,
    rules: Sequence[Rule],
    metrics: MetricsReport,
    model: Mapping[str, Any],
) -> str:
    shipped = metrics.shipped
    lines = [
        f"{ARTIFACT} {version}: {shipped.method}, seed {shipped.seed}, macro-F1"
        f" {shipped.test.macro_f1:.3f} on {metrics.clips.test} test clips",
        "",
        *([f"Reason: {reason}"] if reason else []),
        f"Data set: {revision.params['dataset']['name']}",
        f"Model: {model['files']} files, {model['bytes'] / 1e6:.1f} MB, md5 {model['md5']}",
        f"Champion: {champion or 'none'}",
        "Gate: passed",
        *(
            f"- {rule.name}: {'' if rule.value is None else format(rule.value, '.4g') + ' '}"
            f"(limit {rule.comparison} {rule.limit:g})"
            for rule in rules
        ),
    ]
    return "\n".join(lines) + "\n"


def _assignment_message(subject: str, reason: str | None, replaced: str | None) -> str:
    lines = [subject, "", *([f"Reason: {reason}"] if reason else []), f"Replaces: {replaced or 'none'}"]
    return "\n".join(lines) + "\n"
