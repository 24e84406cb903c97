"""The commands `import folder`, `import table` and `import youtube-trending`."""

from functools import partial
from pathlib import Path
from typing import Annotated, Literal

import typer

app = typer.Typer(help="Build a data set in data/raw/NAME from your own data (docs/datasets.md).", no_args_is_help=True)

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
ClassFolders = Annotated[
    Path, typer.Argument(metavar="SRC", help="Folder with one folder of videos or images per class.")
]
Text = Annotated[
    Path | None, typer.Option(metavar="TABLE", help="Table of text columns (title, caption, ...) by video_id.")
]
Creators = Annotated[
    Path | None,
    typer.Option(metavar="TABLE", help="Table of video_id and creator_id. Else SRC/videos.txt names each source."),
]
Unlabelled = Annotated[str, typer.Option(help="Folder of the clips that have no label.")]
Table = Annotated[Path, typer.Argument(metavar="SRC", help="CSV or Parquet table with one row per clip.")]
Columns = Annotated[
    list[str] | None,
    typer.Option("--map", metavar="NAME=COLUMN", help="The table's column for a column of the contract. Repeat."),
]
TableVideos = Annotated[
    Path | None, typer.Option(metavar="DIR", help="Folder that the column path is relative to. None: text only.")
]
Snapshots = Annotated[Path, typer.Argument(metavar="SRC", help="Folder with videos.csv and categories.json.")]
GroupBy = Annotated[
    Literal["creator", "none"],
    typer.Option(
        help="creator: no channel in two splits. none: videos are split at random by params.yaml's `split`,"
        " and the topics of the creator's earlier training videos become dense features."
    ),
]
Tags = Annotated[
    Literal["embedded", "hashed"],
    typer.Option(help="How tags become numbers: by MiniLM (about a minute), or by hash (at once, says less)."),
]
Dvc = Annotated[bool, typer.Option("--dvc/--no-dvc", help="Put the data set under DVC's care with `dvc add`.")]


@app.command("folder")
def import_folder_command(
    src: ClassFolders,
    name: Name,
    text: Text = None,
    dense: DenseSources = None,
    creators: Creators = None,
    unlabelled: Unlabelled = "unlabelled",
    force: Force = False,
    dvc: Dvc = True,
) -> None:
    """Import videos that lie in one folder per class; a file's name is its video_id.

    Example: cpfd import folder clips --name clips --dense motion

    Example: cpfd import folder clips --name clips --text captions.csv --dense engagement.parquet --dense motion
    """
    from cpfd.importing.folder import import_folder
    from cpfd.importing.sources import import_dataset

    read = partial(import_folder, src, text=text, dense=dense or [], creators=creators, unlabelled=unlabelled)
    typer.echo(import_dataset(name, read, force=force, dvc=dvc))


@app.command("table")
def import_table_command(
    src: Table,
    name: Name,
    columns: Columns = None,
    videos: TableVideos = None,
    dense: DenseSources = None,
    force: Force = False,
    dvc: Dvc = True,
) -> None:
    """Import a table of clips under any column names.

    Example: cpfd import table clips.csv --name clips --map label=category --map path=file --videos mp4

    Example: cpfd import table posts.parquet --name posts --map label=topic --dense engagement.csv
    """
    from cpfd.importing.sources import import_dataset
    from cpfd.importing.table import import_table, parse_mapping

    read = partial(import_table, src, columns=parse_mapping(columns or []), videos=videos, dense=dense or [])
    typer.echo(import_dataset(name, read, force=force, dvc=dvc))


@app.command("youtube-trending")
def import_youtube_trending_command(
    src: Snapshots,
    name: Name,
    group_by: GroupBy = "creator",
    tags: Tags = "embedded",
    force: Force = False,
    dvc: Dvc = True,
) -> None:
    """Import daily snapshots of trending YouTube videos: titles as content, all else dense; no video files.

    Example: cpfd import youtube-trending youtube --name youtube

    Example: cpfd import youtube-trending youtube --name youtube-history --group-by none --tags hashed
    """
    from cpfd.importing.sources import import_dataset
    from cpfd.importing.youtube import import_youtube_trending
    from cpfd.params.load import load_params

    split = load_params().split if group_by == "none" else None
    read = partial(import_youtube_trending, src, tags=tags, split=split)
    typer.echo(import_dataset(name, read, force=force, dvc=dvc))
