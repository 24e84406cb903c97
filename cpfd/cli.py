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
