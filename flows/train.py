"""The flow `train`: the stages of dvc.yaml as Prefect task runs, side by side, to the same bytes as `dvc repro`."""

import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from functools import partial
from io import StringIO
from pathlib import Path
from queue import SimpleQueue
from typing import Annotated, Any, Literal

if __name__ == "__main__":
    from flows.local import serverless

    serverless()

import typer
from prefect import flow, get_run_logger, task
from prefect.cache_policies import NO_CACHE
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterId,
    TaskRunFilter,
    TaskRunFilterState,
    TaskRunFilterStateType,
)
from prefect.client.schemas.objects import TERMINAL_STATES, State, StateType, TaskRun
from prefect.futures import PrefectFuture
from prefect.runtime import flow_run
from prefect.states import Cancelled, Completed, Failed
from pydantic import Field
from rich.console import Console

from cpfd.errors import CpfdError, disk_told
from cpfd.params.load import parse_yaml
from cpfd.params.schema import Params
from cpfd.paths import CODE, PARAMS_FILE, REPORTS
from cpfd.project.graph import families
from cpfd.project.inputs import missing_dataset
from cpfd.project.revision import open_revision
from cpfd.reports.gate import GateReport
from cpfd.reports.metrics import MetricsReport
from flows import promotion
from flows.artifacts import StageView
from flows.pipeline import Pipeline, read_pipeline, sort_lock
from flows.promotion import Promote
from flows.retries import RETRIES
from flows.stages import StageRunner
from flows.workspace import (
    Commit,
    Workspace,
    changed_params,
    dvc,
    experiment_name,
    has_origin,
    isolated_tree,
    parse_overrides,
    require_remote,
    save_experiment,
    uncommitted,
    work_tree,
)

_INTERRUPTED = "Interrupted"
_SHOWN = 5
_SETTLE_SECONDS = 10.0


def run_name() -> str:
    """What the run is about: `fights · distill.alpha=0.7`."""
    overrides: Mapping[str, Any] = flow_run.parameters.get("overrides") or {}
    try:
        dataset = parse_yaml(PARAMS_FILE.read_bytes(), str(PARAMS_FILE))["dataset"]["name"]
    except (OSError, CpfdError, KeyError, TypeError):  # the run itself will say what is wrong
        dataset = "?"
    changes = [f"{key}={value}" for key, value in overrides.items() if key != "dataset.name"]
    return " · ".join([str(overrides.get("dataset.name", dataset)), *filter(None, [", ".join(changes)])])


def _interrupted(_task: Any, _run: TaskRun, state: State[Any]) -> bool:
    return state.name == _INTERRUPTED


@task(
    name="stage",
    task_run_name="{stage}",
    retry_condition_fn=_interrupted,
    cache_policy=NO_CACHE,
    **RETRIES,
)
def run_stage(stage: str, runner: StageRunner | None, view: StageView) -> State[Any]:
    """Run a stage as `dvc repro` would; without a runner it is known to be up to date."""
    if runner is None:
        view.end("cached")
        return Completed(name="Cached", message="up to date")
    result = runner.run(stage, view.line)
    view.end(result.ending)
    match result.ending:
        case "ran":
            return Completed()
        case "cached":
            return Completed(name="Cached", message="DVC had its outputs")
        case "stopped":
            return Cancelled(message=result.message)
        case "timed out":
            return Failed(name="TimedOut", message=result.message)
        case "interrupted":
            return Failed(name=_INTERRUPTED, message=result.message)
        case "failed":
            return Failed(message=result.message)


@task(name="push", task_run_name="push", cache_policy=NO_CACHE, **RETRIES)
def push_results(folder: Path, commands: list[list[str]]) -> State[Any]:
    """Send what the run has made to the remotes."""
    try:
        for command in commands:
            dvc(folder, *command)
    except CpfdError as error:
        return Failed(message=str(error))
    return Completed()


@flow(name="train", flow_run_name=run_name)
def train(
    targets: list[str] = [],  # noqa: B006 (never changed; None would be no list in Prefect's form)
    overrides: dict[str, Any] = {},  # noqa: B006
    isolated: bool = False,
    max_parallel: Annotated[int, Field(ge=1)] = 2,
    push: bool = False,
    promote: Promote = "never",
) -> State[Any]:
    """Run the pipeline of dvc.yaml, stages that do not wait for each other side by side.

    Args:
        targets: Stages, or families such as `student`, to run with all that they need. Empty: the whole pipeline.
        overrides: Keys of params.yaml and their values in this run, such as `{"distill.alpha": 0.7}`. Needs `isolated`.
        isolated: Work on the last commit in a work tree of its own, and keep the result as a DVC experiment.
        max_parallel: Most stages at once.
        push: Send data to the DVC remote, and an isolated run's experiment to the git remote `origin`.
        promote: What follows if the gate passes. `auto`: the student goes to production. `ask`: the run is suspended
            until somebody approves that or not. Both need `isolated` and push.
    """
    project = Path.cwd()
    try:
        params = _checked(project, targets, overrides, isolated, push, promote)
        trained = None if promote == "never" else promotion.recall()
        if trained is None:
            place = isolated_tree(project, overrides) if isolated else work_tree(project)
            with disk_told(), place as workspace:
                message = _run_stages(workspace, targets, params, max_parallel)
                commit = _saved(workspace, params, overrides) if isolated else None
                if push or promote != "never":
                    _push(workspace.folder, commit)
                if not targets:
                    _show_results(workspace.folder)
                if commit is not None and commit.experiment:
                    message += f"; experiment {commit.experiment}"
                if commit is None or promote == "never":
                    return Completed(message=message)
                trained = promotion.remember(workspace.folder, message, commit)
        assert promote != "never"
        return promotion.settle(project, trained, promote, params.flows.approval_hours)
    except CpfdError as error:
        get_run_logger().error(str(error))
        return Failed(message=str(error))


def _checked(
    project: Path, targets: list[str], overrides: Mapping[str, Any], isolated: bool, push: bool, promote: Promote
) -> Params:
    """The parameters of the run; raises CpfdError where it could not come to a good end, before anything is done."""
    params = changed_params(project, overrides, committed=isolated)
    if overrides and not isolated:
        raise CpfdError(f"overrides need `isolated`: a run does not edit {PARAMS_FILE} of a work tree that others use")
    promotion.check_possible(promote, isolated, targets)
    if push or promote != "never":
        require_remote(project, "push" if push else "promote")
    if push and isolated and not has_origin(project):
        raise CpfdError("push: an experiment goes to the git remote `origin`, which this clone does not have")
    if missing := missing_dataset(open_revision("HEAD" if isolated else None), params.dataset.name):
        raise CpfdError(missing)
    if isolated and (changed := uncommitted(project)):
        shown = ", ".join(changed[:_SHOWN]) + (" and others" if len(changed) > _SHOWN else "")
        get_run_logger().warning("An isolated run starts from the last commit, without your changes of %s", shown)
    return params


def _run_stages(workspace: Workspace, targets: list[str], params: Params, max_parallel: int) -> str:
    """Run what is stale and return how many stages that were; raises CpfdError where one fails."""
    pipeline = read_pipeline(workspace.folder, targets)
    states: dict[str, State[Any]] = {}
    if CODE.name in pipeline.stale:
        # Only then can DVC tell what is stale: after a changed comment, nothing is.
        states = _run_pipeline(pipeline.only(CODE.name), StageRunner(workspace, params.flows), max_parallel)
        _raise_failures(pipeline, states)
        pipeline = read_pipeline(workspace.folder, targets).without(CODE.name)
    _log_cost(pipeline, params, workspace.folder)
    states |= _run_pipeline(pipeline, StageRunner(workspace, params.flows), max_parallel)
    if pipeline.stale or CODE.name in states:
        sort_lock(workspace.folder, pipeline.stages)
    _raise_failures(pipeline, states)
    cached = sum(state.name == "Cached" for state in states.values())
    return f"{len(states) - cached} stages ran, {cached} cached"


def _log_cost(pipeline: Pipeline, params: Params, folder: Path) -> None:
    """Tell what the stale stages will cost: networks and steps where they train some, and how long they took before."""
    from cpfd.project.forecast import tell_wait
    from cpfd.training.cost import count_clips, count_networks, tell_cost  # pandas

    stale = [stage for stage in pipeline.stages if stage in pipeline.stale]
    if not stale:
        return
    with suppress(CpfdError):  # stage `validate` tells what is wrong with the data set
        if (clips := count_clips(params, folder)) is not None:
            for line in tell_cost(count_networks(stale, params, clips), params):
                get_run_logger().info(line)
    get_run_logger().info(tell_wait(stale))


def _saved(workspace: Workspace, params: Params, overrides: Mapping[str, Any]) -> Commit:
    commit = save_experiment(Path.cwd(), workspace, experiment_name(params.dataset.name, overrides))
    if name := commit.experiment:
        get_run_logger().info("Saved as experiment %s: `dvc exp show`, `dvc exp branch %s BRANCH`", name, name)
    else:
        get_run_logger().info("Nothing differs from commit %s: there is no experiment to save", commit.sha[:7])
    return commit


def _run_pipeline(pipeline: Pipeline, runner: StageRunner, max_parallel: int) -> dict[str, State[Any]]:
    """Run the stages, each as soon as those before it are done, and return how they ended; nothing follows a failure.

    Whatever ends it leaves no process behind.
    """
    gpu = "gpu" if pipeline.gpu and has_gpu() else "cpu"
    tagged = {tag: run_stage.with_options(tags=[tag]) for tag in ("cpu", gpu)}
    waiting = list(pipeline.stages)
    futures: dict[str, PrefectFuture[Any]] = {}
    states: dict[str, State[Any]] = {}
    ended: SimpleQueue[str] = SimpleQueue()
    try:
        while True:
            done = {stage for stage, state in states.items() if state.is_completed()}
            ready = [stage for stage in waiting if done.issuperset(pipeline.upstream[stage])]
            for stage in ready[: max_parallel - (len(futures) - len(states))]:
                waiting.remove(stage)
                task_run = tagged[gpu if stage in pipeline.gpu else "cpu"]
                upstream = [futures[each] for each in pipeline.upstream[stage]]
                arguments: dict[str, Any] = {"stage": stage, "runner": runner if stage in pipeline.stale else None}
                arguments["view"] = StageView(stage, runner.workspace.folder, Path.cwd())
                futures[stage] = task_run.submit(**arguments, wait_for=upstream, return_state=False)
                futures[stage].add_done_callback(partial(_put, ended, stage))
            if len(futures) == len(states):
                return states
            stage = ended.get()
            futures[stage].wait()
            states[stage] = futures[stage].state
    finally:
        runner.stop()


def _put(ended: SimpleQueue[str], stage: str, _future: PrefectFuture[Any]) -> None:
    ended.put(stage)


def _raise_failures(pipeline: Pipeline, states: Mapping[str, State[Any]]) -> None:
    failed = [
        f"stage {stage}: {state.message}"
        for stage in pipeline.stages
        if (state := states.get(stage)) is not None and not state.is_completed()
    ]
    if failed:
        left = families(stage for stage in pipeline.stages if stage not in states)
        raise CpfdError("; ".join([*failed, *([f"not started: {', '.join(left)}"] if left else [])]))


def _push(folder: Path, commit: Commit | None) -> None:
    # `dvc exp push` would send data too, but resolves a remote's relative path at the root of the file system.
    commands = [["push", "--run-cache"]]
    if commit is not None and commit.experiment and has_origin(folder):
        commands.append(["exp", "push", "--no-cache", "origin", commit.experiment])
    state = push_results(folder, commands, return_state=True)
    if not state.is_completed():
        raise CpfdError(f"push: {state.message}")


def _show_results(folder: Path) -> None:
    """Log the result table and the gate's verdict, where the pipeline has them."""
    if not (folder / REPORTS / "index.html").is_file():
        return
    from cpfd.evaluation.tables import result_table
    from cpfd.evaluation.verdict import verdict

    metrics, gate = MetricsReport.read(folder / MetricsReport.path), GateReport.read(folder / GateReport.path)
    page = StringIO()
    Console(file=page, width=120).print(result_table(metrics), verdict(metrics, gate))
    get_run_logger().info("\n%s", page.getvalue())


def has_gpu() -> bool:
    """Whether this machine has a GPU of NVIDIA's; importing torch for that would take seconds."""
    command = shutil.which("nvidia-smi")
    return command is not None and "GPU 0" in subprocess.run([command, "-L"], capture_output=True, text=True).stdout


app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def main(
    targets: Annotated[
        list[str] | None, typer.Argument(metavar="TARGET...", help="Stages or families of stages. None: all.")
    ] = None,
    changes: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="A key of params.yaml in this run; needs --isolated."),
    ] = None,
    isolated: Annotated[
        bool, typer.Option("--isolated", help="Work on the last commit, apart; the result is a DVC experiment.")
    ] = False,
    max_parallel: Annotated[int, typer.Option(min=1, help="Most stages at once.")] = 2,
    push: Annotated[bool, typer.Option("--push", help="Send the results to the remotes.")] = False,
    promote: Annotated[
        Literal["never", "auto"], typer.Option(help="auto: to production, if the gate passes; needs --isolated.")
    ] = "never",
) -> None:
    """Run the pipeline of dvc.yaml under Prefect, without a server: stages side by side, the same bytes as `dvc repro`.

    Example: python -m flows.train student --set distill.alpha=0.7 --isolated
    """
    try:
        overrides = parse_overrides(changes or [])
    except CpfdError as error:
        raise typer.BadParameter(str(error)) from None
    _warm_up()
    # Prefect hands the signal on to this handler; without one, the process would end and leave a server behind.
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    state = train(targets or [], overrides, isolated, max_parallel, push, promote, return_state=True)
    _settle(state)
    raise SystemExit(0 if state.is_completed() else 1)


def _warm_up() -> None:
    """Have Prefect and DVC import now, while a temporary server starts, what they would import in the flow."""
    import fastapi.encoders  # noqa: F401
    from dvc.exceptions import DvcException
    from dvc.repo import Repo
    from dvc.repo.reproduce import get_active_graph

    with suppress(DvcException), Repo() as repo:  # the flow will tell what is wrong
        get_active_graph(repo.index.graph)


def _settle(state: State[Any]) -> None:
    """Wait until the server has written down how each task run ended: a temporary one stops with this process."""
    flow_run_id = state.state_details.flow_run_id
    assert flow_run_id is not None
    going = TaskRunFilterStateType(any_=[each for each in StateType if each not in TERMINAL_STATES])
    looks = 0
    deadline = time.monotonic() + _SETTLE_SECONDS
    with get_client(sync_client=True) as client:
        while looks < 2 and time.monotonic() < deadline:  # between two task runs there may seem to be none
            unsettled = client.read_task_runs(
                flow_run_filter=FlowRunFilter(id=FlowRunFilterId(any_=[flow_run_id])),
                task_run_filter=TaskRunFilter(state=TaskRunFilterState(type=going)),
                limit=1,
            )
            looks = 0 if unsettled else looks + 1
            time.sleep(0.05)


if __name__ == "__main__":
    app()
