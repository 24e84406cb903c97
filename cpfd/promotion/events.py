"""What the tags of the registry say: which version of the student was registered and assigned to which stage, and when.

The registry is kept in git as annotated tags of GTO's format: `student@v1.1.0` registers a commit's models/student as a
version, `student#production#3` is the third assignment of a version to the stage production. The last assignment made
holds the stage. `gto show` and `dvc artifacts get` read the same.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, TypeVar

from cpfd.errors import CpfdError
from cpfd.project.revision import Revision, artifact_name, open_revision
from cpfd.reports.gate import GateReport
from cpfd.reports.metrics import MetricsReport
from cpfd.reports.report import Report

R = TypeVar("R", bound=Report)


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


def read_events() -> list[Event]:
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
        for entry in history(".", artifact_name())
        if entry["event"] in ("registration", "assignment")
    ]
    return sorted(found, key=lambda event: event._order)


def current_assignments(events: Iterable[Event]) -> dict[str, Event]:
    """The assignment that holds each stage: the last one made of `events`, which are ordered oldest first."""
    return {event.stage: event for event in events if event.stage}


def list_versions() -> list[dict[str, Any]]:
    """Every registered version, the newest first: its stages, who registered it and when, its metrics.

    `metrics` come from the reports of the version's own commit; `served` are its assignments, oldest first.
    """
    events, project = read_events(), open_revision(None)
    current = current_assignments(events)
    versions = []
    for event in events:
        if event.stage:
            continue
        revision = replace(project, name=event.tag, commit=event.commit)
        metrics, gate = _readable(revision, MetricsReport), _readable(revision, GateReport)
        scores = metrics.shipped.test.content() if metrics else {}
        versions.append(
            {
                "version": event.version,
                "commit": event.commit,
                "stages": sorted(stage for stage, holder in current.items() if holder.version == event.version),
                "who": event.who,
                "when": event.when.isoformat(),
                "reason": event.reason,
                "method": metrics.shipped.method if metrics else None,
                "seed": metrics.shipped.seed if metrics else None,
                "metrics": {**scores, "clips": metrics.clips.test if metrics else None},
                "champion": gate.champion if gate else None,
                "served": [
                    {"stage": each.stage, "who": each.who, "when": each.when.isoformat(), "reason": each.reason}
                    for each in events
                    if each.stage and each.version == event.version
                ],
            }
        )
    return versions[::-1]


def _readable(revision: Revision, kind: type[R]) -> R | None:
    """A report of a version; None where another version of CPFD wrote it: what is registered is listed all the same."""
    try:
        return revision.report(kind)
    except CpfdError:
        return None
