"""How fast this machine trains: the first steps of a student, tried on made-up clips of the right size."""

import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from safetensors.numpy import save_file

from cpfd.features.backbones import text_spec, vision_spec
from cpfd.features.store import PARTS, FeatureStore, shard_file
from cpfd.files import write_json, write_table
from cpfd.params.schema import Params
from cpfd.training.batches import ClipDataset
from cpfd.training.cost import Clips
from cpfd.training.fit import TrainingRun, fit, network_config

_MORE = 5
"""Steps, or epochs of one step, of the trials that are compared with a trial of one step."""
_LEAST = 1e-4
"""Seconds of a step: a busy machine may make the longer trial the quicker one."""
_PATIENCE = 20.0
"""Seconds: where one step with all that comes before it takes longer, that one is the measure."""


class Speed(NamedTuple):
    """Seconds that it takes here to set up a network, to end an epoch (evaluation, checkpoint), and for a step."""

    network: float
    epoch: float
    step: float


def try_speed(params: Params, clips: Clips, scratch: Path) -> Speed:
    """Train a student for a step and, if that is quick, for some more; a teacher's steps take little longer.

    `scratch` is a folder for what the trial needs.
    """
    first = _seconds(params, clips, scratch / "first")
    if first > _PATIENCE:
        return Speed(0.0, 0.0, first)
    one = _seconds(params, clips, scratch / "one")  # the first also pays for what libraries set up
    step = max((_seconds(params, clips, scratch / "steps", steps=1 + _MORE) - one) / _MORE, _LEAST)
    epoch = max((_seconds(params, clips, scratch / "epochs", epochs=1 + _MORE) - one) / _MORE - step, 0.0)
    return Speed(max(one - epoch - step, 0.0), epoch, step)


def _seconds(params: Params, clips: Clips, folder: Path, *, epochs: int = 1, steps: int = 1) -> float:
    """Seconds of a training of so many epochs of so many steps."""
    store = _made_up_store(params, clips, steps * params.train.batch_size, folder)
    training = ClipDataset(store, np.arange(len(store.index)))
    network = network_config(store, params.model, params.train)
    budget = params.train.model_copy(update={"epochs": epochs, "patience": epochs})
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
    (folder / "shards").mkdir(parents=True)
    save_file(dict(zip(PARTS, arrays, strict=True)), folder / "shards" / shard_file("zeros"))
    write_table(folder / "shards.parquet", pd.DataFrame({"name": ["zeros"], "clips": [count]}))
    classes = [f"class {number}" for number in range(clips.classes)]
    index = pd.DataFrame({"video_id": [str(number) for number in range(count)]})
    write_table(folder / "index.parquet", index.assign(has_video=clips.videos, has_text=clips.texts))
    write_table(folder / "labels.parquet", index.assign(split="train", label=np.resize(classes, count)))
    write_json(folder / "task.json", {"task": params.dataset.task, "classes": classes, "has_dense": clips.dense})
    described = {"mode": params.backbone.mode, "frames": frames, "size": params.video.size, "max_tokens": tokens}
    write_json(folder / "meta.json", described | {"text_columns": ["title"], "vision": vision, "text": text})
    return FeatureStore(folder, folder)
