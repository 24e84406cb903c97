"""Motion statistics say how much, how fast and where things move, whatever the clip's resolution or frame rate."""

from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from cpfd.datasets.video import ClipError
from cpfd.importing.motion import MOTION_COLUMNS, motion, motion_table
from tests.support.clips import write_clip

TEXTURE = cv2.GaussianBlur(np.random.default_rng(0).integers(0, 256, (400, 800, 3), dtype=np.uint8), (0, 0), 4)
TEXTURE = cv2.normalize(TEXTURE, None, 0, 255, cv2.NORM_MINMAX)


def write_pan(path: Path, step: float, *, side: int = 96, rate: int = 12, frames: int = 12) -> Path:
    """Write a clip whose whole picture moves to the left by `step` pixels a frame."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=rate, options={"crf": "10"})
        stream.width = stream.height = side
        stream.pix_fmt = "yuv420p"
        for index in range(frames):
            shift = np.array([[1, 0, -step * index], [0, 1, 0]], np.float32)
            image = cv2.warpAffine(TEXTURE, shift, (side, side))
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode(None))
    return path


def measured(path: Path) -> dict[str, float]:
    return dict(zip(MOTION_COLUMNS, motion(path), strict=True))


def test_a_still_scene_has_less_motion_than_a_moving_one_and_a_fast_one_more(tmp_path: Path) -> None:
    still, slow, fast = (measured(write_pan(tmp_path / f"{step}.mp4", step)) for step in (0, 1, 3))

    assert still["motion_still_share"] == 1
    assert slow["motion_still_share"] == fast["motion_still_share"] == 0
    for column in ("motion_speed_mean", "motion_speed_q50", "motion_speed_max", "motion_block_11"):
        assert still[column] < slow[column] < fast[column]


@pytest.mark.parametrize(("side", "rate", "step"), [(96, 12, 2), (192, 12, 4), (96, 24, 1)])
def test_speed_is_in_frame_sides_per_second_at_any_resolution_and_frame_rate(
    tmp_path: Path, side: int, rate: int, step: float
) -> None:
    columns = measured(write_pan(tmp_path / "pan.mp4", step, side=side, rate=rate, frames=rate))

    assert columns["motion_speed_q50"] == pytest.approx(step * rate / side, rel=0.15)
    assert columns["motion_direction_entropy"] < 0.4  # one direction, but for the edges


def test_motion_is_found_where_it_happens(tmp_path: Path) -> None:
    path = tmp_path / "corner.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=12)
        stream.width = stream.height = 96
        stream.pix_fmt = "yuv420p"
        for index in range(12):
            image = np.full((96, 96, 3), 90, np.uint8)
            image[70:86, 64 + index : 80 + index] = TEXTURE[:16, :16]
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode(None))

    columns = measured(path)

    blocks = {name: value for name, value in columns.items() if "block" in name}
    assert max(blocks, key=blocks.__getitem__) == "motion_block_22"


def test_what_one_or_two_frames_cannot_tell_is_missing_and_not_zero(tmp_path: Path) -> None:
    one = motion(write_clip(tmp_path / "one.mp4", frames=1))
    two = measured(write_clip(tmp_path / "two.mp4", frames=2))

    assert np.isnan(one).all()
    assert {name for name, value in two.items() if np.isnan(value)} == {
        "motion_acceleration_mean",
        "motion_acceleration_std",
        "motion_acceleration_max",
    }


def test_many_clips_give_the_same_table_every_time_and_broken_ones_a_missing_row(tmp_path: Path) -> None:
    clips = {f"clip{seed}": write_clip(tmp_path / f"{seed}.mp4", seed=seed) for seed in range(6)}
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(clips["clip0"].read_bytes()[:600])

    table, failed = motion_table({"broken": broken} | clips)
    again, _ = motion_table({"broken": broken} | clips)

    assert table.equals(again)
    assert table["video_id"].tolist() == ["broken", *clips]
    assert table.columns.tolist() == ["video_id", *MOTION_COLUMNS]
    assert table.iloc[0, 1:].isna().all()
    assert table.iloc[1:]["motion_speed_mean"].notna().all()
    assert len(failed) == 1
    assert failed[0].startswith("broken: ")
    with pytest.raises(ClipError):
        motion(broken)
