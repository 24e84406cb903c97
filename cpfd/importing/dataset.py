"""What import adapters make, and the way of that into `data/raw/<name>` and DVC; side tables joined by video_id."""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

import numpy as np
import pandas as pd
from pandas.api.types import is_numeric_dtype
from pydantic import ValidationError

from cpfd.datasets.contract import MANIFEST_COLUMNS, SPLITS, TEXT_COLUMNS, lookalikes, parse_labels, write_dataset
from cpfd.datasets.tables import column_names, read_dense
from cpfd.errors import CpfdError
from cpfd.params.schema import Dataset
from cpfd.paths import GENERATED, RAW


@dataclass(frozen=True)
class Imported:
    """What an adapter has read: tables of the contract, files by `path`, and notes that the user should see."""

    manifest: pd.DataFrame
    dense: pd.DataFrame | None = None
    videos: Mapping[str, Path] = field(default_factory=dict)
    notes: Sequence[str] = ()


def import_dataset(name: str, read: Callable[[], Imported], *, force: bool, dvc: bool) -> str:
    """Write what `read` returns to `data/raw/<name>`, `dvc add` it where `dvc` says so, and return a summary.

    Whatever can be refused is refused before `read` does any work. Raises CpfdError for a bad name, a data set that
    is there already (unless `force`), a folder that is not the root of a DVC repository, or when DVC fails.
    """
    target = _target(name, force=force, dvc=dvc)
    imported = read()
    if imported.manifest.empty:
        raise CpfdError("there is not a single clip to import")
    write_dataset(target, imported.manifest, imported.dense, imported.videos)
    if dvc:
        _add(target)
    return _summary(target, imported)


def rows_of_clips(table: pd.DataFrame, path: Path, video_ids: Collection[str]) -> tuple[pd.DataFrame, list[str]]:
    """Select the rows of a side table that belong to the clips, indexed by `video_id`; notes count all others.

    Raises CpfdError when a clip is there twice, or no id is that of a clip.
    """
    indexed = table.set_index("video_id")
    known = indexed.index.isin(list(video_ids))
    if not known.any():
        raise CpfdError(
            f"{path}: none of its {len(indexed)} video_ids is that of a clip (found {some(indexed.index)};"
            f" expected such as {some(video_ids)})"
        )
    rows = indexed[known]
    if twice := list(rows.index[rows.index.duplicated()].unique()):
        raise CpfdError(f"{path}: more than one row for {some(twice)}; keep one row per video_id")
    notes = []
    if (unknown := indexed.index[~known]).size:
        notes.append(f"{path}: {len(unknown)} rows are of no imported clip and were left out: {some(unknown)}")
    if without := len(set(video_ids) - set(indexed.index)):
        notes.append(f"{path}: has no row for {without} of the {len(set(video_ids))} clips")
    return rows, notes


def dense_table(
    sources: Sequence[str],
    video_ids: Sequence[str],
    clips: Mapping[str, Path],
    columns_of: Mapping[str, str] = MappingProxyType({}),
    own: Path | None = None,
) -> tuple[pd.DataFrame | None, list[str]]:
    """Join dense columns by video_id: each source is the path of a table, or "motion" to measure `clips`.

    `columns_of` gives columns of the contract other names in the tables, {"video_id": "id"}; they are no dense features
    and are left out. So are columns of words in the table `own`, from which the clips come. Other values are left as
    they are, for validation to judge.

    Returns the table with one row per distinct video_id in the order given (None without sources), and notes. Raises
    CpfdError when two sources share a column, or all as in `rows_of_clips`.
    """
    if not sources:
        return None, []
    ids = list(dict.fromkeys(video_ids))
    joined = pd.DataFrame(index=pd.Index(ids, name="video_id", dtype=object))
    notes: list[str] = []
    # Tables come first: an error in them must not cost the measuring.
    for source in sorted(sources, key=lambda source: source == "motion"):
        if source == "motion":
            columns, more = _measured(clips)
        else:
            columns, more = _side_features(Path(source), ids, columns_of, own)
        if shared := [str(column) for column in columns.columns.intersection(joined.columns)]:
            raise CpfdError(f"--dense {source}: column(s) {', '.join(shared)} come from another --dense; rename them")
        joined = joined.join(columns)
        notes += more
    return joined.reset_index(), notes


def keep_out_of_git(target: Path) -> None:
    """Have git ignore a data set that DVC does not look after; without a git repository, nothing is to be done."""
    from dvc.scm import SCM, SCMError
    from scmrepo.exceptions import FileNotInRepoError

    with suppress(SCMError, FileNotInRepoError):
        SCM(".").ignore(str(target.absolute()))


def join_groups(listed: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Name each member's group from (group, member) pairs; groups that share a member become one, the first."""
    name_of_group: dict[str, str] = {}
    group_of: dict[str, str] = {}
    for group, member in listed:
        own = name_of_group.setdefault(group, group)
        first = group_of.setdefault(member, own)
        if first != own:
            name_of_group = {key: first if name == own else name for key, name in name_of_group.items()}
            group_of = {key: first if name == own else name for key, name in group_of.items()}
    return group_of


def some(values: Iterable[object], shown: int = 5) -> str:
    """Name the first few of many values for a message; what is not Unicode in a file's name is escaped."""
    listed = [str(value).encode(errors="backslashreplace").decode() for value in values]
    return ", ".join(listed[:shown]) + (f", ... ({len(listed)} in all)" if len(listed) > shown else "")


def _target(name: str, *, force: bool, dvc: bool) -> Path:
    try:
        Dataset(name=name, task="single_label")
    except ValidationError:
        raise CpfdError(
            f"--name {name!r}: expected letters, digits, '.', '_' and '-', a letter or digit first"
        ) from None
    if name == GENERATED:
        raise CpfdError(f"--name {name}: that data set is generated by the pipeline; choose another name")
    target = RAW / name
    if target.exists() and not force:
        raise CpfdError(f"{target}: is there already; --force replaces it")
    if dvc and not Path(".dvc").is_dir():
        raise CpfdError(
            f"{Path.cwd()}: not the root of a DVC repository; go there, run `dvc init`, or import with --no-dvc"
        )
    return target


def _add(target: Path) -> None:
    from dvc.exceptions import DvcException
    from dvc.repo import Repo

    try:
        with Repo() as repo:
            repo.scm_context.quiet = True  # `cpfd import` says itself what git should add
            repo.add(target.as_posix())
    except DvcException as error:
        raise CpfdError(f"{target} is written, but DVC could not add it: {error}; run `dvc add {target}`") from error


def _side_features(
    path: Path, video_ids: Sequence[str], columns_of: Mapping[str, str], own: Path | None
) -> tuple[pd.DataFrame, list[str]]:
    names = column_names(path)
    key = columns_of["video_id"] if columns_of.get("video_id") in names else "video_id"
    table = read_dense(path, key)
    content = {*MANIFEST_COLUMNS, *columns_of.values()} - {key}
    words = (
        [] if own is None or not own.samefile(path) else [name for name in names if not is_numeric_dtype(table[name])]
    )
    left_out = [name for name in names if name in content or (name in words and name != key)]
    kept = table.drop(columns=left_out).rename(columns={key: "video_id"})
    rows, notes = rows_of_clips(kept, path, video_ids)
    if left_out:
        notes.append(f"--dense {path}: columns that are no dense features were left out: {some(left_out)}")
    return rows, notes


def _measured(clips: Mapping[str, Path]) -> tuple[pd.DataFrame, list[str]]:
    if not clips:
        raise CpfdError("--dense motion: there are no videos to measure; give --videos, or leave it out")
    from cpfd.importing.motion import motion_table

    table, failed = motion_table(clips)
    notes = [f"motion: {len(failed)} clips could not be measured: {some(failed)}"] if failed else []
    return table.set_index("video_id"), notes


def _summary(target: Path, imported: Imported) -> str:
    manifest = imported.manifest
    labels = manifest["label"][manifest["label"] != ""]
    several = int(labels.str.contains("|", regex=False).sum())
    task = "multi_label" if several else "single_label"
    counts = labels.map(lambda label: parse_labels(label, task)).explode().value_counts().sort_index()
    classes = some((f"{name} {count}" for name, count in counts.items()), shown=20)
    texts = [f"{column} ({(manifest[column] != '').sum()} filled)" for column in TEXT_COLUMNS if column in manifest]
    dense = [] if imported.dense is None else [column for column in imported.dense if column != "video_id"]
    lines = [
        f"{target}: {len(manifest)} clips, {len(labels)} labelled, {len(imported.videos)} video files",
        f"  classes: {classes or 'none'}",
        f"  text columns: {', '.join(texts) or 'none'}",
        f"  dense columns: {some(dense) or 'none, so there is nothing to distil'}",
    ]
    if "creator_id" in manifest:
        lines.append(f"  creators: {manifest['creator_id'].replace('', np.nan).nunique()}")
    if "split" in manifest:
        splits = manifest["split"].value_counts()
        lines.append(f"  splits: {', '.join(f'{name} {splits.get(name, 0)}' for name in SPLITS)}")
    lines += [f"note: {note}" for note in imported.notes]
    if several:
        lines.append(f"note: {several} labels have a |, which divides the classes of a clip: each is counted by itself")
    if alike := [" and ".join(map(repr, group)) for group in lookalikes(counts.index)]:
        lines.append(f"note: classes that differ in case, white space or Unicode form alone: {some(alike)}")
    lines.append(
        f"next: set dataset.name to {target.name} and dataset.task to {task} in params.yaml, then run `dvc repro`"
    )
    return "\n".join(lines)
