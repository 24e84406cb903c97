"""The generated demo data set keeps what docs/demo-dataset.md promises."""

import hashlib
from pathlib import Path

import av
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cpfd.datasets.contract import SPLITS, RawDataset, read_dataset
from cpfd.datasets.video import iter_frames, probe
from cpfd.demo import generate
from cpfd.demo.dense import creator_history, dense_table
from cpfd.demo.story import TALKING_HEAD, TOPICS, own_rng, tell_story
from cpfd.demo.text import caption, overlay
from cpfd.demo.video import FRAMES, HEIGHT, RATE, WIDTH, heavy_embedding, render
from cpfd.errors import CpfdError
from cpfd.params.load import load_params
from cpfd.params.schema import Demo
from tests.support.project import ROOT

DEMO = load_params(path=ROOT / "params.yaml").demo


def demo(**changes: float) -> Demo:
    return Demo.model_validate(DEMO.model_dump() | changes)


def digest(folder: Path) -> str:
    files = sorted(file for file in folder.rglob("*") if file.is_file())
    return hashlib.sha256(b"".join(str(f.relative_to(folder)).encode() + f.read_bytes() for f in files)).hexdigest()


def embeddings(clips: pd.DataFrame) -> np.ndarray:
    """Stands in for the heavy model where a test is about the rest of the dense table."""
    return np.random.default_rng(0).standard_normal((len(clips), 4), np.float32)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> RawDataset:
    folder = tmp_path_factory.mktemp("demo") / "demo"
    generate(folder, demo(clips=48, creators=12), processes=2)
    return read_dataset(folder)


def test_same_seed_gives_same_bytes_with_any_number_of_processes(
    tiny: RawDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # glibc then fills the memory that it hands out, which shows an encoder that reads what it never wrote.
    monkeypatch.setenv("MALLOC_PERTURB_", "85")
    generate(tmp_path / "again", demo(clips=48, creators=12), processes=1)
    assert digest(tmp_path / "again") == digest(tiny.folder)
    assert [path.name for path in tmp_path.iterdir()] == ["again"], "nothing but the data set may stay behind"


def test_another_seed_gives_another_story_and_other_frames() -> None:
    one, other = tell_story(demo(seed=1)), tell_story(demo(seed=2))
    assert not one["published_at"].equals(other["published_at"])
    assert not np.array_equal(*(render(0, 0, "", 0.0, own_rng(seed, 0, "video")) for seed in (1, 2)))


def test_every_clip_is_two_seconds_of_decodable_h264(tiny: RawDataset) -> None:
    paths = [tiny.videos / path for path in tiny.manifest["path"]]
    assert sorted(tiny.videos.iterdir()) == sorted(paths)
    for path in paths:
        found = probe(path)
        assert (found.seconds, found.frames) == (pytest.approx(2), FRAMES)
        assert (found.width, found.height, found.frames_per_second) == (WIDTH, HEIGHT, RATE)
    assert sum(1 for _ in iter_frames(paths[0])) == FRAMES
    with av.open(str(paths[0])) as container:
        assert container.streams.video[0].codec_context.name == "h264"
        assert "creation_time" not in container.metadata


def test_the_manifest_follows_the_contract(tiny: RawDataset) -> None:
    manifest = tiny.manifest
    assert manifest["video_id"].is_unique
    assert tiny.text_columns == ["caption", "overlay_text"]
    assert set(manifest["label"]) == {*TOPICS, ""}
    assert set(manifest.loc[manifest["label"] == "", "split"]) == {"train"}
    days = pd.to_datetime(manifest["published_at"])
    assert days.is_monotonic_increasing
    assert days.between("2024-01-01T00:00:00Z", "2024-06-30T00:00:00Z").all()
    assert set(tiny.dense["video_id"]) <= set(manifest["video_id"])


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    creators=st.integers(12, 60),
    clips_per_creator=st.integers(3, 12),
    off_topic_rate=st.floats(0, 1),
    unlabelled_share=st.floats(0, 1),
)
def test_splits_are_by_creator_and_hold_every_topic(
    seed: int, creators: int, clips_per_creator: int, off_topic_rate: float, unlabelled_share: float
) -> None:
    clips = tell_story(
        demo(
            seed=seed,
            creators=creators,
            clips=creators * clips_per_creator,
            off_topic_rate=off_topic_rate,
            unlabelled_share=unlabelled_share,
        )
    )
    assert len(clips) == creators * clips_per_creator
    assert clips["creator_id"].nunique() == creators
    assert (clips.groupby("creator_id")["split"].nunique() == 1).all()
    for split in SPLITS:
        members = clips[clips["split"] == split]
        assert set(members["topic"]) == set(range(len(TOPICS)))
        assert set(members["label"]) - {""} == set(TOPICS)
        if split != "train":
            assert [TOPICS[topic] for topic in members["topic"]] == list(members["label"])


def test_a_few_creators_publish_much_and_most_little() -> None:
    clips_of = tell_story(DEMO)["creator_id"].value_counts()
    assert len(clips_of) == DEMO.creators
    assert clips_of.head(12).sum() > 0.25 * DEMO.clips
    assert clips_of.median() < clips_of.mean()


def test_rates_are_those_of_the_parameters() -> None:
    params = demo(clips=4000, creators=400)
    clips = tell_story(params)
    topic, head = clips["topic"], clips["look"] == TALKING_HEAD
    truth = np.array(TOPICS)[topic]
    training = clips["split"] == "train"
    labelled = training & (clips["label"] != "")
    wrong = labelled & (clips["label"] != truth)
    alike = clips["label"] == np.array(TOPICS)[topic ^ 1]
    newcomer = clips.drop_duplicates("creator_id")["new_creator"]
    rngs = [own_rng(params.seed, index, "text") for index in range(len(clips))]
    captions = [caption(index, params, rng) for index, rng in zip(topic, rngs, strict=True)]
    overlays = [overlay(index, params, rng) for index, rng in zip(topic, rngs, strict=True)]
    for measured, rate in [
        (training.mean(), 1 - params.validation_share - params.test_share),
        ((clips["split"] == "test").mean(), params.test_share),
        ((topic != clips["main_topic"]).mean(), params.off_topic_rate),
        (1 - labelled.sum() / training.sum(), params.unlabelled_share),
        (wrong.sum() / labelled.sum(), params.annotator_error_rate),
        (alike[wrong].mean(), params.confusable_error_share),
        (head.mean(), params.talking_head_rate),
        ((clips["look"] != topic)[~head].mean(), params.look_overlap),
        ((clips["course"] != topic).mean(), params.course_overlap),
        ((clips["category"] != topic).mean(), params.careless_category_rate),
        (clips["boosted"].mean(), params.boosted_rate),
        ((clips["audience"] != topic).mean(), params.boosted_rate),
        (clips["in_backlog"].mean(), params.heavy_backlog_rate),
        (newcomer.mean(), params.new_creator_rate),
        (np.mean([text == "" for text in captions]), params.missing_caption_rate),
        (np.mean([text == "" for text in overlays]), params.missing_overlay_rate),
    ]:
        assert measured == pytest.approx(rate, abs=0.025)


def test_look_alikes_share_words_and_everybody_shares_more() -> None:
    params = demo(missing_caption_rate=0, wording_overlap=0, confusable_wording=0)
    own = {caption(0, params, np.random.default_rng(seed)) for seed in range(200)}
    assert any("the sauce" in text for text in own)
    assert not any("a paper crane" in text for text in own)
    confused = [caption(0, demo(wording_overlap=0, confusable_wording=1), np.random.default_rng(s)) for s in range(200)]
    assert any("a paper crane" in text for text in confused)
    assert not any("the sauce" in text for text in confused)


histories = st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 5), st.integers(0, 7)), min_size=1, max_size=25)


@given(histories)
def test_history_counts_only_earlier_clips_of_the_creator(clips: list[tuple[str, int, int]]) -> None:
    creator, day, category = (pd.Series(values) for values in zip(*clips, strict=True))
    history = creator_history(creator, pd.Timestamp("2024-01-01") + pd.to_timedelta(day, unit="D"), category)
    for row, (who, when, _) in enumerate(clips):
        earlier = [topic for name, moment, topic in clips if name == who and moment < when]
        assert history.loc[row, "creator_earlier_clips"] == len(earlier)
        shares = history.loc[row, [f"creator_share_{topic}" for topic in TOPICS]].to_numpy(float)
        if earlier:
            np.testing.assert_allclose(shares, np.bincount(earlier, minlength=len(TOPICS)) / len(earlier))
        else:
            assert np.isnan(shares).all()


def test_the_dense_table_knows_no_label_and_nothing_that_comes_later() -> None:
    clips = tell_story(DEMO)
    table = dense_table(clips, embeddings(clips), DEMO)
    relabelled = clips.assign(label=np.random.default_rng(0).permutation(clips["label"]))
    pd.testing.assert_frame_equal(table, dense_table(relabelled, embeddings(clips), DEMO))
    half = clips.head(400)
    early = dense_table(half, embeddings(clips)[:400], DEMO)
    pd.testing.assert_frame_equal(table[table["video_id"].isin(half["video_id"])], early)


def test_dense_features_are_missing_for_newcomers_and_in_the_backlog() -> None:
    clips = tell_story(DEMO)
    table = dense_table(clips, embeddings(clips), DEMO).set_index("video_id").reindex(clips["video_id"])
    newcomer, waiting = clips["new_creator"].to_numpy(), clips["in_backlog"].to_numpy()
    assert np.array_equal(table["views"].isna(), newcomer)
    assert np.array_equal(table["creator_followers"].isna(), newcomer)
    assert np.array_equal(table["heavy_00"].isna(), waiting)
    assert np.array_equal(table.isna().all(axis=1), newcomer & waiting)
    assert (newcomer & waiting).any(), "some clips have no dense row at all"


def test_engagement_is_heavy_tailed_and_misleads_for_boosted_clips() -> None:
    params = demo(clips=2000, creators=200, boosted_rate=0.5)
    clips = tell_story(params)
    table = dense_table(clips, embeddings(clips), params).set_index("video_id").reindex(clips["video_id"])
    views = table["views"].to_numpy()
    assert np.nanmean(views) > 2 * np.nanmedian(views)
    watch = table.filter(like="watch_").to_numpy()
    assert np.nanmin(watch) >= 0
    assert np.nanmax(watch) <= 1

    def watchers(topic: str, chosen: pd.Series) -> float:
        return float(table.loc[((clips["topic"] == TOPICS.index(topic)) & chosen).to_numpy(), "watch_4"].mean())

    honest = watchers("dance", ~clips["boosted"]) - watchers("gaming", ~clips["boosted"])
    bought = watchers("dance", clips["boosted"]) - watchers("gaming", clips["boosted"])
    assert honest > 0.1
    assert bought < honest / 2


@pytest.mark.parametrize("topic", range(0, len(TOPICS), 2), ids=TOPICS[::2])
def test_the_order_of_the_frames_tells_look_alikes_apart_better_than_the_frames_alone(topic: int) -> None:
    def measure(course: int) -> tuple[np.ndarray, np.ndarray]:
        clips = [render(topic, course, "", 0.0, own_rng(seed, 0, "video")) for seed in range(12)]
        ordered = np.stack([heavy_embedding(frames) for frames in clips])
        shuffled = np.stack([heavy_embedding(frames[np.random.default_rng(0).permutation(FRAMES)]) for frames in clips])
        return ordered, shuffled

    def distance(one: np.ndarray, other: np.ndarray) -> float:
        return float(np.linalg.norm((one.mean(0) - other.mean(0)) / (one.std(0) + other.std(0))))

    (own, own_shuffled), (alike, alike_shuffled) = measure(topic), measure(topic + 1)
    assert distance(own, alike) > distance(own_shuffled, alike_shuffled)


@pytest.mark.parametrize(
    "changes",
    [{"clips": 24, "creators": 200}, {"clips": 24, "validation_share": 0.45, "test_share": 0.45, "creators": 12}],
)
def test_too_few_clips_for_the_splits_are_refused_with_what_to_change(changes: dict[str, float]) -> None:
    with pytest.raises(CpfdError, match=r"demo\.clips: the \w+ split gets \d+ of 24 clips .* raise demo\.clips"):
        tell_story(demo(**changes))
