"""The commands `import folder`, `import table` and `import youtube-trending`."""

from dataclasses import replace
from functools import partial
from typing import Annotated

import typer

from cpfd.importing.sources import Columns, FolderSource, Force, Name, Source, TableSource, YoutubeTrendingSource
from cpfd.options import with_options_of

app = typer.Typer(help="Build a data set in data/raw/NAME from your own data (docs/datasets.md).", no_args_is_help=True)

Dvc = Annotated[bool, typer.Option("--dvc/--no-dvc", help="Put the data set under DVC's care with `dvc add`.")]


@app.command("folder")
@with_options_of(FolderSource)
def import_folder(source: FolderSource, name: Name, force: Force = False, dvc: Dvc = True) -> None:
    """Import videos that lie in one folder per class; a file's name is its video_id.

    Example: cpfd import folder clips --name clips --dense motion

    Example: cpfd import folder clips --name clips --text captions.csv --dense engagement.parquet --dense motion
    """
    _import(source, name, force=force, dvc=dvc)


@app.command("table")
@with_options_of(TableSource)
def import_table(
    source: TableSource, name: Name, columns: Columns = None, force: Force = False, dvc: Dvc = True
) -> None:
    """Import a table of clips under any column names.

    Example: cpfd import table clips.csv --name clips --map label=category --map path=file --videos mp4

    Example: cpfd import table posts.parquet --name posts --map label=topic --dense engagement.csv
    """
    from cpfd.importing.table import parse_mapping

    _import(replace(source, columns=parse_mapping(columns or [])), name, force=force, dvc=dvc)


@app.command("youtube-trending")
@with_options_of(YoutubeTrendingSource)
def import_youtube_trending(source: YoutubeTrendingSource, name: Name, force: Force = False, dvc: Dvc = True) -> None:
    """Import daily snapshots of trending YouTube videos: titles as content, all else dense; no video files.

    Example: cpfd import youtube-trending youtube --name youtube

    Example: cpfd import youtube-trending youtube --name youtube-history --group-by none --tags hashed
    """
    _import(source, name, force=force, dvc=dvc)


def _import(source: Source, name: str, *, force: bool, dvc: bool) -> None:
    from cpfd.importing.dataset import import_dataset, keep_out_of_git
    from cpfd.importing.read import read_source
    from cpfd.paths import RAW

    summary = import_dataset(name, partial(read_source, source), force=force, dvc=dvc)
    if not dvc:
        keep_out_of_git(RAW / name)
    typer.echo(summary)
    if dvc:
        typer.echo(f"then keep it: git add {RAW / name}.dvc {RAW / '.gitignore'}")
