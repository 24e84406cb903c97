"""The flow `ingest`: register new raw data, once it has passed validation, and say so by an event."""

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

if __name__ == "__main__":
    from flows.local import serverless

    serverless()

import typer
from prefect import flow, get_run_logger, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from prefect.events import emit_event
from prefect.states import Completed, Failed
from pydantic import Field

from cpfd.errors import CpfdError, disk_told
from cpfd.files import SCRATCH, remove
from cpfd.importing.sources import Columns, FolderSource, Force, Name, Source, TableSource, YoutubeTrendingSource
from cpfd.options import with_options_of
from cpfd.paths import RAW
from cpfd.project.revision import git
from cpfd.reports.validation import ValidationReport
from flows.artifacts import show_validation
from flows.retries import RETRIES, worth_a_retry
from flows.workspace import dvc, has_origin, require_remote

if TYPE_CHECKING:
    from cpfd.importing.dataset import Imported

UPDATED = "cpfd.dataset.updated"
"""The event of a data set that was registered; its resource is `cpfd.dataset.<name>`."""


@task(
    name="read",
    task_run_name="read {source.path}",
    retry_condition_fn=worth_a_retry,
    cache_policy=NO_CACHE,
    **RETRIES,
)
def read(source: Source) -> "Imported":
    """Read the source with its adapter."""
    from cpfd.importing.read import read_source

    return read_source(source)


@task(name="validate", tags=["cpu"], retry_condition_fn=worth_a_retry, cache_policy=NO_CACHE, **RETRIES)
def validate(name: str, labels: Literal["single_label", "multi_label"] | None, folder: Path) -> ValidationReport:
    """Validate folder/raw with the settings of params.yaml; what was found stays in `reports` and `validated` there.

    Raises CpfdError where a critical expectation is not met; the report is shown in either case.
    """
    from cpfd.datasets.contract import read_dataset
    from cpfd.params.load import load_params
    from cpfd.params.schema import Dataset
    from cpfd.validation.dataset import validate_dataset

    params = load_params()
    dataset = Dataset(name=name, task=labels or params.dataset.task)
    report = folder / "reports" / "validation.json"
    report.unlink(missing_ok=True)
    try:
        return validate_dataset(
            read_dataset(folder / "raw"),
            dataset,
            params.split,
            params.validation,
            folder / "validated",
            folder / "reports",
        )
    finally:
        if report.is_file():
            show_validation(folder / "reports", Path.cwd())


@task(
    name="dvc add", task_run_name="dvc add {target}", retry_condition_fn=worth_a_retry, cache_policy=NO_CACHE, **RETRIES
)
def add(target: Path) -> None:
    """Put the data set under DVC's care; another DVC command that holds the lock is waited for."""
    from dvc.exceptions import DvcException
    from dvc.repo import Repo

    try:
        with Repo() as repo:
            repo.scm_context.quiet = True  # the flow commits
            repo.add(target.as_posix())
    except (DvcException, OSError) as error:
        raise CpfdError(f"DVC could not add {target}: {error}; nothing is changed") from error


@task(name="dvc push", task_run_name="dvc push {target}", cache_policy=NO_CACHE, **RETRIES)
def push_data(target: Path) -> None:
    """Send the data set to the DVC remote; each kind of remote fails in a way of its own, so all is tried again."""
    try:
        dvc(Path.cwd(), "push", "--quiet", f"{target.as_posix()}.dvc")
    except CpfdError as error:
        raise CpfdError(
            f"{target} is registered here, but not in the DVC remote: {error}; run it again with `force`"
        ) from error


@flow(name="ingest", flow_run_name="{name}")
def ingest(
    name: str,
    source: Annotated[Source, Field(discriminator="kind")],
    labels: Literal["single_label", "multi_label"] | None = None,
    force: bool = False,
    commit: bool = False,
    push: bool = False,
) -> State[Any]:
    """Import raw data to data/raw/<name>, `dvc add` it and emit `cpfd.dataset.updated`, if it passes validation.

    A data set that does not pass changes nothing and emits nothing.

    Args:
        name: Name of the data set: the folder below data/raw.
        source: Where the data come from: {"kind": "folder", "path": "clips", "dense": ["motion"]}, or of kind `table`
            or `youtube-trending`, with the options of that `cpfd import`.
        labels: The data set's task. Empty: dataset.task of params.yaml.
        force: Replace a data set of that name.
        commit: Commit it to git, so that isolated runs see it.
        push: Send it to the DVC remote as well, and a commit to its branch of the git remote `origin`.
    """
    from cpfd.datasets.contract import write_dataset
    from cpfd.importing.dataset import import_dataset

    target, folder = RAW / name, SCRATCH / "ingest" / name
    validated: list[ValidationReport] = []
    try:
        _refuse_early(push)
        with disk_told(), ExitStack() as undo:

            def read_validated() -> "Imported":
                imported = read(source)
                raw = folder / "raw"
                undo.callback(remove, raw)
                write_dataset(raw, imported.manifest, imported.dense, imported.videos)
                validated.append(validate(name, labels, folder))
                undo.enter_context(_brought_back_on_failure(target, folder / "previous"))
                # The files that were validated are those that are registered, whatever happens to the source.
                return replace(imported, videos={path: raw / "videos" / path for path in imported.videos})

            summary = import_dataset(name, read_validated, force=force, dvc=False)
            add(target)
        clips, version = sum(validated[0].dataset.clips.values()), validated[0].dataset.version
        if push:
            push_data(target)
        sha = _commit(target, f"Update data set {name}: {clips} clips, version {version}", push) if commit else None
    except CpfdError as error:
        get_run_logger().error(str(error))
        return Failed(message=str(error))
    get_run_logger().info(summary)
    payload = {"name": name, "version": version, "clips": clips, "path": target.as_posix(), "commit": sha}
    emit_event(UPDATED, {"prefect.resource.id": f"cpfd.dataset.{name}", "prefect.resource.name": name}, payload=payload)
    noted = f"commit {sha[:7]}" if sha else f"commit {target}.dvc"
    return Completed(message=f"{target}: {clips} clips, version {version}; {noted}")


def _commit(target: Path, message: str, push: bool) -> str:
    """Commit what DVC notes of the data set, and nothing else; returns the commit that has it."""
    files = [f"{target.as_posix()}.dvc", (target.parent / ".gitignore").as_posix()]
    if git("status", "--porcelain", "--", *files):
        git("add", "--", *files)
        git("commit", "--quiet", "-m", message, "--", *files)
    if push and has_origin(Path.cwd()):
        git("push", "--quiet", "origin", f"HEAD:{git('symbolic-ref', 'HEAD').strip()}")
    return git("rev-parse", "HEAD").strip()


def _refuse_early(push: bool) -> None:
    if not Path(".dvc").is_dir():
        raise CpfdError(f"{Path.cwd()}: not the root of a DVC repository, where data sets are registered")
    if push:
        require_remote(Path.cwd(), "push")


@contextmanager
def _brought_back_on_failure(target: Path, previous: Path) -> Iterator[None]:
    """Put the data set that is being replaced aside; where the block fails, `target` is what it was before."""
    remove(previous)
    if target.exists():
        os.replace(target, previous)
    try:
        yield
    except BaseException:
        remove(target)
        if previous.exists():
            os.replace(previous, target)
        raise
    remove(previous)


app = typer.Typer(
    help="Run the flow `ingest` at once, with no Prefect server running.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
Labels = Annotated[
    Literal["single_label", "multi_label"] | None, typer.Option(help="The data set's task. None: that of params.yaml.")
]
Commit = Annotated[bool, typer.Option("--commit", help="Commit it to git, so that isolated runs see it.")]
Push = Annotated[bool, typer.Option("--push", help="Send it to the DVC remote as well.")]


@app.command("folder")
@with_options_of(FolderSource)
def run_folder(
    source: FolderSource,
    name: Name,
    labels: Labels = None,
    force: Force = False,
    commit: Commit = False,
    push: Push = False,
) -> None:
    """Register videos that lie in one folder per class.

    Example: python -m flows.ingest folder clips --name clips --dense motion
    """
    _run(name, source, labels, force, commit, push)


@app.command("table")
@with_options_of(TableSource)
def run_table(
    source: TableSource,
    name: Name,
    columns: Columns = None,
    labels: Labels = None,
    force: Force = False,
    commit: Commit = False,
    push: Push = False,
) -> None:
    """Register a table of clips under any column names.

    Example: python -m flows.ingest table clips.csv --name clips --map label=category --videos mp4
    """
    from cpfd.importing.table import parse_mapping

    try:
        mapping = parse_mapping(columns or [])
    except CpfdError as error:
        raise typer.BadParameter(str(error)) from error
    _run(name, replace(source, columns=mapping), labels, force, commit, push)


@app.command("youtube-trending")
@with_options_of(YoutubeTrendingSource)
def run_youtube_trending(
    source: YoutubeTrendingSource,
    name: Name,
    labels: Labels = None,
    force: Force = False,
    commit: Commit = False,
    push: Push = False,
) -> None:
    """Register daily snapshots of trending YouTube videos.

    Example: python -m flows.ingest youtube-trending youtube --name youtube
    """
    _run(name, source, labels, force, commit, push)


def _run(name: str, source: Source, labels: Any, force: bool, commit: bool, push: bool) -> None:
    if not ingest(name, source, labels, force, commit, push, return_state=True).is_completed():
        raise typer.Exit(1)


if __name__ == "__main__":
    app()
