"""The command line: `cpfd --help`. Every import that is not needed to show help happens inside a command."""

import sys
from functools import partial
from pathlib import Path
from typing import Annotated, Literal

import typer

app = typer.Typer(
    name="cpfd",
    help="Distil privileged features into a short-video classifier that needs clips and text alone.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


@app.callback()
def check_project() -> None:
    """Refuse to run any command in a project whose params.yaml is wrong."""
    from cpfd.params import PARAMS_FILE, load_params

    if PARAMS_FILE.exists():
        load_params()


@app.command()
def params() -> None:
    """Print the reference of params.yaml: every key, what is allowed, what it means."""
    from cpfd.params import reference

    typer.echo(reference())


@app.command()
def predict(
    videos: Annotated[
        list[Path] | None, typer.Argument(metavar="VIDEO...", help="Video or image files; none for text alone.")
    ] = None,
    text: Annotated[
        list[str] | None,
        typer.Option(help="The clip's text; once for each VIDEO in the same order, or once for a text alone."),
    ] = None,
    model: Annotated[Path, typer.Option(help="Folder of an exported student.")] = Path("models/student"),
    top: Annotated[int, typer.Option(min=1, help="Classes to show of each clip in the table.")] = 3,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON with every class's probability.")] = False,
) -> None:
    """Classify videos with an exported student; it takes neither a data set nor DVC.

    A file that cannot be classified is reported and does not stop the rest; the exit code is then 1.

    Example: cpfd predict clip.mp4 --text "five minute pasta"

    Example: cpfd predict *.mp4 --json > predictions.json
    """
    import json
    from dataclasses import asdict

    files: list[Path | None] = list(videos or [])
    texts = text or [""] * len(files)
    if not files and not text:
        raise typer.BadParameter("name at least one VIDEO, or give --text")
    if not files:
        files = [None] * len(texts)
    if len(texts) != len(files):
        raise typer.BadParameter(f"{len(texts)} --text for {len(files)} videos; give one for each, or none")

    from transformers.utils import logging

    from cpfd.models.student import Student

    logging.disable_progress_bar()
    predictions = list(Student.load(model).predict(files, texts))
    if as_json:
        typer.echo(json.dumps([asdict(prediction) for prediction in predictions], indent=2, ensure_ascii=False))
    else:
        from rich.console import Console
        from rich.table import Column, Table
        from rich.text import Text

        table = Table(Column("clip", overflow="fold"), "class", "probability", box=None)
        for clip in predictions:
            # Text, because brackets in a plain string would be read as markup.
            name = Text(clip.video or clip.text)
            if clip.error is not None:
                table.add_row(name, Text(f"error: {clip.error}", "red"), "")
            for rank, (label, probability) in enumerate(list(clip.probabilities.items())[:top]):
                table.add_row("" if rank else name, Text(label), f"{probability:.3f}")
        Console().print(table)
    if any(clip.error is not None for clip in predictions):
        raise typer.Exit(1)


@app.command()
def results(
    markdown: Annotated[
        bool, typer.Option("--markdown", help="Print the table as Markdown, for a page or a PR.")
    ] = False,
) -> None:
    """Print the result table and the gate's verdict of the last `dvc repro`; reports/metrics.json is for scripts.

    Example: dvc repro && cpfd results
    """
    from rich.console import Console

    from cpfd.errors import CpfdError
    from cpfd.evaluation.report import result_markdown, result_table, verdict
    from cpfd.files import read_json

    reports = Path("reports")
    needed = [reports / "metrics.json", reports / "gate.json", reports / "index.html"]
    for path in needed:
        if not path.is_file():
            raise CpfdError(f"{path}: not there yet; `dvc repro` makes it, `dvc pull` fetches it")
    metrics, gate = (read_json(path) for path in needed[:2])
    if markdown:
        typer.echo(f"{result_markdown(metrics)}\n\n{verdict(metrics, gate)}")
        return
    console = Console()
    console.print(result_table(metrics))
    console.print(verdict(metrics, gate))
    console.print(f"The whole report: {needed[2]}")


import_app = typer.Typer(
    help="Build a data set in data/raw/NAME from your own data (docs/datasets.md).", no_args_is_help=True
)
app.add_typer(import_app, name="import")

Name = Annotated[str, typer.Option("--name", help="Name of the data set: the folder below data/raw.")]
DenseSources = Annotated[
    list[str] | None,
    typer.Option(
        "--dense",
        metavar="TABLE|motion",
        help="Dense features: a CSV or Parquet table by video_id, or `motion` to measure every frame. Repeat for both.",
    ),
]
Force = Annotated[bool, typer.Option("--force", help="Replace a data set of that name.")]
Dvc = Annotated[bool, typer.Option("--dvc/--no-dvc", help="Put the data set under DVC's care with `dvc add`.")]


@import_app.command("folder")
def import_folder_command(
    src: Annotated[Path, typer.Argument(metavar="SRC", help="Folder with one folder of videos or images per class.")],
    name: Name,
    text: Annotated[
        Path | None, typer.Option(metavar="TABLE", help="Table of text columns (title, caption, ...) by video_id.")
    ] = None,
    dense: DenseSources = None,
    creators: Annotated[
        Path | None,
        typer.Option(metavar="TABLE", help="Table of video_id and creator_id. Else SRC/videos.txt names each source."),
    ] = None,
    unlabelled: Annotated[str, typer.Option(help="Folder of the clips that have no label.")] = "unlabelled",
    force: Force = False,
    dvc: Dvc = True,
) -> None:
    """Import videos that lie in one folder per class; a file's name is its video_id.

    Example: cpfd import folder clips --name clips --dense motion

    Example: cpfd import folder clips --name clips --text captions.csv --dense engagement.parquet --dense motion
    """
    from cpfd.datasets.folder import import_folder
    from cpfd.datasets.importing import import_dataset

    read = partial(import_folder, src, text=text, dense=dense or [], creators=creators, unlabelled=unlabelled)
    typer.echo(import_dataset(name, read, force=force, dvc=dvc))


@import_app.command("table")
def import_table_command(
    src: Annotated[Path, typer.Argument(metavar="SRC", help="CSV or Parquet table with one row per clip.")],
    name: Name,
    columns: Annotated[
        list[str] | None,
        typer.Option("--map", metavar="NAME=COLUMN", help="The table's column for a column of the contract. Repeat."),
    ] = None,
    videos: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Folder that the column path is relative to. None: text only.")
    ] = None,
    dense: DenseSources = None,
    force: Force = False,
    dvc: Dvc = True,
) -> None:
    """Import a table of clips under any column names.

    Example: cpfd import table clips.csv --name clips --map label=category --map path=file --videos mp4

    Example: cpfd import table posts.parquet --name posts --map label=topic --dense engagement.csv
    """
    from cpfd.datasets.importing import import_dataset
    from cpfd.datasets.table import import_table, parse_mapping

    read = partial(import_table, src, columns=parse_mapping(columns or []), videos=videos, dense=dense or [])
    typer.echo(import_dataset(name, read, force=force, dvc=dvc))


@import_app.command("youtube-trending")
def import_youtube_trending_command(
    src: Annotated[Path, typer.Argument(metavar="SRC", help="Folder with videos.csv and categories.json.")],
    name: Name,
    group_by: Annotated[
        Literal["creator", "none"],
        typer.Option(
            help="creator: no channel in two splits. none: videos are split at random by params.yaml's `split`,"
            " and the topics of the creator's earlier training videos become dense features."
        ),
    ] = "creator",
    tags: Annotated[
        Literal["embedded", "hashed"],
        typer.Option(help="How tags become numbers: by MiniLM (about a minute), or by hash (at once, says less)."),
    ] = "embedded",
    force: Force = False,
    dvc: Dvc = True,
) -> None:
    """Import daily snapshots of trending YouTube videos: titles as content, all else dense; no video files.

    Example: cpfd import youtube-trending youtube --name youtube

    Example: cpfd import youtube-trending youtube --name youtube-history --group-by none --tags hashed
    """
    from cpfd.datasets.importing import import_dataset
    from cpfd.datasets.youtube import import_youtube_trending
    from cpfd.params import load_params

    split = load_params().split if group_by == "none" else None
    read = partial(import_youtube_trending, src, tags=tags, split=split)
    typer.echo(import_dataset(name, read, force=force, dvc=dvc))


def main() -> None:
    """Run the command line; an error of the user's is a message on standard error and exit code 1."""
    from cpfd.errors import CpfdError

    try:
        app()
    except CpfdError as error:
        sys.exit(f"error: {error}")
