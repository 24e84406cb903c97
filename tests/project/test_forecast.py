"""What `cpfd review` and `cpfd check` say about stages is what `dvc repro` then does."""

import json
import logging
import re
import shutil
from logging.handlers import BufferingHandler
from pathlib import Path

import pytest
from dvc.logger import set_loggers_level
from dvc.repo import Repo

from cpfd.errors import CpfdError
from cpfd.project.forecast import forecast
from cpfd.project.graph import families
from cpfd.project.inputs import missing_dataset
from cpfd.project.lock import check, drift
from cpfd.project.revision import open_revision
from cpfd.review.code import changed_code
from tests.support.project import Project
from tests.support.toy import commit, toy_project

ALL = ["demo", "validate", "teacher", "student@none-0", "student@posterior-0", "evaluate", "gate"]
STUDENTS = ["student@none-0", "student@posterior-0"]
SAID = {"Running stage '": "will run", "is cached - skipping run": "from cache", "didn't change, skipping": "unchanged"}


@pytest.fixture(scope="session")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A toy project after its first run, committed; not to be changed."""
    project = toy_project(tmp_path_factory.mktemp("toy") / "project")
    project.repro()
    commit(project, "results")
    return project


@pytest.fixture
def toy(ran: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    """A copy of it, which is the current folder."""
    project = ran.copy(tmp_path / "project")
    monkeypatch.chdir(project.folder)
    return project


def predicted(base: str = "HEAD", head: str | None = None) -> dict[str, str]:
    entries = forecast(open_revision(base), open_revision(head))
    return {entry["stage"]: entry["outcome"] for entry in entries if not entry["removed"]}


def reasons(base: str = "HEAD", head: str | None = None) -> dict[str, list[str]]:
    return {entry["stage"]: entry["why"] for entry in forecast(open_revision(base), open_revision(head))}


def checked(name: str | None = None) -> tuple[list[str], list[str]]:
    """What `check` finds but for the schema's complaints about the keys that the toy lacks."""
    errors, warnings = check(open_revision(name))
    return [error for error in errors if not re.match(r"params\.yaml: \S+: missing;", error)], warnings


def repro() -> dict[str, str]:
    """Run `dvc repro`, in this process to save its start, and tell what it did with each stage."""
    log = BufferingHandler(1000)
    logger = logging.getLogger("dvc")
    logger.addHandler(log)
    try:
        # DVCLive, once imported by another test of this process, lets DVC say warnings alone.
        with set_loggers_level(logging.INFO), Repo(".") as repo:
            repo.reproduce()
    finally:
        logger.removeHandler(log)
    found = {}
    for line in (record.getMessage() for record in log.buffer):
        for words, outcome in SAID.items():
            if words in line:
                found[line.split("'")[1]] = outcome
    return found


def assert_comes_true(expected: dict[str, str]) -> None:
    happened = repro()
    assert set(happened) == set(expected)
    for stage, outcome in expected.items():
        assert outcome in ("may run", happened[stage]) or (outcome, happened[stage]) == ("reran", "unchanged"), stage


def test_with_nothing_changed_nothing_runs(toy: Project) -> None:
    assert predicted() == dict.fromkeys(ALL, "unchanged")
    assert drift(open_revision(None)) == drift(open_revision("HEAD")) == []
    assert checked() == ([], [])


def test_another_alpha_runs_students_and_perhaps_what_follows(toy: Project) -> None:
    toy.set(distill={"alpha": 0.7})
    expected = predicted()
    assert expected == {
        **dict.fromkeys(ALL, "unchanged"),
        **dict.fromkeys(STUDENTS, "will run"),
        "evaluate": "may run",
        "gate": "may run",
    }
    assert reasons()["student@none-0"] == ["distill.alpha 0.5 -> 0.7"]
    assert reasons()["evaluate"] == ["models/students (from student (2))"]
    assert_comes_true(expected)

    rerun = predicted()
    assert [stage for stage in ALL if rerun[stage] == "reran"] == [*STUDENTS, "evaluate"]
    assert reasons()["student@none-0"] == ["distill.alpha 0.5 -> 0.7"]
    commit(toy, "another alpha")
    assert predicted("HEAD~1", "HEAD") == rerun
    assert set(predicted().values()) == {"unchanged"}

    toy.set(distill={"alpha": 0.5})
    expected = predicted("HEAD~1")
    assert expected["student@posterior-0"] == expected["evaluate"] == "from cache"
    assert reasons("HEAD~1")["student@none-0"] == ["distill.alpha 0.7 -> 0.5"]
    assert_comes_true(expected)


def test_inputs_that_turn_out_the_same_stop_the_rerun(toy: Project) -> None:
    toy.set(train={"epochs": 40})
    expected = predicted()
    assert expected["teacher"] == "will run"
    assert {expected[stage] for stage in [*STUDENTS, "evaluate", "gate"]} == {"may run"}
    assert reasons()["student@none-0"] == ["models/teacher/logits.txt (from teacher)"]
    assert repro() == {**dict.fromkeys(ALL, "unchanged"), "teacher": "will run"}
    assert predicted()["student@none-0"] == "unchanged"


def test_a_cached_result_is_found_behind_other_cached_results(toy: Project) -> None:
    toy.set(split={"seed": 8}, train={"epochs": 5})
    repro()
    commit(toy, "other split")
    toy.set(split={"seed": 7}, train={"epochs": 30})
    expected = predicted()
    assert expected == {
        "demo": "unchanged",
        **dict.fromkeys(ALL[1:4], "from cache"),
        "student@posterior-0": "from cache",
        "evaluate": "unchanged",
        "gate": "unchanged",
    }
    assert_comes_true(expected)


def test_without_its_files_the_run_cache_is_of_no_use(toy: Project) -> None:
    toy.set(distill={"alpha": 0.7})
    repro()
    was = open_revision("HEAD").hashes["models/students/none-0"]
    toy.set(distill={"alpha": 0.5})
    assert predicted()["student@none-0"] == "from cache"
    cached = open_revision(None).in_cache(was)
    assert cached is not None
    cached.unlink()
    assert predicted()["student@none-0"] == "will run"
    assert predicted()["student@posterior-0"] == "from cache"


def test_seeds_come_and_go(toy: Project) -> None:
    toy.set(students={"seeds": [1]})
    expected = predicted()
    assert expected["student@none-1"] == expected["student@posterior-1"] == "will run"
    assert expected["evaluate"] == "will run"
    entries = {entry["stage"]: entry for entry in forecast(open_revision("HEAD"), open_revision(None))}
    assert [name for name, entry in entries.items() if entry["removed"]] == STUDENTS
    assert entries["student@none-1"]["why"] == ["not in dvc.lock of HEAD"]
    assert "students.seeds [0] -> [1]" in entries["evaluate"]["why"]
    assert "dvc.lock has no entry for 2 stages (student (2)): `dvc repro`, then commit dvc.lock" in checked()[0]
    assert_comes_true(expected)
    assert set(predicted().values()) == {"unchanged", "reran"}
    commit(toy, "another seed")
    toy.set(students={"seeds": [0]})
    assert "will run" not in {predicted()[stage] for stage in STUDENTS}
    happened = repro()
    assert {happened[stage] for stage in [*STUDENTS, "gate"]} == {"from cache", "unchanged"}


def test_a_student_that_should_be_gone_is_seen_as_dvc_sees_it(toy: Project) -> None:
    toy.set(students={"methods": ["none", "posterior"], "seeds": [0, 1]})
    repro()
    commit(toy, "two seeds")
    toy.set(students={"seeds": [0]})
    expected = predicted()
    assert_comes_true(expected)
    assert not (toy.folder / "models/students/none-1").exists()
    assert drift(open_revision(None)) == []


def test_a_stage_more_and_a_stage_less(toy: Project) -> None:
    text = (toy.folder / "dvc.yaml").read_text()
    (toy.folder / "dvc.yaml").write_text(
        text.replace("  gate:\n    cmd: python toy.py gate", "  judge:\n    cmd: python toy.py gate")
    )
    entries = {entry["stage"]: entry for entry in forecast(open_revision("HEAD"), open_revision(None))}
    assert entries["judge"]["outcome"] == "from cache"  # the run cache does not know stages by name
    assert entries["gate"]["removed"]
    errors, _ = checked()
    assert errors == ["dvc.lock has no entry for stage judge: `dvc repro`, then commit dvc.lock"]
    assert_comes_true(predicted())


def test_changed_code_is_a_warning_and_runs_its_stages(toy: Project) -> None:
    (toy.folder / "student.py").write_text("# changed\n")
    errors, warnings = checked()
    assert errors == []
    assert warnings == [
        "student.py changed after 2 stages (student (2)) of dvc.lock ran: `dvc repro`, then commit dvc.lock"
    ]
    assert reasons()["student@none-0"] == ["student.py"]
    assert_comes_true(predicted())


def test_one_parameter_of_many_stages_is_one_sentence(toy: Project) -> None:
    toy.set(distill={"alpha": 0.7})
    (sentence,), warnings = checked()
    assert sentence == (
        "distill.alpha is 0.7 in params.yaml, but 2 stages (student (2)) of dvc.lock ran with 0.5:"
        " `dvc repro`, then commit dvc.lock"
    )
    assert warnings == []
    assert next(found.sentence for found in drift(open_revision(None))).startswith(
        "distill.alpha is 0.7 in params.yaml, but stage student@none-0 of dvc.lock ran with 0.5"
    )


def test_the_same_number_written_otherwise_is_no_change(toy: Project) -> None:
    path = toy.folder / "params.yaml"
    text = path.read_text()
    path.write_text(text.replace("learning_rate: 0.001", "learning_rate: 5e-5"))
    repro()
    assert "learning_rate: 5e-05" in toy.lock()
    path.write_text(text.replace("learning_rate: 0.001", "learning_rate: 0.00005"))
    assert checked() == ([], [])
    assert_comes_true(predicted())


def test_a_report_edited_by_hand_is_found_and_restored(toy: Project) -> None:
    gate = toy.folder / "reports/gate.json"
    was = gate.read_bytes()
    gate.unlink()
    gate.write_text('{"passed": true}')
    assert checked() == (
        ["reports/gate.json was changed after stage gate wrote it: `dvc repro`, then commit dvc.lock"],
        [],
    )
    commit(toy, "pass the gate")
    assert [found.kind for found in drift(open_revision("HEAD"))] == ["report"]
    assert reasons("HEAD~1")["gate"] == ["reports/gate.json edited"]
    expected = predicted("HEAD~1")
    assert expected == {**dict.fromkeys(ALL, "unchanged"), "gate": "from cache"}
    assert_comes_true(expected)
    assert gate.read_bytes() == was


def test_dvc_yaml_that_lists_something_else_is_found(toy: Project) -> None:
    path = toy.folder / "dvc.yaml"
    text = path.read_text()
    path.write_text(
        text.replace("python toy.py teacher", "python  toy.py teacher")
        .replace("[data/validated, toy.py]", "[data/validated, toy.py, student.py]")
        .replace("student.py, toy.py]\n    params: [distill.alpha", "toy.py]\n    params: [distill.tau, distill.alpha")
        .replace("outs: [reports/plots]", "outs: [reports/plots, reports/more]")
    )
    errors, warnings = checked()
    assert warnings == []
    assert [error.partition(": `dvc repro`")[0] for error in errors] == [
        "dvc.yaml has another command for stage teacher than dvc.lock",
        "dvc.yaml lists student.py as a dependency, but stage teacher of dvc.lock ran without it",
        "distill.tau is 2.0 in params.yaml, but 2 stages (student (2)) of dvc.lock ran without it",
        "dvc.yaml no longer lists student.py as a dependency, but 2 stages (student (2)) of dvc.lock ran with it",
        "dvc.yaml and dvc.lock disagree about outputs of stage evaluate (reports/more)",
    ]
    assert predicted()["teacher"] == "will run"
    assert reasons()["teacher"] == ["command", "student.py"]


def test_a_lock_that_somebody_put_together_is_doubted(toy: Project) -> None:
    """As a merge does that takes one side's teacher and the other side's students."""
    mine = toy.lock()
    toy.set(train={"epochs": 3})
    repro()
    theirs = toy.lock()
    at = mine.index("  student@none-0:"), theirs.index("  student@none-0:")
    order = [mine.index(f"  {stage}:") for stage in ("teacher", "student@none-0")]
    assert order == sorted(order), "this test takes the lock's order for granted"
    (toy.folder / "dvc.lock").write_text(theirs[: at[1]] + mine[at[0] :])
    _, warnings = checked()
    assert warnings == [
        "models/teacher/logits.txt changed after 2 stages (student (2)) of dvc.lock ran:"
        " `dvc repro`, then commit dvc.lock"
    ]


def test_a_base_without_results_has_nothing_to_compare(toy: Project) -> None:
    before = "HEAD~1"
    assert set(predicted(before, "HEAD").values()) == {"reran"}
    assert reasons(before, "HEAD")["teacher"] == ["not in dvc.lock of HEAD~1"]
    errors, _ = checked(before)
    assert errors == [
        "dvc.lock has no entry for 7 stages (demo, validate, teacher, student (2), evaluate, gate):"
        " `dvc repro`, then commit dvc.lock"
    ]
    there = predicted("HEAD", before)
    assert {there[stage] for stage in ("demo", "validate", "teacher", *STUDENTS)} == {"from cache"}


def test_an_empty_cache_leaves_what_git_knows(toy: Project) -> None:
    shutil.rmtree(toy.folder / ".dvc/cache")
    assert predicted() == dict.fromkeys(ALL, "unchanged")
    assert checked() == ([], [])
    toy.set(distill={"alpha": 0.7})
    assert predicted()["student@none-0"] == "will run"
    assert predicted()["teacher"] == "unchanged"


def test_results_that_git_holds_are_no_code(toy: Project) -> None:
    assert "reports/gate.json" in toy.run("git", "ls-files").stdout
    assert changed_code(open_revision("HEAD~1"), open_revision("HEAD")) == {"by_file": [], "elsewhere": []}


def test_times_of_earlier_runs_are_told(toy: Project) -> None:
    timings = toy.folder / "reports/timings"
    timings.mkdir()
    for stage, seconds in {"teacher": 12.5, "student@none-0": 4.0, "student@posterior-0": 8.0}.items():
        (timings / f"{stage}.json").write_text(json.dumps({"seconds": seconds}))
    toy.set(students={"seeds": [0, 1]})
    seconds = {entry["stage"]: entry["seconds"] for entry in forecast(open_revision("HEAD"), open_revision(None))}
    assert seconds["teacher"] == 12.5
    assert seconds["student@none-0"] == 4.0
    assert seconds["student@none-1"] == 6.0
    assert seconds["gate"] is None


def test_the_real_pipeline_leaves_times_that_no_output_holds(project: Project) -> None:
    timings = {path.name.removesuffix(".json"): json.loads(path.read_text()) for path in _timings(project)}
    assert {"validate", "crossfit@teacher", "student@none-0", "report"} <= set(timings)
    assert timings["teacher"]["seconds"] > 0
    assert all(timing["seconds"] >= 0 for timing in timings.values())  # to a tenth: `champion` may take less
    assert "timings" not in project.lock()
    assert "timings" not in project.run("git", "status", "--short").stdout


def test_the_command_tells_what_is_out_of_step(project: Project, tmp_path: Path) -> None:
    changed = project.copy(tmp_path / "project")
    assert "in step" in changed.run("cpfd", "check").stdout
    changed.set(distill={"alpha": 0.7})
    sentence = (
        "distill.alpha is 0.7 in params.yaml, but 6 stages (student (4), export, report) of dvc.lock ran with 0.5:"
        " `dvc repro`, then commit dvc.lock"
    )
    shown = json.loads(changed.run("cpfd", "check", "--json", check=False).stdout)
    assert shown == {"errors": [sentence], "warnings": []}
    (changed.folder / "cpfd/models/xvlm.py").open("a").write("# changed\n")
    done = changed.run("cpfd", "check", check=False)
    assert done.returncode == 1
    assert done.stdout.splitlines()[0] == f"error: {sentence}"
    assert done.stdout.splitlines()[1].startswith("warning: cpfd changed after stage code ")
    assert "Traceback" not in done.stderr
    changed.set(distill={"alpha": 0.5})
    assert changed.run("cpfd", "check").stdout.startswith("warning: ")
    (changed.folder / "cpfd/models/xvlm.py").open("a").write("CHANGED = 1\n")
    assert re.match(r"warning: cpfd, code/\w+\.txt, .* changed after ", changed.run("cpfd", "check").stdout)


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("params.yaml", "video: {frames: 6", "params.yaml of work tree: not valid YAML"),
        ("params.yaml", "- 1\n", "dvc.yaml of work tree: failed to parse 'vars'"),
        ("dvc.yaml", "stages: [\n", "dvc.yaml of work tree: not valid YAML"),
        ("dvc.yaml", "stages: {gate: {}}\n", "dvc.yaml of work tree: "),
        ("dvc.yaml", "stages: {gate: {cmd: 'x ${no.key}'}}\n", "dvc.yaml of work tree: "),
        (
            "dvc.yaml",
            "stages: {a: {cmd: x, deps: [b], outs: [a]}, b: {cmd: x, deps: [a], outs: [b]}}",
            "depend on each",
        ),
        ("dvc.lock", "<<<<<<< ours\nstages: {}\n", "dvc.lock of work tree: not valid YAML"),
    ],
)
def test_a_broken_file_is_told_in_a_sentence(toy: Project, file: str, text: str, message: str) -> None:
    (toy.folder / file).write_text(text)
    errors, warnings = checked()
    assert message in errors[-1]
    assert warnings == []
    with pytest.raises(CpfdError):
        forecast(open_revision("HEAD"), open_revision(None))


def test_a_wrong_value_is_an_error_of_the_schema(toy: Project) -> None:
    toy.set(distill={"alpha": 1.5})
    commit(toy, "too much")
    schema, lock = checked("HEAD")[0]
    assert schema.startswith("params.yaml: distill.alpha: 1.5: ")
    assert lock.startswith("distill.alpha is 1.5 in params.yaml, but ")


@pytest.mark.parametrize(
    ("stages", "named"),
    [
        ([], []),
        (["teacher"], ["teacher"]),
        (["student@none-0"], ["student@none-0"]),
        (
            ["crossfit@teacher", "student@none-0", "student@none-1", "crossfit@student", "gate"],
            ["crossfit (2)", "student (2)", "gate"],
        ),
    ],
)
def test_families_of_stages_are_named_once(stages: list[str], named: list[str]) -> None:
    assert families(stages) == named


def _timings(project: Project) -> list[Path]:
    return sorted((project.folder / "reports/timings").glob("*.json"))


# What a run would not find is told before.


def add_dataset(toy: Project) -> None:
    (toy.folder / "data/raw/ours/videos").mkdir(parents=True)
    (toy.folder / "data/raw/ours/manifest.csv").write_text("video_id,path,label\nc0,0.mp4,0\n")
    (toy.folder / "data/raw/ours/videos/0.mp4").write_text("film")


def test_a_data_set_that_a_run_would_not_find_is_told(toy: Project, tmp_path: Path) -> None:
    assert missing_dataset(open_revision("HEAD"), "demo") is None  # a stage makes it
    toy.set(dataset={"name": "ours"})
    commit(toy, "name another data set")
    add_dataset(toy)
    assert missing_dataset(open_revision(None), "ours") is None
    assert missing_dataset(open_revision("HEAD"), "ours") == (
        "data/raw/ours is not in HEAD: `dvc add data/raw/ours`, then commit data/raw/ours.dvc"
    )
    toy.run("dvc", "add", "--quiet", "data/raw/ours")
    commit(toy, "add it")
    assert missing_dataset(open_revision("HEAD"), "ours") is None

    shutil.rmtree(toy.folder / ".dvc/cache/files")
    assert missing_dataset(open_revision("HEAD"), "ours") == (
        "data/raw/ours is not whole in DVC's cache: `dvc pull data/raw/ours` first"
    )
    shutil.rmtree(toy.folder / "data/raw/ours")
    _, warnings = checked()
    assert "data/raw/ours: no such folder; `dvc pull data/raw/ours` fetches what others have added" in warnings[-1]


def test_code_that_git_does_not_know_is_a_warning(toy: Project) -> None:
    (toy.folder / "cpfd").mkdir()
    (toy.folder / "cpfd/mine.py").write_text("ANSWER = 42\n")
    _, warnings = checked()
    assert "cpfd/mine.py: in no commit, so `dvc exp run --temp` would lack it; `git add` it" in warnings
    toy.run("git", "add", "cpfd/mine.py")
    _, warnings = checked()
    assert not [warning for warning in warnings if "mine.py" in warning]
