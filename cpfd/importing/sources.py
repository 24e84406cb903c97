"""Where raw data come from: what `cpfd import` and the flow `ingest` can be told of each kind of source."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, ClassVar, Literal

import typer

Name = Annotated[str, typer.Option("--name", help="Name of the data set: the folder below data/raw.")]
Force = Annotated[bool, typer.Option("--force", help="Replace a data set of that name.")]
Dense = Annotated[
    list[str],
    typer.Option(
        metavar="TABLE|motion",
        help="Dense features: a CSV or Parquet table by video_id, or `motion` to measure every frame. Repeat for both.",
    ),
]
Columns = Annotated[
    list[str] | None,
    typer.Option("--map", metavar="NAME=COLUMN", help="The table's column for a column of the contract. Repeat."),
]
"""How a command line is told what JSON says in `TableSource.columns`."""
_KNOWN_FIELDS_ALONE = {"extra": "forbid"}


@dataclass(frozen=True, kw_only=True)
class FolderSource:
    """One folder of videos or images per class, as `cpfd import folder` takes it."""

    __pydantic_config__: ClassVar = _KNOWN_FIELDS_ALONE

    kind: Literal["folder"] = "folder"
    path: Annotated[Path, typer.Argument(metavar="SRC", help="Folder with one folder of videos or images per class.")]
    text: Annotated[
        Path | None, typer.Option(metavar="TABLE", help="Table of text columns (title, caption, ...) by video_id.")
    ] = None
    dense: Dense = field(default_factory=list)
    creators: Annotated[
        Path | None,
        typer.Option(metavar="TABLE", help="Table of video_id and creator_id. Else SRC/videos.txt names each source."),
    ] = None
    unlabelled: Annotated[str, typer.Option(help="Folder of the clips that have no label.")] = "unlabelled"


@dataclass(frozen=True, kw_only=True)
class TableSource:
    """A table of clips, as `cpfd import table` takes it; `columns` is {"label": "category"}."""

    __pydantic_config__: ClassVar = _KNOWN_FIELDS_ALONE

    kind: Literal["table"] = "table"
    path: Annotated[Path, typer.Argument(metavar="SRC", help="CSV or Parquet table with one row per clip.")]
    columns: dict[str, str] = field(default_factory=dict)
    videos: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Folder that the column path is relative to. None: text only.")
    ] = None
    dense: Dense = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class YoutubeTrendingSource:
    """Daily snapshots of trending YouTube videos, as `cpfd import youtube-trending` takes them."""

    __pydantic_config__: ClassVar = _KNOWN_FIELDS_ALONE

    kind: Literal["youtube-trending"] = "youtube-trending"
    path: Annotated[Path, typer.Argument(metavar="SRC", help="Folder with videos.csv and categories.json.")]
    group_by: Annotated[
        Literal["creator", "none"],
        typer.Option(
            help="creator: no channel in two splits. none: videos are split at random by params.yaml's `split`,"
            " and the topics of the creator's earlier training videos become dense features."
        ),
    ] = "creator"
    tags: Annotated[
        Literal["embedded", "hashed"],
        typer.Option(help="How tags become numbers: by MiniLM (about a minute), or by hash (at once, says less)."),
    ] = "embedded"


Source = FolderSource | TableSource | YoutubeTrendingSource
