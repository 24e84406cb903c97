"""The pipeline as its users meet it: `dvc repro`, a changed parameter, a killed run, the files at the end."""

import json
import shutil
from pathlib import Path

import pandas as pd
import pytest

from cpfd.params.load import stage_keys
from cpfd.params.schema import Champion, Evaluation, Params
from tests.support.clips import write_clip
from tests.support.project import DENSE_READERS, NOISE, Project, body, forget_content, read_pipeline, read_trace

STAGES = [stage for stage in read_pipeline()["stages"] if stage != "code"]
# A data set that brings its splits, as the demo does, never asks how to make them.
READ_ELSEWHERE = {"validate": {"split.seed", "split.test_share", "split.validation_share"}}
# Without a champion, these stages ask for nothing but its version; tests/promotion runs them with one.
LIMITS = {f"champion.{name}" for name in Champion.model_fields}
SETTINGS = {f"evaluation.{name}" for name in Evaluation.model_fields}
READ_ELSEWHERE |= {
    "gate": LIMITS - {"champion.max_latency_ratio"},
    "champion": {"champion.min_slice_clips", "dataset.name", "extract.threads", *SETTINGS},
}
# These stages print all that they list, as a block.
PRINTING = {"export", "report"}


def test_one_command_leads_from_clips_to_a_judged_student(project: Project) -> None:
    gate = json.loads((project.folder / "reports/gate.json").read_text())
    metrics = json.loads((project.folder / "reports/metrics.json").read_text())
    assert gate["passed"] == all(rule["passed"] for rule in gate["rules"])
    assert {rule["name"] for rule in gate["rules"]} >= {"macro_f1", "not_worse", "gap_closed", "no_dense_input"}
    assert set(metrics["test"]) == {"teacher", "none", "pfd", "cpfd", "posterior"}
    page = (project.folder / "reports/index.html").read_text()
    assert "http://" not in page.replace("http://www.w3.org", "")
    assert (project.folder / "reports/validation/index.html").is_file()
    shown = project.run("cpfd", "results").stdout
    assert "Teacher" in shown
    assert "reports/index.html" in shown


def test_stages_tell_their_progress_and_no_noise(said: str) -> None:
    assert all(f"{bar}:" in said for bar in ("probe", "extract", "teacher", "student none, seed 0"))
    assert [words for words in NOISE if words in said] == []


def test_a_second_run_has_nothing_to_do(project: Project, tmp_path: Path) -> None:
    assert project.copy(tmp_path / "project").repro() == []


def test_the_student_works_where_there_is_neither_data_nor_dvc(project: Project, tmp_path: Path) -> None:
    shutil.copytree(project.folder / "models/student", tmp_path / "student")
    clips = [write_clip(tmp_path / "good.mp4"), tmp_path / "bad.mp4"]
    clips[1].write_text("this is no video")
    elsewhere = Project(tmp_path)
    done = elsewhere.run(
        "cpfd",
        "predict",
        *map(str, clips),
        "--text",
        "pasta",
        "--text",
        "",
        "--model",
        "student",
        "--json",
        check=False,
    )
    good, bad = json.loads(done.stdout)
    assert done.returncode == 1
    assert sum(good["probabilities"].values()) == pytest.approx(1)
    assert good["error"] is None
    assert bad["error"]
    assert "dataset" in (tmp_path / "student/README.md").read_text()
    assert "passed by the gate" in done.stderr


def test_none_but_the_teachers_stages_open_a_dense_table(project: Project, trace: Path) -> None:
    opened = {
        path.name.rpartition("-")[0]
        for path in trace.iterdir()
        for file in map(Path, json.loads(path.read_text())["files"])
        if file.is_relative_to("data") and "dense" in (file.stem, file.parent.name)
    }
    assert opened == DENSE_READERS


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_reads_the_params_that_dvc_yaml_lists_and_no_other(project: Project, trace: Path, stage: str) -> None:
    read, _ = read_trace(trace, stage)
    listed = set()
    for key in stage_keys(stage):
        group, _, field = key.partition(".")
        fields = Params.model_fields[group].annotation.model_fields  # type: ignore[union-attr]
        listed |= {f"{group}.{name}" for name in ([field] if field else fields)}
    if stage not in PRINTING:
        assert listed - READ_ELSEWHERE.get(stage, set()) == read & listed
    # Another key raises AttributeError, so a run that ended well cannot have read one.


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_opens_no_file_that_dvc_does_not_watch(project: Project, trace: Path, stage: str) -> None:
    _, files = read_trace(trace, stage)
    definition = read_pipeline()["stages"][stage]
    variants = definition.get("foreach", {"": {}})
    watched = [dep for dep in body(definition)["deps"] if "$" not in dep]
    watched += [values["sees"] for values in variants.values() if values]
    watched += ["data/raw/demo", "params.yaml", "dvc.yaml"]
    written = (*body(definition).get("outs", []), *[next(iter(m)) for m in body(definition).get("metrics", [])])
    own = [out.split("$")[0] for out in written]
    # Code is the matter of tests/test_code.py; every stage compares its own with its file in code/.
    ignored = (
        ".scratch/",
        ".git/",
        ".dvc/",
        "cpfd/",
        "constraints.txt",
        "reports/latency.json",
        "data/raw/.demo.",
        ".dvcignore",
        # Stage extract asks which clips are known: that decides what it computes, and not what comes out.
        *(["dvc.lock"] if stage == "extract" else []),
    )
    unwatched = [
        file
        for file in files
        if not file.startswith(ignored)
        and ".partial" not in file
        and Path(file).name != ".gitignore"
        and not any(file == dep or file.startswith(f"{dep}/") for dep in watched)
        and not any(file.startswith(out) for out in own)
    ]
    assert unwatched == []


def test_another_alpha_trains_students_again_and_nothing_before_them(project: Project, tmp_path: Path) -> None:
    changed = project.copy(tmp_path / "project")
    changed.set(distill={"alpha": 0.9})
    ran = changed.repro()
    assert [stage for stage in ran if not stage.startswith("student@")] == [
        stage for stage in ("evaluate", "champion", "gate", "export", "report") if stage in ran
    ]
    assert {stage for stage in ran if stage.startswith("student@")} == {
        f"student@{method}-0" for method in ("none", "pfd", "cpfd", "posterior")
    }
    was, now = (
        pd.read_parquet(each.folder / "models/students/pfd-0/logits.parquet")["logits"].map(list).to_list()
        for each in (project, changed)
    )
    assert was != now


def test_the_same_inputs_give_the_same_bytes_again(project: Project, tmp_path: Path) -> None:
    again = project.copy(tmp_path / "project")
    # Without the run cache and an earlier store's features, so that nothing can come from them; `--force` runs every
    # stage, up to date or not.
    shutil.rmtree(again.folder / ".dvc/cache/runs")
    forget_content(again)
    said = again.run("dvc", "repro", "--force").stdout
    assert said.count("Running stage") == len(STAGES) + 1 + 1 + 3  # with code; crossfit is two stages, student four
    assert again.lock() == project.lock()
    # So far stages were forked from a process that has their libraries. A user's start by themselves.
    forget_content(again)
    for stage in ("extract", "teacher", "student@posterior-0"):
        again.run("dvc", "repro", "--force", "--single-item", stage, warm=False)
        again.run("dvc", "checkout")
    assert again.lock() == project.lock()


def test_a_student_that_params_no_longer_names_leaves_no_trace(project: Project, tmp_path: Path) -> None:
    changed = project.copy(tmp_path / "project")
    changed.set(students={"methods": ["none", "posterior"]})
    changed.repro()
    assert sorted(path.name for path in (changed.folder / "models/students").glob("*-*")) == ["none-0", "posterior-0"]
    assert changed.repro() == []


def test_a_run_killed_while_extracting_or_training_ends_as_if_it_had_not_been(project: Project, tmp_path: Path) -> None:
    stages = ["extract", "student@posterior-0"]
    undisturbed = project.copy(tmp_path / "undisturbed")
    # With another number of frames, so that nothing is known.
    undisturbed.set(train={"epochs": 40, "patience": 40}, extract={"shard_clips": 6}, video={"frames": 3})
    killed = undisturbed.copy(tmp_path / "killed")
    for stage in stages:
        assert undisturbed.repro("--single-item", stage) == [stage]

    scratch = killed.folder / ".scratch"
    command = ["dvc", "repro", "--single-item"]
    killed.kill_when([*command, "extract"], lambda: len(list(scratch.glob("extract-*/[!.]*.parquet"))) >= 2)
    finished = sum(len(pd.read_parquet(shard)) for shard in scratch.glob("extract-*/[!.]*.parquet"))
    assert not (killed.folder / "data/features/content").exists()
    resumed = killed.run(*command, "extract").stdout
    assert f"extract: {finished} of 72 clips are known, {72 - finished} to decode" in resumed
    checkpoints = "student-*/checkpoint-*/trainer_state.json"
    killed.kill_when([*command, stages[1]], lambda: any(scratch.glob(checkpoints)), alone=True)
    assert not (killed.folder / "models/students/posterior-0").exists()
    killed.run(*command, stages[1])
    assert killed.lock() == undisturbed.lock()
    assert [path.name for path in scratch.iterdir()] == ["validate"], "but what is known of files"


def test_a_broken_data_set_stops_with_one_sentence(project: Project, tmp_path: Path) -> None:
    broken = project.copy(tmp_path / "project")
    videos = broken.folder / "data/raw/demo/videos"
    for clip in sorted(videos.glob("**/*.mp4"))[:10]:
        clip.unlink()
        clip.write_bytes(b"")
    done = broken.run("python", "-m", "cpfd.stages.validate", check=False)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("error: ")
    assert "max_quarantine_share" in last


def test_a_backbone_that_is_trained_anew_makes_new_features(project: Project, tmp_path: Path) -> None:
    copy = project.copy(tmp_path / "project")
    (copy.folder / "backbones/mine").mkdir()
    (copy.folder / "backbones/mine/model.safetensors").write_bytes(b"weights")
    status = json.loads(copy.run("dvc", "status", "extract", "--json").stdout)
    assert status["extract"][0]["changed deps"] == {"backbones": "modified"}

    (copy.folder / "backbones/mine").rename(copy.folder / "mine")
    copy.set(backbone={"vision": "mine"})
    told = copy.run("python", "-m", "cpfd.stages.extract", check=False).stderr
    assert "error: backbone.vision: mine is a folder outside of backbones/" in told
    assert "name it backbones/mine" in told
