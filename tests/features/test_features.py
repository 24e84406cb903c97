"""What is sampled, stored and scaled is what the clips and tables hold."""

import hashlib
import os
import signal
import subprocess
import sys
import time
import unicodedata
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from cpfd.datasets.video import ClipError, open_video, to_rgb
from cpfd.errors import CpfdError
from cpfd.features import store as store_module
from cpfd.features.backbones import EFFICIENTNET, VisionEncoder, vision_spec
from cpfd.features.decoding import sample_frames
from cpfd.features.dense import LIMIT, scale_dense
from cpfd.features.encoding import ClipEncoder
from cpfd.features.extract import cut_shards
from cpfd.features.known import KnownClips
from cpfd.features.text import join_text
from cpfd.files import read_json
from tests.support.clips import write_clip
from tests.support.project import ROOT
from tests.support.small import CLASSES, Extracted, extract, small_params

SCALERS = ("signed_log", "robust", "quantile")

# frames


def write_counter(path: Path, frames: int, keyframe_every: int, *, delay: int = 0) -> Path:
    """Write an H.264 clip at 10 frames a second whose frames all look different; `delay` ticks before the first."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        stream.time_base = stream.codec_context.time_base = Fraction(1, 10)
        stream.codec_context.thread_count = 1
        stream.options = {"g": str(keyframe_every), "bf": "2", "sc_threshold": "0"}
        for number in range(frames):
            image = np.full((64, 96, 3), 16 + 200 * number // frames, np.uint8)
            x = number * 7 % 88
            image[20:40, x : x + 8] = 255
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts = number + delay
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def on_screen(path: Path, count: int, size: int) -> NDArray[np.uint8]:
    """The frames on screen at the middles of equal parts, found by decoding every frame."""
    with open_video(path) as (container, stream):
        assert stream.time_base is not None
        frames = list(container.decode(stream))
        times = [frame.pts * stream.time_base for frame in frames if frame.pts is not None]
        start = (stream.start_time or 0) * stream.time_base
        length = Fraction(container.duration or 0, 10**6)
        if stream.duration is not None:
            length = stream.duration * stream.time_base
    wanted = [start + length * Fraction(2 * part + 1, 2 * count) for part in range(count)]
    shown = [max((i for i, time in enumerate(times) if time <= moment), default=0) for moment in wanted]
    return np.stack([to_rgb(frames[i], (size, size)) for i in shown])


@pytest.mark.parametrize("count", [1, 2, 3, 6, 7, 16])
@pytest.mark.parametrize(
    ("frames", "keyframe_every", "delay"), [(60, 60, 0), (60, 10, 0), (61, 7, 0), (60, 1, 0), (60, 10, 25)]
)
def test_samples_are_on_screen_at_the_middles_of_equal_parts(
    frames: int, keyframe_every: int, delay: int, count: int, tmp_path: Path
) -> None:
    clip = write_counter(tmp_path / "clip.mp4", frames, keyframe_every, delay=delay)
    np.testing.assert_array_equal(sample_frames(clip, count, 48), on_screen(clip, count, 48))


def test_samples_of_sixty_frames_are_six_different_ones(tmp_path: Path) -> None:
    clip = write_counter(tmp_path / "clip.mp4", 60, 10)
    brightness = sample_frames(clip, 6, 32)[:, 0].mean((1, 2))
    # Frames 5, 15, ... 55 of 60, whose background is 16 + 200 * number / 60.
    np.testing.assert_allclose(brightness, [16 + 200 * number / 60 for number in range(5, 60, 10)], atol=4)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("odd.mp4", {"width": 63, "height": 47, "pix_fmt": "yuv444p"}),
        ("deep.mp4", {"pix_fmt": "yuv420p10le"}),
        ("portrait.mp4", {"width": 40, "height": 96}),
        ("web.webm", {"codec": "libvpx-vp9"}),
        ("motion.avi", {"codec": "mjpeg", "pix_fmt": "yuvj420p"}),
    ],
)
def test_any_kind_of_clip_is_sampled_alike(name: str, options: dict[str, int | str], tmp_path: Path) -> None:
    clip = write_clip(tmp_path / name, **options)  # type: ignore[arg-type]
    sampled = sample_frames(clip, 5, 64)
    assert sampled.shape == (5, 64, 64, 3)
    np.testing.assert_array_equal(sampled, on_screen(clip, 5, 64))
    assert len(np.unique(sampled, axis=0)) == 5


def test_a_short_clip_repeats_its_frames_in_order(tmp_path: Path) -> None:
    clip = write_counter(tmp_path / "clip.mp4", 3, 60)
    sampled = sample_frames(clip, 9, 32)
    np.testing.assert_array_equal(sampled, np.repeat(sample_frames(clip, 3, 32), 3, axis=0))
    assert len(np.unique(sampled, axis=0)) == 3


@pytest.mark.parametrize("name", ["still.png", "still.jpg", "still.bmp", "still.webp"])
def test_a_still_image_repeats_its_one_frame(name: str, tmp_path: Path) -> None:
    image = np.zeros((50, 70, 3), np.uint8)
    image[:, 35:] = (10, 20, 200)  # blue, green, red
    cv2.imwrite(str(tmp_path / name), image)
    sampled = sample_frames(tmp_path / name, 4, 32)
    assert (sampled == sampled[0]).all()
    np.testing.assert_allclose(sampled[0, 16, 28], (200, 20, 10), atol=12)


def test_a_clip_filmed_with_the_phone_on_its_side_comes_out_upright(tmp_path: Path) -> None:
    clip = write_counter(tmp_path / "clip.mp4", 6, 6)
    content = bytearray(clip.read_bytes())
    matrix = content.index(b"tkhd") + 44
    # The track header's matrix: turn a quarter clockwise to show (ISO/IEC 14496-12, 8.3.2).
    turn = [0, 0x10000, 0, -0x10000, 0, 0, 0, 0, 0x40000000]
    content[matrix : matrix + 36] = b"".join(value.to_bytes(4, "big", signed=True) for value in turn)
    turned = tmp_path / "turned.mp4"
    turned.write_bytes(content)
    upright = np.rot90(sample_frames(clip, 3, 64), -1, axes=(1, 2))
    np.testing.assert_array_equal(sample_frames(turned, 3, 64), upright)


def test_a_clip_that_breaks_off_says_so(tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "clip.mp4", frames=60)
    clip.write_bytes(clip.read_bytes()[: clip.stat().st_size // 2])
    with pytest.raises(ClipError):
        sample_frames(clip, 4, 32)


def test_a_still_image_is_encoded_once(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "still.png"), np.full((64, 64, 3), 90, np.uint8))
    moving, still = write_counter(tmp_path / "clip.mp4", 12, 6), tmp_path / "still.png"
    frames = torch.from_numpy(np.concatenate([sample_frames(path, 4, 64) for path in (moving, still, moving)]))
    encoder = VisionEncoder(vision_spec(EFFICIENTNET, None, 2, 64), pretrained=True).eval()
    seen = []
    encoder.network.register_forward_hook(lambda module, inputs, output: seen.append(len(output)))
    with torch.inference_mode():
        tokens = encoder(frames)
        assert seen == [9]
        alone = encoder(frames[[0, 4, 11]])
    torch.testing.assert_close(tokens[[0, 4, 11]], alone, atol=1e-3, rtol=1e-3)
    assert (tokens[4:8] == tokens[4]).all()


# the store


def beside(extracted: Extracted, folder: Path) -> Path:
    """A folder that has the extracted data set's videos and nothing else."""
    (folder / "videos").symlink_to(extracted.folder / "videos")
    return folder


def digests(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_rows_are_in_the_order_of_the_manifest(extracted: Extracted) -> None:
    index, manifest = extracted.store.index, extracted.manifest
    for column in ("video_id", "split", "label", "creator_id"):
        assert index[column].to_list() == manifest[column].to_list()
    assert index["has_video"].to_list() == (manifest["path"] != "").to_list()
    assert index["has_text"].to_list() == (manifest["title"] != "").to_list()
    assert not (extracted.folder / "scratch").exists()


def test_a_clip_has_a_grid_of_tokens_a_frame_and_a_token_a_word(extracted: Extracted) -> None:
    content = extracted.store.content(np.arange(24))
    assert content["frames"].shape == (24, 2, 4, 1280)
    assert content["text"].shape == (24, 8, 384)
    assert content["frames"].dtype == content["text"].dtype == np.float16
    texts = extracted.manifest["title"]
    assert (content["text_mask"].sum(1) == [len(text.split()) + 2 if text else 0 for text in texts]).all()
    assert all(np.isfinite(content[part]).all() for part in ("frames", "text"))


@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(0, 23), max_size=30))
def test_rows_come_back_in_any_order_from_any_shard(extracted: Extracted, rows: list[int]) -> None:
    assert len(list((extracted.folder / "content" / "shards").iterdir())) > 2
    everything = extracted.store.content(np.arange(24))
    for part, values in extracted.store.content(np.array(rows, np.int64)).items():
        np.testing.assert_array_equal(values, everything[part][rows])


def test_labelled_and_unlabelled_rows_of_a_split(extracted: Extracted) -> None:
    store = extracted.store
    assert store.rows("train", labelled=True).tolist() == list(range(12))
    assert store.rows("train", labelled=False).tolist() == list(range(12, 16))
    assert store.rows("test", labelled=True).tolist() == list(range(20, 24))
    assert (store.targets.sum(1) == store.labelled).all()


def test_a_clip_that_cannot_be_decoded_is_left_out_with_its_reason(extracted: Extracted, tmp_path: Path) -> None:
    videos = tmp_path / "videos"
    videos.mkdir()
    for clip in (extracted.folder / "videos").iterdir():
        (videos / clip.name).symlink_to(clip)
    (videos / "04.mp4").unlink()
    (videos / "04.mp4").write_bytes(b"this is no video")
    (videos / "11.mp4").unlink()
    store = extract(tmp_path, extracted.manifest, small_params(), max_quarantined=2)
    assert store.index["video_id"].to_list() == [
        name for name in extracted.manifest["video_id"] if name not in ("clip-04", "clip-11")
    ]
    quarantine = pd.read_parquet(tmp_path / "content" / "quarantine.parquet").set_index("video_id")["reason"]
    assert quarantine.index.to_list() == ["clip-04", "clip-11"]
    assert quarantine["clip-04"].startswith("cannot be decoded")
    assert quarantine["clip-11"] == "file is missing"
    kept = np.delete(np.arange(24), [4, 11])
    for part, values in store.content(np.arange(22)).items():
        np.testing.assert_array_equal(values, extracted.store.content(kept)[part])


def test_a_shard_of_which_nothing_is_left_leaves_no_hole(extracted: Extracted, tmp_path: Path) -> None:
    manifest = extracted.manifest.copy()
    manifest.loc[[8, 9], "path"] = "gone.mp4"
    store = extract(beside(extracted, tmp_path), manifest, small_params(extract={"shard_clips": 1}), max_quarantined=2)
    kept = np.delete(np.arange(24), [8, 9])
    assert len(list((tmp_path / "content" / "shards").iterdir())) == 22
    np.testing.assert_array_equal(store.content(np.arange(22))["text"], extracted.store.content(kept)["text"])


def test_too_many_broken_clips_stop_the_stage_with_one_sentence(extracted: Extracted, tmp_path: Path) -> None:
    manifest = extracted.manifest.assign(path=[path and "gone.mp4" for path in extracted.manifest["path"]])
    with pytest.raises(CpfdError) as caught:
        extract(tmp_path, manifest, small_params(), max_quarantined=3)
    assert str(caught.value) == (
        "21 of 24 clips cannot be decoded, 3 more may be quarantined (validation.max_quarantine_share);"
        " the first: clip-00: file is missing"
    )
    assert not (tmp_path / "content").exists()


def test_a_class_without_any_clip_left_to_train_on_stops_the_stage(extracted: Extracted, tmp_path: Path) -> None:
    manifest = extracted.manifest.copy()
    manifest.loc[(manifest["label"] == "eel") & (manifest["split"] == "train"), "path"] = "gone.mp4"
    with pytest.raises(CpfdError, match="no training clip of eel can be decoded"):
        extract(beside(extracted, tmp_path), manifest, small_params(), max_quarantined=24)


def test_a_data_set_of_text_alone_stores_no_frames(extracted: Extracted, tmp_path: Path) -> None:
    store = extract(tmp_path, extracted.manifest.assign(path=""), small_params())
    content = store.content(np.arange(24))
    assert content["frames"].size == 0
    assert not content["has_video"].any()
    assert store.meta["frames"] == 0
    np.testing.assert_array_equal(content["text"], extracted.store.content(np.arange(24))["text"])


def test_a_data_set_of_videos_alone_stores_no_text(extracted: Extracted, tmp_path: Path) -> None:
    manifest = extracted.manifest.drop(columns="title")
    store = extract(beside(extracted, tmp_path), manifest, small_params())
    content = store.content(np.arange(24))
    assert not content["text_mask"].any()
    assert content["text"].shape[1] <= 2
    assert store.meta["text_columns"] == []
    np.testing.assert_array_equal(content["frames"], extracted.store.content(np.arange(24))["frames"])


def test_text_columns_are_joined_in_the_order_of_params(extracted: Extracted, tmp_path: Path) -> None:
    manifest = extracted.manifest.assign(caption=" a \n caption ", path="")
    both = extract(tmp_path, manifest, small_params(text={"columns": ["caption", "transcript", "title"]}))
    assert both.meta["text_columns"] == ["caption", "title"]
    joined = ["a caption" + (f" | {' '.join(text.split())}" if text else "") for text in manifest["title"]]
    (tmp_path / "joined").mkdir()
    one = extract(
        tmp_path / "joined", manifest[["video_id", "path", "label", "split"]].assign(title=joined), small_params()
    )
    np.testing.assert_array_equal(both.content(np.arange(24))["text"], one.content(np.arange(24))["text"])


def test_text_is_read_alike_in_whatever_unicode_form_it_was_typed() -> None:
    typed = pd.DataFrame({"title": [unicodedata.normalize("NFD", "un  café ")], "caption": [" "]})
    assert join_text(typed, ["title", "caption"]) == ["un café"]


def test_text_that_is_cut_is_told_with_its_share_and_the_parameter(extracted: Extracted) -> None:
    titles = ["", *["two words"] * 15, *["six words are more than that"] * 8]  # and two special tokens each
    clips = extracted.manifest.assign(title=titles)

    def cut(max_tokens: int) -> str | None:
        return ClipEncoder(clips, small_params(text={"max_tokens": max_tokens})).tell_cut(titles)

    assert cut(8) is None
    assert str(cut(6)).replace("\N{NO-BREAK SPACE}", " ") == (
        "the text of 8 clips, 35 % of those with text, is cut at 6 tokens (text.max_tokens);"
        " 8 would hold 95 % of the texts whole"
    )


def test_finetuning_stores_frames_and_token_ids_themselves(extracted: Extracted, tmp_path: Path) -> None:
    store = extract(beside(extracted, tmp_path), extracted.manifest, small_params(backbone={"mode": "finetune"}))
    content = store.content(np.arange(24))
    assert content["frames"].dtype == np.uint8
    for row, path in enumerate(extracted.manifest["path"]):
        expected = sample_frames(extracted.folder / "videos" / path, 2, 64) if path else np.zeros((2, 64, 64, 3))
        np.testing.assert_array_equal(content["frames"][row], expected)
    assert content["text"].dtype == np.int64
    assert (content["text"][0, :3] == [101, 2026, 4937]).all()  # [CLS] my cat


KILLED = """
import sys
from pathlib import Path
import pandas as pd
from tests.support.small import extract, small_params
folder = Path(sys.argv[1])
extract(folder, pd.read_parquet(folder / "manifest.parquet"), small_params(extract={"shard_clips": 1}))
"""


def test_a_killed_run_goes_on_after_its_last_whole_shard(extracted: Extracted, tmp_path: Path) -> None:
    undisturbed, killed = tmp_path / "undisturbed", tmp_path / "killed"
    for folder in (undisturbed, killed):
        (folder / "videos").mkdir(parents=True)
        for clip in (extracted.folder / "videos").iterdir():
            os.link(clip, folder / "videos" / clip.name)
    params = small_params(extract={"shard_clips": 1})
    extract(undisturbed, extracted.manifest, params)

    hashes = pd.read_parquet(undisturbed / "content.parquet")["content_hash"]
    manifest = extracted.manifest.assign(content_hash=hashes)
    manifest.to_parquet(killed / "manifest.parquet")
    process = subprocess.Popen([sys.executable, "-c", KILLED, str(killed)], cwd=ROOT, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while len(list((killed / "scratch").glob("[!.]*.parquet"))) < 2:
        assert process.poll() is None, "it ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.001)
    process.send_signal(signal.SIGKILL)
    process.wait()
    finished = len(list((killed / "scratch").glob("[!.]*.parquet")))
    assert 1 < finished < 24
    assert not (killed / "content").exists()

    # Finished shards, of one clip each, are not decoded again: their videos need not even be there.
    for number in range(finished):
        (killed / "videos" / f"{number:02}.mp4").unlink(missing_ok=True)
    extract(killed, manifest, params)
    assert digests(killed / "content") == digests(undisturbed / "content")


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[Path | None]:
    """The files that were decoded, None for a clip without one."""
    found: list[Path | None] = []
    encode = ClipEncoder.encode

    def noted(self: ClipEncoder, file: Path | None, *text: Any) -> Any:
        found.append(file)
        return encode(self, file, *text)

    monkeypatch.setattr(ClipEncoder, "encode", noted)
    return found


def known(folder: Path) -> KnownClips:
    """What the store in a folder knows."""
    return KnownClips(folder / "content", state(folder))


def state(folder: Path) -> str:
    return str(read_json(folder / "content/meta.json")["state"])


def test_a_night_decodes_what_is_new_and_ends_with_the_bytes_of_a_fresh_start(
    extracted: Extracted, tmp_path: Path, decoded: list[Path | None]
) -> None:
    params, manifest = small_params(extract={"shard_clips": 4}), extracted.manifest
    retitled = manifest.assign(title=manifest["title"].replace("my eel  number 5", "an eel on the run"))
    broken = manifest.assign(path=manifest["path"].replace("08.mp4", "gone.mp4"))
    relabelled = manifest.assign(label="cat", split="train").iloc[::-1].sort_values("video_id")
    nights = {
        "first": (manifest.drop(index=9), 23),
        "one clip more": (manifest, 1),
        "a clip changed": (broken, 1),
        "the same as yesterday": (broken, 0),
        "a text changed": (retitled, 2),  # and 08.mp4 is back
        "clips removed": (manifest.drop(index=[0, 7, 23]), 1),  # the text is what it was
        "labels and splits changed": (relabelled.drop(index=[0, 7, 23]), 0),
    }
    before = KnownClips()
    for name, (clips, new) in nights.items():
        folder, fresh = tmp_path / name, tmp_path / f"{name}, fresh"
        for each in (folder, fresh):
            each.mkdir()
            beside(extracted, each)
        decoded.clear()
        extract(folder, clips, params, before, max_quarantined=1, classes=["cat"] if "labels" in name else CLASSES)
        assert len(decoded) == new, name
        extract(fresh, clips, params, max_quarantined=1, classes=["cat"] if "labels" in name else CLASSES)
        assert digests(folder / "content") == digests(fresh / "content"), name
        before = known(folder)


def test_a_clip_becomes_the_same_whoever_is_beside_it(extracted: Extracted, tmp_path: Path) -> None:
    rows = [13, 2, 20]
    some = extract(beside(extracted, tmp_path), extracted.manifest.iloc[rows], small_params(), classes=["eel"])
    for part, values in some.content(np.arange(3)).items():
        np.testing.assert_array_equal(values, extracted.store.content(np.array(rows))[part])


def test_of_a_store_that_another_encoder_made_nothing_is_known(
    extracted: Extracted, tmp_path: Path, decoded: list[Path | None]
) -> None:
    params = small_params(video={"grid": 1})
    extract(beside(extracted, tmp_path), extracted.manifest, params)
    assert state(tmp_path) != state(extracted.folder)
    decoded.clear()
    extract(tmp_path, extracted.manifest, params, KnownClips(extracted.folder / "content", state(tmp_path)))
    assert len(decoded) == 24


def test_a_shard_ends_where_a_key_says_so() -> None:
    """So that a clip more or less changes one shard, now and then the next one as well."""
    rng = np.random.default_rng(0)
    keys = [f"{number:032x}" for number in rng.integers(0, 2**63, 5000)]
    shards = cut_shards(keys, 32, "state")
    assert [shard.first for shard in shards] == [0, *(shard.last for shard in shards[:-1])]
    sizes = [shard.last - shard.first for shard in shards]
    assert shards[-1].last == len(keys)
    assert min(sizes[:-1]) >= 8
    assert max(sizes) <= 64
    assert 24 < np.mean(sizes) < 48
    names = {shard.name for shard in shards}
    changed = []
    for place in rng.integers(0, len(keys), 200):
        more = cut_shards([*keys[:place], f"{place:032x}", *keys[place:]], 32, "state")
        changed.append(sum(shard.name not in names for shard in more))
    assert min(changed) == 1
    assert np.mean(changed) < 2
    assert names.isdisjoint(shard.name for shard in cut_shards(keys, 32, "another state"))


def test_few_shards_are_open_at_a_time(extracted: Extracted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_module, "OPEN_SHARDS", 3)
    store = extract(beside(extracted, tmp_path), extracted.manifest, small_params(extract={"shard_clips": 1}))
    before = len(os.listdir("/proc/self/fd"))
    for rows in np.random.default_rng(0).integers(0, 24, (20, 5)):
        store.content(rows)
    assert len(os.listdir("/proc/self/fd")) <= before + 3


# dense features


@st.composite
def dense_tables(draw: st.DrawFn) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """values[N, 3], some missing, some columns constant or wholly missing, and train[N]."""
    clips = draw(st.integers(3, 30))
    number = st.floats(-1e12, 1e12) | st.sampled_from([0.0, 1.0, np.nan])
    values = draw(arrays(np.float64, (clips, 3), elements=number))
    column = draw(st.sampled_from([None, 0.0, 7.0, np.nan]))
    if column is not None:
        values[:, 1] = column
    train = draw(arrays(np.bool_, clips))
    train[:2] = True
    return values, train


@settings(max_examples=60, deadline=None)
@given(dense_tables(), st.sampled_from(SCALERS))
def test_scaled_values_are_finite_and_marked_where_missing(
    table: tuple[NDArray[np.float64], NDArray[np.bool_]], scaler: str
) -> None:
    values, train = table
    scaled = scale_dense(pd.DataFrame(values), train, scaler)
    assert scaled.shape == (len(values), 6)
    assert scaled.dtype == np.float32
    assert np.isfinite(scaled).all()
    assert np.abs(scaled).max() <= LIMIT
    missing = np.isnan(values) | np.isnan(values[train]).all(0)
    np.testing.assert_array_equal(scaled[:, 3:], missing)
    assert (scaled[:, :3][missing] == 0).all()


@settings(max_examples=40, deadline=None)
@given(dense_tables(), st.sampled_from(SCALERS), st.integers(0, 100))
def test_only_training_clips_decide_how_values_are_scaled(
    table: tuple[NDArray[np.float64], NDArray[np.bool_]], scaler: str, seed: int
) -> None:
    values, train = table
    other = values.copy()
    other[~train] = np.random.default_rng(seed).normal(0, 1e6, other[~train].shape)
    np.testing.assert_array_equal(
        scale_dense(pd.DataFrame(values), train, scaler)[train], scale_dense(pd.DataFrame(other), train, scaler)[train]
    )


@settings(max_examples=40, deadline=None)
@given(dense_tables(), st.sampled_from(SCALERS))
def test_scaling_keeps_the_order_of_values(table: tuple[NDArray[np.float64], NDArray[np.bool_]], scaler: str) -> None:
    values, train = table
    scaled = scale_dense(pd.DataFrame(values), train, scaler)[:, :3]
    for column in range(3):
        there = ~np.isnan(values[:, column])
        order = np.argsort(values[there, column], kind="stable")
        assert (np.diff(scaled[there, column][order]) >= -1e-5).all()


@pytest.mark.parametrize("scaler", SCALERS)
def test_validation_clips_are_measured_by_the_training_clips(scaler: str) -> None:
    train = np.array([True] * 50 + [False] * 50)
    values = np.concatenate([np.arange(50.0), np.arange(50.0) + 1000])
    scaled = scale_dense(pd.DataFrame({"views": values}), train, scaler)[:, 0]
    assert abs(np.median(scaled[:50])) < 0.6
    assert scaled[50:].min() >= scaled[:50].max()


@pytest.mark.parametrize("scaler", SCALERS)
def test_one_viral_clip_is_clipped_and_leaves_the_others_apart(scaler: str) -> None:
    views = np.concatenate([np.random.default_rng(0).lognormal(5, 1, 200), [1e15]])
    scaled = scale_dense(pd.DataFrame({"views": views}), np.ones(201, bool), scaler)[:, 0]
    assert scaled.argmax() == 200
    assert scaled[200] <= LIMIT
    assert scaled[:200].std() > 0.2


@pytest.mark.parametrize("scaler", ["signed_log", "robust"])
def test_a_constant_column_says_nothing(scaler: str) -> None:
    scaled = scale_dense(pd.DataFrame({"flag": [3.0, 3.0, np.nan, 3.0]}), np.array([True, True, True, False]), scaler)
    np.testing.assert_array_equal(scaled, [[0, 0], [0, 0], [0, 1], [0, 0]])


def test_a_column_that_training_clips_lack_counts_as_missing_everywhere() -> None:
    table = pd.DataFrame({"late": [np.nan, np.nan, 5.0], "early": [1.0, 2.0, 3.0]})
    for scaler in SCALERS:
        scaled = scale_dense(table, np.array([True, True, False]), scaler)
        np.testing.assert_array_equal(scaled[:, [0, 2]], [[0, 1]] * 3)


def test_a_data_set_without_dense_columns_has_none_to_scale() -> None:
    for scaler in SCALERS:
        assert scale_dense(pd.DataFrame(index=range(4)), np.ones(4, bool), scaler).shape == (4, 0)
