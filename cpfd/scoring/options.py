"""What `cpfd score` and the flow `score` can be told, and in part `cpfd predict`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer
from annotated_types import Ge, Le

from cpfd.datasets.limits import Limits


@dataclass(frozen=True, kw_only=True)
class LimitOptions:
    """What a clip may cost; one beyond that is not decoded."""

    max_seconds: Annotated[float, Ge(0), typer.Option(help="Longest clip, seconds.")] = Limits.max_seconds
    max_side: Annotated[int, Ge(1), typer.Option(help="Largest width or height of a clip, pixels.")] = Limits.max_side
    max_megabytes: Annotated[int, Ge(1), typer.Option(help="Largest file of a clip, MB.")] = Limits.max_megabytes

    @property
    def limits(self) -> Limits:
        """The same without Typer."""
        return Limits(self.max_seconds, self.max_side, self.max_megabytes)


@dataclass(frozen=True, kw_only=True)
class ScoringOptions(LimitOptions):
    """Which clips a student classifies, which student, and how; `shard_clips` and `threads` change no byte."""

    source: Annotated[
        Path, typer.Argument(metavar="FOLDER|MANIFEST", help="Folder of clips, or a Parquet or CSV table of them.")
    ]
    output: Annotated[Path, typer.Option(metavar="DIR", help="Folder to write, whole or not at all.")]
    model: Annotated[
        str, typer.Option(help="production, staging, a version (v1.0.0), or the folder of an exported student.")
    ] = "production"
    videos: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Folder that a manifest's paths are relative to. None: `videos` beside it, else its own.",
        ),
    ] = None
    shard_clips: Annotated[int, Ge(1), typer.Option(help="Clips in a shard, which a killed run resumes at.")] = 256
    threads: Annotated[
        int | None, Ge(1), typer.Option(help="Clips that are classified side by side. None: one per CPU.")
    ] = None
    max_quarantine_share: Annotated[
        float, Ge(0), Le(1), typer.Option(help="Share of clips that may fail before the run does.")
    ] = 0.05
    force: Annotated[bool, typer.Option("--force", help="Replace an earlier result there.")] = False
