"""Import adapter: a folder of videos with one sub-folder per class."""

import os
import re
import unicodedata
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from cpfd.datasets.contract import TEXT_COLUMNS
from cpfd.datasets.tables import read_text
from cpfd.errors import CpfdError
from cpfd.importing.dataset import Imported, dense_table, join_groups, rows_of_clips, some
from cpfd.importing.sources import FolderSource

SUFFIXES = (
    *(".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".flv", ".ts", ".mpg", ".mpeg", ".3gp", ".wmv"),
    *(".gif", ".jpg", ".jpeg", ".png", ".webp", ".bmp"),
)
"""File names that are taken for clips; whether they can be decoded is for validation to find out."""
SOURCES = "videos.txt"
"""Names the source that clips were cut from; found beside the classes."""

_CLIP = re.compile(r"(?P<clip>\S+?)\s*:\s*[\d.:]+\s*-\s*[\d.:]+")
_RANGE = re.compile(r"(?P<prefix>\D*)(?P<first>\d+)\s*-\s*(?P=prefix)(?P<last>\d+)\s*:\s*(?P<source>.+)")


def import_folder(source: FolderSource) -> Imported:
    """Read `path`/<class>/**/<video_id>.<suffix>; clips in the folder named `unlabelled` have no label.

    `text` holds text columns and `creators` a `creator_id` by `video_id`; `dense` is as in `dense_table`. Without
    `creators`, a `videos.txt` in `path` groups clips by the source that they were cut from (`read_sources`).

    Raises CpfdError when there are no clips, or two share a name.
    """
    src, text, creators = source.path, source.text, source.creators
    files, notes = _clips(src)
    ids = list(files)
    paths = [file.relative_to(src).as_posix() for file in files.values()]
    classes = [unicodedata.normalize("NFC", path.split("/")[0]) for path in paths]
    manifest = pd.DataFrame(
        {"video_id": ids, "path": paths, "label": ["" if name == source.unlabelled else name for name in classes]}
    )
    if text:
        table, more = rows_of_clips(read_text(text, ["video_id", *TEXT_COLUMNS]), text, ids)
        columns = [column for column in TEXT_COLUMNS if column in table]
        if not columns:
            raise CpfdError(f"{text}: has none of the text columns {', '.join(TEXT_COLUMNS)}")
        manifest[columns] = table[columns].reindex(ids, fill_value="").to_numpy()
        notes += more
    if creators:
        needed = ["video_id", "creator_id"]
        table, more = rows_of_clips(read_text(creators, needed, needed), creators, ids)
        manifest["creator_id"] = table["creator_id"].reindex(ids, fill_value="").to_numpy()
        notes += more
    elif (src / SOURCES).is_file():
        sources, more = read_sources(src / SOURCES, ids)
        manifest["creator_id"] = [sources.get(video_id, "") for video_id in ids]
        notes += more
    features, more = dense_table(source.dense, ids, files)
    return Imported(manifest, features, dict(zip(paths, files.values(), strict=True)), [*notes, *more])


def read_sources(path: Path, video_ids: Sequence[str]) -> tuple[dict[str, str], list[str]]:
    """Read which source each clip was cut from: {video_id: source}, and notes.

    The file has a line with each source's URL, and below it a line `id: start - end` for each clip cut from it; a line
    `id - id: source` gives one source to all clips from one number to another. A clip that is listed under two
    sources joins them: they show the same event, and splits must not tear it.
    """
    listed: list[tuple[str, str]] = []
    strange: list[str] = []
    source = ""
    try:
        lines = unicodedata.normalize("NFC", path.read_text(encoding="utf-8-sig")).splitlines()
    except UnicodeDecodeError as error:
        raise CpfdError(f"{path}: is not UTF-8: {error}; save it as UTF-8") from error
    for number, line in enumerate(lines, start=1):
        line = line.strip()
        if "://" in line:
            source = line
        elif span := _RANGE.fullmatch(line):
            listed += [(span["source"], video_id) for video_id in video_ids if _within(video_id, span)]
        elif (clip := _CLIP.fullmatch(line)) and source:
            listed.append((source, clip["clip"]))
        elif line:
            strange.append(f"line {number} '{line}'")
    sources = join_groups(listed)
    notes = []
    if strange:
        notes.append(f"{path}: {len(strange)} lines are not understood: {some(strange)}")
    if absent := [clip for clip in sources if clip not in set(video_ids)]:
        notes.append(f"{path}: {len(absent)} clips are listed but not there: {some(absent)}")
    if alone := [video_id for video_id in video_ids if video_id not in sources]:
        notes.append(f"{path}: {len(alone)} clips are not listed; each is a group of its own: {some(alone)}")
    return sources, notes


def _within(video_id: str, span: re.Match[str]) -> bool:
    number = video_id.removeprefix(span["prefix"])
    return (
        video_id.startswith(span["prefix"])
        and number.isdecimal()
        and int(span["first"]) <= int(number) <= int(span["last"])
    )


def _is_utf_8(path: Path) -> bool:
    return str(path).encode(errors="ignore") == os.fsencode(path)


def _clips(src: Path) -> tuple[dict[str, Path], list[str]]:
    if not src.is_dir():
        raise CpfdError(f"{src}: no such folder; expected one folder per class in it")
    files: dict[str, list[Path]] = defaultdict(list)
    others: list[str] = []
    for path in sorted(path for path in src.rglob("*") if not path.is_dir()):
        parts = path.relative_to(src).parts
        clip, in_class = path.suffix.lower() in SUFFIXES and path.is_file(), len(parts) > 1
        if clip and in_class:
            files[unicodedata.normalize("NFC", path.stem)].append(path)
        elif clip or (in_class and not path.name.startswith(".")):
            others.append("/".join(parts))
    if strange := [path for found in files.values() for path in found if not _is_utf_8(path.relative_to(src))]:
        raise CpfdError(f"{src}: {len(strange)} files have a name that is not UTF-8: {some(strange)}; rename them")
    if not files:
        raise CpfdError(f"{src}: no clips found; expected {src}/<class>/<clip>.mp4 (or {', '.join(SUFFIXES[1:])})")
    if twice := [found for found in files.values() if len(found) > 1]:
        named = some(" and ".join(path.relative_to(src).as_posix() for path in found) for found in twice)
        raise CpfdError(
            f"{src}: a file's name is its video_id, and these share one: {named}; rename all but one of each"
        )
    notes = [f"{src}: {len(others)} files are no clips of a class and were left out: {some(others)}"] if others else []
    return {stem: found[0] for stem, found in files.items()}, notes
