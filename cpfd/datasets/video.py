"""Reading clips with PyAV: what a file says of itself, when its pictures are shown, and its frames."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import cast

import av
import av.logging
import numpy as np
from av.container import InputContainer
from av.stream import Disposition
from av.video.stream import VideoStream
from numpy.typing import NDArray

from cpfd.datasets.limits import Limits
from cpfd.datasets.showing import ClipError as ClipError
from cpfd.datasets.showing import Showing, read_showing

# FFmpeg's own messages on broken input would interleave with progress bars; every failure is raised as ClipError.
av.logging.set_level(av.logging.PANIC)
av.logging.set_skip_repeated(False)  # else the second clip of two with the same fault has no reason

FORMATS = (
    *("mov", "matroska", "avi", "flv", "mpegts", "mpeg", "mpegvideo", "asf", "ogg"),
    *("gif", "apng", "image2", "jpeg_pipe", "png_pipe", "webp_pipe", "bmp_pipe"),
)
"""FFmpeg's names of the containers that are opened; all others, playlists above all, may lead to other files."""


@dataclass(frozen=True)
class Probe:
    """What a clip's container and packets say: `seconds` of a still image is 0, `frames` are those that are shown."""

    seconds: float
    width: int
    height: int
    frames: int
    frames_per_second: float


def locate(root: Path, path: str) -> Path:
    """The file of a clip that a table gives as `path`, relative to the folder `root`; nothing is opened.

    Raises ClipError where the path, or a symbolic link that it is or passes, leaves the folder.
    """
    leaves = f"path leaves {root.name or 'its folder'}/: '{path}'"
    if PurePosixPath(path).is_absolute():
        raise ClipError(f"{leaves} is absolute")
    if ".." in PurePosixPath(path).parts:
        raise ClipError(leaves)
    try:
        file = (root / path).resolve()
        if any(each.is_symlink() for each in (file, *file.parents)):  # from Python 3.13 on, a loop is left as it is
            raise RuntimeError
        inside = file.is_relative_to(root.resolve())
    except (OSError, RuntimeError, ValueError):  # links in a loop, NUL in a name, a name too long
        raise ClipError(f"file cannot be read: '{path}'") from None
    if not inside and "/files/md5/" in file.as_posix():
        raise ClipError(
            f"{leaves} is a link into DVC's cache (cache.type symlink);"
            " `dvc config cache.type reflink,hardlink,copy` and `dvc checkout --relink` make it a file"
        )
    if not inside:
        raise ClipError(f"{leaves} is or passes a symbolic link to elsewhere")
    return root / path


def probe(path: Path, limits: Limits | None = None) -> Probe:
    """Read a clip's packets without decoding more than its first frame.

    Raises ClipError when the file is missing, empty, not a video, has no video stream, ends before all the frames
    that its header announces, is beyond `limits`, or its first frame cannot be decoded.
    """
    with open_shown(path, limits) as (container, stream, showing):
        rate = float(stream.average_rate or 0)
        first = next(container.decode(stream), None)
        if first is None:
            raise ClipError("no frame can be decoded")
        on_its_side, _, _ = _placing(first)
        width, height = (first.height, first.width) if on_its_side else (first.width, first.height)
    return Probe(showing.seconds, width, height, len(showing.times), rate)


def iter_frames(path: Path, size: tuple[int, int] | None = None) -> Iterator[NDArray[np.uint8]]:
    """Decode every frame in order as rgb[H, W, 3], uint8, upright; `size` = (width, height) resizes.

    Raises ClipError at the first frame that cannot be decoded.
    """
    for frame in decode(path):
        yield to_rgb(frame, size)


def decode(path: Path, limits: Limits | None = None) -> Iterator[av.VideoFrame]:
    """Decode every frame in order, in the clip's own pixel format; raises ClipError at the first that fails."""
    with open_shown(path, limits) as (container, stream, _):
        yield from container.decode(stream)


def to_rgb(frame: av.VideoFrame, size: tuple[int, int] | None = None) -> NDArray[np.uint8]:
    """Turn a decoded frame as it is to be shown, into rgb[H, W, 3], uint8; `size` = (width, height) resizes.

    Resizing is by bilinear filter. Deep colour, odd sides, grey and palette formats all come out as 8-bit RGB.
    """
    on_its_side, across, down = _placing(frame)
    width, height = size or (frame.width, frame.height)
    if size and on_its_side:
        width, height = height, width
    rgb = np.asarray(
        frame.reformat(width=width, height=height, format="rgb24", interpolation="BILINEAR").to_ndarray(), np.uint8
    )
    upright = rgb.transpose(1, 0, 2) if on_its_side else rgb
    return np.ascontiguousarray(upright[::down, ::across])


def _placing(frame: av.VideoFrame) -> tuple[bool, int, int]:
    """How a frame is shown: whether x and y change places, and then the step, 1 or -1, along x and along y.

    That is its display matrix, rounded to quarter turns: a point (x, y), y downwards, is shown at
    (a x + c y, b x + d y) (ISO/IEC 14496-12, 8.3.2).
    """
    matrix = frame.side_data.get("DISPLAYMATRIX")
    a, b, _, c, d = (1, 0, 0, 0, 1) if matrix is None else np.frombuffer(cast(bytes, matrix), np.int32)[:5].tolist()
    on_its_side = abs(b) + abs(c) > abs(a) + abs(d)
    across, down = (c, b) if on_its_side else (a, d)
    return on_its_side, -1 if across < 0 else 1, -1 if down < 0 else 1


@contextmanager
def open_shown(path: Path, limits: Limits | None = None) -> Iterator[tuple[InputContainer, VideoStream, Showing]]:
    """Open a clip at its first frame, with what its packets say of when its pictures are shown.

    Raises ClipError as `open_video` does, and where it is shown for longer than `limits` allow.
    """
    with open_video(path, limits) as (container, stream):
        showing = read_showing(container, stream)
        if limits and showing.seconds > limits.max_seconds:
            raise ClipError(
                f"too long: {showing.seconds:.2f} s, at most {limits.max_seconds:g} s ({limits.group}max_seconds)"
            )
        if showing.keyframes:
            container.seek(showing.keyframes[0], stream=stream)
            yield container, stream, showing
            return
    with open_video(path, limits) as (container, stream):
        yield container, stream, showing


@contextmanager
def open_video(path: Path, limits: Limits | None = None) -> Iterator[tuple[InputContainer, VideoStream]]:
    """Open a clip and its best video stream; whatever FFmpeg refuses inside the block is raised as ClipError.

    No other file and no network is ever asked, whatever the clip says. Raises ClipError where the file or its pictures
    are larger than `limits` allow.
    """
    if not path.is_file():
        raise ClipError("file is missing")
    size = path.stat().st_size
    if size == 0:
        raise ClipError("file is empty (0 bytes)")
    if limits and size > limits.max_megabytes * 1e6:
        raise ClipError(
            f"too large: {size / 1e6:.1f} MB, at most {limits.max_megabytes} MB ({limits.group}max_megabytes)"
        )
    # FFmpeg looks for a still image's kind by decoding it, already while opening.
    pixels = {"max_pixels": str(limits.max_side**2)} if limits else {}
    allowed = {"format_whitelist": ",".join(FORMATS), "protocol_whitelist": "file", "pattern_type": "none"}
    try:
        # With the protocol named, a file called `concat:a.ts` is a file; without patterns, so is `image%d.png`.
        with av.open(f"file:{path}", options=allowed | pixels) as container:
            stream = container.streams.best("video")
            if not isinstance(stream, VideoStream) or stream.disposition & Disposition.attached_pic:
                raise ClipError("has no video stream")
            stream.codec_context.options = pixels
            stream.thread_type = "NONE"  # clips are decoded side by side; threads within one would only add latency
            _refuse_sides(container, stream, limits)
            yield container, stream
    except (av.FFmpegError, ValueError) as error:
        raise ClipError(_explain(error, limits)) from error


def _refuse_sides(container: InputContainer, stream: VideoStream, limits: Limits | None) -> None:
    width, height = stream.codec_context.width, stream.codec_context.height
    if width == 0:
        next(container.decode(stream), None)  # which says why, where there is a reason to give
        raise ClipError("its video stream cannot be decoded")
    if limits and max(width, height) > limits.max_side:
        raise ClipError(f"too large: {width} x {height}, at most {limits.max_side} pixels ({limits.group}max_side)")


def _explain(error: Exception, limits: Limits | None) -> str:
    said = str((getattr(error, "log", None) or ("", "", ""))[2])
    if "not on whitelist" in said:
        return "not a clip: neither a still image nor in a container such as MP4, Matroska, WebM, AVI, MPEG or GIF"
    if limits and (found := re.search(r"(?:Picture size|set dimensions) (\d+)[x ](\d+)", said)):
        return f"too large: {found[1]} x {found[2]}, at most {limits.max_side} pixels ({limits.group}max_side)"
    return f"cannot be decoded: {getattr(error, 'strerror', None) or error}"
