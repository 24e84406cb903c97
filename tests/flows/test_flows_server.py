"""The flows as a team meets them: `make up`, `prefect deployment run`, an approval, `make down`."""

import json
import stat
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from flows.services import PASSWORD
from tests.support.project import ROOT, Project, wait_for
from tests.support.site import STAGES, Site, serve
from tests.support.team import found_team


@pytest.fixture(scope="module")
def site(project: Project, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A clone of the tiny project, its server and its worker."""
    folder = tmp_path_factory.mktemp("site")
    team = found_team(project, folder)
    with serve(team.clone(folder / "clone"), team) as served:
        yield served


def test_a_night_without_news_runs_nothing(site: Site) -> None:
    run = site.start("train/on-demand")

    assert site.settled(run)["message"] == f"0 stages ran, {STAGES} cached"
    stages = site.stages(run, STAGES)
    assert stages.keys() >= {"demo", "extract", "student@pfd-0", "gate", "export"}
    assert set(stages.values()) == {"Cached"}
    assert {"results", "gate", "validation-demo"} <= set(site.artifacts(run))


def test_a_student_goes_to_production_once_somebody_says_so(site: Site) -> None:
    """One says no; the next question is first left without an answer, then answered in a wrong way and a right one."""
    change = {"gate.trial_clips": 2}
    first = site.start("train/on-demand", f"overrides={json.dumps(change)}", "promote=ask")
    site.asked(first)
    ran = {stage for stage, state in site.stages(first, STAGES).items() if state == "Completed"}
    assert "gate" in ran
    assert not ran & {"demo", "extract", "teacher", "confidence", "student@none-0", "evaluate"}
    assert site.run(first)["name"] == "demo · gate.trial_clips=2"
    wait_for(lambda: not site.processes())
    site.resume(first, {"approve": False, "who": "Ben", "reason": "too slow"})
    ended = site.ended(first)
    assert (ended["name"], ended["message"]) == ("Rejected", "Ben rejects it: too slow")
    assert site.team.tags() == []

    hasty = {**change, "flows.approval_hours": 0.01}
    second = site.start("train/on-demand", f"overrides={json.dumps(hasty)}", "promote=ask")
    site.asked(second)
    assert set(site.stages(second, STAGES).values()) <= {"Cached", "Completed"}
    unanswered = site.ended(second)
    assert unanswered["type"] == "FAILED"
    assert "never resumed" in unanswered["message"]
    assert site.team.tags() == []
    site.retry(second)
    site.asked(second)
    refusal = site.resume(second, {"approve": True, "who": "Ben"})
    assert refusal["status"] == "REJECT"
    assert "'reason' is a required property" in refusal["details"]["reason"]
    site.resume(second, {"approve": True, "who": "Ben", "reason": "better on short clips"})
    ended = site.ended(second)

    assert ended["type"] == "COMPLETED", ended["message"]
    assert ended["message"].endswith("; v1.0.0 is in production")
    stages = site.stages(second, STAGES + 2)
    assert len(stages) == STAGES + 2
    assert stages["push"] == stages["promote"] == "Completed"
    assert site.team.tags() == ["student#production#1", "student@v1.0.0"]
    site.project.run("git", "fetch", "--quiet", "--tags")
    message = site.project.run("git", "tag", "-n20", "--list", "student@v1.0.0").stdout
    assert "Reason: better on short clips (approved by Ben), flow run demo · gate.trial_clips=2" in message
    assert "trial_clips: 2" in site.project.run("git", "show", "student@v1.0.0:params.yaml").stdout

    third = site.start("train/on-demand", f"overrides={json.dumps(change)}", "promote=ask")
    assert site.ended(third)["message"].endswith("v1.0.0, which is in production, has the same student")


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        (['overrides={"distill.alpha": 7}'], "distill.alpha: 7: "),
        (["promote=ask", "isolated=false"], "promote needs `isolated`"),
        (["promote=auto", 'targets=["student"]'], "promote needs the whole pipeline"),
    ],
)
def test_a_parameter_that_cannot_work_is_explained_at_once(site: Site, parameters: list[str], message: str) -> None:
    run = site.start("train/on-demand", *parameters)

    ended = site.ended(run)
    assert ended["type"] == "FAILED"
    assert message in ended["message"]
    assert site.stages(run) == {}


def test_only_who_knows_the_password_can_start_runs(site: Site) -> None:
    """Not a page in somebody's browser, which can reach loopback, nor another user of this machine."""
    evil = {"Origin": "http://evil.example"}
    anybody = httpx.Client(base_url=site.api.base_url)
    [deployment] = [
        each["id"]
        for each in site.api.post("/deployments/filter", json={}).json()
        if each["name"] == "on-demand" and "overrides" in each["parameter_openapi_schema"]["properties"]
    ]
    start = f"/deployments/{deployment}/create_flow_run"
    before = site.api.post("/flow_runs/count", json={}).json()
    wrong = httpx.BasicAuth("cpfd", "guessed")

    asked = anybody.options(start, headers={**evil, "Access-Control-Request-Method": "POST"})
    assert "access-control-allow-origin" not in asked.headers
    for told in (anybody.post(start, json={}, headers=evil), anybody.post(start, json={}, auth=wrong)):
        assert told.status_code == 401
        assert "access-control-allow-origin" not in told.headers
    read = site.api.post("/flow_runs/count", json={}, headers=evil)
    assert read.status_code == 200
    assert "access-control-allow-origin" not in read.headers, "a browser hands the answer to no page of another origin"
    assert read.json() == before

    for secret in (PASSWORD, Path(".prefect/profiles.toml")):
        path = site.project.folder / secret
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert (site.project.folder / PASSWORD).read_text().strip() in path.read_text()
    assert ".prefect" not in site.project.run("git", "status", "--porcelain", "--untracked-files=all").stdout


def test_what_is_no_project_is_not_served(tmp_path: Path) -> None:
    nowhere = Project(tmp_path)

    refused = nowhere.run("env", f"PYTHONPATH={ROOT}", "python", "-m", "flows.services", "up", check=False)

    assert refused.returncode == 1
    assert (
        refused.stderr == f"error: prefect.yaml: no such file in {tmp_path}; run this in the root of a CPFD project\n"
    )
    assert list(tmp_path.iterdir()) == []
