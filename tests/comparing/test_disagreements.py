"""`cpfd compare`: two revisions' students on the same test clips, as numbers and as a page of their disagreements."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pandas as pd
import pytest
from ruamel.yaml import YAML
from typer.testing import CliRunner, Result

from cpfd.cli import app
from cpfd.comparing.contenders import Contender, HeldOutClips, Match, compare, match
from cpfd.comparing.disagreements import Duel, count_differences, rank_disagreements
from cpfd.comparing.page import headline, names, outcome, render_page
from cpfd.datasets.video import ClipError
from cpfd.errors import CpfdError
from cpfd.features.sheet import contact_sheet
from cpfd.reports.duel import ComparedRevisions, Differences, DuelReport, NamedRevision
from tests.support.clips import write_clip
from tests.support.contenders import SETTINGS, contender, slices_of, sure, table_of
from tests.support.page import Page
from tests.support.project import Project
from tests.support.small import CLASSES


@pytest.fixture(scope="module")
def history(project: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """main is registered as v1.0.0; branch pfd and the experiment slower ship another student; main is checked out."""
    copy = project.copy(tmp_path_factory.mktemp("history") / "project")
    for key, value in (("user.name", "test"), ("user.email", "test@localhost")):
        copy.run("git", "config", key, value)
    copy.run("git", "branch", "empty")
    copy.run("git", "add", ".")
    copy.run("git", "commit", "--quiet", "-m", "results")
    copy.run("git", "branch", "-M", "main")
    copy.run("git", "tag", "-a", "student@v1.0.0", "-m", "first")
    copy.run("git", "checkout", "--quiet", "-b", "pfd")
    shipped = json.loads((copy.folder / "reports" / "metrics.json").read_text())["shipped"]["method"]
    copy.set(distill={"method": "cpfd" if shipped == "pfd" else "pfd"})
    copy.repro("export")
    copy.run("dvc", "exp", "save", "--name", "slower")
    copy.run("git", "commit", "--quiet", "--all", "-m", "another method")
    copy.run("git", "checkout", "--quiet", "main")
    return copy


@pytest.fixture
def main(history: Project, monkeypatch: pytest.MonkeyPatch) -> Project:
    monkeypatch.chdir(history.folder)
    return history


def run(*arguments: object) -> Result:
    """Run `cpfd compare`; errors come out as they would reach main()."""
    return CliRunner().invoke(app, ["compare", *map(str, arguments)], catch_exceptions=False, env={"COLUMNS": "120"})


def compared(*arguments: object) -> dict[str, Any]:
    return json.loads(run(*arguments, "--json").stdout)


def without_names(report: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in report.items() if key not in ("revisions", "latency_ms")}


@pytest.fixture(scope="module")
def report(history: Project) -> dict[str, Any]:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(history.folder)
        return compared("v1.0.0", "pfd")


def test_it_tells_what_the_evaluation_of_both_sides_told(history: Project, report: dict[str, Any]) -> None:
    for side, revision in (("champion", "main"), ("challenger", "pfd")):
        test = json.loads(history.run("git", "show", f"{revision}:reports/metrics.json").stdout)["shipped"]["test"]
        for score in ("macro_f1", "accuracy", "calibration_error"):
            assert report[score][side] == pytest.approx(test[score], abs=1e-3)
    assert report["left_out"] == {"unknown_class": 0, "seen_by_champion": 0}
    assert report["revisions"]["champion"]["name"] == "student@v1.0.0"
    assert report["revisions"]["challenger"] == {
        "name": "pfd",
        "commit": history.run("git", "rev-parse", "pfd").stdout.strip(),
    }
    assert report["latency_ms"]["clips"] == 3
    assert report["disagreements"]
    assert len(report["disagreements"]) <= min(20, report["clips"])


def test_a_version_a_tag_and_a_branch_an_experiment_are_the_same_revision(
    main: Project, report: dict[str, Any]
) -> None:
    assert without_names(compared("student@v1.0.0", "slower")) == without_names(report)


def test_against_itself_nothing_differs_and_the_page_says_so(main: Project, tmp_path: Path) -> None:
    status = main.run("git", "status", "--porcelain").stdout
    result = run("main", "--output", tmp_path / "page.html", "--json")  # the work tree is main
    report = json.loads(result.stdout)
    f1 = report["macro_f1"]
    assert (f1["mean"], f1["low"], f1["high"], f1["probability"]) == (0, 0, 0, 1)
    assert report["disagreements"] == []
    assert report["revisions"]["challenger"] == {"name": "work tree", "commit": None}
    page = Page((tmp_path / "page.html").read_text(encoding="utf-8"))
    assert f"They predict the same on all {report['clips']} test clips." in page.text
    assert main.run("git", "status", "--porcelain").stdout == status


def test_the_page_shows_the_clips_and_the_cache_stays_as_it_is(
    main: Project, report: dict[str, Any], tmp_path: Path
) -> None:
    def cache() -> dict[str, tuple[int, int, int]]:
        files = [path for path in Path(".dvc/cache").rglob("*") if path.is_file()]
        return {str(path): (path.stat().st_size, path.stat().st_mtime_ns, path.stat().st_nlink) for path in files}

    before = cache()
    result = run("v1.0.0", "pfd", "--output", tmp_path / "page.html", "--clips", 3)
    assert cache() == before
    html = (tmp_path / "page.html").read_text(encoding="utf-8")
    page = Page(html)
    assert page.sections == ["scores", "classes", "slices", "disagreements"]
    for clip in report["disagreements"][:3]:
        assert clip["video_id"] in page.text
    assert html.count("<article>") == min(3, len(report["disagreements"]))
    assert all(reference.startswith("data:image/jpeg;base64,") for reference in page.references)
    assert not re.search(r"https?://|<script|url\(|@import", html)
    assert f"{report['macro_f1']['challenger']:.3f}" in result.stdout
    assert str(tmp_path / "page.html") in result.stdout.replace("\n", "")


def test_a_wrong_revision_is_named(main: Project) -> None:
    with pytest.raises(CpfdError, match="no-such: neither a revision that git knows nor a DVC experiment"):
        run("no-such")
    with pytest.raises(CpfdError, match=r"no student v9\.9\.9 is registered in this clone"):
        run("main", "v9.9.9")
    with pytest.raises(CpfdError, match=r"dvc\.lock of empty records no models/student: run `dvc repro`"):
        run("empty")


def test_what_the_cache_lacks_comes_from_the_remote_or_is_asked_for(
    history: Project, report: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = history.copy(tmp_path / "copy")
    copy.run("dvc", "remote", "add", "--local", "--default", "backup", str(tmp_path / "remote"))
    copy.run("dvc", "push", "--quiet", "models/student")
    monkeypatch.chdir(copy.folder)
    stages = YAML(typ="safe").load(copy.folder / "dvc.lock")["stages"]
    index = _cached(stages["export"]["outs"][0]["md5"])
    model = [index, *(_cached(entry["md5"]) for entry in json.loads(index.read_text()))]

    def forget() -> None:
        for path in model:
            path.unlink(missing_ok=True)

    forget()
    assert without_names(compared("main", "pfd")) == without_names(report)

    shutil.rmtree(tmp_path / "remote")
    forget()
    with pytest.raises(CpfdError, match=r"models/student.* of main is neither in DVC's cache nor in its remote"):
        run("main", "pfd")


def _cached(md5: str) -> Path:
    return Path(".dvc/cache/files/md5", md5[:2], md5[2:])


# disagreements


def held(clips: pd.DataFrame, champion: Contender, challenger: Contender) -> Match:
    return match(HeldOutClips(clips, seen_by_champion=0), champion, challenger)


def test_other_predictions_come_first_then_the_distance_then_the_name() -> None:
    clips = table_of(["cat"] * 5).assign(path="", title="my cat")
    champion = contender([[2, 0, 0], [9, 0, 0], [2, 0, 0], [1, 0.9, 0], [1, 1, 1]])
    challenger = contender([[0, 2, 0], [1, 0, 0], [0, 2, 0], [0.9, 1, 0], [1, 1, 1]])
    ranked = rank_disagreements(held(clips, champion, challenger), 10)
    assert [(each.video_id, each.differ) for each in ranked] == [
        ("clip-00", True),
        ("clip-02", True),
        ("clip-03", True),
        ("clip-01", False),
    ]
    first = ranked[0]
    assert (first.text, first.label) == ("my cat", "cat")
    assert (first.champion.predicted, first.champion.right) == (["cat"], True)
    assert (first.challenger.predicted, first.challenger.right) == (["dog"], False)
    chances = [each.probabilities for each in (first.champion, first.challenger)]
    assert first.distance == pytest.approx(sum(abs(chances[0][name] - chances[1][name]) for name in CLASSES) / 2)
    assert rank_disagreements(held(clips, champion, challenger), 1) == ranked[:1]
    assert count_differences(held(clips, champion, challenger)) == Differences(
        clips=3, champion_right=3, challenger_right=0
    )


def test_in_a_multi_label_task_the_class_that_is_furthest_apart_counts() -> None:
    clips = table_of(["cat|dog", "|"]).assign(path="")
    champion = contender([[5, 5, -5], [-5, -5, -5]], task="multi_label")
    challenger = contender([[5, 4, -5], [-5, 1, -5]], task="multi_label")
    far, near = rank_disagreements(held(clips, champion, challenger), 5)
    assert (far.video_id, far.champion.predicted, far.challenger.predicted) == ("clip-01", [], ["dog"])
    assert (far.champion.right, far.challenger.right) == (True, False)
    assert (near.video_id, near.differ) == ("clip-00", False)
    assert 0 < near.distance < far.distance < 1


def test_a_class_that_a_student_does_not_know_has_no_probability_there() -> None:
    clips = table_of(["cat"]).assign(path="")
    champion = contender(sure(["cat"], CLASSES[:2]), CLASSES[:2])
    ranked = rank_disagreements(held(clips, champion, contender(sure(["eel"], CLASSES))), 5)
    assert list(ranked[0].champion.probabilities) == ["cat", "dog"]
    assert ranked[0].challenger.predicted == ["eel"]


def duel(tmp_path: Path, clips: pd.DataFrame, champion: Any, challenger: Any, name: str = "main") -> Duel:
    pair = match(HeldOutClips(clips, seen_by_champion=2), champion, challenger)
    report = DuelReport(
        revisions=ComparedRevisions(
            champion=NamedRevision(name=name, commit="0123456789" * 4),
            challenger=NamedRevision(name="work tree", commit=None),
        ),
        dataset="pets",
        task=challenger.task,
        interval=SETTINGS.interval,
        **dict(compare(pair, slices_of(clips), SETTINGS, 1)),
        latency_ms=None,
        differ=count_differences(pair),
        disagreements=rank_disagreements(pair, 20),
    )
    return Duel(report, tmp_path)


def test_whatever_data_says_is_shown_as_text(tmp_path: Path) -> None:
    evil = '<script>alert("x")</script>'
    classes = [evil, "<b>dog</b>"]
    clips = table_of([evil, "<b>dog</b>"]).assign(path=["", '<img src="x">.mp4'], title=[evil, "a & b"])
    clips["video_id"] = ["<i>1</i>", "<i>2</i>"]
    one, other = (contender(sure(order, classes), classes) for order in (classes, classes[::-1]))
    html = render_page(duel(tmp_path, clips, one, other, name="<u>v1</u>"))
    page = Page(html)
    for tag in ("<script", "<b>dog", "<i>1", "<img", "<u>"):
        assert tag not in html
    for text in (evil, "a & b", "<i>1</i>", "<b>dog</b>", "<u>v1</u>"):
        assert text in page.text


def test_clips_without_frames_say_why(tmp_path: Path) -> None:
    (tmp_path / "broken.mp4").write_text("this is no video")
    clips = table_of(["cat", "cat", "cat"]).assign(path=["", "broken.mp4", "lost.mp4"])
    students = contender(sure(["cat"] * 3, CLASSES)), contender(sure(["dog"] * 3, CLASSES))
    page = Page(render_page(duel(tmp_path, clips, *students)))
    for told in ("no video, text alone", "no frames to show: cannot be decoded", "no frames to show: file is missing"):
        assert told in page.text
    assert "2 of them are left out because main has learnt from them." in page.text
    assert page.references == []


def test_a_label_that_only_one_of_them_knows_is_shown_as_well(tmp_path: Path) -> None:
    clips = table_of(["cat|eel"]).assign(path="")
    champion = contender([[2, -1]], ["cat", "dog"], "multi_label")
    html = render_page(duel(tmp_path, clips, champion, contender([[-1, -1, 2]], task="multi_label")))
    assert "cat, eel" in Page(html).text
    assert "<b>cat</b>" in html
    assert "<b>eel</b>" not in html


def test_what_cannot_be_compared_is_a_page_too(tmp_path: Path) -> None:
    clips = table_of(["cat"]).assign(path="")
    students = contender([[1, 1]], ["ant", "bee"]), contender([[1, 1, 1]])
    held = duel(tmp_path, clips, *students)
    page = Page(render_page(held))
    assert page.sections == ["scores"]
    assert headline(held.report) == "work tree and main cannot be compared: no class is known to both."
    assert headline(held.report) in page.text


def test_the_same_duel_gives_the_same_page(tmp_path: Path) -> None:
    write_clip(tmp_path / "0.mp4")
    clips = table_of(["cat", "dog"]).assign(path=["0.mp4", ""])
    students = contender(sure(["cat", "dog"], CLASSES)), contender(sure(["dog", "dog"], CLASSES))
    held = duel(tmp_path, clips, *students)
    assert render_page(held) == render_page(Duel(held.report.model_copy(deep=True), tmp_path))


def test_the_interval_decides_what_the_headline_says(tmp_path: Path) -> None:
    labels = ["cat", "dog"] * 10
    clips = table_of(labels).assign(path="")
    right, wrong = contender(sure(labels, CLASSES)), contender(sure(labels[::-1], CLASSES))
    assert [
        outcome(duel(tmp_path, clips, *sides).report) for sides in ((wrong, right), (right, wrong), (right, right))
    ] == ["better", "worse", "unclear"]


def test_a_bare_commit_is_called_by_its_first_digits(tmp_path: Path) -> None:
    students = contender(sure(["cat"], CLASSES)), contender(sure(["cat"], CLASSES))
    report = duel(tmp_path, table_of(["cat"]).assign(path=""), *students, name="0123456789" * 4).report
    assert names(report) == {"champion": "0123456", "challenger": "work tree"}


@pytest.mark.parametrize(
    ("width", "height", "sheet"),
    [
        (36, 64, (160, 6 * 90 + 5 * 2)),
        (64, 36, (2 * 160 + 2, 3 * 284 + 2 * 2)),
        (640, 64, (2 * 32 + 2, 3 * 320 + 2 * 2)),
    ],
)
def test_a_contact_sheet_keeps_the_clips_own_aspect(
    tmp_path: Path, width: int, height: int, sheet: tuple[int, int]
) -> None:
    video = write_clip(tmp_path / "clip.mp4", width=width, height=height)
    jpeg = contact_sheet(video)
    assert jpeg.startswith(b"\xff\xd8\xff")
    decoded = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)
    assert decoded.shape[:2] == sheet
    assert contact_sheet(video) == jpeg


def test_a_contact_sheet_runs_from_the_first_frames_to_the_last_in_the_clips_colours(tmp_path: Path) -> None:
    with av.open(str(tmp_path / "fade.mp4"), "w") as container:
        stream = container.add_stream("libx264", rate=12)
        stream.width, stream.height, stream.pix_fmt = 36, 64, "yuv420p"
        for red in range(0, 240, 10):
            image = np.full((64, 36, 3), (red, 0, 0), np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode(None))
    decoded = cv2.imdecode(np.frombuffer(contact_sheet(tmp_path / "fade.mp4"), np.uint8), cv2.IMREAD_COLOR)
    blue, _, red = decoded[80, 45::92].astype(int).T
    assert len(red) == 6
    assert (np.diff(red) > 20).all()
    assert (blue < 40).all()
    with pytest.raises(ClipError, match="file is missing"):
        contact_sheet(tmp_path / "lost.mp4")
