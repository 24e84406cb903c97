"""When a clip's pictures are on screen: one notion for probing, limits and sampling, taken from its packets.

Headers are not asked: the duration of a Matroska file is that of its longest stream, that of an MP4 file with
reordered frames may be any, AVI has no times of presentation, and a joined MPEG transport stream counts its first part.
"""

from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import NamedTuple

import av
from av.container import InputContainer
from av.video.stream import VideoStream

MAX_PICTURES = 1_000_000
"""Pictures in a clip: more than an hour at 240 a second; the times of all are in memory at once."""
LEAP_SECONDS = 10
"""Steps of the clock that are taken for a restart in formats whose timestamps may restart, as FFmpeg's tools do."""


class ClipError(Exception):
    """A clip that cannot be used, with the reason: cause for quarantine, not for a crash."""


@dataclass(frozen=True)
class Showing:
    """A clip's pictures in the order in which they are shown.

    Picture n is on screen from times[n] to times[n + 1], the last one to `end`: ticks of `tick` seconds on one clock,
    also where the file's own restarts. `keyframes`, their times, is empty where a file cannot be sought in by them.
    `numbered`: a decoded frame is told by its number, as its own timestamp says nothing.
    """

    times: list[int]
    end: int
    tick: Fraction
    numbered: bool
    keyframes: list[int]

    @property
    def seconds(self) -> float:
        """From the first picture's beginning to the last one's end; 0 for a still image."""
        return float((self.end - self.times[0]) * self.tick)

    def middle(self, part: int, count: int) -> Fraction:
        """The middle of one of `count` equally long parts, in ticks."""
        return self.times[0] + Fraction((2 * part + 1) * (self.end - self.times[0]), 2 * count)

    def keyframe(self, time: Fraction) -> int | None:
        """When the last keyframe is shown that is by `time`, where decoding may jump to one."""
        before = bisect_right(self.keyframes, time)
        return self.keyframes[before - 1] if before else None

    def timed(self, frames: Iterator[av.VideoFrame]) -> Iterator[tuple[int, av.VideoFrame]]:
        """Frames, decoded in order from the first or from a keyframe, each with its time in ticks.

        Raises ClipError at a frame without a timestamp.
        """
        for number, frame in enumerate(frames):
            time = self.times[min(number, len(self.times) - 1)] if self.numbered else frame.pts
            if time is None:
                raise ClipError("its frames carry no timestamps")
            yield time, frame


class _Packet(NamedTuple):
    pts: int | None
    dts: int | None
    duration: int
    is_keyframe: bool
    is_discard: bool


def read_showing(container: InputContainer, stream: VideoStream) -> Showing:
    """Read all packets of an opened clip, and keep their times alone.

    Raises ClipError when the file ends before all the frames that its header announces, has none or too many, or its
    packets carry no times.
    """
    formats = container.format.name.split(",")
    packets: list[_Packet] = []
    for packet in container.demux(stream):
        if packet.size:
            packets.append(_Packet(packet.pts, packet.dts, packet.duration or 0, packet.is_keyframe, packet.is_discard))
        if len(packets) > MAX_PICTURES:
            raise ClipError(f"too many frames: more than {MAX_PICTURES}")
    # MP4 announces all the frames that it stores; its index has those that its edit list leaves.
    announced = len(stream.index_entries) if "mov" in formats else stream.frames
    if len(packets) < announced:
        raise ClipError(f"truncated: {len(packets)} of {announced} frames are there")
    tick = stream.time_base or Fraction(1)
    may_restart = av.format.Flags.ts_discont in av.format.Flags(container.format.flags)
    leap = Fraction(LEAP_SECONDS) / tick if may_restart else None
    parts = _parts([packet for packet in packets if not packet.is_discard], leap)
    # What FFmpeg gives as an AVI's times of presentation is guessed; decoding times are pictures' times in order.
    by_pts = "avi" not in formats and all(packet.pts is not None for part in parts for packet in part)
    times, end = _on_one_clock(parts, by_pts, stream)
    still = formats[0].endswith("_pipe") or formats[0] == "image2"
    numbered = not by_pts or len(parts) > 1
    sought = not numbered and formats[0] in ("mov", "matroska")
    keyframes = sorted(packet.pts for packet in packets if sought and packet.is_keyframe and packet.pts is not None)
    return Showing(times, times[0] if still else end, tick, numbered, keyframes)


def _parts(packets: list[_Packet], leap: Fraction | None) -> list[list[_Packet]]:
    """Packets as they lie in the file, cut where their clock restarts: falls, or rises by more than `leap` ticks."""
    parts: list[list[_Packet]] = []
    last: int | None = None
    for packet in packets:
        step = 0 if packet.dts is None or last is None else packet.dts - last
        if not parts or step < 0 or (leap is not None and step > leap):
            parts.append([])
        parts[-1].append(packet)
        last = last if packet.dts is None else packet.dts
    if not parts:
        raise ClipError("has no frames")
    return parts


def _on_one_clock(parts: list[list[_Packet]], by_pts: bool, stream: VideoStream) -> tuple[list[int], int]:
    """The times of all pictures, ascending, each part's from the end of the one before; and the end of the last."""
    times: list[int] = []
    end = 0
    for part in parts:
        own = [(packet.pts if by_pts else packet.dts, packet.duration) for packet in part]
        known = sorted((time, duration) for time, duration in own if time is not None)
        if len(known) < len(own):
            raise ClipError("its frames carry no timestamps")
        shift = end - known[0][0] if times else 0
        times += [time + shift for time, _ in known]
        end = times[-1] + (known[-1][1] or _usual_duration([time for time, _ in known], stream))
    return times, end


def _usual_duration(times: list[int], stream: VideoStream) -> int:
    """How long a picture is taken to stay of which the file does not say it: as long as the one before it."""
    if len(times) > 1:
        return times[-1] - times[-2]
    rate, tick = stream.average_rate, stream.time_base
    return round(1 / (rate * tick)) if rate and tick else 0
