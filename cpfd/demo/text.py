"""Captions and overlay text: sentences from templates, with words of the topic, of its look-alike and of everybody."""

import numpy as np

from cpfd.demo.story import TOPICS
from cpfd.params.schema import Demo

_DOING = {
    "cooking": ["stirring", "simmering", "seasoning", "whisking", "tasting", "plating"],
    "crafts": ["glueing", "folding", "stitching", "sanding", "painting", "carving"],
    "dance": ["spinning to", "freestyling to", "choreographing", "performing", "grooving to", "dancing to"],
    "fitness": ["repping out", "stretching for", "warming up for", "lifting for", "sweating through", "training for"],
    "gaming": ["speedrunning", "beating", "grinding", "streaming", "losing", "clutching"],
    "software": ["debugging", "shipping", "refactoring", "installing", "automating", "deploying"],
    "travel": ["wandering through", "road tripping to", "landing in", "checking into", "sightseeing in", "leaving for"],
    "wildlife": ["tracking", "spotting", "filming", "waiting for", "listening to", "following"],
}
_THING = {
    "cooking": ["the sauce", "a pot of soup", "grandma's noodles", "fresh dough", "a quick curry", "the onions"],
    "crafts": ["a paper crane", "the wooden frame", "an old chair", "a clay pot", "my knitted scarf", "the tiny house"],
    "dance": ["the new choreo", "this beat", "our duet", "the chorus", "a slow song", "the battle round"],
    "fitness": ["leg day", "fifty squats", "the last set", "a marathon", "morning mobility", "my deadlift"],
    "gaming": ["the final boss", "ranked matches", "this level", "a new save", "the hidden map", "co-op mode"],
    "software": ["the new update", "a tiny script", "my editor setup", "the login page", "this app", "a broken build"],
    "travel": ["the old town", "a mountain pass", "the night train", "our hostel", "the coast road", "an empty beach"],
    "wildlife": ["a red fox", "the heron", "two young deer", "the beaver dam", "an owl at dusk", "the wild geese"],
}
_TAGS = {
    "cooking": ["#recipe", "#homecook", "#foodtok"],
    "crafts": ["#diy", "#handmade", "#maker"],
    "dance": ["#dancechallenge", "#choreo", "#dancer"],
    "fitness": ["#workout", "#gymtok", "#fitcheck"],
    "gaming": ["#gamer", "#gameplay", "#esports"],
    "software": ["#coding", "#devlife", "#techtips"],
    "travel": ["#wanderlust", "#travelgram", "#roadtrip"],
    "wildlife": ["#wildlife", "#naturewatch", "#birding"],
}
_SHARED_DOING = [
    "trying",
    "working on",
    "showing you",
    "starting",
    "finishing",
    "finally getting",
    "practising",
    "doing",
]
_SHARED_THING = [
    "something new", "the whole thing", "this idea", "my favourite part", "what you asked for", "the hard bit",
    "a little project", "the thing from last week", "my weekend plan", "the easy version",
]  # fmt: skip
_SHARED_TAGS = ["#fyp", "#viral", "#foryou", "#dayinmylife", "#learnontiktok", "#relatable"]
_TEMPLATES = [
    "{doing} {thing} before work",
    "POV: you are {doing} {thing}",
    "nobody told me {doing} {thing} was this hard",
    "day {n} of {doing} {thing}",
    "{doing} {thing} with my sister, part {n}",
    "how I keep {doing} {thing} without losing my mind",
    "{n} seconds of me {doing} {thing}",
    "I was wrong about {thing}",
    "is {thing} worth it? wait for the end",
    "come along, we are {doing} {thing}",
    "my honest opinion on {doing} {thing}",
    "when {doing} {thing} goes better than planned",
]
_OVERLAYS = [
    "wait for it",
    "part {n}",
    "day {n}",
    "{thing}",
    "{thing}",
    "watch till the end",
    "me {doing} it",
    "step {n}",
]


def caption(topic: int, params: Demo, rng: np.random.Generator) -> str:
    """Write a caption for a clip on TOPICS[topic]; "" where the creator wrote none."""
    if rng.random() < params.missing_caption_rate:
        return ""
    sentence = _fill(str(rng.choice(_TEMPLATES)), topic, params, rng)
    tags = dict.fromkeys(_word(_TAGS, _SHARED_TAGS, topic, params, rng) for _ in range(rng.integers(0, 3)))
    return " ".join([sentence, *tags])


def overlay(topic: int, params: Demo, rng: np.random.Generator) -> str:
    """Write the text laid over the frames of a clip on TOPICS[topic]; "" where there is none."""
    if rng.random() < params.missing_overlay_rate:
        return ""
    return _fill(str(rng.choice(_OVERLAYS)), topic, params, rng)


def _fill(template: str, topic: int, params: Demo, rng: np.random.Generator) -> str:
    return template.format(
        doing=_word(_DOING, _SHARED_DOING, topic, params, rng),
        thing=_word(_THING, _SHARED_THING, topic, params, rng),
        n=rng.integers(2, 31),
    )


def _word(
    vocabulary: dict[str, list[str]], shared: list[str], topic: int, params: Demo, rng: np.random.Generator
) -> str:
    if rng.random() < params.wording_overlap:
        return str(rng.choice(shared))
    alike = int(rng.random() < params.confusable_wording)
    return str(rng.choice(vocabulary[TOPICS[topic ^ alike]]))
