"""A Prefect server, a worker and a server of reports on this machine: `make up` and `make down`.

Who may talk to the server can run code here, and any page that is open in a browser here can send it requests: so it
asks for a password even on loopback, and tells browsers that no pages but its own may read its answers.
"""

import os
import secrets
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from contextlib import suppress
from http.client import HTTPException
from pathlib import Path
from typing import Annotated, Any

import psutil
import typer
from rich.console import Console

from cpfd.errors import CpfdError, disk_told
from cpfd.files import read_json, write_json, written_aside
from cpfd.locks import locked

HOME = Path(".prefect")
PAGES = HOME / "reports"
"""Pages of the runs in the project, in a folder for each: isolated work trees do not last."""
REPORTS_URL = "CPFD_REPORTS_URL"
"""The variable that says where PAGES is served; without it artifacts name files in place of links."""
POOL = "cpfd"
DEPLOYMENTS = Path("prefect.yaml")
PASSWORD = HOME / "password"
"""User and password of the server, `USER:PASSWORD`, readable by nobody else; `up` makes one where there is none."""
_AUTH = "PREFECT_SERVER_API_AUTH_STRING"
_CLIENT_AUTH = "PREFECT_API_AUTH_STRING"
_STATE = HOME / "services.json"
_LOGS = HOME / "logs"
_PROFILE = "cpfd"
_START_SECONDS = 120.0
_STOP_SECONDS = 30.0

app = typer.Typer(
    help="Start and stop what runs the flows on this machine.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


@app.command()
def up(
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65534, help="Port of Prefect; the next one serves reports.")] = 4200,
) -> None:
    """Start a Prefect server, a worker and a server of reports, and deploy all of prefect.yaml.

    Where they run already, prefect.yaml is deployed again.

    Example: python -m flows.services up --port 4300
    """
    if not DEPLOYMENTS.is_file():
        raise CpfdError(f"{DEPLOYMENTS}: no such file in {Path.cwd()}; run this in the root of a CPFD project")
    with locked(HOME, patience=_START_SECONDS, refusal=f"{HOME}: another `make up` or `make down` is at work here"):
        _up(host, port)


def _up(host: str, port: int) -> None:
    reachable = "127.0.0.1" if host in ("0.0.0.0", "::") else host
    url = f"http://{reachable}:{port}"
    from_file = not os.environ.get(_AUTH)
    auth = _auth()
    # Prefect's settings are found by the current folder, which what is started here may leave.
    os.environ |= {
        "PREFECT_HOME": str(HOME.absolute()),
        "PREFECT_API_URL": f"{url}/api",
        "PREFECT_SERVER_UI_API_URL": "/api",  # of wherever the browser has found the UI
        "PREFECT_SERVER_CORS_ALLOWED_ORIGINS": url,  # the UI's own, which needs none: by default it is `*`
        _AUTH: auth,
        _CLIENT_AUTH: auth,
        "PWD": os.getcwd(),
    }
    os.environ.setdefault(REPORTS_URL, f"http://127.0.0.1:{port + 1}")
    console = Console(stderr=True)
    running = _running()
    if running and running["url"] != url:
        raise CpfdError(f"Prefect runs at {running['url']} already; `make down` stops it")
    if not running:
        _refuse_taken(host, port)
        _refuse_taken("127.0.0.1", port + 1)
        PAGES.mkdir(parents=True, exist_ok=True)
        _LOGS.mkdir(exist_ok=True)
        running = {"url": url, "processes": {}}
        try:
            with console.status("Starting the server"):
                _start(running, "server", ["prefect", "server", "start", "--host", host, "--port", str(port)])
                _wait(running, "server", lambda: _answers(f"{url}/api/health"))
            with console.status("Starting the worker"):
                pages = ["http.server", "--bind", "127.0.0.1", "--directory", str(PAGES), str(port + 1)]
                _start(running, "reports", pages)
                _limit_gpus()
                _start(running, "worker", ["prefect", "worker", "start", "--pool", POOL, "--type", "process"])
                _wait(running, "worker", _has_pool)
        except BaseException:
            _stop(running)
            raise
    with console.status("Deploying prefect.yaml"):
        _deploy()
        _use_profile(f"{url}/api", auth)
    print(f"Prefect: {url}   password: in {PASSWORD if from_file else _AUTH}   logs: {_LOGS}/   stop: make down")
    print("Start a run and watch it: prefect deployment run train/on-demand --watch")


@app.command()
def down() -> None:
    """Stop what `up` has started, and the runs that it works on; what they have done so far is kept.

    Example: python -m flows.services down
    """
    with locked(HOME, patience=_START_SECONDS, refusal=f"{HOME}: another `make up` or `make down` is at work here"):
        running = _running()
        if running is None:
            print("Nothing of this project runs.")
            return
        with Console(stderr=True).status("Stopping"):
            _stop(running)
            _use_profile(None)
    print(f"Prefect at {running['url']} is stopped. Its database stays in {HOME}/.")


def _auth() -> str:
    """User and password of the server: those that the environment gives, else those in PASSWORD."""
    if given := os.environ.get(_AUTH):
        return given
    if not PASSWORD.is_file():
        with written_aside(PASSWORD) as aside:
            aside.touch(mode=0o600)
            aside.write_text(f"cpfd:{secrets.token_urlsafe(24)}\n")
    return PASSWORD.read_text().strip()


def _refuse_taken(host: str, port: int) -> None:
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise CpfdError(f"{host}:{port}: {error.strerror}; choose another: `make up PORT=4300`") from None


def _running() -> dict[str, Any] | None:
    """What `up` has started, if all of it still runs; what is left of anything else is stopped."""
    if not _STATE.is_file():
        return None
    state: dict[str, Any] = read_json(_STATE)
    alive = {name for name, each in state["processes"].items() if _process(each)}
    if alive == {"server", "reports", "worker"}:
        return state
    _stop(state)
    return None


def _process(noted: dict[str, Any]) -> psutil.Process | None:
    """The process that was noted, not another that has its number by now."""
    try:
        process = psutil.Process(noted["pid"])
        same = process.create_time() == noted["since"] and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return None
    return process if same else None


def _start(state: dict[str, Any], name: str, module: list[str]) -> None:
    """Start a Python module that goes on when this process ends; its output goes to a log file."""
    with (_LOGS / f"{name}.log").open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", *module],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    state["processes"][name] = {"pid": process.pid, "since": psutil.Process(process.pid).create_time()}
    write_json(_STATE, state)


def _wait(state: dict[str, Any], name: str, ready: Callable[[], bool]) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while not ready():
        if _process(state["processes"][name]) is None or time.monotonic() > deadline:
            log = _LOGS / f"{name}.log"
            last = log.read_text(errors="replace").strip().splitlines()[-1:] or ["it printed nothing"]
            raise CpfdError(f"the {name} did not start: {last[0]} ({log})")
        time.sleep(0.2)


def _stop(state: dict[str, Any]) -> None:
    """End the processes, the worker with the runs it has started first; the server notes how they end."""
    for name in ("worker", "reports", "server"):
        process = _process(state["processes"].get(name, {"pid": -1, "since": 0.0}))
        if process is None:
            continue
        family = process.children(recursive=True)
        # A run passes the signal on to its stages, so that it knows why they end.
        for each in [process, *process.children()]:
            with suppress(psutil.NoSuchProcess):
                each.send_signal(signal.SIGTERM)
        _, left = psutil.wait_procs([process, *family], timeout=_STOP_SECONDS)
        for each in left:
            with suppress(psutil.NoSuchProcess):
                each.kill()
    _STATE.unlink(missing_ok=True)


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2) as answer:
            return bool(answer.status == 200)
    except (OSError, HTTPException):
        return False


def _has_pool() -> bool:
    from prefect.client.orchestration import get_client
    from prefect.exceptions import ObjectNotFound

    with get_client(sync_client=True) as client:
        try:
            client.read_work_pool(POOL)
        except ObjectNotFound:
            return False
    return True


def _limit_gpus() -> None:
    """One stage at a time on a GPU, unless somebody has set another limit."""
    from prefect.client.orchestration import get_client

    with get_client(sync_client=True) as client:
        if not any(limit.tag == "gpu" for limit in client.read_concurrency_limits(limit=200, offset=0)):
            client.create_concurrency_limit(tag="gpu", concurrency_limit=1)


def _deploy() -> None:
    deployed = subprocess.run(
        [sys.executable, "-m", "prefect", "--no-prompt", "deploy", "--all"], capture_output=True, text=True, check=False
    )
    if deployed.returncode:
        raise CpfdError(
            f"{DEPLOYMENTS} could not be deployed, mend it and `make up` again; the server runs:\n"
            f"{deployed.stdout}{deployed.stderr}"
        )


def _use_profile(api: str | None, auth: str = "") -> None:
    """Let `prefect` in this folder talk to the server; None: to none, and a run starts one for itself."""
    from prefect.settings import (
        PREFECT_API_AUTH_STRING,
        PREFECT_API_URL,
        Profile,
        get_current_settings,
        load_profiles,
        save_profiles,
    )

    path = get_current_settings().profiles_path
    path.touch(mode=0o600)
    path.chmod(0o600)  # it names the password
    profiles = load_profiles()
    if _PROFILE in profiles.names:
        profiles.remove_profile(_PROFILE)
    if api is not None:
        profiles.add_profile(Profile(name=_PROFILE, settings={PREFECT_API_URL: api, PREFECT_API_AUTH_STRING: auth}))
    profiles.set_active(_PROFILE if api else "ephemeral")
    save_profiles(profiles)


if __name__ == "__main__":
    try:
        with disk_told():
            app()
    except CpfdError as error:
        sys.exit(f"error: {error}")
