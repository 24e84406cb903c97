"""The generated demo data set; docs/demo-dataset.md tells its story.

`story` decides who films what, when, and how it is labelled; `text` writes captions; `video` renders and measures the
clips; `dense` makes the table of privileged features.
"""

from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory

import cv2
import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from cpfd.datasets.contract import MANIFEST_COLUMNS, write_dataset
from cpfd.demo.dense import dense_table
from cpfd.demo.story import own_rng, tell_story
from cpfd.demo.text import caption, overlay
from cpfd.demo.video import encode, heavy_embedding, render
from cpfd.params.schema import Demo

Scene = tuple[Path, int, int, str, float]
"""Where a clip goes; topics of its look and of its course; text over the frames; hue of its creator's filter."""


def generate(folder: Path, params: Demo, *, processes: int | None = None) -> None:
    """Write the demo data set to `folder`, whole or not at all; the same parameters give the same bytes.

    `processes` (default: one per available core) changes the time that it takes and nothing else.

    Raises CpfdError where `params.clips` does not suffice for the splits.
    """
    clips = tell_story(params)
    rngs = [own_rng(params.seed, index, "text") for index in range(len(clips))]
    clips["caption"] = [caption(topic, params, rng) for topic, rng in zip(clips["topic"], rngs, strict=True)]
    clips["overlay_text"] = [overlay(topic, params, rng) for topic, rng in zip(clips["topic"], rngs, strict=True)]
    clips["path"] = clips["video_id"] + ".mp4"
    folder.parent.mkdir(parents=True, exist_ok=True)
    # Beside the folder, so that finished clips are linked into it rather than copied.
    with TemporaryDirectory(prefix=f".{folder.name}.", dir=folder.parent) as scratch:
        videos = {path: Path(scratch, path) for path in clips["path"]}
        scenes = clips[["look", "course", "overlay_text", "hue"]].itertuples(index=False, name=None)
        heavy = _film([(path, *scene) for path, scene in zip(videos.values(), scenes, strict=True)], params, processes)
        dense = dense_table(clips, heavy, params)
        clips["published_at"] = clips["published_at"].dt.strftime("%Y-%m-%dT%H:%M:%SZ")
        manifest = clips[clips.columns.intersection(list(MANIFEST_COLUMNS))]
        write_dataset(folder, manifest, dense, videos)


def _film(scenes: list[Scene], params: Demo, processes: int | None) -> NDArray[np.float32]:
    """Render and encode all clips, spread over processes; returns their heavy embeddings[clips, HEAVY_DIMS]."""
    # Spawned, not forked: a fork of a process in which torch or OpenCV run threads may hang.
    with ProcessPoolExecutor(processes, get_context("spawn"), cv2.setNumThreads, (1,)) as pool:
        film = partial(_film_clip, params.seed)
        clips = pool.map(film, range(len(scenes)), scenes, chunksize=8)
        return np.stack(list(tqdm(clips, "demo clips", len(scenes), unit="clips")))


def _film_clip(seed: int, index: int, scene: Scene) -> NDArray[np.float32]:
    path, look, course, overlay_text, hue = scene
    frames = render(look, course, overlay_text, hue, own_rng(seed, index, "video"))
    encode(path, frames)
    return heavy_embedding(frames)
