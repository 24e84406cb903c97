"""`cpfd review` tells what a change does, whatever is missing, whatever the data hold, and trains nothing."""

import html
import json
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from cpfd import metrics
from cpfd.cli import app
from cpfd.datasets.contract import label_matrix
from cpfd.errors import CpfdError
from cpfd.evaluation import bootstrap
from cpfd.files import read_json, write_table
from cpfd.project.revision import open_revision
from cpfd.review.rendering import MARKER, MAX_MARKDOWN, to_json, to_markdown
from cpfd.review.report import open_sides, review
from cpfd.review.results import changed_results
from cpfd.stages import evaluate
from tests.support.markdown import rendered
from tests.support.page import Page
from tests.support.project import Project
from tests.support.trained import write_trained_project

SECTIONS = ["parameters", "data", "code", "stages", "results", "plots", "gate"]
HEAVY = {"torch", "transformers", "matplotlib", "sklearn", "scipy", "great_expectations", "av", "cv2"}
MAX_GIT_CALLS = 80  # one for each file of code would be many hundreds
COUNTED = """
import sys
started = []
sys.addaudithook(lambda event, values: started.append(values[1]) if event == "subprocess.Popen" else None)
from cpfd.cli import main
sys.argv = ["cpfd", "review", "--output", sys.argv[1]]
try:
    main()
except SystemExit as end:
    assert not end.code, end.code
print(len(started), *{name.split(".")[0] for name in sys.modules})
"""
HOSTILE = {
    "<script>alert(1)</script>": "<script>",
    "one | two": "| two",
    "tick ` and | pipe": "` and",
    "@someone": "@someone",
    "https://example.invalid/x": "https://",
    "![x](http://example.invalid)": "![x]",
}


def commit(project: Project, message: str) -> None:
    project.run("git", "add", ".")
    project.run("git", "commit", "--quiet", "--message", message)


@pytest.fixture(scope="module")
def reviewed(project: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project with results on the main branch, and on `trust` those of another alpha."""
    copy = project.copy(tmp_path_factory.mktemp("review") / "project")
    commit(copy, "results")
    copy.run("git", "switch", "--quiet", "--create", "trust")
    copy.set(distill={"alpha": 0.95})
    copy.repro()
    commit(copy, "trust the teacher")
    return copy


@pytest.fixture
def inside(reviewed: Project, monkeypatch: pytest.MonkeyPatch) -> Project:
    """The same as current folder, not to be changed."""
    monkeypatch.chdir(reviewed.folder)
    return reviewed


@pytest.fixture
def copied(reviewed: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    """A copy as current folder, to be changed."""
    copy = reviewed.copy(tmp_path / "project")
    monkeypatch.chdir(copy.folder)
    return copy


def reviewing(*arguments: str) -> str:
    """What `cpfd review` prints."""
    result = CliRunner().invoke(app, ["review", *arguments])
    if isinstance(result.exception, CpfdError):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.stdout


def facts(*arguments: str) -> dict[str, Any]:
    return dict(json.loads(reviewing(*arguments, "--format", "json")))


def content(folder: Path) -> dict[str, bytes]:
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files if ".git/" not in str(path)}


def test_a_branch_is_reviewed_against_where_it_left_the_main_branch(inside: Project) -> None:
    found = facts()

    assert found["errors"] == {}
    assert found["base"]["commit"] == inside.run("git", "rev-parse", "HEAD~1").stdout.strip()
    assert [(row["key"], row["old"], row["new"]) for row in found["parameters"]] == [("distill.alpha", 0.5, 0.95)]
    assert found["data"] == []
    reran = {row["stage"] for row in found["stages"] if row["outcome"] == "reran"}
    assert {"student@pfd-0", "student@cpfd-0", "evaluate"} <= reran
    assert not {"teacher", "confidence", "extract"} & reran
    shipped = found["results"]["shipped"]
    assert shipped["new"]["macro_f1"] == pytest.approx(
        read_json(Path("reports/metrics.json"))["test"][shipped["new"]["method"]]["macro_f1"]["mean"]
    )
    assert found["verdict"].startswith("1 parameter changed; ")
    assert re.search(r"\d+ of \d+ stages ran again", found["verdict"])
    assert "the gate passes both" in found["verdict"]


def test_a_report_changes_nothing_in_the_project(copied: Project) -> None:
    before = content(copied.folder)
    for form in ("md", "html", "json"):
        reviewing("--format", form)
    assert content(copied.folder) == before


def test_the_markdown_has_every_section_and_begins_with_its_marker(inside: Project) -> None:
    text = reviewing()

    assert text.startswith(MARKER + "\n")
    assert re.findall(r"^### (\w+)", text, re.MULTILINE) == [section.capitalize() for section in SECTIONS]
    page = rendered(text)
    assert page.count("<details>") == page.count("</details>")
    assert "| " not in re.sub(r"<code>.*?</code>", "", page)  # every table was understood as one
    assert "<td><code>distill.alpha</code></td>" in page


def test_the_page_shows_plots_of_both_sides_and_needs_no_network(inside: Project, tmp_path: Path) -> None:
    reviewing("--format", "html", "--output", str(tmp_path / "review.html"))

    text = (tmp_path / "review.html").read_text(encoding="utf-8")
    page = Page(text)
    assert page.sections == SECTIONS
    assert {reference.split(";")[0] for reference in page.references} == {"data:image/png"}
    assert not re.search(r"https?://|<script|url\(|@import", text)
    plots = facts()["plots"]["plots"]
    outcomes = {plot["name"]: plot["outcome"] for plot in plots}
    assert outcomes["plots/f1"] == "changed"
    assert outcomes["confidence/histogram"] == "same"
    assert len(page.references) == sum(1 + (outcome == "changed") for outcome in outcomes.values())


def test_plots_are_written_for_both_sides(inside: Project, tmp_path: Path) -> None:
    reviewing("--plots", str(tmp_path), "--output", str(tmp_path / "review.md"))

    head = (tmp_path / "head/plots/f1.png").read_bytes()
    assert head == Path("reports/plots/f1.png").read_bytes()
    base = (tmp_path / "base/plots/f1.png").read_bytes()
    assert base.startswith(b"\x89PNG")
    assert base != head


def test_the_interval_is_the_paired_bootstrap_of_the_seeds_that_both_sides_have(
    project: Project, inside: Project
) -> None:
    labels = pd.read_parquet("data/validated/labels.parquet")
    about = read_json(Path("data/validated/task.json"))
    test = labels[(labels["split"] == "test") & (labels["label"] != "")].sort_values("video_id")
    targets = label_matrix(test["label"], about["classes"], about["task"])
    owners = test["creator_id"].where(test["creator_id"] != "", test["video_id"])
    clusters = pd.factorize(owners, sort=True)[0]
    logits = {}
    for side, folder in {"old": project.folder, "new": inside.folder}.items():
        table = pd.read_parquet(folder / "models/students/pfd-0/logits.parquet")
        rows = table[table["split"] == "test"].set_index("video_id")["logits"].loc[test["video_id"]]
        logits[side] = np.stack(rows.to_list())[None]
    drawn = bootstrap.resample_macro_f1(targets, logits, about["task"], clusters, 200, 0)
    f1 = {side: metrics.macro_f1(targets, runs[0], about["task"]) for side, runs in logits.items()}

    found = facts()["results"]

    assert found["paired"]["seeds"] == [0]
    assert found["paired"]["clips"] == len(test)
    (pfd,) = [row for row in found["models"] if row["model"] == "pfd"]
    assert pfd["difference"] == pytest.approx(
        bootstrap.difference(f1["new"] - f1["old"], drawn["new"], drawn["old"], 0.95).content()
    )
    (teacher,) = [row for row in found["models"] if row["model"] == "teacher"]
    assert teacher["difference"] == {"mean": 0, "low": 0, "high": 0, "probability": 1}


def test_a_parameter_without_its_results_cannot_be_judged_yet(copied: Project) -> None:
    copied.set(distill={"alpha": 0.1})

    found = facts()

    assert found["verdict"].startswith("dvc.lock is out of step with params.yaml (distill.alpha): run `dvc repro`")
    assert {"student@cpfd-0", "student@pfd-0"} <= {
        row["stage"] for row in found["stages"] if row["outcome"] == "will run"
    }


def test_what_the_cache_lacks_is_said_and_the_rest_is_told(copied: Project) -> None:
    shutil.rmtree(".dvc/cache")

    found = facts()

    assert found["errors"] == {}
    assert "dvc fetch" in found["results"]["note"]
    assert found["results"]["paired"] is None
    assert all(row["difference"] is None for row in found["results"]["models"])
    assert found["results"]["models"][0]["macro_f1"]["new"] is not None
    assert "dvc fetch" in " ".join(found["plots"]["notes"])
    assert "no paired interval" in found["verdict"]
    text = reviewing("--format", "html")
    assert "No paired interval" in text
    assert "data:image/png" not in text


def test_a_base_without_results_is_told_as_such(inside: Project) -> None:
    found = facts("HEAD~2", "HEAD")

    assert found["results"]["files"]["reports/metrics.json"] == {"old": "missing", "new": "there"}
    assert "no results at HEAD~2" in found["verdict"]
    assert "has not judged base" in found["verdict"]
    assert all(rule["old"] is None for rule in found["gate"]["rules"])
    assert reviewing("HEAD~2", "HEAD").count("\n### ") == len(SECTIONS)


def test_a_head_without_results_is_told_as_such(copied: Project) -> None:
    for name in ("metrics", "gate"):
        Path(f"reports/{name}.json").unlink()

    found = facts()

    assert found["results"]["files"]["reports/metrics.json"]["new"] == "missing"
    assert found["gate"]["new"] is None
    assert reviewing().count("\n### ") == len(SECTIONS)


def test_nothing_changed_is_told_as_such(inside: Project) -> None:
    found = facts("HEAD", "HEAD")

    assert found["verdict"].startswith("Nothing changed")
    assert {row["outcome"] for row in found["plots"]["plots"]} == {"same"}


def test_results_put_together_by_hand_are_not_paired(copied: Project) -> None:
    path = Path("reports/metrics.json")
    path.write_text(path.read_text().replace('"mean": 0.', '"mean": 0.9', 1))

    found = facts()

    assert found["results"]["files"]["reports/metrics.json"]["new"] == "altered"
    assert "was not made from the logits" in found["results"]["note"]
    assert "out of step" in found["verdict"]


def test_a_wrong_parameter_is_part_of_the_report_and_stops_what_needs_it(copied: Project) -> None:
    copied.set(train={"epochs": "many"})

    assert facts()["verdict"].startswith("params.yaml is wrong: train.epochs: ")
    done = copied.run("cpfd", "forecast", check=False)
    assert done.returncode == 1
    assert "train.epochs" in done.stderr


def test_a_file_that_cannot_be_read_costs_its_own_sections_alone(copied: Project) -> None:
    Path("dvc.yaml").write_text("stages: [")

    found = facts()

    assert "dvc.yaml" in found["errors"]["stages"]
    assert found["stages"] is None
    assert len(found["parameters"]) == 1
    assert found["results"]["paired"] is not None
    assert "This section is missing" in reviewing()
    assert "This section is missing" in reviewing("--format", "html")


def test_names_in_the_data_are_text_and_nothing_else(copied: Project) -> None:
    folder = Path("data/raw/hostile")
    rows = [{"video_id": f"{name} {n}", "path": "", "label": name} for n in range(2) for name in HOSTILE]
    write_table(folder / "manifest.csv", pd.DataFrame(rows))
    copied.run("dvc", "add", "--quiet", str(folder))

    markdown, page = reviewing(), reviewing("--format", "html")

    (entry,) = facts()["data"]
    assert entry["dataset"] == "hostile"
    shown = rendered(markdown)
    told = html.unescape(shown)
    for name, danger in HOSTILE.items():
        assert name in told or name.replace("|", "") in told.replace("|", "")
        assert danger not in html.unescape(re.sub(r"<code>.*?</code>", "", shown))
    assert "<script" not in shown
    assert "<img" not in shown
    assert "<script" not in page
    assert Page(page).sections == SECTIONS


def test_a_long_report_keeps_within_a_comment_and_says_what_was_cut(inside: Project) -> None:
    found = review(*open_sides(None, None))
    (row, *_) = found["parameters"]
    found["parameters"] = [{**row, "key": f"<{number}>" * 300, "warning": "@" * 5000} for number in range(2000)]
    found["head"]["problems"] = ["|" * 10_000] * 200
    label = {"label": "`|" * 3000, "old": 1, "new": 2}
    found["data"] = [
        {
            "dataset": "big",
            "change": "changed",
            "used": True,
            "clips": {"old": 1, "new": 2},
            "rows": {"added": 1},
            "examples": {"added": ["\\|" * 500] * 5},
            "labels": [label] * 300,
            "dense": {"added": ["c" * 500] * 90, "dropped": [], "drift": []},
            "note": "~" * 9000,
        }
    ] * 50

    text = to_markdown(found)

    assert len(text) <= MAX_MARKDOWN
    assert "cut from this list" in text
    assert text.count("\n### ") == len(SECTIONS)
    assert text.count("<details>") == text.count("</details>")


def test_a_review_needs_little(inside: Project, tmp_path: Path) -> None:
    """Time depends on the machine; what costs it, heavy imports and calls of git, does not."""
    done = inside.run(sys.executable, "-c", COUNTED, str(tmp_path / "review.md"))

    started, *modules = done.stdout.splitlines()[-1].split()
    assert not HEAVY & set(modules)
    assert int(started) <= MAX_GIT_CALLS


def test_without_a_main_branch_the_base_must_be_named(copied: Project) -> None:
    main = copied.run("git", "branch", "--format", "%(refname:short)").stdout.split()
    for branch in set(main) - {"trust"}:
        copied.run("git", "branch", "--quiet", "-D", branch)

    with pytest.raises(CpfdError, match="name BASE"):
        open_sides(None, None)
    assert facts("HEAD~1")["parameters"]


PIPELINE = """\
stages:
  models:
    cmd: make them
    outs: [data/features/content, data/validated, {outs}]
  evaluate:
    cmd: python -m cpfd.stages.evaluate
    deps: [models/teacher/logits.parquet]
    params: [students, evaluation]
    metrics: [reports/metrics.json: {{cache: false}}]
"""


def change_nothing(index: pd.DataFrame) -> pd.DataFrame:
    return index


def drop_some(index: pd.DataFrame) -> pd.DataFrame:
    return index[index["video_id"] >= "clip-0040"]


def replace_most(index: pd.DataFrame) -> pd.DataFrame:
    renamed = index["video_id"].where(index["video_id"] < "clip-0080", "other-" + index["video_id"])
    return index.assign(video_id=renamed)


def relabel_one(index: pd.DataFrame) -> pd.DataFrame:
    first = index.index[(index["split"] == "test") & (index["label"] != "")][0]
    return index.assign(label=index["label"].where(index.index != first, "travel"))


@pytest.fixture
def trained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[Callable[[pd.DataFrame], pd.DataFrame]], None]:
    """Commit results of three seeds, then those of the last two on a test split that has changed."""
    monkeypatch.chdir(tmp_path)
    project = Project(tmp_path)

    def build(change: Callable[[pd.DataFrame], pd.DataFrame]) -> None:
        project.run("git", "init", "--quiet")
        project.run("dvc", "init", "--quiet")
        for each, seeds in ((change_nothing, [0, 1, 2]), (change, [2, 1])):
            write_trained_project(tmp_path)
            project.set(students={"seeds": seeds})
            labels = Path("data/validated/labels.parquet")
            before = pd.read_parquet(labels)
            after = each(before)
            write_table(labels, after)
            write_table(Path("data/features/content/index.parquet"), after[["video_id"]])
            names = dict(zip(before["video_id"].loc[after.index], after["video_id"], strict=True))
            for path in Path("models").rglob("logits.parquet"):
                table = pd.read_parquet(path)
                kept = table[table["video_id"].isin(names)]
                write_table(path, kept.assign(video_id=kept["video_id"].map(names)))
            evaluate.main()  # which removes the students of other seeds
            outs = sorted(str(path.parent) for path in Path("models").rglob("logits.parquet"))
            Path("dvc.yaml").write_text(PIPELINE.format(outs=", ".join(outs)))
            project.run("dvc", "commit", "--force", "--quiet")
            commit(project, "results")

    return build


def test_seeds_and_clips_of_one_side_alone_are_left_out(trained: Any) -> None:
    trained(drop_some)
    labels = pd.read_parquet("data/validated/labels.parquet")

    found = changed_results(open_revision("HEAD~1"), open_revision("HEAD"))

    assert found["note"] is None
    assert found["paired"]["seeds"] == [2, 1]
    assert found["paired"]["clips"] == ((labels["split"] == "test") & (labels["label"] != "")).sum()
    assert found["paired"]["left_out"]["old"] > 0
    assert found["paired"]["left_out"]["new"] == 0
    # The same logits on the same clips, seed by seed: whatever the two metrics.json say, nothing differs.
    assert {row["macro_f1"]["old"].mean == row["macro_f1"]["new"].mean for row in found["models"]} == {False}
    assert all(row["difference"].low == row["difference"].high == 0 for row in found["models"])


@pytest.mark.parametrize(("change", "reason"), [(replace_most, "test splits share"), (relabel_one, "another label")])
def test_other_tests_have_no_paired_interval(trained: Any, change: Any, reason: str) -> None:
    trained(change)

    found = changed_results(open_revision("HEAD~1"), open_revision("HEAD"))

    assert reason in found["note"]
    assert found["paired"] is None
    assert found["shipped"]["difference"] is None
    assert found["shipped"]["new"]["macro_f1"] > 0


def test_reports_of_another_version_end_in_a_note(trained: Any) -> None:
    trained(change_nothing)
    for name in ("metrics", "gate"):
        Path(f"reports/{name}.json").write_text('{"passed": true}\n')

    found = review(open_revision("HEAD"), open_revision(None))

    told = "reports/{}.json of work tree: written by another version of CPFD"
    assert {"results", "gate"} & found["errors"].keys() == set()
    assert told.format("metrics") in found["results"]["note"]
    assert found["results"]["shipped"]["new"] is None
    assert all(row["macro_f1"]["new"] is None for row in found["results"]["models"])
    assert told.format("gate") in found["gate"]["notes"][0]
    assert told.format("metrics") in to_markdown(found)
    assert told.format("gate") in to_markdown(found)
    assert json.loads(to_json(found))["results"]["models"][0]["macro_f1"]["old"]["mean"] > 0
