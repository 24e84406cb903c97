"""Reading clips with PyAV: what a file says of itself, and its frames."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import av
import av.logging
import numpy as np
from av.container import InputContainer
from av.video.stream import VideoStream
from numpy.typing import NDArray

# FFmpeg's own messages on broken input would interleave with progress bars; every failure is raised as ClipError.
av.logging.set_level(av.logging.PANIC)


class ClipError(Exception):
    """A clip that cannot be used, with the reason: cause for quarantine, not for a crash."""


@dataclass(frozen=True)
class Probe:
    """What a clip's container and packets say: `seconds` of a still image is 0."""

    seconds: float
    width: int
    height: int
    frames: int
    frames_per_second: float


def probe(path: Path) -> Probe:
    """Read a clip's packets without decoding more than its first frame.

    Raises ClipError when the file is missing, empty, not a video, has no video stream, ends before all the frames
    that its header announces, or its first frame cannot be decoded.
    """
    with open_video(path) as (container, stream):
        packets = [packet for packet in container.demux(stream) if packet.size]
        times = [float(p.pts * p.time_base) for p in packets if p.pts is not None and p.time_base is not None]
        ends = [
            float((p.pts + (p.duration or 0)) * p.time_base)
            for p in packets
            if p.pts is not None and p.time_base is not None
        ]
        announced = stream.frames
        still = is_still(container)
        rate = float(stream.average_rate or 0)
    if announced and len(packets) < announced:
        raise ClipError(f"truncated: {len(packets)} of {announced} frames are there")
    if not packets:
        raise ClipError("has no frames")
    first = next(iter_frames(path), None)
    if first is None:
        raise ClipError("no frame can be decoded")
    seconds = 0.0 if still or not times else max(ends) - min(times)
    return Probe(seconds, first.shape[1], first.shape[0], len(packets), rate)


def iter_frames(path: Path, size: tuple[int, int] | None = None) -> Iterator[NDArray[np.uint8]]:
    """Decode every frame in order as rgb[H, W, 3], uint8, upright; `size` = (width, height) resizes.

    Raises ClipError at the first frame that cannot be decoded.
    """
    for frame in decode(path):
        yield to_rgb(frame, size)


def is_still(container: InputContainer) -> bool:
    """Whether FFmpeg reads the file as an image rather than as a video."""
    return container.format.name.endswith("_pipe") or container.format.name == "image2"


def decode(path: Path) -> Iterator[av.VideoFrame]:
    """Decode every frame in order, in the clip's own pixel format; raises ClipError at the first that fails."""
    with open_video(path) as (container, stream):
        yield from container.decode(stream)


def to_rgb(frame: av.VideoFrame, size: tuple[int, int] | None = None) -> NDArray[np.uint8]:
    """Turn a decoded frame upright and into rgb[H, W, 3], uint8; `size` = (width, height) resizes by bilinear filter.

    Deep colour, odd sides, grey and palette formats all come out as 8-bit RGB.
    """
    turns = round(frame.rotation / 90) % 4
    width, height = size or (frame.width, frame.height)
    if size and turns % 2:
        width, height = height, width
    rgb = np.asarray(
        frame.reformat(width=width, height=height, format="rgb24", interpolation="BILINEAR").to_ndarray(), np.uint8
    )
    return np.ascontiguousarray(np.rot90(rgb, turns)) if turns else rgb


@contextmanager
def open_video(path: Path) -> Iterator[tuple[InputContainer, VideoStream]]:
    """Open a clip and its first video stream; whatever FFmpeg refuses inside the block is raised as ClipError."""
    if not path.is_file():
        raise ClipError("file is missing")
    if path.stat().st_size == 0:
        raise ClipError("file is empty (0 bytes)")
    try:
        with av.open(str(path)) as container:
            if not container.streams.video:
                raise ClipError("has no video stream")
            stream = container.streams.video[0]
            if stream.codec_context is None or stream.codec_context.width == 0:
                raise ClipError("its video stream cannot be decoded")
            stream.thread_type = "NONE"  # clips are decoded side by side; threads within one would only add latency
            yield container, stream
    except (av.FFmpegError, ValueError) as error:
        raise ClipError(f"cannot be decoded: {getattr(error, 'strerror', None) or error}") from error
