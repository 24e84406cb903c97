"""A project with a Prefect server and a worker, as `make up` starts them."""

import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from flows.services import PASSWORD
from tests.support.project import PATIENCE, Project, wait_for
from tests.support.team import Team

FINAL = {"COMPLETED", "FAILED", "CRASHED", "CANCELLED"}
STAGES = 18
"""How many the tiny project has, each student counted."""


@dataclass(frozen=True)
class Site:
    """A project with a Prefect server and a worker, as `make up` starts them."""

    project: Project
    team: Team
    api: httpx.Client

    def start(self, deployment: str, *parameters: str) -> str:
        """`prefect deployment run`; the id of the flow run."""
        options = [option for each in parameters for option in ("--param", each)]
        said = self.project.run("prefect", "--no-prompt", "deployment", "run", deployment, *options).stdout
        return next(line.rpartition("/")[2] for line in said.splitlines() if "/runs/flow-run/" in line).strip()

    def run(self, run: str) -> dict[str, Any]:
        return dict(self.api.get(f"/flow_runs/{run}").raise_for_status().json())

    def state(self, run: str) -> dict[str, Any]:
        return dict(self.run(run)["state"])

    def settled(self, run: str) -> dict[str, Any]:
        """The state that a run ends in, or is suspended in."""
        return wait_for(lambda: state if (state := self.state(run))["type"] in {*FINAL, "PAUSED"} else None)

    def ended(self, run: str) -> dict[str, Any]:
        """The state that a run ends in."""
        return wait_for(lambda: state if (state := self.state(run))["type"] in FINAL else None)

    def asked(self, run: str) -> dict[str, Any]:
        """The state of a run that is suspended until somebody answers, once the form to answer by is there.

        Prefect stores the form a moment after the state; who answers in between is refused.
        """
        state = self.settled(run)
        assert state["name"] == "Suspended", state
        form = f"/flow_runs/{run}/input/{state['state_details']['run_input_keyset']['schema']}"
        wait_for(lambda: self.api.get(form).is_success)
        return state

    def set_state(self, run: str, kind: str, name: str) -> None:
        """What a button of the UI does."""
        body = {"state": {"type": kind, "name": name}, "force": kind == "SCHEDULED"}
        self.api.post(f"/flow_runs/{run}/set_state", json=body).raise_for_status()

    def retry(self, run: str) -> None:
        self.set_state(run, "SCHEDULED", "AwaitingRetry")

    def states_of_stages(self, run: str) -> dict[str, str]:
        """Names of the present states of a flow run's task runs, of the last attempt where there were more."""
        body = {"flow_runs": {"id": {"any_": [run]}}, "limit": 200, "sort": "EXPECTED_START_TIME_ASC"}
        found = self.api.post("/task_runs/filter", json=body).raise_for_status().json()
        # The server hears of a task run and of its first state one after the other: in between, its state is null.
        return {each["name"]: each["state"]["name"] if each["state"] else "Pending" for each in found}

    def stages(self, run: str, least: int = 0) -> dict[str, str]:
        """Names of the states that the task runs of a flow run have ended in, once there are as many as `least`.

        The server may know how a run has ended, or waits, before it has heard of all its task runs.
        """
        unfinished = {"Running", "Pending", "Scheduled", "Cancelling", "AwaitingRetry", "Retrying"}

        def ended() -> dict[str, str] | None:
            states = self.states_of_stages(run)
            return states if len(states) >= least and unfinished.isdisjoint(states.values()) else None

        return dict(wait_for(ended))

    def artifacts(self, run: str) -> dict[str, str]:
        body = {"artifacts": {"flow_run_id": {"any_": [run]}}, "limit": 200}
        found = self.api.post("/artifacts/filter", json=body).raise_for_status().json()
        return {each["key"]: str(each["data"]) for each in found}

    def logs(self, run: str) -> str:
        body = {"logs": {"flow_run_id": {"any_": [run]}}, "limit": 200, "sort": "TIMESTAMP_ASC"}
        found: list[dict[str, Any]] = []
        while page := self.api.post("/logs/filter", json={**body, "offset": len(found)}).raise_for_status().json():
            found += page
        return "\n".join(each["message"] for each in found)

    def resume(self, run: str, answer: dict[str, Any] | None) -> dict[str, Any]:
        """Send the form of a suspended run, as the UI does."""
        body = {} if answer is None else {"run_input": answer}
        return dict(self.api.post(f"/flow_runs/{run}/resume", json=body).raise_for_status().json())

    def processes(self, what: str = "prefect.flow_engine") -> list[psutil.Process]:
        """What runs a Python module of that name (or that begins so) in the project: by default, flow runs."""
        found = []
        for process in psutil.process_iter():
            try:
                inside = Path(process.cwd()).is_relative_to(self.project.folder)
                if inside and any(each.startswith(what) for each in process.cmdline()):
                    found.append(process)
            except (psutil.Error, OSError):
                continue
        return found


def free_port() -> int:
    """A port that is free, and the one after it too."""
    while True:
        with socket.socket() as one, socket.socket() as two:
            one.bind(("127.0.0.1", 0))
            port = int(one.getsockname()[1])
            try:
                two.bind(("127.0.0.1", port + 1))
            except (OSError, OverflowError):
                continue
            return port


class Patient(httpx.HTTPTransport):
    """Asks again where the server's database is busy, as Prefect's own clients do."""

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        for _ in range(20):
            response = super().handle_request(request)
            if response.status_code != 503:
                break
            time.sleep(0.5)
        return response


@contextmanager
def serve(project: Project, team: Team) -> Iterator[Site]:
    """`make up` on a free port, and `make down` in the end."""
    port = free_port()
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("PREFECT_WORKER_QUERY_SECONDS", "1")  # else a run waits up to ten for the worker
            project.run("python", "-m", "flows.services", "up", "--port", str(port))
        user, _, password = (project.folder / PASSWORD).read_text().strip().partition(":")
        base = f"http://127.0.0.1:{port}/api"
        with httpx.Client(base_url=base, auth=(user, password), timeout=PATIENCE, transport=Patient()) as api:
            yield Site(project, team, api)
    finally:
        project.run("python", "-m", "flows.services", "down")
