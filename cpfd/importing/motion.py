"""Motion statistics of clips: an expensive kind of dense feature, since every frame is decoded and compared.

Speeds are in frame sides per second, measured on frames shrunk to SIDE x SIDE pixels, so that clips of any
resolution, shape and frame rate compare.
"""

import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from tqdm import tqdm

from cpfd.datasets.isolation import isolated
from cpfd.datasets.limits import Limits
from cpfd.datasets.video import ClipError, decode, to_rgb

# Clips are measured side by side; OpenCV's own threads would add nothing but bits that depend on the number of cores.
cv2.setNumThreads(1)

SIDE = 96
"""Height and width that frames are shrunk to before they are compared, pixels."""
STILL_SPEED = 0.01
"""Mean speed below which a frame counts as still, frame sides per second."""
DIRECTIONS = 8
BLOCKS = 3

MOTION_COLUMNS = (
    *("motion_speed_mean", "motion_speed_std", "motion_speed_max"),
    *("motion_speed_q50", "motion_speed_q90", "motion_speed_q99", "motion_speed_peak"),
    *("motion_acceleration_mean", "motion_acceleration_std", "motion_acceleration_max"),
    *("motion_direction_entropy", "motion_direction_entropy_frame", "motion_still_share"),
    *(f"motion_block_{row}{column}" for row in range(BLOCKS) for column in range(BLOCKS)),
)
"""Names of the values of `motion`, in order; docs/datasets.md says what each one is."""


def motion(path: Path) -> NDArray[np.float64]:
    """Measure the optical flow (Farneback 2003) between all successive frames of a clip: one value a MOTION_COLUMNS.

    With m_t[y, x] the speed between frames t and t + 1, in frame sides per second: `speed_mean`, `_std` and `_max` are
    over time, of the frame's mean; `_q50`, `_q90`, `_q99` are mean quantiles within a frame, `_peak` the greatest q99;
    acceleration is the frame's mean of |m_(t+1) - m_t| per second; entropies are those of flow directions weighted by
    speed, as a share of the largest possible, over the clip and as the mean over its frames; `still_share` is the
    share of frames slower than STILL_SPEED; `block_yx` is the mean speed in a 3 x 3 grid.

    A clip of one frame has no motion to speak of: all values are NaN. With two frames accelerations are NaN; without
    any motion the entropies are. Raises ClipError when the clip cannot be decoded to its end.
    """
    times: list[float | None] = []
    fields, directions, changes = [], [], []
    previous_frame = previous_speed = None
    for frame in decode(path, Limits()):
        grey = cv2.cvtColor(to_rgb(frame, (SIDE, SIDE)), cv2.COLOR_RGB2GRAY)
        times.append(frame.time)
        if previous_frame is not None:
            flow = cv2.calcOpticalFlowFarneback(previous_frame, grey, None, 0.5, 3, 15, 2, 5, 1.1, 0)
            speed, angle = cv2.cartToPolar(flow[..., 0], flow[..., 1])
            bins = np.minimum((angle * (DIRECTIONS / (2 * np.pi))).astype(np.intp), DIRECTIONS - 1)
            directions.append(np.bincount(bins.ravel(), weights=speed.ravel(), minlength=DIRECTIONS))
            cells = speed.reshape(BLOCKS, SIDE // BLOCKS, BLOCKS, SIDE // BLOCKS).mean(axis=(1, 3), dtype=np.float64)
            fields.append([speed.mean(dtype=np.float64), *np.quantile(speed, [0.5, 0.9, 0.99]), *cells.ravel()])
            if previous_speed is not None:
                changes.append(np.abs(speed - previous_speed).mean(dtype=np.float64))
            previous_speed = speed
        previous_frame = grey
    if len(times) < 2:
        return np.full(len(MOTION_COLUMNS), np.nan)
    rate = _frames_per_second(times)
    speeds = np.array(fields) * (rate / SIDE)
    mean, quantiles, blocks = speeds[:, 0], speeds[:, 1:4], speeds[:, 4:]
    change = np.array(changes) * (rate * rate / SIDE) if changes else np.array([np.nan])
    weights = np.array(directions)
    return np.array(
        [
            *(mean.mean(), mean.std(), mean.max()),
            *quantiles.mean(axis=0),
            quantiles[:, 2].max(),
            *(change.mean(), change.std(), change.max()),
            _entropy(weights.sum(axis=0)),
            _mean(np.array([_entropy(weight) for weight in weights])),
            (mean < STILL_SPEED).mean(),
            *blocks.mean(axis=0),
        ]
    )


def motion_table(clips: Mapping[str, Path]) -> tuple[pd.DataFrame, list[str]]:
    """Measure many clips, named by video_id, side by side on all cores.

    Returns the dense table (`video_id` and MOTION_COLUMNS, one row per clip in the order given) and, for every clip
    that cannot be decoded and so has NaN in every column, a line with its id and the reason.
    """
    with ThreadPoolExecutor(os.cpu_count()) as pool:  # decoding, scaling and flow all release the interpreter lock
        measured = tqdm(pool.map(_motion_or_reason, clips.values()), "motion", len(clips), unit="clips")
        rows = list(measured)
    failed = [f"{video_id}: {row}" for video_id, row in zip(clips, rows, strict=True) if isinstance(row, str)]
    missing = np.full(len(MOTION_COLUMNS), np.nan)
    values = [missing if isinstance(row, str) else row for row in rows]
    table = pd.DataFrame(np.array(values).reshape(len(clips), len(MOTION_COLUMNS)), columns=list(MOTION_COLUMNS))
    table.insert(0, "video_id", list(clips))
    return table, failed


def _motion_or_reason(path: Path) -> NDArray[np.float64] | str:
    try:
        return isolated(motion, path)
    except ClipError as error:
        return str(error)


def _frames_per_second(times: list[float | None]) -> float:
    steps = [later - earlier for earlier, later in pairwise(times) if later is not None and earlier is not None]
    if len(steps) < len(times) - 1 or sum(steps) <= 0:
        raise ClipError("its frames carry no times, so that no speed can be measured")
    return len(steps) / sum(steps)


def _entropy(weights: NDArray[np.float64]) -> float:
    total = weights.sum()
    if total == 0:
        return float("nan")
    shares = weights[weights > 0] / total
    return float(-(shares * np.log(shares)).sum() / np.log(len(weights)))


def _mean(values: NDArray[np.float64]) -> float:
    known = values[~np.isnan(values)]
    return float(known.mean()) if known.size else float("nan")
