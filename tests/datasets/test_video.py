"""What is shown of a clip, whatever its headers say; and which files are no clips at all."""

import shutil
import struct
import subprocess
import sys
from collections.abc import Iterable, Sequence
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from av.stream import Disposition
from numpy.typing import NDArray

from cpfd.datasets.limits import Limits
from cpfd.datasets.video import ClipError, iter_frames, probe
from cpfd.features.decoding import sample_frames
from tests.support.clips import write_clip
from tests.support.project import ROOT

B_FRAMES = {"x264-params": "bframes=2:b-adapt=0:keyint=10:min-keyint=10:scenecut=0:cpu-independent=1"}


def brightness(number: int, frames: int) -> float:
    return 20 + 200 * number / frames


def write(
    path: Path,
    times: Sequence[int],
    *,
    tick: Fraction = Fraction(1, 1000),
    codec: str = "libx264",
    rate: int = 10,
    options: dict[str, str] | None = None,
    sound: float = 0,
) -> Path:
    """Write a clip whose frame n is as bright as `brightness` says, and shown from times[n]; `sound` in seconds."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=rate)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.codec_context.time_base = stream.time_base = tick
        stream.codec_context.thread_count = 1
        stream.options = options or {}
        audio = container.add_stream("aac" if path.suffix == ".mp4" else "libopus", rate=48000) if sound else None
        for number, time in enumerate(times):
            grey = np.full((48, 64, 3), round(brightness(number, len(times))), np.uint8)
            frame = av.VideoFrame.from_ndarray(grey, format="rgb24")
            frame.pts, frame.time_base = time, tick
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
        if audio is not None:
            for start in range(0, round(sound * 48000), 960):
                silence = av.AudioFrame.from_ndarray(np.zeros((1, 960), np.float32), format="fltp", layout="mono")
                silence.sample_rate, silence.pts, silence.time_base = 48000, start, Fraction(1, 48000)
                container.mux(audio.encode(silence))
            container.mux(audio.encode(None))
    return path


def numbers(frames: NDArray[np.uint8], count: int) -> list[int]:
    """Which of `count` frames each one is, by its brightness."""
    return [round((float(frame.mean()) - 20) * count / 200) for frame in frames]


def sampled(path: Path, parts: int, count: int) -> list[int]:
    return numbers(sample_frames(path, parts, 32), count)


def patched(source: Path, target: Path, box: bytes, offset: int, values: Iterable[int]) -> Path:
    """A copy of an MP4 with 32-bit integers written `offset` bytes after a box's name."""
    content = bytearray(source.read_bytes())
    start = content.index(box) + offset
    written = b"".join(struct.pack(">i", value) for value in values)
    content[start : start + len(written)] = written
    target.write_bytes(content)
    return target


# what is shown


@pytest.mark.parametrize(
    ("name", "codec"), [("long.mkv", "libx264"), ("long.webm", "libvpx-vp9"), ("long.mp4", "libx264")]
)
def test_sound_that_goes_on_longer_does_not_stretch_the_pictures(name: str, codec: str, tmp_path: Path) -> None:
    clip = write(tmp_path / name, range(0, 1000, 100), codec=codec, sound=5)
    assert (probe(clip).seconds, probe(clip).frames) == (1, 10)
    assert sampled(clip, 5, 10) == [1, 3, 5, 7, 9]


@pytest.mark.parametrize("name", ["clip.mp4", "clip.mkv"])
def test_frames_that_are_reordered_and_come_unevenly_are_sampled_over_all_of_their_time(
    name: str, tmp_path: Path
) -> None:
    # A quick dozen, then one a second: a header counts as far as frames are decoded, not as far as they are shown.
    times = [*range(0, 240, 20), *range(1000, 10_000, 1000), 9900]
    clip = write(tmp_path / name, times, options=B_FRAMES)
    assert probe(clip).seconds == pytest.approx(10, abs=0.1)
    last = times[-1] + (probe(clip).seconds * 1000 - times[-1])
    middles = [(part + 0.5) / 10 * last for part in range(10)]
    expected = [max(number for number, time in enumerate(times) if time <= middle) for middle in middles]
    assert sampled(clip, 10, len(times)) == expected


@pytest.mark.parametrize("codec", ["libx264", "mpeg4"])
def test_an_avi_which_knows_no_times_of_presentation_is_sampled_in_the_middle(codec: str, tmp_path: Path) -> None:
    options = B_FRAMES if codec == "libx264" else {"bf": "2", "g": "10", "sc_threshold": "1000000000"}
    clip = write(tmp_path / "clip.avi", range(20), tick=Fraction(1, 10), codec=codec, options=options)
    assert (probe(clip).seconds, probe(clip).frames) == (2, 20)
    frames = np.stack(list(iter_frames(clip, (32, 32))))
    np.testing.assert_array_equal(sample_frames(clip, 4, 32), frames[[2, 7, 12, 17]])


def test_joined_transport_streams_are_shown_to_the_end(tmp_path: Path) -> None:
    part = write(tmp_path / "part.ts", range(0, 2000, 100), options=B_FRAMES)
    other = write(tmp_path / "late.ts", range(500_000, 502_000, 100), options=B_FRAMES)
    assert sampled(part, 4, 20) == [2, 7, 12, 17]
    for parts in ([part, part, part], [part, other, part]):
        joined = tmp_path / "joined.ts"
        joined.write_bytes(b"".join(each.read_bytes() for each in parts))
        assert (probe(joined).seconds, probe(joined).frames) == (pytest.approx(6), 60)
        assert sampled(joined, 6, 20) == [5, 15, 5, 15, 5, 15]


@pytest.mark.parametrize("options", [B_FRAMES, {"bf": "0", "g": "5"}])
def test_an_edit_list_is_obeyed_by_probe_and_sampling_alike(options: dict[str, str], tmp_path: Path) -> None:
    whole = write(tmp_path / "whole.mp4", range(30), tick=Fraction(1, 30), rate=30, options=options)
    # One edit: its length in milliseconds.
    half = patched(whole, tmp_path / "half.mp4", b"elst", 12, [500])
    assert (probe(whole).seconds, probe(whole).frames) == (1, 30)
    assert (probe(half).seconds, probe(half).frames) == (0.5, 15)
    assert len(list(iter_frames(half))) == 15
    assert sampled(half, 5, 30) == [1, 4, 7, 10, 13]
    # Its length, and where it starts: 17 frames of 1 / 30 s, in ticks of 1 / 15360 s.
    middle = patched(whole, tmp_path / "middle.mp4", b"elst", 12, [400, 17 * 512])
    shown = [number for frame in iter_frames(middle) for number in numbers(frame[None], 30)]
    assert probe(middle).frames == len(shown)
    assert sampled(middle, len(shown), 30) == shown


@pytest.mark.parametrize("every", [1, 2, 3, 7])
def test_jumping_to_key_frames_changes_nothing(every: int, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    times = np.cumsum([*rng.integers(1, 30, 8), *rng.integers(1, 900, 17)]).tolist()
    options = {"x264-params": B_FRAMES["x264-params"].replace("=10", f"={every}")}
    for name in ("clip.mp4", "clip.mkv"):
        clip = write(tmp_path / name, times, options=options)
        end = times[0] + probe(clip).seconds * 1000
        for count in (1, 2, 7, 40):
            middles = [times[0] + (2 * part + 1) * (end - times[0]) / (2 * count) for part in range(count)]
            expected = [max(n for n, time in enumerate(times) if time <= middle) for middle in middles]
            assert sampled(clip, count, 25) == expected


MATRICES = {
    (1, 0, 0, 1): lambda picture: picture,
    (-1, 0, 0, 1): lambda picture: picture[:, ::-1],
    (1, 0, 0, -1): lambda picture: picture[::-1],
    (-1, 0, 0, -1): lambda picture: picture[::-1, ::-1],
    (0, 1, -1, 0): lambda picture: np.rot90(picture, -1),
    (0, -1, 1, 0): lambda picture: np.rot90(picture, 1),
    (0, 1, 1, 0): lambda picture: picture.transpose(1, 0, 2),
    (0, -1, -1, 0): lambda picture: np.rot90(picture, 2).transpose(1, 0, 2),
}


@pytest.mark.parametrize("matrix", list(MATRICES))
def test_turned_and_mirrored_clips_are_shown_as_a_player_does(matrix: tuple[int, ...], tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "clip.mp4", frames=4)
    a, b, c, d = (value * 0x10000 for value in matrix)
    # ISO/IEC 14496-12, 8.3.2: a, b, u, c, d, v, x, y, w.
    placed = patched(clip, tmp_path / "placed.mp4", b"tkhd", 44, [a, b, 0, c, d, 0, 0, 0, 0x40000000])
    expected = MATRICES[matrix](next(iter_frames(clip)))
    np.testing.assert_array_equal(next(iter_frames(placed)), expected)
    assert (probe(placed).height, probe(placed).width) == expected.shape[:2]


# what is no clip


def write_cover(path: Path, codec: str) -> Path:
    """Write a song with a picture of its album."""
    with av.open(str(path), "w") as container:
        sound, cover = container.add_stream(codec, rate=44100), container.add_stream("mjpeg")
        cover.width, cover.height, cover.pix_fmt = 64, 48, "yuvj420p"
        cover.disposition = Disposition.attached_pic
        picture = av.VideoFrame.from_ndarray(np.full((48, 64, 3), 90, np.uint8))
        picture.pts = 0
        container.mux(cover.encode(picture))
        container.mux(cover.encode(None))
        for start in range(0, 44100, 1152):
            silence = av.AudioFrame.from_ndarray(np.zeros((1, 1152), np.float32), format="fltp", layout="mono")
            silence.sample_rate, silence.pts = 44100, start
            container.mux(sound.encode(silence))
        container.mux(sound.encode(None))
    return path


@pytest.mark.parametrize(("name", "codec", "reason"), [
    ("song.mp4", "aac", "has no video stream"), ("song.mp3", "libmp3lame", "not a clip: "),
])  # fmt: skip
def test_the_cover_of_a_song_is_no_clip(name: str, codec: str, reason: str, tmp_path: Path) -> None:
    song = write_cover(tmp_path / name, codec)
    for read in (probe, lambda path: sample_frames(path, 2, 32)):
        with pytest.raises(ClipError, match=f"^{reason}"):
            read(song)


def test_a_playlist_opens_no_other_file_and_is_no_clip(tmp_path: Path) -> None:
    (tmp_path / "videos").mkdir()
    secret = write(tmp_path / "secret.ts", range(0, 1000, 100))
    lists = {
        "list.m3u8": f"#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:1,\n{secret}\n#EXT-X-ENDLIST\n",
        "list.mp4": f"#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:1,\n{secret}\n#EXT-X-ENDLIST\n",
        "list.ffconcat": "ffconcat version 1.0\nfile '../secret.ts'\n",
        "diary.txt": "dear diary, today I filmed nothing\n" * 20,  # FFmpeg draws it
    }
    for name, content in lists.items():
        (tmp_path / "videos" / name).write_text(content)
        for read in (probe, lambda path: sample_frames(path, 2, 32)):
            with pytest.raises(ClipError, match=r"^(not a clip: neither|cannot be decoded: Invalid data)"):
                read(tmp_path / "videos" / name)


def test_a_file_name_that_ffmpeg_would_take_for_more_is_a_file_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    clip = write_clip(Path("clip.mp4"))
    write_clip(Path("other.mp4"), seed=1)
    for name in ("concat:other.mp4", "http:clip.mp4", "clip%03d.mp4", "clip*.mp4"):
        shutil.copy(clip, name)
        np.testing.assert_array_equal(sample_frames(Path(name), 2, 32), sample_frames(clip, 2, 32))
    cv2.imwrite("one1.png", np.zeros((40, 40, 3), np.uint8))
    cv2.imwrite("white.png", np.full((40, 40, 3), 255, np.uint8))
    for name in ("one%d.png", "one*.png"):  # for FFmpeg patterns of many files
        shutil.copy("white.png", name)
        assert (sample_frames(Path(name), 1, 32) == 255).all()
        assert (probe(Path(name)).frames, probe(Path(name)).seconds) == (1, 0)


# limits


def test_what_a_clip_may_cost_is_checked_before_it_is_decoded(tmp_path: Path) -> None:
    clip = write(tmp_path / "clip.mp4", range(0, 3000, 100))
    for limits, reason in {
        Limits(max_seconds=2.5): "too long: 3.00 s, at most 2.5 s (max_seconds)",
        Limits(max_side=63): "too large: 64 x 48, at most 63 pixels (max_side)",
        Limits(max_side=63, group="validation."): "too large: 64 x 48, at most 63 pixels (validation.max_side)",
        Limits(max_megabytes=0): f"too large: {clip.stat().st_size / 1e6:.1f} MB, at most 0 MB (max_megabytes)",
    }.items():
        for read in (lambda limits: probe(clip, limits), lambda limits: sample_frames(clip, 2, 32, limits)):
            with pytest.raises(ClipError) as error:
                read(limits)
            assert str(error.value) == reason
    assert probe(clip, Limits(max_seconds=3, max_side=64)).seconds == 3


@pytest.mark.parametrize("name", ["bomb.png", "bomb.jpg", "bomb.webp"])
def test_a_picture_of_millions_of_pixels_costs_no_memory(name: str, tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / name), np.zeros((9000, 9000, 3), np.uint8))
    script = (
        "import resource, sys; from pathlib import Path; from cpfd.datasets.video import *\n"
        "from cpfd.features.decoding import sample_frames\n"
        "peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "before = peak()\n"
        "for read in (probe, lambda path, limits: sample_frames(path, 2, 32, limits)):\n"
        "    try: read(Path(sys.argv[1]), Limits(max_side=4096))\n"
        "    except ClipError as error: print(error)\n"
        "print((peak() - before) // 1024)\n"
    )
    run = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / name)], cwd=ROOT, capture_output=True, text=True, check=True
    )
    *reasons, mebibytes = run.stdout.splitlines()
    assert reasons == ["too large: 9000 x 9000, at most 4096 pixels (max_side)"] * 2
    assert int(mebibytes) < 60  # where the pixels take 240


def test_of_two_pictures_too_large_in_the_same_way_both_are_told(tmp_path: Path) -> None:
    for name in ("one.bmp", "other.bmp"):
        cv2.imwrite(str(tmp_path / name), np.zeros((300, 200, 3), np.uint8))
        with pytest.raises(ClipError, match=r"^too large: 200 x 300, at most 100 pixels"):
            probe(tmp_path / name, Limits(max_side=100))


def test_a_clip_that_grows_after_its_header_is_held_to_the_same_limit(tmp_path: Path) -> None:
    parts = []
    for name, height in (("small.ts", 48), ("tall.ts", 960)):
        clip = write_clip(tmp_path / name, height=height, codec="mpeg2video", rate=25)
        parts.append(clip.read_bytes())
    clip = tmp_path / "grows.ts"
    clip.write_bytes(b"".join(parts))
    assert probe(clip, Limits(max_side=500)).height == 48
    assert sample_frames(clip, 2, 32, Limits(max_side=1000)).shape == (2, 32, 32, 3)
    with pytest.raises(ClipError):
        sample_frames(clip, 2, 32, Limits(max_side=200))
