"""The flows `ingest` and `score`, run for real against a Prefect server of their own."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pandas as pd
import pytest
from prefect.events import emit_event
from ruamel.yaml import YAML

from cpfd.errors import CpfdError
from tests.support.clips import write_clip
from tests.support.flow_runs import task_runs
from tests.support.project import IDENTITY, PATIENCE, ROOT, Project, wait_for
from tests.support.small import read_params
from tests.support.student import save_student

pytestmark = pytest.mark.usefixtures("server")


@pytest.fixture(scope="module")
def api(server: None) -> Iterator[httpx.Client]:
    """A Prefect server with a database of its own, for as long as this module's tests run."""
    assert "127.0.0.1" in os.environ["PREFECT_API_URL"]
    with httpx.Client(base_url=os.environ["PREFECT_API_URL"]) as client:
        yield client


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with nothing but parameters."""
    project = Project(tmp_path_factory.mktemp("template") / "project")
    project.folder.mkdir()
    params = read_params()
    params["validation"].update(max_drift=1.0, min_class_clips=2)
    YAML().dump(params, project.folder / "params.yaml")
    project.run("git", "init", "--quiet")
    project.run("dvc", "init", "--quiet")
    return project.folder


@pytest.fixture
def project(template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    project = Project(Path(shutil.copytree(template, tmp_path / "project")))
    (project.folder / "data/validated").mkdir(parents=True)
    (project.folder / "data/validated/content.parquet").write_text("of the present data set")
    monkeypatch.chdir(project.folder)
    return project


def write_classes(folder: Path, clips: int = 16, seed: int = 0) -> Path:
    for number in range(clips):
        write_clip(folder / ("cat", "dog")[number % 2] / f"{number:02}.mp4", seed=seed + number, frames=6)
    return folder


def ingest(name: str, **parameters: Any) -> Any:
    """Run the flow and return the state that it ends in."""
    from flows.ingest import ingest

    return ingest(name, return_state=True, **parameters)


def folder(path: str | Path, **options: Any) -> Any:
    from flows.ingest import FolderSource

    return FolderSource(path=Path(path), **options)


def events(api: httpx.Client, name: str) -> list[dict[str, Any]]:
    """The events `cpfd.dataset.updated` of a data set; events reach the server in the order they are told in."""
    last = f"cpfd.last.{uuid4()}"
    emit_event("cpfd.last", {"prefect.resource.id": last})

    def told(event: str, resource: str) -> list[dict[str, Any]]:
        wanted = {"filter": {"event": {"name": [event]}, "resource": {"id": [resource]}}}
        return list(api.post("/events/filter", json=wanted).raise_for_status().json()["events"])

    wait_for(lambda: bool(told("cpfd.last", last)))
    return told("cpfd.dataset.updated", f"cpfd.dataset.{name}")


def artifact(api: httpx.Client, key: str) -> Any:
    """The newest artifact of that key."""
    found = api.get(f"/artifacts/{key}/latest")
    return found.raise_for_status().json()["data"] if found.status_code != 404 else None


def content(path: Path) -> dict[str, bytes]:
    return {file.relative_to(path).as_posix(): file.read_bytes() for file in path.rglob("*") if file.is_file()}


def test_a_data_set_that_passes_is_registered_and_announced(api: httpx.Client, project: Project) -> None:
    write_classes(Path("clips"))
    pd.DataFrame({"video_id": [f"{number:02}" for number in range(16)], "views": range(16)}).to_csv(
        "views.csv", index=False
    )
    state = ingest("pets", source=folder("clips", dense=["views.csv"]), push=False)
    assert state.is_completed(), state.message

    assert "data/raw/pets: 16 clips, version " in state.message
    recorded = YAML().load(Path("data/raw/pets.dvc"))["outs"][0]
    assert recorded["path"] == "pets"
    assert project.run("dvc", "status", "data/raw/pets.dvc").stdout.strip() == "Data and pipelines are up to date."
    [event] = events(api, "pets")
    assert event["resource"]["prefect.resource.name"] == "pets"
    version = event["payload"].pop("version")
    assert len(version) == 16
    assert version in state.message
    assert event["payload"] == {"name": "pets", "clips": 16, "path": "data/raw/pets", "commit": None}
    assert "The data set `pets` passes validation." in artifact(api, "validation-pets")
    assert Path("data/validated/content.parquet").read_text() == "of the present data set"
    assert not Path("reports").exists()
    assert not Path(".scratch/ingest/pets/raw").exists()


def test_a_data_set_that_does_not_pass_changes_nothing(api: httpx.Client, project: Project) -> None:
    write_classes(Path("clips"))
    for number in range(4):
        Path(f"clips/cat/broken-{number}.mp4").write_text("this is no video")
    state = ingest("bad", source=folder("clips"))
    assert state.is_failed()
    assert "expected at most 0.05 of the clips in quarantine, observed 0.2" in state.message
    assert "\n" not in state.message
    assert not Path("data/raw").exists()
    assert project.run("git", "status", "--porcelain", "data", "--untracked-files=all").stdout == (
        "?? data/validated/content.parquet\n"
    )
    assert Path(state.message.rpartition("see ")[2].split(" and ")[0]).is_file()
    assert "does not pass" in artifact(api, "validation-bad")
    unmet = json.loads(artifact(api, "expectations-bad"))
    assert [each["column"] for each in unmet if each["severity"] == "critical"] == ["quarantine_share"]
    assert events(api, "bad") == []


def test_what_replaces_a_data_set_replaces_it_whole_or_not_at_all(api: httpx.Client, project: Project) -> None:
    write_classes(Path("clips"))
    assert ingest("pets2", source=folder("clips")).is_completed()
    before = content(Path("data"))

    again = ingest("pets2", source=folder("clips"))
    assert again.message == "data/raw/pets2: is there already; --force replaces it"
    write_classes(Path("few"), clips=2, seed=50)
    assert ingest("pets2", source=folder("few"), force=True).is_failed()
    assert content(Path("data")) == before

    # DVC refuses what a stage of the pipeline claims to make.
    Path("dvc.yaml").write_text("stages: {make: {cmd: make, outs: [data/raw/pets2]}}")
    write_classes(Path("other"), seed=50)
    refused = ingest("pets2", source=folder("other"), force=True)
    assert refused.is_failed()
    assert refused.message.startswith("DVC could not add data/raw/pets2: ")
    assert content(Path("data")) == before

    Path("dvc.yaml").unlink()
    assert ingest("pets2", source=folder("other"), force=True).is_completed()
    after = content(Path("data"))
    assert after["raw/pets2.dvc"] != before["raw/pets2.dvc"]
    assert not Path(".scratch/ingest/pets2/previous").exists()


def test_a_pushed_data_set_is_in_the_remote_or_the_run_fails(api: httpx.Client, project: Project) -> None:
    from flows import ingest as module

    write_classes(Path("clips"))
    refused = ingest("pushed", source=folder("clips"), push=True)
    assert refused.message == "push: DVC has no default remote here; `dvc remote add --default` sets one"
    assert not Path("data/raw").exists()

    Path("store").write_text("a file where a folder should be")
    project.run("dvc", "remote", "add", "--quiet", "--default", "store", str(project.folder / "store"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module.push_data, "retry_delay_seconds", 0)
        failed = ingest("pushed", source=folder("clips"), push=True)
    assert failed.is_failed()
    assert failed.message.startswith("data/raw/pushed is registered here, but not in the DVC remote: ")
    assert events(api, "pushed") == []

    Path("store").unlink()
    state = ingest("pushed", source=folder("clips"), push=True, force=True)
    assert state.is_completed(), state.message
    assert len([path for path in Path("store").rglob("*") if path.is_file()]) == 16 + 2
    assert len(events(api, "pushed")) == 1


def test_a_data_set_is_committed_alone_and_goes_where_its_branch_goes(
    api: httpx.Client, project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What else somebody has staged stays staged; isolated runs start from the commit."""
    for key, value in IDENTITY.items():
        monkeypatch.setenv(key, value)
    project.run("git", "init", "--quiet", "--bare", str(tmp_path / "origin"))
    project.run("git", "remote", "add", "origin", str(tmp_path / "origin"))
    project.run("dvc", "remote", "add", "--quiet", "--default", "store", str(tmp_path / "store"))
    project.run("git", "add", "params.yaml")
    staged = project.run("git", "diff", "--cached", "--name-only").stdout
    write_classes(Path("clips"))

    state = ingest("ours", source=folder("clips"), commit=True, push=True)

    assert state.is_completed(), state.message
    [event] = events(api, "ours")
    assert state.message.endswith(f"commit {event['payload']['commit'][:7]}")
    shown = project.run("git", "show", "--format=%s", "--name-only", event["payload"]["commit"]).stdout.splitlines()
    assert shown[0].startswith("Update data set ours: 16 clips, version ")
    assert shown[2:] == ["data/raw/.gitignore", "data/raw/ours.dvc"]
    assert project.run("git", "diff", "--cached", "--name-only").stdout == staged
    assert event["payload"]["commit"] in project.run("git", "ls-remote", "--heads", "origin").stdout

    again = ingest("ours", source=folder("clips"), commit=True, force=True)
    assert again.message == state.message, "the same data, so nothing new to commit"


def test_a_lock_of_dvc_is_waited_for(api: httpx.Client, project: Project) -> None:
    write_classes(Path("clips"))
    hold = (
        "import time\nfrom dvc.repo import Repo\nwith Repo() as repo, repo.lock:\n    print('held', flush=True)\n"
        "    time.sleep(60)"
    )
    holder = subprocess.Popen([sys.executable, "-c", hold], stdout=subprocess.PIPE, text=True)
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        from flows import ingest as module

        attempts = []
        original = module.add.retry_condition_fn

        def release(*arguments: Any) -> bool:
            attempts.append(original(*arguments))
            holder.kill()
            return attempts[-1]

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(module.add, "retry_condition_fn", release)
            state = ingest("patient", source=folder("clips"))
    finally:
        holder.kill()
        holder.wait()
    assert state.is_completed(), state.message
    assert attempts == [True]


def test_wrong_inputs_are_explained(api: httpx.Client, project: Project, tmp_path: Path) -> None:
    from flows.ingest import TableSource

    for name, source, why in [
        ("demo", folder("clips"), "that data set is generated by the pipeline"),
        ("../x", folder("clips"), "expected letters, digits"),
        ("x", folder("absent"), "absent: no such folder"),
        ("x", TableSource(path=Path("absent.csv")), "absent.csv: no such file"),
        ("x", TableSource(path=Path("absent.csv"), columns={"topic": "x"}), "--map topic=x: expected NAME=COLUMN"),
    ]:
        state = ingest(name, source=source)
        assert state.is_failed()
        assert why in state.message
    refused = ingest("x", source={"kind": "folder", "path": "clips", "colour": "red"})
    assert refused.is_failed()
    assert "colour" in refused.message
    os.chdir(tmp_path)
    assert "not the root of a DVC repository" in ingest("x", source=folder("clips")).message
    assert not Path(".scratch").exists()


def test_score_shows_its_summary_and_resumes(api: httpx.Client, project: Project) -> None:
    from flows.score import score

    student = save_student(Path("student"))
    clips = write_classes(Path("clips"), clips=12)
    (clips / "broken.mp4").write_text("this is no video")
    parameters = {"source": clips, "model": str(student), "shard_clips": 1}
    failed = score(output=Path("out"), return_state=True, **parameters)
    assert failed.is_failed()
    assert failed.message.startswith("clips: 1 of 13 clips cannot be classified, at most 0 may be")
    assert not Path("out").exists()

    state = score(output=Path("out"), max_quarantine_share=0.2, return_state=True, **parameters)
    assert state.is_completed(), state.message
    summary = json.loads(Path("out/summary.json").read_text())
    assert state.message == (f"12 of 13 clips classified by student {summary['model']}, 1 in quarantine.")
    rows = {row["result"]: row["clips"] for row in json.loads(artifact(api, "predictions"))}
    assert rows == {**summary["predicted"], "quarantine: cannot be decoded": 1}
    assert artifact(api, "score") == 100
    assert {"fetch student", "clips from 1", "clips from 9", "write out"} <= {*task_runs(failed), *task_runs(state)}

    again = score(output=Path("out"), return_state=True, **parameters)
    assert again.message == "out: is there already; --force replaces it"


def serverless(project: Project, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run `python -m flows.<name>` where no server is, and none is named."""
    environment = {key: value for key, value in project.environment().items() if not key.startswith("PREFECT")}
    return subprocess.run(
        [sys.executable, "-m", *arguments],
        capture_output=True,
        text=True,
        env={**environment, "PYTHONPATH": str(ROOT)},
        timeout=PATIENCE,
    )


def test_a_flow_can_be_run_at_once_and_says_what_is_wrong(project: Project) -> None:
    write_classes(Path("clips"), clips=2)
    run = serverless(project, "flows.score", "clips", "--output", "out", "--model", "models/student")
    assert run.returncode == 1
    assert "models/student: no exported student there" in run.stderr + run.stdout
    assert "Traceback" not in run.stderr + run.stdout
    assert Path(".prefect").is_dir()


@pytest.mark.parametrize("flow", [["flows.score"], ["flows.ingest"], ["flows.ingest", "table"]])
def test_help_is_there_without_a_server(flow: list[str], project: Project) -> None:
    shown = serverless(project, *flow, "--help")
    assert shown.returncode == 0
    assert "Usage: " in shown.stdout


def test_only_what_may_go_well_later_is_tried_again() -> None:
    from prefect.states import Failed

    from flows.retries import worth_a_retry

    def again(error: Exception, cause: Exception | None = None) -> bool:
        error.__cause__ = cause
        return worth_a_retry(None, None, Failed(data=error, message="x"))  # type: ignore[arg-type]

    from dvc.lock import LockError

    assert again(CpfdError("not there"), ConnectionResetError("reset"))
    assert again(CpfdError("no lock"), LockError("held"))
    assert again(OSError(5, "input/output error"))
    assert not again(CpfdError("wrong input"))
    assert not again(CpfdError("not there"), FileNotFoundError(2, "no such file"))
    assert not again(ValueError("a bug"))
