"""How fast this machine trains: the first steps of a student, tried on made-up clips of the right size."""

import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cpfd.features.backbones import text_spec, vision_spec
from cpfd.features.store import PARTS, FeatureStore
from cpfd.files import write_json, write_table
from cpfd.params.schema import Params
from cpfd.training.batches import ClipDataset
from cpfd.training.cost import Clips
from cpfd.training.fit import TrainingRun, fit, network_config

_STEPS = 8
_LEAST = 1e-4
"""Seconds of a step: a busy machine may make the longer trial the quicker one."""
_PATIENCE = 20.0
"""Seconds: where one step with all that comes before it takes longer, that one is the measure."""


class Speed(NamedTuple):
    """Seconds that a network takes here before and after its steps, and that each optimiser step takes."""

    network: float
    step: float


def try_speed(params: Params, clips: Clips, scratch: Path) -> Speed:
    """Train a student for a step and, if that is quick, another for some more; a teacher's steps take little longer.

    `scratch` is a folder for what the trial needs.
    """
    one = _seconds(params, clips, 1, scratch / "one")
    if one > _PATIENCE:
        return Speed(0.0, one)
    step = max((_seconds(params, clips, 1 + _STEPS, scratch / "more") - one) / _STEPS, _LEAST)
    return Speed(max(one - step, 0.0), step)


def _seconds(params: Params, clips: Clips, steps: int, folder: Path) -> float:
    """Seconds of a training of so many steps, evaluation included."""
    store = _made_up_store(params, clips, steps * params.train.batch_size, folder)
    training = ClipDataset(store, np.arange(len(store.index)))
    network = network_config(store, params.model, params.train)
    budget = params.train.model_copy(update={"epochs": 1})
    began = time.monotonic()
    fit(network, training, ClipDataset(store, np.arange(1)), budget, TrainingRun(0, "trial", folder / "scratch"))
    return time.monotonic() - began


def _made_up_store(params: Params, clips: Clips, count: int, folder: Path) -> FeatureStore:
    """A feature store of `count` labelled training clips in which all is zero."""
    vision = vision_spec(params.backbone.vision, params.backbone.vision_revision, params.video.grid, params.video.size)
    text = text_spec(params.backbone.text, params.backbone.text_revision)
    frames, tokens = params.video.frames if clips.videos else 0, params.text.max_tokens if clips.texts else 1
    arrays: tuple[NDArray[np.generic], ...]
    mask = np.ones((count, tokens), np.bool_)
    if params.backbone.mode == "frozen":
        visual = np.zeros((count, frames, params.video.grid**2, vision["dim"]), np.float16)
        arrays = visual, np.zeros((count, tokens, text["dim"]), np.float16), mask
    else:
        pictures = np.zeros((count, frames, params.video.size, params.video.size, 3), np.uint8)
        arrays = pictures, np.zeros((count, tokens), np.int64), mask
    shard = folder / "shards" / "00000"
    shard.mkdir(parents=True)
    for name, values in zip(PARTS, arrays, strict=True):
        np.save(shard / f"{name}.npy", values)
    classes = [f"class {number}" for number in range(clips.classes)]
    index = pd.DataFrame({"video_id": [str(number) for number in range(count)], "split": "train", "creator_id": ""})
    index["label"] = np.resize(classes, count)
    write_table(folder / "index.parquet", index.assign(has_video=clips.videos, has_text=clips.texts))
    described = {"mode": params.backbone.mode, "frames": frames, "size": params.video.size, "max_tokens": tokens}
    about = {"task": params.dataset.task, "classes": classes, "text_columns": ["title"], "vision": vision, "text": text}
    write_json(folder / "meta.json", described | about)
    return FeatureStore(folder)
