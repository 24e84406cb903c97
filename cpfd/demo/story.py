"""Who films what and when, in which split, and what the annotators make of it: one row per clip, nothing rendered."""

from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cpfd.datasets.contract import SPLITS
from cpfd.errors import CpfdError
from cpfd.params.schema import Demo

TOPICS = ("cooking", "crafts", "dance", "fitness", "software", "gaming", "travel", "wildlife")
"""The classes. Topics 2k and 2k + 1 look and sound alike: the look-alike of topic t is t ^ 1."""

TALKING_HEAD = len(TOPICS)
"""The look of a clip in which somebody talks to the camera, whatever the topic."""

FIRST_DAY, DAYS, NEW_CREATOR_DAYS = pd.Timestamp("2024-01-01"), 180, 30
"""The calendar of the story; new creators publish on its last days only."""

_STREAMS = {"text": 0, "video": 1, "dense": 2}

Indices = NDArray[np.int64]
Mask = NDArray[np.bool_]


def own_rng(seed: int, index: int, stream: Literal["text", "video", "dense"]) -> np.random.Generator:
    """The generator of one aspect of clip `index`: the clip has the same bytes whichever process renders it."""
    return np.random.default_rng([seed, index, _STREAMS[stream]])


def tell_story(params: Demo) -> pd.DataFrame:
    """Invent the clips, ordered by time of publication; row i is clip `clip-i`.

    Columns: `video_id`, `creator_id`, `split`, `published_at` (Timestamp); the creator's `followers`, `new_creator`
    and `hue` (shift by the creator's filter); the true `topic`, as a position in TOPICS like the next four: `category`,
    declared by the creator on upload, `look` (or TALKING_HEAD) and `course`, the topics whose look and whose course
    over time the clip has, `audience`, the topic whose engagement and watch curve it shows; `boosted` where these were
    bought; `in_backlog` where the heavy model has not run yet; and `label`, the manifest's label.

    Raises CpfdError where the parameters leave a split no creator, or fewer clips than it has creators or topics.
    """
    rng = np.random.default_rng(params.seed)
    creators = _creators(params, rng)
    clips = _publish(params, creators, rng)
    count = len(clips)
    topic = _topics(params, clips, rng)
    clips["topic"] = topic
    clips["category"] = np.where(_exactly(count, params.careless_category_rate, rng), _others(topic, rng), topic)
    clips["look"] = np.where(_exactly(count, params.look_overlap, rng), topic ^ 1, topic)
    clips.loc[_exactly(count, params.talking_head_rate, rng), "look"] = TALKING_HEAD
    clips["course"] = np.where(_exactly(count, params.course_overlap, rng), topic ^ 1, topic)
    clips["boosted"] = _exactly(count, params.boosted_rate, rng)
    clips["audience"] = np.where(clips["boosted"], _others(topic, rng), topic)
    # The heavy model serves established creators first; the clips that wait are more often newcomers'.
    turn = rng.random(count) * np.where(clips["new_creator"], 0.1, 1)
    clips["in_backlog"] = turn.argsort().argsort() < round(params.heavy_backlog_rate * count)
    clips["label"] = _annotate(params, topic, clips["split"].to_numpy() == "train", rng)
    return clips


def _creators(params: Demo, rng: np.random.Generator) -> pd.DataFrame:
    """Invent the creators: main topic, activity (expected share of clips), split, followers."""
    count, topics = params.creators, len(TOPICS)
    popularity = params.topic_ratio ** -(rng.permutation(topics) / (topics - 1))
    quota = np.cumsum(popularity / popularity.sum()) * (count - topics)
    main_topic = np.repeat(np.arange(topics), 1 + np.diff(np.round(quota), prepend=0).astype(int))
    activity = (1.0 + rng.permutation(count)) ** -params.creator_skew
    new = np.zeros(count, bool)
    few_clips = 1 / activity
    newcomers = round(params.new_creator_rate * count)
    new[rng.choice(count, newcomers, replace=False, p=few_clips / few_clips.sum())] = True
    # Every k-th creator in the order of topic and activity: each split gets its share of every topic and of the active.
    order = np.lexsort((activity, main_topic))
    split = np.full(count, "train", object)
    for name, share in (("test", params.test_share), ("validation", params.validation_share)):
        free = order[split[order] == "train"]
        picks = max(1, round(share * count))
        split[free[((np.arange(picks) + rng.random()) * len(free) / picks).astype(int)]] = name
    # Log-normal followers, more of them the more active the creator is.
    followers = np.exp(8 + 0.8 * (np.log(activity) - np.log(activity).mean()) + rng.normal(0, 1.3, count))
    return pd.DataFrame(
        {
            "main_topic": main_topic,
            "activity": activity,
            "new_creator": new,
            "split": split,
            "followers": np.round(followers),
            "hue": rng.normal(0, 8, count),
        }
    )


def _publish(params: Demo, creators: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    """Share the clips out among splits and creators, give them times and order them by time."""
    sizes = {
        "validation": max(len(TOPICS), round(params.validation_share * params.clips)),
        "test": max(len(TOPICS), round(params.test_share * params.clips)),
    }
    sizes["train"] = params.clips - sum(sizes.values())
    clips_of = np.zeros(len(creators), int)
    for split in SPLITS:
        members = np.flatnonzero(creators["split"] == split)
        if not len(members) or sizes[split] < max(len(TOPICS), len(members)):
            raise CpfdError(
                f"params.yaml: demo.clips: the {split} split gets {sizes[split]} of {params.clips} clips and"
                f" {len(members)} of {params.creators} creators, expected at least one creator and one clip for each of"
                f" them and of the {len(TOPICS)} topics; raise demo.clips or change demo.creators,"
                " demo.validation_share or demo.test_share"
            )
        activity = creators["activity"].to_numpy()[members]
        clips_of[members] = 1 + rng.multinomial(sizes[split] - len(members), activity / activity.sum())
    creator = np.repeat(np.arange(len(creators)), clips_of)
    clips = creators.iloc[creator].reset_index(drop=True).assign(creator=creator)
    day = np.where(
        clips["new_creator"],
        DAYS - NEW_CREATOR_DAYS * rng.random(params.clips),
        DAYS * rng.random(params.clips),
    )
    clips["published_at"] = FIRST_DAY + pd.to_timedelta(np.floor(day * 86_400), unit="s")
    clips = clips.sort_values(["published_at", "creator"], ignore_index=True)
    clips["video_id"] = [f"clip-{index:05d}" for index in range(params.clips)]
    clips["creator_id"] = [f"creator-{index:04d}" for index in clips["creator"]]
    return clips


def _topics(params: Demo, clips: pd.DataFrame, rng: np.random.Generator) -> Indices:
    """Draw the topic of each clip around its creator's main topic; every topic occurs in every split."""
    main_topic = clips["main_topic"].to_numpy()
    off_topic = _exactly(len(clips), params.off_topic_rate, rng)
    topic = np.where(off_topic, _others(main_topic, rng), main_topic)
    for split in SPLITS:
        members = np.flatnonzero(clips["split"] == split)
        for absent in sorted(set(range(len(TOPICS))) - set(topic[members])):
            commonest = np.bincount(topic[members]).argmax()
            topic[members[topic[members] == commonest][0]] = absent
    return topic


def _annotate(params: Demo, topic: Indices, training: Mask, rng: np.random.Generator) -> list[str]:
    """Label the clips: gold outside of the training split, by fallible annotators within; "" where nobody looked.

    The first training clip of each topic is the example that the annotators were shown, so its label is right.
    """
    examples = [np.flatnonzero(training & (topic == index))[0] for index in range(len(TOPICS))]
    others = np.setdiff1d(np.flatnonzero(training), examples)
    rng.shuffle(others)
    unlabelled = min(len(others), round(params.unlabelled_share * training.sum()))
    labelled = others[unlabelled:]
    wrong = labelled[: round(params.annotator_error_rate * (training.sum() - unlabelled))]
    alike = round(params.confusable_error_share * len(wrong))
    given = topic.copy()
    given[wrong[:alike]] ^= 1
    given[wrong[alike:]] = _others(topic[wrong[alike:]], rng, and_not_alike=True)
    labels = np.array(TOPICS, object)[given]
    labels[others[:unlabelled]] = ""
    return list(labels)


def _exactly(count: int, rate: float, rng: np.random.Generator) -> Mask:
    """Choose round(rate * count) of `count` clips."""
    return rng.permutation(count) < round(rate * count)


def _others(topic: Indices, rng: np.random.Generator, *, and_not_alike: bool = False) -> Indices:
    """Draw for each topic one of the other topics, its look-alike included unless `and_not_alike`."""
    # XOR with 1..7 reaches every other of the eight topics, XOR with 1 the look-alike.
    return topic ^ rng.integers(2 if and_not_alike else 1, len(TOPICS), len(topic))
