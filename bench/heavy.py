"""Heavy-model features of every frame, a dense table: `python -m bench.heavy CLIPS TABLE [--stride N]`.

A student sees a few small frames. Here EfficientNet-Lite0 sees every frame (or every N-th) at 96 x 96 pixels; the
dense features of a clip are mean, standard deviation and mean absolute change from frame to frame of its 1,280 values,
each projected to 32 by a fixed random matrix (Johnson-Lindenstrauss): one fitted on the clips would have seen the test
split.
"""

import argparse
import os
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from tqdm import tqdm

from cpfd.datasets.video import decode, to_rgb
from cpfd.features.backbones import EFFICIENTNET, VisionEncoder, vision_spec
from cpfd.files import write_table
from cpfd.importing.folder import SUFFIXES

SIDE = 96
COLUMNS = 32
FRAMES_TOGETHER = 16


def heavy_table(clips: list[Path], stride: int) -> pd.DataFrame:
    """Dense table of `clips`, named by their stem: video_id and 3 x COLUMNS values."""
    torch.set_num_threads(1)
    encoder = VisionEncoder(vision_spec(EFFICIENTNET, None, 1, SIDE), pretrained=True).eval()
    projection = np.random.default_rng(0).normal(size=(encoder.dim, COLUMNS)) / np.sqrt(COLUMNS)

    def describe(clip: Path) -> np.ndarray:
        every = _encode(encoder, clip, stride)
        change = np.abs(np.diff(every, axis=0)).mean(0) if len(every) > 1 else np.zeros(encoder.dim)
        return np.concatenate([part @ projection for part in (every.mean(0), every.std(0), change)])

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        rows = list(tqdm(pool.map(describe, clips), "heavy features", len(clips), unit="clips", mininterval=5))
    names = [f"heavy_{part}_{at:02d}" for part in ("mean", "std", "change") for at in range(COLUMNS)]
    table = pd.DataFrame(np.array(rows), columns=names)
    table.insert(0, "video_id", [clip.stem for clip in clips])
    return table


@torch.inference_mode()
def _encode(encoder: VisionEncoder, clip: Path, stride: int) -> np.ndarray:
    """Features[T, D] of the clip's frames, a few at a time."""
    features, waiting = [], []
    for number, frame in enumerate(decode(clip)):
        if number % stride == 0:
            waiting.append(to_rgb(frame, (SIDE, SIDE)))
        if len(waiting) == FRAMES_TOGETHER:
            features.append(encoder(torch.from_numpy(np.stack(waiting)))[:, 0])
            waiting = []
    if waiting:
        features.append(encoder(torch.from_numpy(np.stack(waiting)))[:, 0])
    return torch.cat(features).numpy()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.heavy", description=__doc__)
    parser.add_argument("clips", type=Path)
    parser.add_argument("table", type=Path)
    parser.add_argument("--stride", type=int, default=1)
    options = parser.parse_args()
    clips = sorted(path for path in options.clips.rglob("*") if path.suffix.lower() in SUFFIXES)
    if not clips:
        sys.exit(f"error: {options.clips}: no clips found")
    write_table(options.table, heavy_table(clips, options.stride))


if __name__ == "__main__":
    main()
