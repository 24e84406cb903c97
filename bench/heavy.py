"""Heavy-model features of every frame, a dense table: `python -m bench.heavy --help`.

A student sees a few small frames. Here EfficientNet-Lite0 sees every frame (or every N-th) at 96 x 96 pixels; the
dense features of a clip are mean, standard deviation and mean absolute change from frame to frame of its 1,280 values,
each projected to 32 by a fixed random matrix (Johnson-Lindenstrauss): one fitted on the clips would have seen the test
split.
"""

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Annotated

import numpy as np
import pandas as pd
import torch
import typer
from tqdm import tqdm

from bench import command
from cpfd.datasets.video import decode, to_rgb
from cpfd.errors import CpfdError
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


def main(
    clips: Annotated[Path, typer.Argument(exists=True, file_okay=False, help="Folder of videos, subfolders included.")],
    table: Annotated[Path, typer.Argument(dir_okay=False, help="The table to write, .parquet or .csv.")],
    stride: Annotated[int, typer.Option(min=1, help="Look at every N-th frame.")] = 1,
) -> None:
    """Write dense features of clips as a heavy model sees them, for `cpfd import folder --dense TABLE`.

    Example: python -m bench.heavy clips heavy.parquet --stride 4
    """
    found = sorted(path for path in clips.rglob("*") if path.suffix.lower() in SUFFIXES)
    if not found:
        raise CpfdError(f"{clips}: no clip in this folder; expected files that end in {', '.join(SUFFIXES)}")
    write_table(table, heavy_table(found, stride))


if __name__ == "__main__":
    command.run(main)
