"""The flow `score`: batch prediction over a folder or a manifest with the student in production."""

from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID

if __name__ == "__main__":
    from flows.local import serverless

    serverless()

import typer
from prefect import flow, get_run_logger, task
from prefect.artifacts import create_progress_artifact, create_table_artifact, update_progress_artifact
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from prefect.states import Completed, Failed

from cpfd.errors import CpfdError, disk_told
from cpfd.options import help_texts, with_options_of
from cpfd.scoring.options import ScoringOptions
from flows.retries import RETRIES, worth_a_retry

if TYPE_CHECKING:
    from cpfd.scoring.models import Model
    from cpfd.scoring.shards import Scoring, Shard

BATCH_SHARDS = 8
"""Shards of a task run: enough that Prefect's own work does not count, few enough to see them pass."""


@task(name="model", task_run_name="fetch {name}", retry_condition_fn=worth_a_retry, cache_policy=NO_CACHE, **RETRIES)
def fetch_model(name: str) -> "Model":
    """The student of that name, fetched out of DVC's cache or remote where it is not here yet."""
    from cpfd.scoring.models import find_model

    return find_model(name)


@task(
    name="shards",
    task_run_name="clips from {first}",
    tags=["cpu"],
    retry_condition_fn=worth_a_retry,
    cache_policy=NO_CACHE,
    **RETRIES,
)
def score_shards(first: int, shards: "list[Shard]", scoring: "Scoring", progress: UUID) -> None:
    """Score some shards, the first clip of which has the number `first`; what is finished already costs nothing."""
    done = first - 1
    for shard in shards:
        known = shard.finished
        scoring.classify([shard])
        done += len(shard.clips)
        update_progress_artifact(progress, 100 * done / scoring.clips.count)
        get_run_logger().info(
            "%d of %d clips%s, %d in quarantine",
            done,
            scoring.clips.count,
            " (kept from an earlier run)" if known else "",
            scoring.quarantined,
        )


@task(name="write", task_run_name="write {output}", retry_condition_fn=worth_a_retry, cache_policy=NO_CACHE, **RETRIES)
def write(output: Path, scoring: "Scoring") -> dict[str, Any]:
    """Join the shards to the result."""
    return scoring.write()


def _with_parameters_documented(function: Callable[..., State[Any]]) -> Callable[..., State[Any]]:
    """Add what each option means to the docstring, from which Prefect takes what it shows."""
    lines = [f"    {name}: {text}" for name, text in help_texts(ScoringOptions).items()]
    function.__doc__ = "\n".join([str(function.__doc__), "", "Args:", *lines])
    return function


@flow(name="score", flow_run_name="{source} · {model}")
@_with_parameters_documented
@with_options_of(ScoringOptions)
def score(options: ScoringOptions) -> State[Any]:
    """Classify every clip of a folder or manifest; a run that was killed goes on where it was, to the same bytes."""
    from cpfd.scoring.models import introduce
    from cpfd.scoring.shards import open_scoring

    try:
        student = fetch_model(options.model)
        with disk_told(), open_scoring(options, student) as scoring:
            get_run_logger().info(introduce(student))
            description = f"clips of `{options.source}` that are done"
            progress = create_progress_artifact(0.0, key="score", description=description)
            assert isinstance(progress, UUID)  # a coroutine only where an event loop runs
            shards, first = scoring.shards(), 1
            while batch := list(islice(shards, BATCH_SHARDS)):
                score_shards(first, batch, scoring, progress)
                first += sum(len(shard.clips) for shard in batch)
            summary = write(options.output, scoring)
    except CpfdError as error:
        get_run_logger().error(str(error))
        return Failed(message=str(error))
    _show(summary, options.output)
    return Completed(message=_sentence(summary))


def _show(summary: dict[str, Any], output: Path) -> None:
    """Leave the summary in the UI."""
    rows = [{"result": name, "clips": clips} for name, clips in summary["predicted"].items()]
    rows += [{"result": f"quarantine: {reason}", "clips": clips} for reason, clips in summary["reasons"].items()]
    notes = []
    if missing := summary["missing_text_columns"]:
        notes.append(f"The student also reads {', '.join(missing)}, which the source does not have.")
    if left_out := summary["left_out_files"]:
        notes.append(f"{left_out} files are not called like clips and were left out.")
    create_table_artifact(
        rows, key="predictions", description=" ".join([_sentence(summary), f"In `{output}`.", *notes])
    )


def _sentence(summary: dict[str, Any]) -> str:
    from cpfd.scoring.shards import classified

    return f"{classified(summary)}, {summary['quarantined']} in quarantine."


@with_options_of(ScoringOptions)
def main(options: ScoringOptions) -> None:
    """Run the flow `score` at once, with no Prefect server running; `cpfd score` does the same without Prefect.

    Example: python -m flows.score clips --output predictions
    """
    if not score(**vars(options), return_state=True).is_completed():
        raise typer.Exit(1)


if __name__ == "__main__":
    typer.run(main)
