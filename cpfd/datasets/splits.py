"""Splits and folds: clips of one creator stay together, and row order does not matter."""

import hashlib
from collections import Counter
from collections.abc import Mapping

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from cpfd.datasets.contract import SPLITS, parse_labels
from cpfd.errors import CpfdError
from cpfd.params.schema import Split

_SWEEPS = 20  # most; 100 to 5,000 groups settled after two or three


def assign_splits(manifest: pd.DataFrame, params: Split, task: str) -> pd.Series:
    """The split of every clip: "train", "validation" or "test", indexed like `manifest`.

    A `split` column that is filled is taken as it is. Otherwise clips are split by `creator_id` (an empty one stands
    alone): the hash of seed and creator falls into each split as often as its share in `params` says, whatever the
    other clips and labels are, so that a clip keeps its split when others come, go or are relabelled. There is one
    correction: where a split has no clip of a class, the creator who is nearest to it goes there, as long as the class
    is left in more important splits (`_cover`). Creators without any label train.

    Raises CpfdError when the `split` column is filled in part or holds anything else than the three names.
    """
    given = manifest.get("split")
    if given is not None and (given != "").any():
        _check_given(manifest, given)
        return given.rename("split")
    creators = manifest.get("creator_id", pd.Series("", index=manifest.index))
    groups = creators.where(creators != "", "\0" + manifest["video_id"])  # NUL: no creator_id can collide
    labelled = manifest["label"] != ""
    named = manifest["label"][labelled].map(lambda label: parse_labels(label, task)).groupby(groups[labelled])
    classes_of = {str(group): {name for names in lists for name in names} for group, lists in named}
    places = {group: _place(group, params.seed) for group in classes_of}
    bounds = np.cumsum([0, 1 - params.validation_share - params.test_share, params.validation_share])
    split_of = {group: SPLITS[int(bounds.searchsorted(place, side="right")) - 1] for group, place in places.items()}
    _cover(
        split_of, classes_of, places, dict(zip(SPLITS, [*zip(bounds, [*bounds[1:], 1.0], strict=True)], strict=True))
    )
    return groups.map(lambda group: split_of.get(group, "train")).astype(object).rename("split")


def _place(group: str, seed: int) -> float:
    """A number of [0, 1) that depends on seed and group alone."""
    return int.from_bytes(hashlib.sha256(f"{seed}\0{group}".encode()).digest()[:6]) / 2**48


def _cover(
    split_of: dict[str, str],
    classes_of: Mapping[str, set[str]],
    places: Mapping[str, float],
    ranges: Mapping[str, tuple[float, float]],
) -> None:
    """Have every class in every split, as far as it has clips of enough creators; changes `split_of`.

    Training needs a class most, since what is not learnt cannot be tested; then the test, then validation. The group
    that goes to a split which lacks a class is the one whose place is nearest to the split's range, and never one that
    a more important split would lack.
    """
    groups_of: dict[str, list[str]] = {}
    for group, names in classes_of.items():
        for name in names:
            groups_of.setdefault(name, []).append(group)
    counts = {split: Counter[str]() for split in ranges}
    for group, split in split_of.items():
        counts[split].update(classes_of[group])
    importance = ("train", "test", "validation")
    for rank, split in enumerate(importance):
        low, high = ranges[split]
        for name in sorted(groups_of):
            if counts[split][name]:
                continue
            movable = [
                group
                for group in groups_of[name]
                if importance.index(split_of[group]) > rank
                or all(counts[split_of[group]][other] > 1 for other in classes_of[group])
            ]
            if movable:
                moved = min(movable, key=lambda group: (max(low - places[group], places[group] - high), group))
                counts[split_of[moved]].subtract(classes_of[moved])
                counts[split].update(classes_of[moved])
                split_of[moved] = split


def assign_folds(targets: NDArray[np.float32], groups: ArrayLike, folds: int, seed: int) -> NDArray[np.int64]:
    """Deal labelled clips into `folds` equal folds: fold[N] of 0..folds-1; a group is never torn, labels are spread.

    `targets[N, C]` is a label matrix; `groups[N]` are creator ids, an empty one stands alone.

    Raises CpfdError when there are fewer groups than folds.
    """
    named = np.asarray(groups, dtype=object)
    named = np.array([group or f"\0{row:012d}" for row, group in enumerate(named)], dtype=object)
    if (count := len(set(named))) < folds:
        raise CpfdError(
            f"{len(named)} labelled training clips by {count} creators cannot be dealt into {folds} folds;"
            f" lower crossfit.folds to {count} or bring clips of more creators"
        )
    return _deal(targets, named, folds, seed)


def _deal(targets: NDArray[np.float32], groups: NDArray[np.object_], parts: int, seed: int) -> NDArray[np.int64]:
    """Deal groups into equal parts so that each class is spread over all of them: part[N].

    Groups are dealt one by one, those that weigh most in their classes first, each to the part where the chi-square
    distance sum((count - wanted)^2 / wanted) over classes and clips grows least. Sweeps over all groups then move
    single groups while that lowers the distance.
    """
    names, group_of_clip = np.unique(groups.astype(str), return_inverse=True)
    no_class = targets.sum(axis=1, keepdims=True) == 0
    counted = np.concatenate([targets, no_class, np.ones_like(no_class)], axis=1).astype(np.float64)
    counts = np.zeros((len(names), counted.shape[1]))
    np.add.at(counts, group_of_clip, counted)
    counts = counts[:, counts.any(axis=0)]
    total = counts.sum(axis=0)
    wanted = np.tile(total / parts, (parts, 1))

    order = _order(names, (counts**2 / total).sum(axis=1), seed)
    have = np.zeros_like(wanted)
    part_of_group = np.full(len(names), -1)
    for sweep in range(_SWEEPS):
        before = part_of_group.copy()
        for group in order:
            if sweep:
                have[part_of_group[group]] -= counts[group]
            more = have + counts[group]
            growth = ((more - wanted) ** 2 - (have - wanted) ** 2) / wanted
            part_of_group[group] = part = int(growth.sum(axis=1).argmin())
            have[part] = more[part]
        if (before == part_of_group).all():
            break
    return part_of_group[group_of_clip]


def _order(names: NDArray[np.str_], weights: NDArray[np.float64], seed: int) -> NDArray[np.int64]:
    """Heaviest first; among equals, in an order that the seed shuffles by name alone."""
    shuffled = [hashlib.sha256(f"{seed}\0{name}".encode()).digest() for name in names]
    return np.array(sorted(range(len(names)), key=lambda group: (-weights[group], shuffled[group])), dtype=np.int64)


def _check_given(manifest: pd.DataFrame, given: pd.Series) -> None:
    wrong = ~given.isin(SPLITS)
    if wrong.any():
        example = manifest[wrong].iloc[0]
        raise CpfdError(
            f"manifest: column split of {wrong.sum()} of {len(given)} clips is not one of {', '.join(SPLITS)}"
            f" (first: video_id '{example['video_id']}' has '{example['split']}');"
            " fill it for every clip, or leave it empty for all to have the splits made"
        )
