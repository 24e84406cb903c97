"""Frames of a clip, sampled uniformly in time."""

from pathlib import Path

import numpy as np
from av.container import InputContainer
from av.video.stream import VideoStream
from numpy.typing import NDArray

from cpfd.datasets.video import ClipError, is_still, open_video, to_rgb

KEYFRAME_MARGIN = 0.5
"""Seconds that a key frame must lie before a wanted time to be jumped to: indices know decoding times, and with
B-frames a frame is shown a few frames later than it is decoded."""


def sample_frames(path: Path, count: int, size: int) -> NDArray[np.uint8]:
    """Sample `count` frames at the middles of equally long parts of a clip: rgb[count, size, size, 3], uint8.

    A frame is squeezed to a square rather than cropped, so that no edge of a portrait clip is lost. A clip with fewer
    frames repeats them; a still image repeats its one. Decoding stops at the last frame that is needed, and jumps
    ahead where a key frame lies between two of them.

    Raises ClipError when a frame on the way cannot be decoded.
    """
    sampled = []
    with open_video(path) as (container, stream):
        start, end, tick = _times(container, stream)
        keyframes = np.array([entry.timestamp for entry in stream.index_entries if entry.is_keyframe]) * tick
        decoder = container.decode(stream)
        shown, upcoming = None, next(decoder, None)
        for time in start + (np.arange(count) + 0.5) / count * (end - start):
            keyframe = keyframes[keyframes <= time - KEYFRAME_MARGIN].max(initial=-np.inf)
            if upcoming is not None and keyframe > _seconds(upcoming.pts, tick):
                container.seek(round(keyframe / tick), stream=stream)
                decoder = container.decode(stream)
                shown, upcoming = None, next(decoder, None)
            # A frame stays on screen until the next one starts.
            while upcoming is not None and (shown is None or _seconds(upcoming.pts, tick) <= time):
                shown, upcoming = upcoming, next(decoder, None)
            if shown is None:
                raise ClipError("no frame can be decoded")
            sampled.append(to_rgb(shown, (size, size)))
    return np.stack(sampled)


def _times(container: InputContainer, stream: VideoStream) -> tuple[float, float, float]:
    """First and last moment of the stream and the length of its tick, seconds."""
    tick = float(stream.time_base or 0)
    start = (stream.start_time or 0) * tick
    if stream.duration is not None:
        return start, start + stream.duration * tick, tick
    if container.duration is not None:
        return start, start + container.duration / 1e6, tick
    if is_still(container):
        return start, start, tick
    raise ClipError("its duration is unknown")


def _seconds(pts: int | None, tick: float) -> float:
    if pts is None:
        raise ClipError("its frames carry no timestamps")
    return pts * tick
