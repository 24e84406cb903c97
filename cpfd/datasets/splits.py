"""Splits and folds: clips of one creator stay together, classes are spread by share, row order does not matter."""

import hashlib

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from cpfd.datasets.contract import SPLITS, label_matrix, parse_labels
from cpfd.errors import CpfdError
from cpfd.params.schema import Split

_SWEEPS = 20  # most; 100 to 5,000 groups settled after two or three


def assign_splits(manifest: pd.DataFrame, params: Split, task: str) -> pd.Series:
    """The split of every clip: "train", "validation" or "test", indexed like `manifest`.

    A `split` column that is filled is taken as it is. Otherwise the clips are split by `creator_id` (an empty one
    stands alone) and labels are spread over the splits by the shares of `params`, which count labelled clips. A clip
    without a label goes with its creator, else to "train". The result depends on the seed and on each row's content,
    never on the order of the rows.

    Raises CpfdError when the `split` column is filled in part or holds anything else than the three names.
    """
    given = manifest.get("split")
    if given is not None and (given != "").any():
        _check_given(manifest, given)
        return given.rename("split")
    creators = manifest.get("creator_id", pd.Series("", index=manifest.index))
    groups = creators.where(creators != "", "\0" + manifest["video_id"])  # NUL: no creator_id can collide
    labelled = manifest["label"] != ""
    labels = manifest["label"][labelled]
    classes = sorted({name for label in labels for name in parse_labels(label, task)})
    shares = np.array([1 - params.validation_share - params.test_share, params.validation_share, params.test_share])
    part = _assign(label_matrix(labels, classes, task), groups[labelled].to_numpy(), shares, params.seed, cover=True)
    split_of_group = dict(zip(groups[labelled], np.array(SPLITS)[part], strict=True))
    return groups.map(lambda group: split_of_group.get(group, "train")).astype(object).rename("split")


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
    return _assign(targets, named, np.full(folds, 1 / folds), seed, cover=False)


def _assign(
    targets: NDArray[np.float32], groups: NDArray[np.object_], shares: NDArray[np.float64], seed: int, *, cover: bool
) -> NDArray[np.int64]:
    """Deal groups into parts so that each class is spread by `shares[P]`: part[N].

    Groups are dealt one by one, those that weigh most in their classes first, each to the part where the chi-square
    distance sum((count - wanted)^2 / wanted) over classes and clips grows least. Sweeps over all groups then move
    single groups while that lowers the distance. With `cover`, a class that a part lacks then costs more than any
    distance, and most in the first part: a class that is not in the training split cannot be evaluated anywhere.
    """
    names, group_of_clip = np.unique(groups.astype(str), return_inverse=True)
    no_class = targets.sum(axis=1, keepdims=True) == 0
    counted = np.concatenate([targets, no_class, np.ones_like(no_class)], axis=1).astype(np.float64)
    counts = np.zeros((len(names), counted.shape[1]))
    np.add.at(counts, group_of_clip, counted)
    counts = counts[:, counts.any(axis=0)]
    total = counts.sum(axis=0)
    wanted = np.outer(shares, total)
    lack = np.full((len(shares), 1), len(total) * total.max(initial=0) / shares.min() if cover else 0.0)
    lack[0] *= len(total) + 1

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
            if sweep:
                growth -= lack * ((have == 0) & (more > 0))
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
