"""What `cpfd review` says about changed parameters, data and code."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import ks_2samp

from cpfd.params.problems import known_keys
from cpfd.params.reference import unusual, usual_range
from cpfd.project.revision import open_revision
from cpfd.review.code import changed_code
from cpfd.review.data import _distance, changed_data
from cpfd.review.parameters import changed_parameters
from tests.support.project import ROOT, Project
from tests.support.small import read_params
from tests.support.toy import add_dataset, commit, toy_project


@pytest.fixture(scope="session")
def start(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A toy project about a data set of its own, committed; no stage has run. Not to be changed."""
    project = toy_project(tmp_path_factory.mktemp("changes") / "project")
    shutil.copy(ROOT / "params.yaml", project.folder / "params.yaml")
    project.set(dataset={"name": "mine"})
    add_dataset(project, clips(), dense(), media=media())
    commit(project, "data")
    return project


@pytest.fixture
def toy(start: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    """A copy of it, which is the current folder."""
    project = start.copy(tmp_path / "project")
    monkeypatch.chdir(project.folder)
    return project


def clips() -> pd.DataFrame:
    """Twelve clips, the last two unlabelled."""
    numbers = range(12)
    return pd.DataFrame(
        {
            "video_id": [f"c{number:02}" for number in numbers],
            "path": [f"{number}.mp4" for number in numbers],
            "title": [f"title {number}" for number in numbers],
            "label": [("cat" if number % 2 else "dog") if number < 10 else "" for number in numbers],
            "split": ["train"] * 8 + ["validation"] * 2 + ["test"] * 2,
        }
    )


def dense() -> pd.DataFrame:
    return pd.DataFrame({"video_id": clips()["video_id"], "views": np.arange(12.0), "likes": np.arange(12.0)})


def media() -> dict[str, str]:
    return {f"{number}.mp4": f"film {number}" for number in range(12)}


def parameters(base: str | None = "HEAD", head: str | None = None) -> dict[str, dict[str, Any]]:
    found = changed_parameters(open_revision(base), open_revision(head))
    return {entry["key"]: entry for entry in found}


def data(base: str | None = "HEAD", head: str | None = None) -> list[dict[str, Any]]:
    return changed_data(open_revision(base), open_revision(head))


def test_changed_parameters_come_in_the_schemas_order_with_what_they_mean(toy: Project) -> None:
    toy.set(distill={"alpha": 0.7}, train={"learning_rate": 0.1}, students={"seeds": [0]}, teacher={"seed": 5})
    found = parameters()
    assert list(found) == ["train.learning_rate", "teacher.seed", "students.seeds", "distill.alpha"]
    assert found["distill.alpha"] == {
        "key": "distill.alpha",
        "change": "changed",
        "old": 0.5,
        "new": 0.7,
        "description": "weight of the soft targets in pfd, and the largest in cpfd",
        "usual": "0.1 to 0.9",
        "warning": None,
    }
    assert found["train.learning_rate"]["warning"] == "0.1 is outside the usual range, 1e-05 to 0.01"
    assert found["students.seeds"]["warning"] == "1 seeds is outside the usual range, 3 to 10 seeds"
    assert found["teacher.seed"]["usual"] is None
    commit(toy, "several")
    assert parameters("HEAD~1", "HEAD") == found
    assert parameters() == {}


def test_wrong_unknown_and_missing_keys_have_the_schemas_message(toy: Project) -> None:
    path = toy.folder / "params.yaml"
    text = path.read_text()
    path.write_text(
        text.replace("alpha: 0.5", "alpha: 1.5\n  beta: 2")
        .replace("  tau: 2.0\n", "")
        .replace("seeds: [0, 1, 2]", "seeds: [0, -1]")
        .replace("attention_heads: 4", "attention_heads: 3")
    )
    found = parameters()
    assert found["distill.alpha"]["warning"].startswith("1.5: Input should be less than or equal to 1; allowed: ")
    assert (found["distill.tau"]["change"], found["distill.tau"]["old"]) == ("removed", 2.0)
    assert found["distill.tau"]["warning"].startswith("missing; allowed: number > 0")
    assert (found["distill.beta"]["change"], found["distill.beta"]["new"]) == ("added", 2)
    assert found["distill.beta"]["warning"] == "unknown key; `cpfd params` lists those that exist"
    assert list(found)[-1] == "distill.beta"
    assert found["students.seeds"]["warning"].startswith("-1: ")
    commit(toy, "wrong")
    path.write_text(text)
    back = parameters()
    assert {key for key, entry in back.items() if entry["warning"]} == set(), "only the new side is judged"
    path.write_text(text.replace("attention_heads: 4", "attention_heads: 3"))
    assert parameters("HEAD~1")["model.attention_heads"]["warning"] == "3 must divide model.hidden_size 128"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"video: {frames: 6", "not valid YAML"),
        (b"video: \xff\xfe\n", "not valid YAML"),
        (b"video:\n  frames: 6\nvideo:\n  frames: 7\n", "not valid YAML"),
        (b"- 1\n", "expected groups of keys"),
        (b"", "expected groups of keys"),
    ],
)
def test_a_broken_file_is_a_warning(toy: Project, text: bytes, message: str) -> None:
    (toy.folder / "params.yaml").write_bytes(text)
    (entry,) = changed_parameters(open_revision("HEAD"), open_revision(None))
    assert entry["key"] == "params.yaml"
    assert message in entry["warning"]


def test_a_group_that_is_none_does_no_harm(toy: Project) -> None:
    path = toy.folder / "params.yaml"
    path.write_text(path.read_text() + "\nextra: 7\n")
    assert parameters()["extra"]["warning"].startswith("unknown key")
    path.unlink()
    assert parameters()["params.yaml"]["warning"] == "no such file"


def test_the_repositorys_own_params_are_usual() -> None:
    odd = {
        f"{group}.{name}": warning
        for group, values in read_params().items()
        for name, value in values.items()
        if (warning := unusual(f"{group}.{name}", value))
    }
    assert odd == {}
    assert sum(usual_range(key) is not None for key in known_keys()) > 40


def test_every_kind_of_change_of_a_clip_is_counted(toy: Project) -> None:
    new = clips().drop(index=0)
    new.loc[1, "label"] = "dog"
    new.loc[10, "label"] = "eel"
    new.loc[2, "split"] = "test"
    new.loc[3, "title"] = "other"
    new.loc[5, "path"] = "moved/5.mp4"
    more = pd.DataFrame([{"video_id": "d1", "path": "", "title": "new", "label": "eel", "split": "train"}] * 2)
    films = {**media(), "4.mp4": "another film", "moved/5.mp4": "film 5"}
    add_dataset(toy, pd.concat([new, more]), dense(), media=films)
    (entry,) = data()
    assert (entry["dataset"], entry["change"], entry["used"], entry["note"]) == ("mine", "changed", True, None)
    assert entry["clips"] == {"old": 12, "new": 12}
    assert entry["examples"] == {
        "added": ["d1"],
        "removed": ["c00"],
        "relabelled": ["c01", "c10"],
        "moved": ["c02"],
        "text": ["c03"],
        "media": ["c04"],
    }
    assert entry["rows"] == {kind: len(ids) for kind, ids in entry["examples"].items()}
    assert entry["labels"] == [
        {"label": "eel", "old": 0, "new": 2},
        {"label": "", "old": 2, "new": 1},
        {"label": "cat", "old": 5, "new": 4},
        {"label": "dog", "old": 5, "new": 5},
    ]
    assert entry["dense"] == {
        "added": [],
        "dropped": [],
        "drift": [],
    }
    commit(toy, "other clips")
    assert data("HEAD~1", "HEAD") == [entry]
    assert data() == []


@pytest.mark.parametrize("suffix", ["parquet", "csv"])
def test_dense_columns_come_go_and_drift(toy: Project, suffix: str) -> None:
    new = dense().drop(columns="likes").assign(shares=1.0)
    new["views"] = [np.nan] * 3 + [value + 6 for value in range(9)]
    add_dataset(toy, clips(), new, media=media(), suffix=suffix)
    (entry,) = data()
    assert entry["rows"] == dict.fromkeys(entry["rows"], 0)
    assert entry["dense"]["added"] == ["shares"]
    assert entry["dense"]["dropped"] == ["likes"]
    (drift,) = entry["dense"]["drift"]
    assert drift == {
        "column": "views",
        "distance": pytest.approx(ks_2samp(np.arange(12), np.arange(9) + 6).statistic),
        "missing_old": 0.0,
        "missing_new": 0.25,
        "warning": True,
    }
    toy.set(validation={"max_drift": 0.9})
    assert not data()[0]["dense"]["drift"][0]["warning"]


def test_labels_of_several_classes_are_counted_apart(toy: Project) -> None:
    toy.set(dataset={"task": "multi_label"})
    first = clips()
    first["label"] = ["a|b", "b", "|", ""] * 3
    add_dataset(toy, first, media=media())
    commit(toy, "several classes")
    second = first.assign(label=["b|a", "b", "a", ""] + ["a|b", "b", "|", ""] * 2)
    add_dataset(toy, second, media=media())
    (entry,) = data()
    assert entry["examples"]["relabelled"] == ["c02"], "a|b and b|a say the same"
    counts = {row["label"]: (row["old"], row["new"]) for row in entry["labels"]}
    assert counts == {"a": (3, 4), "b": (6, 6), "|": (3, 2), "": (3, 3)}


def test_a_data_set_comes_and_another_goes_out_of_use(toy: Project) -> None:
    add_dataset(toy, clips().head(4), media={"0.mp4": "film"}, name="other")
    toy.set(dataset={"name": "other"})
    mine, other = data()
    assert (mine["dataset"], mine["change"], mine["used"]) == ("mine", "unchanged", False)
    assert mine["note"] == "no longer used: dataset.name is other"
    assert (other["dataset"], other["change"], other["used"], other["old"]) == ("other", "added", True, None)
    assert other["clips"] == {"old": 0, "new": 4}
    assert other["rows"]["added"] == 4
    assert other["rows"]["moved"] == 0
    assert other["note"] == "dataset.name was mine"
    commit(toy, "other data")
    gone = data("HEAD", "HEAD~1")[1]
    assert (gone["change"], gone["new"], gone["rows"]["removed"]) == ("removed", None, 4)


@pytest.mark.parametrize(("side", "fetch"), [("old", "`dvc fetch --all-commits"), ("new", "`dvc fetch")])
def test_what_the_cache_lacks_is_told(toy: Project, side: str, fetch: str) -> None:
    add_dataset(toy, clips().head(8), media=media())
    sides = dict(zip(("old", "new"), (open_revision("HEAD"), open_revision(None)), strict=True))
    lost = sides[side].cached(Path("data/raw/mine/manifest.parquet"))
    assert lost is not None
    lost.unlink()
    (entry,) = data()
    assert entry["clips"] == ({"old": None, "new": 8} if side == "old" else {"old": 12, "new": None})
    assert set(entry["rows"].values()) == {None}
    assert entry["labels"] == []
    assert entry["note"] == (
        f"not compared: data/raw/mine of {sides[side].name} is not in DVC's cache; {fetch} data/raw/mine`"
    )


def test_a_table_that_is_none_is_told(toy: Project) -> None:
    add_dataset(toy, clips().drop(columns="label"), media=media())
    (entry,) = data()
    assert entry["note"] == "not compared: data/raw/mine of work tree: the manifest lacks the column(s) label"


def test_another_split_of_the_same_clips_is_seen_in_the_validated_data(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = project.copy(tmp_path / "project")
    monkeypatch.chdir(copy.folder)
    rng = np.random.default_rng(0)
    names = [f"text-{number:03}" for number in range(60)]
    table = pd.DataFrame(
        {
            "video_id": names,
            "title": [f"a title of {name}" for name in names],
            "label": rng.choice(["cat", "dog"], 60),
        }
    )
    table.loc[0, "title"] = ""  # neither text nor video
    add_dataset(copy, table, media={}, name="texts")
    copy.set(dataset={"name": "texts"}, split={"seed": 1})
    assert copy.repro("validate")[-1] == "validate"
    commit(copy, "one split")
    copy.set(split={"seed": 2})
    assert data() == [], "data/validated is as before until `validate` runs"
    copy.repro("validate")
    (entry,) = data()
    assert (entry["dataset"], entry["change"], entry["old"] == entry["new"]) == ("texts", "unchanged", True)
    was, now = (
        pd.read_parquet(cached).set_index("video_id")["split"]
        for name in ("HEAD", None)
        if (cached := open_revision(name).cached(Path("data/validated/labels.parquet")))
    )
    assert entry["rows"]["moved"] == (was != now).sum() > 0
    assert entry["quarantined"] == {"old": 1, "new": 1}
    assert sum(value or 0 for value in entry["rows"].values()) == entry["rows"]["moved"]


@given(
    *[st.lists(st.floats(-10, 10, width=16), min_size=1, max_size=30).map(sorted)] * 2,
)
def test_the_distance_is_kolmogorovs_and_smirnovs(old: list[float], new: list[float]) -> None:
    expected = ks_2samp(old, new, method="asymp").statistic
    assert _distance(np.array(old), np.array(new)) == pytest.approx(expected)


def test_changed_files_are_told_by_the_stages_that_use_them(toy: Project) -> None:
    (toy.folder / "student.py").write_text("# changed\n")
    for name in ("docs/new page.md", "docs/ä.md", "tests/test_new.py", "NEWS"):
        (toy.folder / name).parent.mkdir(exist_ok=True)
        (toy.folder / name).write_text("new")
    toy.set(students={"methods": ["none", "posterior"], "seeds": [7]})
    in_work_tree = changed_code(open_revision("HEAD"), open_revision(None))
    assert in_work_tree == {
        "by_file": [{"file": "student.py", "change": "changed", "stages": ["student@none-7", "student@posterior-7"]}],
        "elsewhere": [{"folder": ".", "files": 1}, {"folder": "docs", "files": 2}, {"folder": "tests", "files": 1}],
    }
    commit(toy, "another seed")
    assert changed_code(open_revision("HEAD~1"), open_revision("HEAD")) == in_work_tree
    assert changed_code(open_revision("HEAD"), open_revision(None)) == {"by_file": [], "elsewhere": []}


def test_a_dependency_that_went_is_told_with_the_stages_that_used_it(toy: Project) -> None:
    (toy.folder / "student.py").unlink()
    pipeline = toy.folder / "dvc.yaml"
    pipeline.write_text(pipeline.read_text().replace("student.py, ", ""))
    found = {entry["file"]: entry for entry in changed_code(open_revision("HEAD"), open_revision(None))["by_file"]}
    assert found["student.py"]["change"] == "removed"
    assert found["student.py"]["stages"] == found["dvc.yaml"]["stages"]
    assert all(stage.startswith("student@") for stage in found["dvc.yaml"]["stages"])


def test_code_and_libraries_are_told_by_what_stage_code_would_write(toy: Project) -> None:
    package = toy.folder / "cpfd"
    (package / "stages").mkdir(parents=True)
    for path, text in {
        "stages/gate.py": "import numpy\n\nfrom cpfd.rules import RULES\n",
        "stages/student.py": "import cpfd.loss\n",
        "rules.py": "RULES = 1\n",
        "loss.py": "import scipy\n\nTAU = 2\n",
        "cli.py": "import cpfd.loss\n",
    }.items():
        (package / path).write_text(text)
    lock = toy.folder / "constraints.txt"
    lock.write_text("numpy==2.4.6\nscipy==1.17.1\nruff==0.1\n")
    commit(toy, "a package")
    (package / "loss.py").write_text("import scipy\n\nTAU = 3\n")
    (package / "rules.py").write_text("# Why one.\nRULES = 1\n")
    (package / "cli.py").write_text("import cpfd.rules\n")
    lock.write_text("numpy==2.4.7\nscipy==1.17.1\nruff==0.2\n")
    students = ["student@none-7", "student@posterior-7"]
    toy.set(students={"methods": ["none", "posterior"], "seeds": [7]})
    changed = changed_code(open_revision("HEAD"), open_revision(None))
    assert changed == {
        "by_file": [
            {"file": "cpfd/loss.py", "change": "changed", "stages": students},
            {"file": "numpy", "change": "2.4.6 -> 2.4.7", "stages": [*students, "gate"]},  # scipy requires it
        ],
        "elsewhere": [{"folder": ".", "files": 1}, {"folder": "cpfd", "files": 2}],
    }
    commit(toy, "changed")
    assert changed_code(open_revision("HEAD~1"), open_revision("HEAD")) == changed
