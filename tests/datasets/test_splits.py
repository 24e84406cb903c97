import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.model_selection import StratifiedGroupKFold

from cpfd.datasets.contract import parse_labels
from cpfd.datasets.splits import assign_folds, assign_splits
from cpfd.errors import CpfdError
from cpfd.params.schema import Split

PARAMS = Split(seed=3, validation_share=0.15, test_share=0.25)
SHARES = pd.Series({"train": 0.6, "validation": 0.15, "test": 0.25})


def manifest(labels, creators=None, **columns):
    ids = [f"v{index:04}" for index in range(len(labels))]
    table = pd.DataFrame({"video_id": ids, "label": list(labels), **columns})
    return table if creators is None else table.assign(creator_id=list(creators))


def creators_and_labels(clips=800, creators=120, classes=8, seed=0):
    """Few creators have most of the clips, and most of a creator's clips are about one topic."""
    rng = np.random.default_rng(seed)
    weight = rng.pareto(2, creators) + 0.3
    creator = rng.choice(creators, clips, p=weight / weight.sum())
    topic = rng.integers(classes, size=creators)[creator]
    label = np.where(rng.random(clips) < 0.75, topic, rng.integers(classes, size=clips))
    return manifest([f"topic{name}" for name in label], [f"c{name}" for name in creator])


def shares(labels, splits):
    """The share of every class that each split has."""
    return pd.crosstab(np.asarray(labels), np.asarray(splits), normalize="index").reindex(
        columns=SHARES.index, fill_value=0
    )


def test_splits_that_a_data_set_brings_are_kept():
    table = manifest("aabb", split=["test", "train", "validation", "train"])
    assert assign_splits(table, PARAMS, "single_label").tolist() == ["test", "train", "validation", "train"]


@pytest.mark.parametrize("other", ["", "dev"])
def test_splits_given_in_part_or_by_another_name_are_refused(other):
    table = manifest("aabb", split=["test", other, "validation", "train"])
    with pytest.raises(CpfdError, match=r"1 of 4 clips .* video_id 'v0001' has '.*'.*fill it for every clip"):
        assign_splits(table, PARAMS, "single_label")


def test_an_empty_split_column_is_made():
    table = manifest(["a", "b"] * 20, split=[""] * 40)
    assert set(assign_splits(table, PARAMS, "single_label")) == set(SHARES.index)


def test_clips_and_classes_are_split_by_the_shares_as_chance_has_it():
    labels = np.random.default_rng(0).choice(["news", "sport", "music", "games"], 20_000, p=[0.5, 0.3, 0.15, 0.05])
    split = assign_splits(manifest(labels), PARAMS, "single_label")
    assert (split.value_counts(normalize=True) - SHARES).abs().max() < 0.012  # 3.5 standard errors
    assert (shares(labels, split) - SHARES).abs().max(axis=None) < 0.055


def test_creators_are_split_by_the_shares():
    table = creators_and_labels(clips=6000, creators=3000)
    split = assign_splits(table, PARAMS, "single_label").groupby(table["creator_id"]).first()
    assert (split.value_counts(normalize=True) - SHARES).abs().max() < 0.035


changes = st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 40)), min_size=1, max_size=30)


@given(st.integers(0, 1000), changes, st.sampled_from(["add", "remove", "relabel"]))
@settings(max_examples=60, deadline=None)
def test_a_clip_keeps_its_split_when_others_come_go_or_are_relabelled(seed, changed, kind):
    """As long as each class has clips in each split by itself, nobody moves at all."""
    rng = np.random.default_rng(seed)
    labels, creators = rng.choice(list("abc"), 300), rng.integers(100, size=300)
    table = manifest(labels, [f"c{number}" for number in creators])
    before = assign_splits(table, PARAMS, "single_label")
    if kind == "add":
        more = manifest([label for label, _ in changed], [f"c{number * 5}" for _, number in changed])
        after = pd.concat([table, more.assign(video_id="new " + more["video_id"])], ignore_index=True)
    elif kind == "remove":
        after = table.drop(index={number for _, number in changed})
    else:
        after = table.copy()
        for label, number in changed:
            after.loc[number, "label"] = label
    now = assign_splits(after, PARAMS, "single_label")
    kept = before.index.intersection(now.index)
    assert (now[kept] == before[kept]).all()


@given(st.integers(0, 1000))
@settings(max_examples=40, deadline=None)
def test_a_rare_class_moves_no_more_creators_than_it_needs(seed):
    rng = np.random.default_rng(seed)
    table = manifest(rng.choice(list("abcdef"), 60, p=[0.5, 0.3, 0.1, 0.05, 0.03, 0.02]))
    one = assign_splits(table.iloc[:-1], PARAMS, "single_label")
    moved = (assign_splits(table, PARAMS, "single_label")[one.index] != one).sum()
    assert moved <= 3  # the class of the clip that came, in each split


def test_with_its_first_label_a_creator_is_dealt():
    table = manifest(["a", "b"] * 30 + [""] * 3, [f"c{n}" for n in range(60)] + ["new"] * 3)
    seeds = [PARAMS.model_copy(update={"seed": seed}) for seed in range(20)]
    assert {assign_splits(table, params, "single_label").iloc[-1] for params in seeds} == {"train"}
    table.loc[62, "label"] = "a"
    dealt = [assign_splits(table, params, "single_label").iloc[-3:] for params in seeds]
    assert all(split.nunique() == 1 for split in dealt)
    assert {split.iloc[0] for split in dealt} == set(SHARES.index)


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_no_creator_is_in_two_splits_and_row_order_does_not_matter(data):
    labels = data.draw(st.lists(st.sampled_from(["", "a", "b", "c"]), min_size=1, max_size=40))
    creators = data.draw(
        st.lists(st.sampled_from(["", "x", "y", "z", "u"]), min_size=len(labels), max_size=len(labels))
    )
    order = data.draw(st.permutations(range(len(labels))))
    table = manifest(labels, creators)
    split = assign_splits(table, PARAMS, "single_label")
    assert set(split) <= set(SHARES.index)
    known = table["creator_id"] != ""
    assert (split[known].groupby(table["creator_id"]).nunique() == 1).all()
    shuffled = table.iloc[list(order)]
    pd.testing.assert_series_equal(assign_splits(shuffled, PARAMS, "single_label").sort_index(), split)


@given(st.dictionaries(st.sampled_from("abcdefgh"), st.integers(3, 30), min_size=1))
@settings(max_examples=60, deadline=None)
def test_three_clips_of_a_class_are_enough_for_every_split(counts):
    table = manifest([name for name, count in counts.items() for _ in range(count)])
    split = assign_splits(table, PARAMS, "single_label")
    assert (pd.crosstab(table["label"], split) > 0).to_numpy().all()


@given(st.integers(0, 1000))
@settings(max_examples=30, deadline=None)
def test_every_class_is_learnt_from_before_it_is_tested(seed):
    rng = np.random.default_rng(seed)
    labels = rng.choice([f"class{n}" for n in range(15)], 60, p=(p := 1 / np.arange(1, 16)) / p.sum())
    table = manifest(labels, [f"c{n}" for n in rng.integers(20, size=60)])
    split = assign_splits(table, PARAMS, "single_label")
    assert set(table["label"]) == set(table["label"][split == "train"])


def test_another_seed_gives_another_split():
    table = manifest(["a", "b"] * 50)
    other = PARAMS.model_copy(update={"seed": 4})
    assert (assign_splits(table, PARAMS, "single_label") != assign_splits(table, other, "single_label")).any()


def test_unlabelled_clips_go_with_their_creator_or_else_to_training():
    table = manifest(["a", "b"] * 15 + [""] * 32, [f"c{n}" for n in range(30)] * 2 + ["", "nobody"])
    split = assign_splits(table, PARAMS, "single_label")
    assert split[30:60].tolist() == split[:30].tolist()
    assert split[60:].tolist() == ["train", "train"]
    assert set(split) == {"train", "validation", "test"}


def test_several_labels_per_clip_are_in_each_split():
    rng = np.random.default_rng(0)
    names = np.array(["cat", "dog", "indoor", "night", "rare"])
    picks = rng.random((600, 5)) < [0.5, 0.3, 0.3, 0.2, 0.01]
    table = manifest(["|".join(names[row]) or "|" for row in picks])
    split = assign_splits(table, PARAMS, "multi_label")
    each = table["label"].map(lambda label: parse_labels(label, "multi_label")).explode().dropna()
    assert each.value_counts()["rare"] < 8
    assert (pd.crosstab(each.array, split.loc[each.index].array) > 0).to_numpy().all()


@pytest.mark.parametrize("seed", range(4))
def test_folds_keep_creators_whole_and_spread_labels_as_well_as_scikit_learn(seed):
    table = creators_and_labels(seed=seed)
    targets = pd.get_dummies(table["label"]).to_numpy(np.float32)
    folds = assign_folds(targets, table["creator_id"], folds=5, seed=0)
    assert (pd.Series(folds).groupby(table["creator_id"]).nunique() == 1).all()

    def unevenness(fold):
        wanted = targets.sum(axis=0) / 5
        counts = np.stack([targets[fold == number].sum(axis=0) for number in range(5)])
        return np.sum((counts - wanted) ** 2 / wanted), np.bincount(fold.astype(int)).max()

    reference = np.zeros(len(table))
    known = StratifiedGroupKFold(5, shuffle=True, random_state=0).split(table, table["label"], table["creator_id"])
    for number, (_, held_out) in enumerate(known):
        reference[held_out] = number
    (distance, largest), (reference_distance, reference_largest) = unevenness(folds), unevenness(reference)
    assert distance <= 1.1 * reference_distance
    assert largest <= reference_largest


def test_clips_without_a_creator_are_folded_one_by_one():
    targets = np.eye(2, dtype=np.float32)[np.arange(40) % 2]
    folds = assign_folds(targets, [""] * 40, folds=4, seed=0)
    assert np.bincount(folds[::2]).tolist() == np.bincount(folds[1::2]).tolist() == [5, 5, 5, 5]
    np.testing.assert_array_equal(folds, assign_folds(targets, [""] * 40, folds=4, seed=0))


def test_more_folds_than_creators_are_refused():
    targets = np.ones((6, 1), dtype=np.float32)
    with pytest.raises(CpfdError, match=r"6 labelled training clips by 3 creators .* lower crossfit.folds to 3"):
        assign_folds(targets, ["a", "a", "b", "b", "c", "c"], folds=5, seed=0)
