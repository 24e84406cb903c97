"""A project's first days under Prefect, from nothing to a student in production; minutes long, so CI alone runs it."""

import json
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest

from tests.support.clips import write_clip
from tests.support.project import new_project, wait_for
from tests.support.site import STAGES, Site, serve
from tests.support.team import found_team

pytestmark = pytest.mark.slow
SECRET = "correct-horse-battery-staple"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A clone in which nothing has run yet; the passwords of two remotes are known to it alone."""
    folder = tmp_path_factory.mktemp("story")
    team = found_team(new_project(folder / "new"), folder)
    clone = team.clone(folder / "clone")
    clone.run("dvc", "remote", "add", "--local", "vault", "ssh://nobody@localhost/vault")
    clone.run("dvc", "remote", "modify", "--local", "vault", "password", SECRET)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
        with serve(clone, team) as served:
            yield served


def test_the_story(site: Site, tmp_path: Path) -> None:
    _cancelled_then_retried(site)
    _without_news(site)
    _promoted_by_itself(site)
    _broken_data(site, tmp_path)
    _scored(site, tmp_path)
    _new_data_are_trained_on(site, tmp_path)
    site.project.run("python", "-m", "flows.services", "down")
    assert not site.processes()
    # The server's database has every log, artifact and parameter.
    kept = [path for path in site.project.folder.joinpath(".prefect").rglob("*") if path.is_file()]
    assert "prefect.db" in {path.name for path in kept}
    assert not [path for path in kept if SECRET.encode() in path.read_bytes()]


def _cancelled_then_retried(site: Site) -> None:
    """Cancelled in the middle of its first run, a flow run goes on from there when it is retried in the UI."""
    run = site.start("train/on-demand")
    wait_for(lambda: bool(site.processes("cpfd.stages.extract")))
    site.set_state(run, "CANCELLING", "Cancelling")
    wait_for(lambda: not site.processes("cpfd.stages"))
    assert site.ended(run)["type"] == "CANCELLED"
    assert site.states_of_stages(run)["extract"] != "Completed", "the stage was ended in its midst"
    assert site.project.run("git", "worktree", "list").stdout.count("\n") == 1
    assert not list(site.project.folder.glob(".dvc/tmp/flows/*/project"))

    site.retry(run)
    ended = site.ended(run)
    assert ended["type"] == "COMPLETED", ended["message"]
    stages = site.stages(run, STAGES)
    assert (stages["demo"], stages["validate"], stages["extract"]) == ("Cached", "Cached", "Completed")
    assert "; experiment demo-" in ended["message"]
    assert set(site.project.run("dvc", "exp", "list", "--name-only").stdout.split()) == {ended["message"].split()[-1]}


def _without_news(site: Site) -> None:
    run = site.start("train/nightly")
    # Nothing is committed yet but the code: the run's lock file and reports are kept as an experiment of their own.
    assert site.ended(run)["message"].startswith(f"0 stages ran, {STAGES} cached; experiment demo-")
    assert set(site.stages(run, STAGES).values()) == {"Cached"}


def _promoted_by_itself(site: Site) -> None:
    """Another alpha trains other students, and nothing before them."""
    run = site.start("train/on-demand", 'overrides={"distill.alpha": 0.8}', "promote=auto")
    ended = site.ended(run)
    assert ended["message"].endswith("; v1.0.0 is in production"), ended["message"]
    stages = site.stages(run, STAGES)
    ran = {stage for stage, state in stages.items() if state == "Completed"} - {"push", "promote"}
    assert {"student@pfd-0", "student@cpfd-0", "evaluate"} <= ran
    assert not ran & {"demo", "validate", "extract", "dense", "teacher", "crossfit@teacher", "confidence"}
    assert site.team.tags() == ["student#production#1", "student@v1.0.0"]
    assert {"results", "gate", "validation-demo"} <= set(site.artifacts(run))


def _broken_data(site: Site, tmp_path: Path) -> None:
    """The sentence of the validation is what the run ends with, and nothing after it starts."""
    for number in range(16):
        write_clip(tmp_path / f"broken/{'cat' if number % 2 else 'dog'}/{number}.mp4", seed=number, frames=6)
    for path in sorted((tmp_path / "broken").rglob("*.mp4"))[:4]:
        path.write_text("this is no video")
    site.project.run("cpfd", "import", "folder", str(tmp_path / "broken"), "--name", "broken")
    site.project.run("git", "add", "data")
    site.project.run("git", "commit", "--quiet", "-m", "add a broken data set")

    run = site.start("train/on-demand", 'overrides={"dataset.name": "broken"}')
    ended = site.ended(run)
    assert ended["type"] == "FAILED"
    assert "expected at most 0.05 of the clips in quarantine, observed 0.25" in ended["message"]
    assert "Traceback" not in site.logs(run)
    assert site.stages(run)["validate"] == "Failed"
    assert "extract" not in site.stages(run)
    assert "expectations-broken" in site.artifacts(run)
    assert not site.project.run("git", "status", "--porcelain").stdout


def _scored(site: Site, tmp_path: Path) -> None:
    for number in range(5):
        write_clip(tmp_path / f"uploads/{number}.mp4", seed=number, frames=6)
    (tmp_path / "uploads/cut-off.mp4").write_bytes((tmp_path / "uploads/0.mp4").read_bytes()[:500])

    site.project.run("git", "fetch", "--quiet", "--tags")
    where = [f"source={tmp_path / 'uploads'}", f"output={tmp_path / 'predictions'}", "max_quarantine_share=0.5"]
    run = site.start("score/on-demand", *where)
    ended = site.ended(run)
    assert ended["type"] == "COMPLETED", ended["message"]
    assert ended["message"].startswith("5 of 6 clips classified by student "), ended["message"]
    assert len(pd.read_parquet(tmp_path / "predictions/predictions.parquet")) == 5
    assert list(pd.read_parquet(tmp_path / "predictions/quarantine.parquet")["video_id"]) == ["cut-off"]


def _new_data_are_trained_on(site: Site, tmp_path: Path) -> None:
    """The automation of prefect.yaml, once somebody has woken it up."""
    [automation] = site.api.post("/automations/filter", json={}).raise_for_status().json()
    assert automation["enabled"] is False
    site.api.patch(f"/automations/{automation['id']}", json={"enabled": True}).raise_for_status()
    for number in range(16):
        write_clip(tmp_path / f"new/{'cat' if number % 2 else 'dog'}/{number}.mp4", seed=number, frames=6)
    source = {"kind": "folder", "path": str(tmp_path / "new")}

    registered = site.ended(site.start("ingest/on-demand", "name=new", f"source={json.dumps(source)}", "commit=true"))
    assert registered["type"] == "COMPLETED", registered["message"]

    def triggered() -> str | None:
        runs = site.api.post("/flow_runs/filter", json={"sort": "START_TIME_DESC"}).raise_for_status().json()
        wanted = {"dataset.name": "new"}
        return next((run["id"] for run in runs if run["parameters"].get("overrides") == wanted), None)

    run = str(wait_for(triggered))
    wait_for(lambda: "validate" in site.states_of_stages(run))
    wait_for(lambda: site.states_of_stages(run)["validate"] in ("Completed", "Failed"))
    assert site.states_of_stages(run)["validate"] == "Completed"
    site.set_state(run, "CANCELLING", "Cancelling")
    assert site.ended(run)["type"] == "CANCELLED"
