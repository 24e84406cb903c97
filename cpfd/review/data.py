"""What changed in the data sets: clips, labels, splits, texts, video files and dense features.

Tables of both versions are read straight from DVC's cache; nothing is checked out.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from cpfd.errors import CpfdError
from cpfd.paths import RAW, VALIDATED
from cpfd.project.revision import Revision

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    from cpfd.datasets.contract import RawDataset

_TABLES = ("manifest.parquet", "manifest.csv", "dense.parquet", "dense.csv")
_ROW_CHANGES = ("added", "removed", "relabelled", "moved", "text", "media")
_EXAMPLES = 5


def changed_data(base: Revision, head: Revision) -> list[dict[str, Any]]:
    """Every data set below data/raw whose content or use differs between two revisions.

    Each has `dataset`; `change` ("changed", "added", "removed"; "unchanged" where only its use or its split differs);
    `used` (whether `head` is about it); `old` and `new` (hashes, None where it is absent); `clips` (`old`, `new`);
    `quarantined` (likewise, of the validated version, None where unknown); `rows`, the number of clips that were
    `added`, `removed`, `relabelled`, `moved` to another split, or that have another `text` or `media` file;
    `examples`, up to five video_ids of each of these; `labels` (`label`, "" for none, with the clips that have it,
    `old` and `new`), the largest change first; `dense` with the columns `added` and `dropped`, and `drift` of those
    whose values changed: `column`, `distance` (two-sample Kolmogorov-Smirnov, None without numbers), `missing_old`,
    `missing_new` (shares of the clips) and `warning` (beyond validation.max_drift of `head`), the largest first;
    and `note`, what could not be compared and how to mend that, or how its use changed, else None.

    A number that cannot be known is None, its list empty.
    """
    names = {Path(path).name for each in (base, head) for path in each.hashes if Path(path).parent == RAW}
    found = []
    for name in sorted(names):
        old, new = _Version(base, name), _Version(head, name)
        if old.hash != new.hash or old.used != new.used or old.validated_hash != new.validated_hash:
            found.append(_compare(old, new))
    return found


@dataclass(frozen=True)
class _Version:
    """A data set at a revision."""

    revision: Revision
    name: str

    @property
    def folder(self) -> Path:
        return RAW / self.name

    @property
    def hash(self) -> str | None:
        return self.revision.hashes.get(self.folder.as_posix())

    @cached_property
    def used(self) -> bool:
        return _param(self.revision, "dataset", "name") == self.name

    @property
    def task(self) -> str:
        return str(_param(self.revision, "dataset", "task"))

    @property
    def validated_hash(self) -> str | None:
        """The hash of data/validated, where that was made from this very version."""
        deps = {dep["path"]: dep.get("md5") for dep in self.revision.lock.get("validate", {}).get("deps", [])}
        made_from_this = self.hash is not None and deps.get(self.folder.as_posix()) == self.hash
        return self.revision.hashes.get(VALIDATED.as_posix()) if made_from_this else None

    @cached_property
    def tables(self) -> "RawDataset | None":
        """Manifest and dense features, each video_id once; empty for an absent data set, None where not in the cache.

        Raises CpfdError where they are no tables of a data set.
        """
        import pandas as pd

        from cpfd.datasets.contract import RawDataset, read_dataset

        if self.hash is None:
            empty = pd.DataFrame({"video_id": [], "path": [], "label": []}, dtype=object)
            return RawDataset(self.folder, empty, empty[["video_id"]])
        with TemporaryDirectory() as scratch:
            if not _link_tables(self.revision, self.folder, Path(scratch), _TABLES):
                return None
            raw = read_dataset(Path(scratch))
        # Rows that repeat a video_id are quarantined by `validate`; the first stands for all.
        manifest, dense = (
            table.drop_duplicates("video_id").set_index("video_id") for table in (raw.manifest, raw.dense)
        )
        return RawDataset(self.folder, manifest, dense)

    @cached_property
    def media(self) -> Mapping[str, str]:
        """The hash of each video file, by its path in the manifest."""
        listing = {} if self.hash is None else self.revision.listing(self.folder) or {}
        return {path.removeprefix("videos/"): md5 for path, md5 in listing.items() if path.startswith("videos/")}

    @cached_property
    def validated(self) -> "tuple[pd.Series[str], int] | None":
        """The split of each validated clip, by video_id, and the number of clips in quarantine; None where unknown."""
        from cpfd.datasets.validated import clip_tables, read_clips
        from cpfd.files import read_table

        with TemporaryDirectory() as scratch:
            folder, tables = Path(scratch), (*clip_tables(self.revision), "quarantine.parquet")
            if self.validated_hash is None or not _link_tables(self.revision, VALIDATED, folder, tables):
                return None
            clips, quarantine = read_clips(folder), read_table(folder / "quarantine.parquet")
        lost = quarantine["video_id"][quarantine["table"] == "manifest"]
        return clips.set_index("video_id")["split"], int(lost.nunique())


def _link_tables(revision: Revision, source: Path, target: Path, names: tuple[str, ...]) -> bool:
    """Give the tables in a tracked folder their names back, which the cache does not keep; False if it lacks one."""
    listing = revision.listing(source)
    for name in names if listing is not None else ():
        cached = revision.cached(source / name)
        if cached is not None:
            (target / name).symlink_to(cached.resolve())
        elif name in (listing or {}):
            return False
    return listing is not None


def _compare(old: _Version, new: _Version) -> dict[str, Any]:
    change = "added" if old.hash is None else "removed" if new.hash is None else "changed"
    entry: dict[str, Any] = {
        "dataset": new.name,
        "change": "unchanged" if old.hash == new.hash else change,
        "used": new.used,
        "old": old.hash,
        "new": new.hash,
        "clips": {"old": None, "new": None},
        "quarantined": {"old": old.validated and old.validated[1], "new": new.validated and new.validated[1]},
        "rows": dict.fromkeys(_ROW_CHANGES),
        "examples": {kind: [] for kind in _ROW_CHANGES},
        "labels": [],
        "dense": {"added": [], "dropped": [], "drift": []},
    }
    notes = [] if old.used == new.used else [_use(old, new)]
    readable = [_readable(version, notes) for version in (old, new)]
    for side, version, fine in zip(("old", "new"), (old, new), readable, strict=True):
        if fine and version.tables is not None:
            entry["clips"][side] = len(version.tables.manifest)
    if all(readable):
        for kind, clips in _changed_rows(old, new).items():
            entry["rows"][kind] = None if clips is None else len(clips)
            entry["examples"][kind] = [] if clips is None else clips[:_EXAMPLES]
        if entry["rows"]["moved"] is None:
            notes.append(_fetch("splits are unknown", VALIDATED, old if old.validated is None else new))
        entry["labels"] = _labels(old, new)
        entry["dense"] = _dense(old, new)
    return {**entry, "note": "; ".join(notes) or None}


def _use(old: _Version, new: _Version) -> str:
    """How dataset.name went from or to this data set."""
    names = [_param(version.revision, "dataset", "name") for version in (old, new)]
    return f"dataset.name was {names[0]}" if new.used else f"no longer used: dataset.name is {names[1]}"


def _readable(version: _Version, notes: list[str]) -> bool:
    try:
        if version.tables is not None:
            return True
        notes.append(_fetch("not compared", version.folder, version))
    except CpfdError as error:
        notes.append(f"not compared: {version.folder} of {version.revision.name}: {str(error).rpartition(': ')[2]}")
    return False


def _fetch(what: str, path: Path, version: _Version) -> str:
    history = "" if version.revision.commit is None else "--all-commits "
    return f"{what}: {path} of {version.revision.name} is not in DVC's cache; `dvc fetch {history}{path}`"


def _changed_rows(old: _Version, new: _Version) -> dict[str, list[str] | None]:
    """The video_ids of each kind of change, in the manifests' order; None where it cannot be known."""
    from cpfd.datasets.contract import TEXT_COLUMNS, parse_labels

    assert old.tables is not None
    assert new.tables is not None
    was, now = old.tables.manifest, new.tables.manifest
    common = now.index[now.index.isin(was.index)]
    was_common, now_common = was.loc[common], now.loc[common]

    def differ(before: "pd.Series[Any]", after: "pd.Series[Any]") -> list[str]:
        return [str(clip) for clip in common[before.to_numpy(object) != after.to_numpy(object)]]

    def text(table: "pd.DataFrame") -> "pd.Series[Any]":
        return table.reindex(columns=list(TEXT_COLUMNS), fill_value="").agg("\0".join, axis="columns")

    def labels(table: "pd.DataFrame", task: str) -> "pd.Series[Any]":
        return table["label"].map(lambda label: "|".join(parse_labels(label, task)) or label)

    return {
        "added": [str(clip) for clip in now.index[~now.index.isin(was.index)]],
        "removed": [str(clip) for clip in was.index[~was.index.isin(now.index)]],
        "relabelled": differ(labels(was_common, old.task), labels(now_common, new.task)),
        "moved": _moved(old, new),
        "text": differ(text(was_common), text(now_common)) if len(common) else [],
        "media": differ(was_common["path"].map(old.media.get), now_common["path"].map(new.media.get)),
    }


def _moved(old: _Version, new: _Version) -> list[str] | None:
    """Clips that are in another split: as `validate` left them, else as both manifests say."""
    assert old.tables is not None
    assert new.tables is not None
    if old.hash is None or new.hash is None:
        return []
    if old.validated is not None and new.validated is not None:
        was, now = old.validated[0], new.validated[0]
    elif "split" in old.tables.manifest and "split" in new.tables.manifest:
        was, now = old.tables.manifest["split"], new.tables.manifest["split"]
    else:
        return None
    common = now.index[now.index.isin(was.index)]
    return [str(clip) for clip in common[was[common].to_numpy(object) != now[common].to_numpy(object)]]


def _labels(old: _Version, new: _Version) -> list[dict[str, Any]]:
    was, now = _label_counts(old), _label_counts(new)
    labels = sorted({*was, *now}, key=lambda label: (-abs(now.get(label, 0) - was.get(label, 0)), label))
    return [{"label": label, "old": was.get(label, 0), "new": now.get(label, 0)} for label in labels]


def _label_counts(version: _Version) -> dict[str, int]:
    """Clips of each class; "" counts those that nobody has labelled, "|" those to which no class applies."""
    from cpfd.datasets.contract import parse_labels

    assert version.tables is not None
    named = version.tables.manifest["label"].map(lambda label: parse_labels(label, version.task) or [label])
    return {str(label): int(count) for label, count in named.explode().value_counts().items()}


def _dense(old: _Version, new: _Version) -> dict[str, Any]:
    assert old.tables is not None
    assert new.tables is not None
    was, now = old.tables.dense, new.tables.dense
    limit = _param(new.revision, "validation", "max_drift")
    drift = []
    for column in [column for column in now if column in was]:
        before, after = _numbers(was[column]), _numbers(now[column])
        distance = _distance(before, after)
        entry = {
            "column": column,
            "distance": distance,
            "missing_old": _missing(before, len(old.tables.manifest)),
            "missing_new": _missing(after, len(new.tables.manifest)),
        }
        if distance or entry["missing_old"] != entry["missing_new"]:
            drift.append({**entry, "warning": isinstance(limit, int | float) and (distance or 0) > limit})
    return {
        "added": [column for column in now if column not in was],
        "dropped": [column for column in was if column not in now],
        "drift": sorted(drift, key=lambda entry: (-(entry["distance"] or 0), entry["column"])),
    }


def _numbers(column: "pd.Series[Any]") -> "np.ndarray":
    """The values that are numbers, sorted."""
    import numpy as np

    from cpfd.datasets.tables import numbers

    values, _ = numbers(column)
    return np.sort(values[~np.isnan(values)])


def _missing(values: "np.ndarray", clips: int) -> float | None:
    return max(0, clips - len(values)) / clips if clips else None


def _distance(old: "np.ndarray", new: "np.ndarray") -> float | None:
    """Two-sample Kolmogorov-Smirnov distance of sorted values; scipy.stats would take a second to import."""
    import numpy as np

    if not len(old) or not len(new):
        return None
    points = np.concatenate([old, new])
    shares = [np.searchsorted(values, points, side="right") / len(values) for values in (old, new)]
    return float(np.abs(shares[0] - shares[1]).max())


def _param(revision: Revision, group: str, name: str) -> Any:
    """A value of params.yaml; None where there is none, or where the file is broken, which is told elsewhere."""
    try:
        values = revision.params.get(group)
    except CpfdError:
        return None
    return values.get(name) if isinstance(values, Mapping) else None
