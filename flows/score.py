"""The flow `score`: batch prediction over a folder or a manifest with the student in production."""

from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any
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
from pydantic import Field

from cpfd.cli import student as cli
from cpfd.errors import CpfdError
from flows.retries import RETRIES, worth_a_retry

if TYPE_CHECKING:
    from cpfd.scoring.shards import Model, Scoring, Shard

BATCH_SHARDS = 8
"""Shards of a task run: enough that Prefect's own work does not count, few enough to see them pass."""


@task(name="model", task_run_name="fetch {name}", retry_condition_fn=worth_a_retry, cache_policy=NO_CACHE, **RETRIES)
def fetch_model(name: str) -> "Model":
    """The student of that name, fetched out of DVC's cache or remote where it is not here yet."""
    from cpfd.scoring.shards import find_model

    return find_model(name)


@task(
    name="shards",
    task_run_name="clips from {first}",
    tags=["cpu"],
    retry_condition_fn=worth_a_retry,
    cache_policy=NO_CACHE,
    **RETRIES,
)
def score_shards(
    first: int, shards: "list[Shard]", scoring: "Scoring", max_quarantine_share: float, progress: UUID
) -> None:
    """Score some shards, the first clip of which has the number `first`; what is finished already costs nothing."""
    done = first - 1
    for shard in shards:
        known = shard.finished
        scoring.score([shard], max_quarantine_share)
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
    return scoring.write(output)


@flow(name="score", flow_run_name="{source} · {model}")
def score(
    source: Path,
    output: Path,
    model: str = "production",
    videos: Path | None = None,
    shard_clips: Annotated[int, Field(ge=1)] = 256,
    threads: Annotated[int, Field(ge=1)] | None = None,
    max_quarantine_share: Annotated[float, Field(ge=0, le=1)] = 0.05,
    force: bool = False,
) -> State[Any]:
    """Classify every clip of a folder or manifest; a run that was killed goes on where it was, to the same bytes.

    Args:
        source: Folder of clips, searched at any depth, or a Parquet or CSV table with video_id, path and text columns.
        output: Folder to write: predictions.parquet, quarantine.parquet and summary.json.
        model: production, staging, a version such as v1.0.0, or the folder of an exported student.
        videos: Folder that a manifest's paths are relative to. Empty: the folder videos beside it, else its own.
        shard_clips: Clips in a shard, the unit that a killed run resumes at.
        threads: Clips that are classified side by side. Empty: one per CPU.
        max_quarantine_share: Share of the clips that may fail before the run does.
        force: Replace an earlier result in output.
    """
    from transformers.utils import logging

    from cpfd.scoring.shards import open_scoring

    logging.disable_progress_bar()
    try:
        student = fetch_model(model)
        with open_scoring(
            source, student, output, videos=videos, shard_clips=shard_clips, threads=threads, force=force
        ) as scoring:
            progress = create_progress_artifact(0.0, key="score", description=f"clips of `{source}` that are done")
            assert isinstance(progress, UUID)  # a coroutine only where an event loop runs
            shards, first = scoring.shards(), 1
            while batch := list(islice(shards, BATCH_SHARDS)):
                score_shards(first, batch, scoring, max_quarantine_share, progress)
                first += sum(len(shard.clips) for shard in batch)
            summary = write(output, scoring)
    except CpfdError as error:
        get_run_logger().error(str(error))
        return Failed(message=str(error))
    _show(summary, output)
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


def main(
    source: cli.Source,
    output: cli.Output,
    model: cli.Model = "production",
    videos: cli.Videos = None,
    shard_clips: cli.ShardClips = 256,
    threads: cli.Threads = None,
    max_quarantine_share: cli.MaxQuarantineShare = 0.05,
    force: cli.ReplaceOutput = False,
) -> None:
    """Run the flow `score` at once, with no Prefect server running; `cpfd score` does the same without Prefect.

    Example: python -m flows.score clips --output predictions
    """
    state = score(source, output, model, videos, shard_clips, threads, max_quarantine_share, force, return_state=True)
    if not state.is_completed():
        raise typer.Exit(1)


if __name__ == "__main__":
    typer.run(main)
