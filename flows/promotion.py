"""After the gate: promote what the run has trained, at once or once somebody has approved it.

A run that waits is suspended, which ends its process. Resumed, Prefect starts the flow from its beginning, maybe in
another clone: what the pipeline has come to is therefore kept with the flow run, on the server.
"""

from contextlib import chdir
from pathlib import Path
from typing import Any, Literal

from prefect import get_run_logger, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from prefect.flow_runs import suspend_flow_run
from prefect.input import RunInput
from prefect.input.actions import create_flow_run_input, filter_flow_run_input, read_flow_run_input
from prefect.runtime import deployment, flow_run
from prefect.states import Cancelled, Completed
from pydantic import BaseModel, ConfigDict, Field

from cpfd.errors import CpfdError
from cpfd.paths import PACKAGE
from cpfd.project.revision import open_revision, open_version
from cpfd.promotion.events import current_assignments, read_events
from cpfd.promotion.promote import Outcome, promote
from cpfd.reports.gate import GateReport
from cpfd.reports.metrics import MetricsReport
from flows.workspace import Commit, committed_tree, fetch_commit

Promote = Literal["never", "ask", "auto"]

_TRAINED = "trained"
_QUESTION = "promotion"


class Approval(RunInput):
    """What somebody decides about the student of a run."""

    approve: bool = Field(title="Approve", description="Promote this student to production?")
    reason: str = Field(title="Reason", min_length=1, description="Why; it is kept with the version, in git.")
    who: str = Field(title="Who", min_length=1, description="Your name.")


class Trained(BaseModel):
    """What the pipeline of a run has come to: `commit` has its results, `summary` is the verdict in a sentence."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    message: str
    commit: Commit
    passed: bool
    summary: str


def recall() -> Trained | None:
    """What this flow run has trained before it was suspended, if it was."""
    kept = read_flow_run_input(_TRAINED)
    return None if kept is None else Trained.model_validate(kept)


def remember(folder: Path, message: str, commit: Commit) -> Trained:
    """Keep with the flow run what it has trained in `folder`, and return it."""
    from cpfd.evaluation.verdict import verdict

    metrics, gate = MetricsReport.read(folder / MetricsReport.path), GateReport.read(folder / GateReport.path)
    trained = Trained(message=message, commit=commit, passed=gate.passed, summary=verdict(metrics, gate))
    create_flow_run_input(_TRAINED, trained.model_dump())
    return trained


def settle(project: Path, trained: Trained, how: Literal["ask", "auto"], hours: float) -> State[Any]:
    """Promote the student, ask first, or do nothing where the gate rejects it; how the flow run ends.

    Raises CpfdError where the student cannot be promoted, and does not ask then.
    """
    if not trained.passed:
        return Completed(message=f"{trained.message}; not promoted: {trained.summary}")
    fetch_commit(project, trained.commit)
    with committed_tree(project, trained.commit.sha) as tree, chdir(tree.folder):
        if version := _serving(trained.commit.sha):
            return Completed(message=f"{trained.message}; {version}, which is in production, has the same student")
        planned = promote(trained.commit.sha, "production", dry_run=True)
    reason = "the gate has passed"
    if how == "ask":
        decision = _ask(trained, planned, hours)
        if not decision.approve:
            return Cancelled(name="Rejected", message=f"{decision.who} rejects it: {decision.reason}")
        reason = f"{decision.reason} (approved by {decision.who})"
    outcome = promote_student(project, trained.commit, f"{reason}, flow run {flow_run.name}")
    return Completed(message=f"{trained.message}; {outcome.version} is {outcome.place}")


@task(name="promote", task_run_name="promote", cache_policy=NO_CACHE)
def promote_student(project: Path, commit: Commit, reason: str) -> Outcome:
    """Promote the student of a commit as `cpfd promote` does, from a work tree where nothing else happens."""
    with committed_tree(project, commit.sha) as tree, chdir(tree.folder):
        outcome = promote(commit.sha, "production", reason=reason)
    get_run_logger().info("%s is in production; tags: %s", outcome.version, ", ".join(outcome.tags))
    return outcome


def _serving(sha: str) -> str | None:
    """The version in production, if its model is that of the commit byte by byte."""
    holder = current_assignments(read_events()).get("production")
    if holder is None or open_version(holder.version).recorded(PACKAGE) != open_revision(sha).recorded(PACKAGE):
        return None
    return holder.version


def _ask(trained: Trained, planned: Outcome, hours: float) -> Approval:
    where = trained.commit.experiment or trained.commit.sha[:7]
    text = (
        f"{trained.summary}\n\nApproved, it becomes **{planned.version}** and replaces"
        f" **{planned.replaced or 'nothing'}** in production. `cpfd review {where}` shows all that has changed."
    )
    # Prefect asks once under a key. A run that was retried since nobody answered in time has to ask again.
    asked = filter_flow_run_input(f"suspended-{_QUESTION}-", limit=200)
    assert isinstance(asked, list)  # a coroutine only where an event loop runs
    ends = [each.key.rpartition("-")[2] for each in asked]
    return suspend_flow_run(
        wait_for_input=Approval.with_initial_data(description=text),
        timeout=round(3600 * hours),
        key=f"{_QUESTION}-{ends.count('schema') - ends.count('response')}",
    )


def check_possible(promote: Promote, isolated: bool, targets: list[str]) -> None:
    """Raise CpfdError where a run with these parameters could never promote what it trains."""
    if promote == "never":
        return
    if not isolated:
        raise CpfdError("promote needs `isolated`: what is promoted is a commit, which a run makes of its experiment")
    if targets:
        raise CpfdError("promote needs the whole pipeline: leave `targets` empty")
    if promote == "ask" and not deployment.id:
        raise CpfdError(
            "promote=ask suspends the run, and Prefect can only resume that of a deployment:"
            " `make up`, then `prefect deployment run train/on-demand --param promote=ask`"
        )
