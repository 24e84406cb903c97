"""Row-level checks: a clip or a dense value that cannot be used goes to quarantine with its reason.

A reason reads `kind: detail`, or `kind` alone; reports count the kinds.
"""

import hashlib
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from tqdm import tqdm

from cpfd.datasets.contract import MANIFEST_COLUMNS, SPLITS, RawDataset, parse_labels
from cpfd.datasets.isolation import isolated
from cpfd.datasets.limits import Limits
from cpfd.datasets.memory import FileMemory
from cpfd.datasets.splits import assign_splits
from cpfd.datasets.tables import numbers
from cpfd.datasets.video import ClipError, Probe, locate, probe
from cpfd.params.schema import Split, Validation

_LARGEST = float(np.finfo(np.float32).max)  # networks compute in float32, where anything larger is infinite


@dataclass(frozen=True)
class CheckedDataset:
    """A data set without what is in quarantine; tables sorted by `video_id`.

    `manifest` has the columns of the contract that the data set has, always `split`, and `content_hash` (SHA-256 of
    the clip's file, "" without one). `clips` has one row per clip with a video: `video_id`, `split`, `content_hash`,
    `seconds` (NaN for a still image), `short_side`, `long_side` (pixels), `frames`. `dense` is float64, NaN where
    missing; `dense_columns` says of each column whether it holds any number (`numeric`). `quarantine` has `table`
    ("manifest" or "dense"), `video_id` and `reason`; `quarantined_clips` counts rows of the manifest.
    """

    manifest: pd.DataFrame
    clips: pd.DataFrame
    dense: pd.DataFrame
    dense_columns: pd.DataFrame
    quarantine: pd.DataFrame
    quarantined_clips: int


def check_dataset(
    raw: RawDataset, task: str, split: Split, validation: Validation, memory: FileMemory | None = None
) -> CheckedDataset:
    """Split a data set into what can be used, with its split, and what cannot, with the reasons.

    Clips that `memory` does not know are probed side by side in threads, with a progress bar. What this takes of memory
    grows with the tables, not with the videos.

    Raises CpfdError when the manifest's `split` column is filled only in part.
    """
    everything = raw.manifest.loc[:, [c for c in MANIFEST_COLUMNS if c in raw.manifest]].reset_index(drop=True)
    reasons = [pd.concat([_bad_ids(everything), _bad_splits(everything), _empty_clips(everything, raw.text_columns)])]
    manifest = everything.drop(index=reasons[-1].index)

    probes, unusable = _probe_clips(manifest["path"][manifest["path"] != ""], raw.videos, validation, memory)
    reasons.append(unusable)
    manifest = manifest.drop(index=unusable.index).join(probes)
    manifest["content_hash"] = manifest["content_hash"].fillna("")

    reasons.append(_small_classes(manifest["label"], task, validation.min_class_clips))
    manifest = manifest.drop(index=reasons[-1].index)
    manifest["split"] = assign_splits(manifest, split, task)
    reasons.append(_copies_of_evaluation_clips(manifest))
    manifest = manifest.drop(index=reasons[-1].index)
    reasons.append(_unknown_labels(manifest, task))
    manifest = manifest.drop(index=reasons[-1].index).sort_values("video_id", ignore_index=True)

    found = pd.concat(reasons)
    dense, dense_columns, dense_quarantine = _check_dense(raw.dense, everything["video_id"], manifest["video_id"])
    quarantine = pd.concat(
        [
            pd.DataFrame({"table": "manifest", "video_id": everything["video_id"][found.index], "reason": found}),
            dense_quarantine,
        ]
    )
    measured = ["seconds", "short_side", "long_side", "frames"]
    columns = [c for c in MANIFEST_COLUMNS if c in everything.columns.union(["split"])]
    return CheckedDataset(
        manifest=manifest[[*columns, "content_hash"]],
        clips=manifest.loc[manifest["content_hash"] != "", ["video_id", "split", "content_hash", *measured]],
        dense=dense,
        dense_columns=dense_columns,
        quarantine=quarantine.astype("str").sort_values(["table", "video_id", "reason"], ignore_index=True),
        quarantined_clips=found.index.nunique(),
    )


# Each of the following checks returns the reasons, indexed by row of the table; a row may have several.


def _bad_ids(table: pd.DataFrame) -> pd.Series:
    """Empty ids, and ids that occur again: of rows alike in every column the first is kept, of others none."""
    reasons = {row: f"empty video_id: row {row + 1}" for row in table.index[table["video_id"] == ""]}
    again = table[(table["video_id"] != "") & table["video_id"].duplicated(keep=False)]
    for _, rows in again.groupby("video_id"):
        first, *others = rows.index
        if len(rows.astype("string").drop_duplicates()) == 1:
            reasons |= {row: f"repeated row: row {row + 1} is the same as row {first + 1}" for row in others}
        else:
            named = ", ".join(str(row + 1) for row in rows.index[:5]) + (", ..." if len(rows) > 5 else "")
            reasons |= dict.fromkeys(rows.index, f"duplicate video_id: rows {named} differ")
    return _series(reasons)


def _bad_splits(manifest: pd.DataFrame) -> pd.Series:
    if "split" not in manifest:
        return _series({})
    unknown = manifest["split"][~manifest["split"].isin(["", *SPLITS])]
    return _series(
        {row: f"unknown split: '{value}' is not one of {', '.join(SPLITS)}" for row, value in unknown.items()}
    )


def _empty_clips(manifest: pd.DataFrame, text_columns: list[str]) -> pd.Series:
    text = has_text(manifest, text_columns)
    return _series(dict.fromkeys(manifest.index[~text & (manifest["path"] == "")], "neither text nor video"))


def has_text(manifest: pd.DataFrame, text_columns: list[str]) -> pd.Series:
    """Whether each clip has any text, bool; blanks are none."""
    text: pd.Series = pd.Series(False, manifest.index)
    for column in text_columns:
        text |= manifest[column].str.strip() != ""
    return text


def _probe_clips(
    paths: pd.Series, videos: Path, validation: Validation, memory: FileMemory | None
) -> tuple[pd.DataFrame, pd.Series]:
    """Probe and hash clips: (table of what was measured, reasons against clips), both indexed like `paths`."""
    limits = Limits.of(validation)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        examined = pool.map(lambda path: _examine(path, videos, limits, memory), paths)
        results = list(tqdm(examined, total=len(paths), desc="probe", unit="clip", disable=paths.empty))
    measured: dict[Any, dict[str, Any]] = {}
    reasons: list[tuple[Any, str]] = []
    for row, result in zip(paths.index, results, strict=True):
        if isinstance(result, str):
            reasons.append((row, result))
            continue
        clip, content_hash = result
        reasons += [(row, reason) for reason in _beyond_limits(clip, validation)]
        measured[row] = {
            "content_hash": content_hash,
            "seconds": np.nan if clip.frames == 1 else clip.seconds,
            "short_side": min(clip.width, clip.height),
            "long_side": max(clip.width, clip.height),
            "frames": clip.frames,
        }
    columns = ["content_hash", "seconds", "short_side", "long_side", "frames"]
    table = pd.DataFrame.from_dict(measured, orient="index", columns=columns)
    return table, pd.Series([r for _, r in reasons], [row for row, _ in reasons], dtype=object)


def _examine(path: str, videos: Path, limits: Limits, memory: FileMemory | None) -> tuple[Probe, str] | str:
    """A clip's probe and the SHA-256 of its file, or the reason why it cannot be used."""
    try:
        file = locate(videos, path)
        status = file.stat() if file.is_file() else None
        if memory and status and (known := memory.recall(status)):
            return Probe(**known["probe"]), str(known["content_hash"])
        clip = isolated(probe, file, limits)
        with file.open("rb") as content:
            content_hash = hashlib.file_digest(content, "sha256").hexdigest()
    except ClipError as error:
        return str(error)
    except OSError:  # no permission, a name too long
        return f"file cannot be read: '{path}'"
    if memory and status:
        memory.note(status, {"probe": asdict(clip), "content_hash": content_hash})
    return clip, content_hash


def _beyond_limits(clip: Probe, validation: Validation) -> Iterator[str]:
    limits = validation
    if clip.frames > 1 and clip.seconds < limits.min_seconds:
        yield f"too short: {clip.seconds:.2f} s, at least {limits.min_seconds:g} s (validation.min_seconds)"
    if min(clip.width, clip.height) < limits.min_side:
        yield f"too small: {clip.width} x {clip.height}, at least {limits.min_side} pixels (validation.min_side)"
    if clip.frames < limits.min_frames:
        yield f"too few frames: {clip.frames}, at least {limits.min_frames} (validation.min_frames)"


def _small_classes(labels: pd.Series, task: str, least: int) -> pd.Series:
    """Clips of classes with fewer than `least` clips; taking one away may make another class too small."""
    reasons: dict[Any, str] = {}
    named = labels.map(lambda label: parse_labels(label, task)).explode().dropna()
    while True:
        counts = named.value_counts()
        small = named[named.map(counts) < least]
        if small.empty:
            return _series(reasons)
        for row, name in small.items():
            reasons[row] = f"class too small: '{name}', at least {least} labelled clips (validation.min_class_clips)"
        named = named.drop(index=small.index)


def _copies_of_evaluation_clips(manifest: pd.DataFrame) -> pd.Series:
    """Clips with the same bytes in a split that is nearer to the final verdict: test before validation before train."""
    clips = manifest[manifest["content_hash"] != ""]
    rank = clips["split"].map({name: rank for rank, name in enumerate(SPLITS)})
    best = rank.groupby(clips["content_hash"]).transform("max")
    kept = clips[rank == best].sort_values("video_id").drop_duplicates("content_hash").set_index("content_hash")
    reasons = {}
    for row, content_hash in clips["content_hash"][rank < best].items():
        other = kept.loc[content_hash]
        reasons[row] = f"duplicate clip: same bytes as '{other['video_id']}' of the {other['split']} split"
    return _series(reasons)


def _unknown_labels(manifest: pd.DataFrame, task: str) -> pd.Series:
    """Clips of validation and test with a class that no training clip has."""
    known = set(classes_of(manifest, task))
    reasons = {}
    for row, label in manifest["label"].items():
        unknown = [name for name in parse_labels(label, task) if name not in known]
        if unknown:
            reasons[row] = f"unknown label: '{unknown[0]}' does not occur in the training split"
    return _series(reasons)


def kinds(quarantine: pd.DataFrame) -> pd.Series:
    """The kind of each reason: what stands before its colon."""
    return quarantine["reason"].map(lambda reason: reason.partition(": ")[0]).astype(object)


def classes_of(manifest: pd.DataFrame, task: str) -> list[str]:
    """The classes that occur in the training split, sorted."""
    training = manifest["label"][manifest["split"] == "train"].unique()
    return sorted({name for label in training for name in parse_labels(label, task)})


def _check_dense(
    dense: pd.DataFrame, manifest_ids: pd.Series, kept_ids: pd.Series
) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Rows of kept clips as float64, which columns hold numbers, and what had to be left out.

    Rows of clips that are in quarantine themselves go with their clip.
    """
    dense = dense.reset_index(drop=True)
    reasons = _bad_ids(dense)
    stray = dense["video_id"][(dense["video_id"] != "") & ~dense["video_id"].isin(manifest_ids)]
    reasons = pd.concat([reasons, pd.Series("unknown video_id: the manifest has no such clip", stray.index, object)])
    found = [pd.DataFrame({"video_id": dense["video_id"][reasons.index], "reason": reasons})]
    kept = dense.drop(index=reasons.index)
    kept = kept[kept["video_id"].isin(kept_ids)].sort_values("video_id", ignore_index=True)

    usable = {"video_id": kept["video_id"]}
    numeric = {}
    for name in [column for column in dense.columns if column != "video_id"]:
        values, missing = numbers(kept[name])
        wrong = np.isnan(values) & ~missing
        numeric[name] = bool(missing.all() or not (wrong | missing).all())
        beyond = np.abs(values) > _LARGEST
        if numeric[name]:
            for kind, cells in [("not a number", wrong), ("out of range", beyond)]:
                named = [f"{kind}: column {name} is {str(value)[:40]!r}" for value in kept[name][cells]]
                detail = pd.Series(named, kept.index[cells], object)
                found.append(pd.DataFrame({"video_id": kept["video_id"][cells], "reason": detail}))
        usable[name] = pd.Series(np.where(beyond, np.nan, values))
    columns = pd.DataFrame({"column": list(numeric), "numeric": pd.Series(list(numeric.values()), dtype=bool)})
    return pd.DataFrame(usable).astype({"video_id": "str"}), columns, pd.concat(found).assign(table="dense")


def _series(reasons: dict[Any, str]) -> pd.Series:
    return pd.Series(list(reasons.values()), list(reasons), dtype=object)
