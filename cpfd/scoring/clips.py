"""The clips that are to be scored: those of a folder, or the rows of a manifest."""

import os
import unicodedata
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from cpfd.datasets.tables import as_text, column_names, read_batches
from cpfd.datasets.video import ClipError, locate
from cpfd.errors import CpfdError
from cpfd.features.text import join_text
from cpfd.importing.folder import SUFFIXES

MANIFESTS = ("manifest.parquet", "manifest.csv")
READ_TOGETHER = 4096
"""Rows of a manifest in memory at once."""


class Clip(NamedTuple):
    """One clip to classify; `problem` is a reason not to try."""

    video_id: str
    path: str
    text: str
    problem: str


class Clips:
    """The clips of a folder or manifest, always in the same order; only a few rows of it are in memory at a time.

    `source` is a folder, searched for clips at any depth (a data set's folder counts as its manifest), or a Parquet or
    CSV table with `video_id`, and `path` or text columns or both. `path` is relative to `videos`: by default the
    folder of that name beside the manifest, else the manifest's own. A folder's clips have no text; the `video_id` is
    the path without its suffix.
    """

    def __init__(self, source: Path, text_columns: Sequence[str], videos: Path | None = None) -> None:
        """Count the clips and note which ids are there twice: 8 bytes per clip, for a moment.

        Raises CpfdError where the source cannot be read, holds no clip or nothing to classify by.
        """
        own = [source / name for name in MANIFESTS if (source / name).is_file()]
        self.source = own[0] if own else source
        if self.source.is_dir():
            if videos is not None:
                raise CpfdError(f"{source}: a folder's paths are relative to itself; --videos goes with a manifest")
            self.root = self.source
        else:
            beside = self.source.parent / "videos"
            self.root = videos or (beside if beside.is_dir() else self.source.parent)
            if videos is not None and not videos.is_dir():
                raise CpfdError(f"--videos {videos}: no such folder")
        self.left_out = 0
        """Files below a folder that are not called like clips."""
        present = None if self.source.is_dir() else _columns(self.source)
        self._text_columns = [name for name in text_columns if present is not None and name in present]
        self.missing_text_columns = [name for name in text_columns if name not in self._text_columns]
        if present is not None:
            self._refuse_columns(present, text_columns)
        digests = [pd.util.hash_array(rows["video_id"].to_numpy(object)) for rows in self._tables()]
        every = np.sort(np.concatenate([np.empty(0, np.uint64), *digests]))
        self.count = len(every)
        self._suspects = set(every[1:][every[1:] == every[:-1]].tolist())
        if not self.count:
            expected = (
                f"expected files such as clip.mp4 (or {', '.join(SUFFIXES[1:])})" if present is None else "no row"
            )
            raise CpfdError(f"{source}: there is no clip to score; {expected}")

    def __iter__(self) -> Iterator[Clip]:
        """Read the source again."""
        seen: set[str] = set()
        for table in self._tables():
            texts = join_text(table, self._text_columns)
            digests = pd.util.hash_array(table["video_id"].to_numpy(object)).tolist()
            rows = zip(table["video_id"], table["path"], texts, table["problem"], digests, strict=True)
            for video_id, path, text, problem, digest in rows:
                again = video_id in seen
                if digest in self._suspects:
                    seen.add(video_id)
                yield Clip(video_id, path, text, problem or self._problem(video_id, path, again))

    def file(self, clip: Clip) -> Path | None:
        """The clip's file; None for a clip of text alone."""
        return self.root / clip.path if clip.path else None

    def _problem(self, video_id: str, path: str, again: bool) -> str:
        if not video_id:
            return "no video_id"
        if again:
            return "video_id is there more than once: the first is taken"
        try:
            locate(self.root, path)
        except ClipError as error:
            return str(error)
        return ""

    def _refuse_columns(self, present: Sequence[str], text_columns: Sequence[str]) -> None:
        there = f"the table has: {', '.join(present)}"
        if "video_id" not in present:
            raise CpfdError(f"{self.source}: no column video_id; {there}")
        if "path" not in present and not self._text_columns:
            wanted = ", ".join(["path", *text_columns])
            raise CpfdError(f"{self.source}: none of the columns that this student reads ({wanted}); {there}")

    def _tables(self) -> Iterator[pd.DataFrame]:
        """`video_id`, `path` and the text columns, all strings, some rows at a time."""
        if self.source.is_dir():
            self.left_out = 0
            found = self._files(self.source)
            while paths := list(islice(found, READ_TOGETHER)):
                named = [os.fsencode(path).decode(errors="backslashreplace") for path in paths]
                pairs = zip(paths, named, strict=True)
                problems = ["" if path == name else "its name is not valid UTF-8" for path, name in pairs]
                ids = [unicodedata.normalize("NFC", name.removesuffix(Path(name).suffix)) for name in named]
                yield pd.DataFrame({"video_id": ids, "path": named, "problem": problems}, dtype=object)
            return
        for rows in read_batches(self.source, ["video_id", "path", *self._text_columns], READ_TOGETHER):
            table = as_text(rows, self.source)
            yield table.assign(path=table.get("path", ""), problem="")

    def _files(self, folder: Path) -> Iterator[str]:
        for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
            path = Path(entry.path)
            if entry.name.startswith("."):
                continue
            if entry.is_dir(follow_symlinks=False):
                yield from self._files(path)
            elif path.suffix.lower() in SUFFIXES:
                yield path.relative_to(self.source).as_posix()
            else:
                self.left_out += 1


def _columns(manifest: Path) -> list[str]:
    if not manifest.exists():
        raise CpfdError(f"{manifest}: no such file or folder")
    if manifest.suffix not in (".parquet", ".csv"):
        raise CpfdError(f"{manifest}: expected a folder, or a .parquet or .csv table")
    return column_names(manifest)
