"""Frames of a clip, sampled uniformly in time."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cpfd.datasets.limits import Limits
from cpfd.datasets.video import ClipError, open_shown, to_rgb


def sample_frames(path: Path, count: int, size: int, limits: Limits | None = None) -> NDArray[np.uint8]:
    """Sample `count` frames at the middles of equally long parts of a clip: rgb[count, size, size, 3], uint8.

    The clip is the time in which its pictures are shown, from the first one's beginning to the last one's end. A frame
    is squeezed to a square rather than cropped, so that no edge of a portrait clip is lost. A clip with fewer frames
    repeats them; a still image repeats its one. Decoding stops at the last frame that is needed, and jumps ahead where
    a key frame lies between two of them.

    Raises ClipError when the clip is beyond `limits` or a frame on the way cannot be decoded.
    """
    sampled: list[NDArray[np.uint8]] = []
    with open_shown(path, limits) as (container, stream, showing):
        frames = showing.timed(container.decode(stream))
        shown, upcoming, drawn = None, next(frames, None), None
        for part in range(count):
            time = showing.middle(part, count)
            keyframe = showing.keyframe(time)
            if upcoming is not None and keyframe is not None and keyframe > upcoming[0]:
                # MP4 is sought in by times of decoding: it may go one too far where frames come unevenly.
                for start in (keyframe, showing.keyframes[0]):
                    container.seek(start, stream=stream)
                    frames = showing.timed(container.decode(stream))
                    shown, upcoming = None, next(frames, None)
                    if upcoming is not None and upcoming[0] <= time:
                        break
            # A frame stays on screen until the next one starts.
            while upcoming is not None and (shown is None or upcoming[0] <= time):
                shown, upcoming = upcoming, next(frames, None)
            if shown is None:
                raise ClipError("no frame can be decoded")
            if shown is not drawn:
                rgb, drawn = to_rgb(shown[1], (size, size)), shown
            sampled.append(rgb)
    return np.stack(sampled)
