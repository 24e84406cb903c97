import json
import os
import re
import unicodedata
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pandas as pd
import pytest

from cpfd.datasets.contract import RawDataset, read_dataset
from cpfd.datasets.memory import file_memory
from cpfd.datasets.validated import read_clips
from cpfd.errors import CpfdError
from cpfd.files import read_json, read_table
from cpfd.params.schema import Dataset, Split, Validation
from cpfd.reports.validation import ValidationReport
from cpfd.validation import checks
from cpfd.validation.checks import CheckedDataset, check_dataset
from cpfd.validation.dataset import validate_dataset
from cpfd.validation.told import told
from tests.support.clips import write_clip

SPLIT = Split(seed=0, validation_share=0.25, test_share=0.25)
LIMITS = Validation(
    max_quarantine_share=0.5,
    min_seconds=0.2,
    max_seconds=10.0,
    min_side=32,
    max_side=256,
    max_megabytes=10,
    min_frames=1,
    min_class_clips=2,
    max_class_ratio=5.0,
    max_missing_text_share=1.0,
    max_missing_dense_share=0.5,
    max_drift=0.6,
)


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """24 clips, each of its own content."""
    folder = tmp_path_factory.mktemp("clips")
    return [write_clip(folder / f"{number}.mp4", seed=number, frames=4) for number in range(24)]


@pytest.fixture
def table(clips: list[Path], tmp_path: Path) -> pd.DataFrame:
    """A sound manifest of 24 clips, two classes and 12 creators; its clips lie in tmp_path/videos."""
    (tmp_path / "videos").mkdir()
    for clip in clips:
        os.link(clip, tmp_path / "videos" / clip.name)
    numbers = range(len(clips))
    return pd.DataFrame(
        {
            "video_id": [f"v{number:02}" for number in numbers],
            "path": [clip.name for clip in clips],
            "title": [f"clip {number}" for number in numbers],
            "label": ["cat", "dog"] * 12,
            "creator_id": [f"creator{number // 2}" for number in numbers],
        }
    )


def raw(folder: Path, manifest: pd.DataFrame, dense: pd.DataFrame | None = None) -> RawDataset:
    manifest.to_parquet(folder / "manifest.parquet")
    if dense is not None:
        dense.to_csv(folder / "dense.csv", index=False)
    return read_dataset(folder)


def check(dataset: RawDataset, task: str = "single_label", **limits: float) -> CheckedDataset:
    return check_dataset(dataset, task, SPLIT, LIMITS.model_copy(update=limits))


def reasons(checked: CheckedDataset, table: str = "manifest") -> dict[str, str]:
    rows = checked.quarantine[checked.quarantine["table"] == table]
    return dict(zip(rows["video_id"], rows["reason"], strict=True))


def validate(dataset: RawDataset, out: Path, **limits: float) -> ValidationReport:
    task = Dataset(name="pets", task="single_label")
    return validate_dataset(dataset, task, SPLIT, LIMITS.model_copy(update=limits), out / "validated", out / "reports")


def write_sound(path: Path) -> None:
    """An MP4 with sound and no picture."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=16000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 16000), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 16000
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def test_files_that_are_no_clips_go_to_quarantine_with_their_reasons(table: pd.DataFrame, tmp_path: Path) -> None:
    videos = tmp_path / "videos"
    for name, content in {
        "truncated.mp4": (videos / "0.mp4").read_bytes()[:-1200],
        "text.mp4": b"dear diary, today I filmed nothing\n" * 20,
        "empty.mp4": b"",
    }.items():
        (videos / name).write_bytes(content)
    write_sound(videos / "sound.mp4")
    (videos / "folder.mp4").mkdir()
    broken = ["truncated.mp4", "text.mp4", "empty.mp4", "sound.mp4", "folder.mp4", "gone.mp4"]
    table.loc[:5, "path"] = broken
    checked = check(raw(tmp_path, table))
    found = dict(zip(broken, [reasons(checked)[f"v{number:02}"] for number in range(6)], strict=True))
    assert re.match(r"truncated: \d of 4 frames|cannot be decoded: ", found["truncated.mp4"])
    assert found["text.mp4"] == "cannot be decoded: Invalid data found when processing input"
    assert found["empty.mp4"] == "file is empty (0 bytes)"
    assert found["sound.mp4"] == "has no video stream"
    assert found["folder.mp4"] == found["gone.mp4"] == "file is missing"
    assert checked.quarantined_clips == 6
    assert checked.manifest["video_id"].tolist() == table["video_id"][6:].tolist()


def test_a_file_that_has_not_changed_is_not_read_again(
    table: pd.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []
    examine = checks.isolated

    def noted(function: Any, file: Path, *arguments: Any) -> Any:
        read.append(file.name)
        return examine(function, file, *arguments)

    monkeypatch.setattr(checks, "isolated", noted)
    data, database = raw(tmp_path, table), tmp_path / "memory.sqlite"
    count = len(table)

    def again(about: str = "these limits") -> tuple[CheckedDataset, int]:
        read.clear()
        with file_memory(database, about) as memory:
            return check_dataset(data, "single_label", SPLIT, LIMITS, memory), len(read)

    first, new = again()
    assert new == count > 3
    second, new = again()
    assert new == 0
    pd.testing.assert_frame_equal(first.manifest, second.manifest)
    pd.testing.assert_frame_equal(first.clips, second.clips)

    changed = sorted(data.videos.glob("*.mp4"))[0]
    changed.unlink()  # a link
    changed.write_bytes(sorted(data.videos.glob("*.mp4"))[1].read_bytes())
    third, new = again()
    assert (new, read) == (1, [changed.name])
    assert (third.manifest["content_hash"] != first.manifest["content_hash"]).sum() == 1
    assert again("other limits")[1] == count
    assert again()[1] == count, "what the last run had no use for is forgotten"
    database.write_bytes(b"no database at all, which a power cut may leave")
    assert again()[1] == count


def test_paths_that_leave_the_videos_folder_are_never_opened(table: pd.DataFrame, tmp_path: Path) -> None:
    videos, outside = tmp_path / "videos", tmp_path / "outside"
    outside.mkdir()
    (videos / "0.mp4").rename(outside / "0.mp4")
    (videos / "link.mp4").symlink_to(outside / "0.mp4")
    (videos / "linked").symlink_to(outside)
    (videos / "loop.mp4").symlink_to(videos / "loop.mp4")
    (videos / "inside.mp4").symlink_to(videos / "9.mp4")
    table.loc[:6, "path"] = [
        str(outside / "0.mp4"), "../outside/0.mp4", "link.mp4", "linked/0.mp4", "loop.mp4", "a\0b.mp4", "x" * 300
    ]  # fmt: skip
    table.loc[9, "path"] = "inside.mp4"
    cached = tmp_path / ".dvc/cache/files/md5/0a/bc"
    cached.parent.mkdir(parents=True)
    (videos / "10.mp4").rename(cached)
    (videos / "10.mp4").symlink_to(cached)
    found = reasons(check(raw(tmp_path, table)))
    assert found == {
        "v00": f"path leaves videos/: '{outside}/0.mp4' is absolute",
        "v01": "path leaves videos/: '../outside/0.mp4'",
        "v02": "path leaves videos/: 'link.mp4' is or passes a symbolic link to elsewhere",
        "v03": "path leaves videos/: 'linked/0.mp4' is or passes a symbolic link to elsewhere",
        "v04": "file cannot be read: 'loop.mp4'",
        "v05": "file cannot be read: 'a\0b.mp4'",
        "v06": f"file cannot be read: '{'x' * 300}'",
        "v10": "path leaves videos/: '10.mp4' is a link into DVC's cache (cache.type symlink);"
        " `dvc config cache.type reflink,hardlink,copy` and `dvc checkout --relink` make it a file",
    }


def test_deep_colour_odd_sides_and_still_images_pass(table: pd.DataFrame, tmp_path: Path) -> None:
    videos = tmp_path / "videos"
    write_clip(videos / "ten-bit.mp4", pix_fmt="yuv420p10le")
    write_clip(videos / "sixteen-bit.mkv", codec="ffv1", pix_fmt="gbrp16le")
    write_clip(videos / "odd.mp4", width=63, height=47, pix_fmt="yuv444p")
    cv2.imwrite(str(videos / "still.png"), np.full((35, 51, 3), 40_000, np.uint16))
    table.loc[:3, "path"] = ["ten-bit.mp4", "sixteen-bit.mkv", "odd.mp4", "still.png"]
    checked = check(raw(tmp_path, table))
    assert checked.quarantine.empty
    assert checked.clips[["short_side", "long_side", "frames"]].values[:4].tolist() == [
        [48, 64, 12], [48, 64, 12], [47, 63, 12], [35, 51, 1]
    ]  # fmt: skip
    assert np.isnan(checked.clips["seconds"][3])


def test_clips_beyond_the_limits_go_to_quarantine(table: pd.DataFrame, tmp_path: Path) -> None:
    write_clip(tmp_path / "videos/short.mp4", frames=2)
    write_clip(tmp_path / "videos/large.mp4", width=320, frames=4)
    table.loc[:1, "path"] = ["short.mp4", "large.mp4"]
    assert reasons(check(raw(tmp_path, table))) == {
        "v00": "too short: 0.17 s, at least 0.2 s (validation.min_seconds)",
        "v01": "too large: 320 x 48, at most 256 pixels (validation.max_side)",
    }


def test_of_duplicate_ids_only_an_exact_repetition_leaves_a_row(table: pd.DataFrame, tmp_path: Path) -> None:
    table.loc[2, "video_id"] = ""
    doubled = pd.concat([table, table.iloc[[5]], table.iloc[[7]].assign(label="cat")])
    checked = check(raw(tmp_path, doubled))
    assert checked.quarantine.values.tolist() == [
        ["manifest", "", "empty video_id: row 3"],
        ["manifest", "v05", "repeated row: row 25 is the same as row 6"],
        ["manifest", "v07", "duplicate video_id: rows 8, 26 differ"],
        ["manifest", "v07", "duplicate video_id: rows 8, 26 differ"],
    ]
    assert checked.manifest["video_id"].tolist() == [f"v{n:02}" for n in range(24) if n not in (2, 7)]


def test_a_clip_needs_text_or_a_video(table: pd.DataFrame, tmp_path: Path) -> None:
    table.loc[:1, "path"] = ""
    table.loc[1, "title"] = " "
    checked = check(raw(tmp_path, table))
    assert reasons(checked) == {"v01": "neither text nor video"}
    assert checked.manifest["content_hash"][0] == ""
    assert "v00" not in set(checked.clips["video_id"])


def test_a_class_with_one_clip_goes_to_quarantine(table: pd.DataFrame, tmp_path: Path) -> None:
    table.loc[3, "label"] = "axolotl"
    checked = check(raw(tmp_path, table))
    least = "at least 2 labelled clips (validation.min_class_clips)"
    assert reasons(checked) == {"v03": f"class too small: 'axolotl', {least}"}


def test_a_class_that_becomes_too_small_by_another_goes_too(table: pd.DataFrame, tmp_path: Path) -> None:
    table.loc[:3, "label"] = ["axolotl|newt", "newt", "cat|dog", "|"]
    checked = check(raw(tmp_path, table), task="multi_label")
    assert {row: reason.split(",")[0] for row, reason in reasons(checked).items()} == {
        "v00": "class too small: 'axolotl'",
        "v01": "class too small: 'newt'",
    }


def test_labels_and_splits_that_are_not_known_go_to_quarantine(table: pd.DataFrame, tmp_path: Path) -> None:
    table["split"] = ["train"] * 12 + ["validation"] * 6 + ["test"] * 6
    table.loc[22:, "label"] = "axolotl"
    table.loc[0, "split"] = "dev"
    assert reasons(check(raw(tmp_path, table))) == {
        "v00": "unknown split: 'dev' is not one of train, validation, test",
        "v22": "unknown label: 'axolotl' does not occur in the training split",
        "v23": "unknown label: 'axolotl' does not occur in the training split",
    }


def test_a_clip_in_two_splits_stays_where_it_is_judged(table: pd.DataFrame, tmp_path: Path) -> None:
    table["split"] = ["train"] * 12 + ["validation"] * 6 + ["test"] * 6
    table.loc[[0, 1, 12], "path"] = table.loc[[18, 13, 18], "path"].to_numpy()
    table.loc[2, "path"] = table.loc[3, "path"]
    assert reasons(check(raw(tmp_path, table))) == {
        "v00": "duplicate clip: same bytes as 'v18' of the test split",
        "v01": "duplicate clip: same bytes as 'v13' of the validation split",
        "v12": "duplicate clip: same bytes as 'v18' of the test split",
    }


def test_what_is_lost_or_there_twice_is_told_with_its_share(table: pd.DataFrame, tmp_path: Path) -> None:
    table["split"] = ["train"] * 12 + ["validation"] * 6 + ["test"] * 6
    table.loc[21, "label"] = "newt"  # a class with one clip
    table.loc[22:, "label"] = "axolotl"  # a class that only the test split has
    table.loc[2, "path"] = table.loc[3, "path"]
    table.loc[[4, 13], "path"] = ""
    table.loc[13, "title"] = f" {table.loc[4, 'title']}\n"
    dataset = raw(tmp_path, table.drop(columns="creator_id"))
    report = validate(dataset, tmp_path)
    clips, quarantine = read_clips(tmp_path / "validated"), read_table(tmp_path / "validated/quarantine.parquet")

    lines = "\n".join(told(dataset, report, clips, quarantine, LIMITS)).replace("\N{NO-BREAK SPACE}", " ")

    assert "train: 12 clips, 12 with a label" in lines
    assert "quarantine: 3 clips, 12 % (at most 50 %, validation.max_quarantine_share)\n  unknown label: 2\n" in lines
    assert (
        "class 'axolotl' is lost: no training clip of it is left of 2 clips, 8 % of all (unknown label: 'axolotl' does"
        " not occur in the training split); label more clips of it, or try another split.seed"
    ) in lines
    assert (
        "class 'newt' is lost: no training clip of it is left of 1 clips, 4 % of all (class too small: 'newt'," in lines
    )
    assert "1 clips, 5 % of those with a video, are copies of another in the same split" in lines
    assert (
        "1 clips of validation and test, 100 % of those of text alone, have the very text of a training clip" in lines
    )


def test_a_lost_class_is_told_where_clips_have_several(table: pd.DataFrame, tmp_path: Path) -> None:
    table["split"] = ["train"] * 12 + ["validation"] * 6 + ["test"] * 6
    table["label"] = ["cat|dog", "dog"] * 12
    table.loc[[21, 22, 23], "label"] = ["axolotl|newt", "axolotl", "cat"]
    dataset = raw(tmp_path, table.drop(columns="creator_id"))
    task = Dataset(name="pets", task="multi_label")
    report = validate_dataset(dataset, task, SPLIT, LIMITS, tmp_path / "validated", tmp_path / "reports")
    clips, quarantine = read_clips(tmp_path / "validated"), read_table(tmp_path / "validated/quarantine.parquet")

    lines = [line for line in told(dataset, report, clips, quarantine, LIMITS) if "is lost" in line]

    assert [line.partition(" is lost: ")[0] for line in lines] == ["warning: class 'axolotl'", "warning: class 'newt'"]
    assert "no training clip of it is left of 2 clips" in lines[0]


def test_nothing_is_told_of_a_data_set_that_loses_nothing(table: pd.DataFrame, tmp_path: Path) -> None:
    dataset = raw(tmp_path, table.drop(columns="title"))
    report = validate(dataset, tmp_path)
    clips, quarantine = read_clips(tmp_path / "validated"), read_table(tmp_path / "validated/quarantine.parquet")
    lines = list(told(dataset, report, clips, quarantine, LIMITS))
    assert [line for line in lines if "lost" in line or "copies" in line or "text" in line] == []


def test_a_dense_table_loses_what_is_not_a_number_and_nothing_else(table: pd.DataFrame, tmp_path: Path) -> None:
    table.loc[9, "path"] = "gone.mp4"
    likes = [str(number) for number in range(24)]
    likes[1:5] = ["many", "inf", "-Infinity", ""]
    dense = pd.DataFrame({"video_id": table["video_id"], "likes": likes, "views": 1.5}).drop(index=[20, 21])
    dense.loc[6, "views"] = 1e39
    strangers = pd.DataFrame({"video_id": ["stranger", "v07", ""], "likes": "1", "views": 2.0})
    checked = check(raw(tmp_path, table, pd.concat([dense, strangers])))
    assert reasons(checked, "dense") == {
        "": "empty video_id: row 25",
        "stranger": "unknown video_id: the manifest has no such clip",
        "v01": "not a number: column likes is 'many'",
        "v02": "out of range: column likes is 'inf'",
        "v03": "out of range: column likes is '-Infinity'",
        "v06": "out of range: column views is '1e+39'",
        "v07": "duplicate video_id: rows 8, 24 differ",
    }
    assert len(checked.manifest) == 23
    assert checked.dense["video_id"].tolist() == [f"v{n:02}" for n in range(24) if n not in (7, 9, 20, 21)]
    assert checked.dense["likes"].dtype == checked.dense["views"].dtype == np.float64
    assert checked.dense["likes"].isna().tolist() == [False, True, True, True, True] + [False] * 15
    assert checked.dense["views"].isna().sum() == 1


def test_a_sound_data_set_passes_with_the_same_bytes_wherever_and_in_whatever_order(
    table: pd.DataFrame, tmp_path: Path, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    table["label"] = table["label"].replace({"dog": "<script>dog & cat</script>"})
    table.loc[0, "label"] = ""
    table["mood"] = "calm"
    dense = pd.DataFrame({"video_id": table["video_id"], "likes": np.arange(24) % 5.0, "watched": 1.0}).iloc[2:]
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere/videos").symlink_to(tmp_path / "videos")
    report = validate(raw(tmp_path, table, dense), tmp_path / "a")
    validate(raw(tmp_path / "elsewhere", table.iloc[::-1], dense.sample(frac=1, random_state=0)), tmp_path / "b")

    written = {path.relative_to(tmp_path / "a"): path for path in (tmp_path / "a").rglob("*") if path.is_file()}
    assert {path: file.read_bytes() for path, file in written.items()} == {
        path: (tmp_path / "b" / path).read_bytes() for path in written
    }
    assert {path.name for path in written if path.parts[0] == "validated"} == {
        *("content.json", "content.parquet", "dataset.json", "dense.parquet", "labels.parquet"),
        *("quarantine.parquet", "task.json"),
    }  # fmt: skip
    assert report == ValidationReport.read(tmp_path / "a/reports/validation.json")
    assert report.passed is True
    unmet = [(each.suite, each.column, each.severity, each.observed) for each in report.unmet]
    assert unmet == [("columns", "column", "warning", "1 of 6: mood")]
    facts = read_json(tmp_path / "a/validated/dataset.json")
    assert facts["classes"] == ["<script>dog & cat</script>", "cat"]
    assert facts["dense_columns"] == ["likes", "watched"]
    assert sum(facts["clips"].values()) == sum(facts["labelled"].values()) + 1 == 24
    pages = [path for path in written.values() if path.suffix == ".html"]
    assert {"index.html", "creators.html", "dense_columns.html"} <= {page.name for page in pages}
    for page in pages:
        text = page.read_text()
        assert not re.search(r"https?://|<script|<link|\bsrc=", text)
        assert all((page.parent / link).exists() for link in re.findall(r'href="([^"#]+)"', text))
    assert "Metrics" not in capfd.readouterr().err
    assert not caplog.records


def test_creators_in_two_splits_stop_the_stage_and_the_reports_say_who(table: pd.DataFrame, tmp_path: Path) -> None:
    table["split"] = ["train", "test", *["train"] * 11, *["validation"] * 5, *["test"] * 6]
    table["creator_id"] = ["<b>leaky</b>"] * 2 + [""] * 22
    validate(raw(tmp_path, table.drop(columns="creator_id")), tmp_path)
    with pytest.raises(CpfdError) as error:
        validate(raw(tmp_path, table), tmp_path)
    assert str(error.value) == (
        f"{tmp_path}: expected every creator in one split only, observed 1 of 1: <b>leaky</b> (2) (creators: splits):"
        " give all clips of a creator the same split, or empty the split column to have the splits made;"
        f" see {tmp_path}/reports/validation/index.html and {tmp_path}/validated/quarantine.parquet"
    )
    assert [path.name for path in (tmp_path / "validated").iterdir()] == ["quarantine.parquet"]
    assert read_json(tmp_path / "reports/validation.json")["passed"] is False
    for page in ("index.html", "creators.html"):
        text = (tmp_path / "reports/validation" / page).read_text()
        assert "&lt;b&gt;leaky&lt;/b&gt;" in text
        assert "<b>leaky" not in text


def test_too_much_quarantine_stops_the_stage_with_the_frequent_reasons(table: pd.DataFrame, tmp_path: Path) -> None:
    table.loc[:2, "path"] = "gone.mp4"
    with pytest.raises(
        CpfdError,
        match=r"at most 0.1 of the clips in quarantine, observed 0.125 .*file is missing \(3\).*raise validation",
    ):
        validate(raw(tmp_path, table), tmp_path, max_quarantine_share=0.1)
    found = pd.read_parquet(tmp_path / "validated/quarantine.parquet")
    assert found["video_id"].tolist() == ["v00", "v01", "v02"]
    assert read_json(tmp_path / "reports/validation.json")["quarantine"] == {
        "clips": 3, "share": 0.125, "reasons": {"file is missing": 3}
    }  # fmt: skip


def test_dense_columns_that_drift_or_miss_are_reported_and_those_of_words_stop(
    table: pd.DataFrame, tmp_path: Path
) -> None:
    table["split"] = ["train"] * 12 + ["validation"] * 6 + ["test"] * 6
    dense = pd.DataFrame({"video_id": table["video_id"], "views": [*range(18), *range(100, 106)]})
    dense["rare"] = [1.0] * 6 + [np.nan] * 18
    report = validate(raw(tmp_path, table, dense), tmp_path)
    warnings = {each.column: each.observed for each in report.unmet}
    assert warnings == {"missing_share": "1 of 2: rare (0.75)", "drift": "1 of 1: views (1)"}
    with pytest.raises(CpfdError, match="expected numbers in every dense column, observed 1 of 3: mood"):
        validate(raw(tmp_path, table, dense.assign(mood="calm")), tmp_path)


def test_a_dense_table_of_which_few_rows_fit_stops_the_stage(table: pd.DataFrame, tmp_path: Path) -> None:
    dense = pd.DataFrame({"video_id": table["video_id"], "views": 1.0})
    strangers = dense.assign(video_id=table["title"])
    explained = "observed {} .*compare the video_ids of manifest and dense table"
    for part, share in [
        (strangers, "1"),
        (dense.iloc[:6], "0.75"),
        (dense.iloc[:0], "1"),
        (dense.assign(views=""), "1"),
    ]:
        with pytest.raises(CpfdError, match=explained.format(share)):
            validate(raw(tmp_path, table, part), tmp_path)
    assert validate(raw(tmp_path, table, dense.iloc[:12]), tmp_path).passed


def test_labels_of_several_classes_stop_the_stage_where_the_task_is_of_one(table: pd.DataFrame, tmp_path: Path) -> None:
    table["label"] = ["cat", "dog|cat"] * 12
    with pytest.raises(
        CpfdError, match=r"without a \|, observed 1 of 2: dog\|cat \(1\) .*set dataset.task to multi_label"
    ):
        validate(raw(tmp_path, table), tmp_path)
    assert check(raw(tmp_path, table), task="multi_label").quarantine.empty


def test_labels_that_look_alike_are_reported_even_where_their_clips_go_to_quarantine(
    table: pd.DataFrame, tmp_path: Path
) -> None:
    table.loc[:2, "label"] = ["Cat", "cat ", unicodedata.normalize("NFD", "café")]
    table.loc[3, "label"] = "café"
    table.loc[4, "label"] = " "
    report = validate(raw(tmp_path, table), tmp_path)
    alike = "('Cat', 'cat', 'cat ')"
    assert {each.column: (each.severity, each.observed) for each in report.unmet}["lookalikes"] == (
        "warning",
        f"4 of 6:   ('', ' '), Cat {alike}, cat {alike}, cat  {alike}",
    )
    assert report.dataset.classes["café"]


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([""] * 24, "expected labelled clips in the training split, observed 0 .*label clips of that split"),
        (["cat"] * 24, "expected at least 2 classes, observed 1 .*label clips of another class"),
    ],
)
def test_nothing_to_learn_stops_the_stage(labels: list[str], message: str, table: pd.DataFrame, tmp_path: Path) -> None:
    with pytest.raises(CpfdError, match=message):
        validate(raw(tmp_path, table.assign(label=labels)), tmp_path)


def test_an_empty_data_set_stops_the_stage(table: pd.DataFrame, tmp_path: Path) -> None:
    with pytest.raises(CpfdError, match="the manifest has no rows; import clips"):
        validate(raw(tmp_path, table.iloc[:0]), tmp_path)


def test_a_data_set_of_unusable_clips_stops_the_stage(table: pd.DataFrame, tmp_path: Path) -> None:
    with pytest.raises(CpfdError, match=r"in quarantine, observed 1 \(dataset: quarantine_share\)"):
        validate(raw(tmp_path, table.assign(path="gone.mp4")), tmp_path)


def test_text_alone_is_a_data_set(table: pd.DataFrame, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    report = validate(raw(tmp_path, table.drop(columns=["path", "creator_id"])), tmp_path)
    assert json.dumps(report.quarantine.content()) == '{"clips": 0, "share": 0.0, "reasons": {}}'
    assert not {"clips", "creators", "dense"} & {expectation.suite for expectation in report.expectations}
    assert pd.read_parquet(tmp_path / "validated/dense.parquet").columns.tolist() == ["video_id"]
    assert "probe" not in capfd.readouterr().err  # nothing is probed
