"""Promotion as a team lives it: a git remote, a DVC remote, and two people with a clone each."""

import json
import shutil
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.support.clips import write_clip
from tests.support.project import IDENTITY, PATIENCE, Project
from tests.support.team import Team, found_team


@pytest.fixture(scope="module")
def trained(project: Project, tmp_path_factory: pytest.TempPathFactory) -> Team:
    """A team whose main branch holds a trained student that passes the gate; nothing is promoted yet."""
    return found_team(project, tmp_path_factory.mktemp("team"))


@pytest.fixture
def team(trained: Team, tmp_path: Path) -> Team:
    return trained.fork(tmp_path)


def refused(project: Project, *command: str) -> str:
    """What `cpfd` says when it refuses: one message, exit code 1, no tag here or there."""
    before = project.run("git", "tag").stdout
    done = project.run("cpfd", *command, check=False)
    assert done.returncode == 1, done.stdout
    assert "Traceback" not in done.stderr
    assert project.run("git", "tag").stdout == before
    return done.stderr


def commit(project: Project, message: str) -> None:
    project.run("git", "commit", "--quiet", "--all", "-m", message)


def test_a_student_is_promoted_challenged_replaced_and_brought_back(team: Team, tmp_path: Path) -> None:
    ann = team.clone(tmp_path / "ann")
    told = ann.run("cpfd", "promote", "--reason", "the first").stdout
    assert "v1.0.0 is now in production" in told
    assert team.tags() == ["student#production#1", "student@v1.0.0"]
    message = ann.run("git", "tag", "--list", "--format=%(contents)", "student@v1.0.0").stdout
    assert "macro_f1" in message
    assert "latency_ms" in message
    assert "the first" in message

    # A pull request: another method ships, held against what is in production.
    method = json.loads((ann.folder / "reports/gate.json").read_text())["method"]
    ann.run("git", "checkout", "--quiet", "-b", "candidate")
    ann.set(distill={"method": "pfd" if method != "pfd" else "cpfd"}, champion={"version": "v1.0.0"})
    foretold = json.loads(ann.run("cpfd", "review", "--format", "json").stdout)
    assert {change["key"] for change in foretold["parameters"]} == {"distill.method", "champion.version"}
    ran = ann.repro()
    assert {"confidence", "evaluate", "champion", "gate", "export", "report"} <= set(ran)
    assert not [stage for stage in ran if stage.startswith("student@")]
    duel = json.loads((ann.folder / "reports/champion.json").read_text())
    assert duel["version"] == "v1.0.0"
    assert duel["clips"] > 0
    gate = json.loads((ann.folder / "reports/gate.json").read_text())
    assert gate["champion"] == "v1.0.0"
    assert {"champion_not_worse", "champion_slice_f1_drop", "champion_size_ratio"} <= {r["name"] for r in gate["rules"]}
    assert ann.repro() == []
    ann.run("git", "add", ".")
    commit(ann, "ship another method")
    ann.run("dvc", "push", "--quiet")

    assert "v1.1.0 is now in production instead of v1.0.0" in ann.run("cpfd", "promote").stdout
    newest, oldest = json.loads(ann.run("cpfd", "models", "--json").stdout)
    assert (newest["version"], newest["stages"], newest["champion"]) == ("v1.1.0", ["production"], "v1.0.0")
    assert (oldest["version"], oldest["stages"], oldest["reason"]) == ("v1.0.0", [], "the first")
    assert newest["who"] == "Ann <ann@localhost>"

    told = ann.run("cpfd", "rollback", "--reason", "complaints").stdout
    assert "v1.0.0 is now in production instead of v1.1.0" in told
    assert "the first in production" in refused(ann, "rollback")
    again = ann.run("cpfd", "rollback", "--version", "v1.1.0").stdout
    assert "v1.1.0 is now in production instead of v1.0.0" in again
    ann.run("cpfd", "rollback")

    # Elsewhere there is nothing but git and the DVC remote.
    subprocess.run(["git", "clone", "--quiet", team.origin, tmp_path / "server"], check=True)
    server = Project(tmp_path / "server")
    server.run("dvc", "artifacts", "get", str(team.origin), "student", "--stage", "production", "-o", "production")
    assert files(tmp_path / "server/production") == files(git_model(ann, "student@v1.0.0", tmp_path / "old"))
    clip = write_clip(tmp_path / "clip.mp4")
    answer = json.loads(server.run("cpfd", "predict", str(clip), "--model", "production", "--json").stdout)
    assert sum(answer[0]["probabilities"].values()) == pytest.approx(1)


def git_model(project: Project, rev: str, target: Path) -> Path:
    project.run("dvc", "get", ".", "models/student", "--rev", rev, "-o", str(target))
    return target


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_what_a_promotion_would_do_is_told_without_doing_it(team: Team, tmp_path: Path) -> None:
    ann = team.clone(tmp_path / "ann")

    said = ann.run("cpfd", "promote", "--dry-run").stdout

    assert said == "v1.0.0 would be in production; nothing is changed.\n"
    assert team.tags() == ann.run("git", "tag").stdout.split() == []
    ann.run("dvc", "remote", "remove", "store")
    commit(ann, "no remote")
    assert "no default DVC remote" in refused(ann, "promote", "--dry-run")


def test_staging_comes_before_production(team: Team, tmp_path: Path) -> None:
    ann = team.clone(tmp_path / "ann")
    assert "v1.0.0 is now in staging" in ann.run("cpfd", "promote", "--to", "staging").stdout
    assert "v1.0.0 is now in production" in ann.run("cpfd", "promote").stdout
    assert json.loads(ann.run("cpfd", "models", "--json").stdout)[0]["stages"] == ["production", "staging"]
    assert "is in production already, by Ann" in refused(ann, "promote")


def test_a_student_that_fails_the_gate_is_refused(team: Team, tmp_path: Path) -> None:
    ann = team.clone(tmp_path / "ann")
    ann.set(gate={"min_macro_f1": 1.0})
    ann.repro()
    commit(ann, "ask for the impossible")
    assert "macro-F1 of the judged seed on the test split" in refused(ann, "promote")


def test_a_params_yaml_of_an_older_version_stands_in_nobodys_way(team: Team, tmp_path: Path) -> None:
    ann = team.clone(tmp_path / "ann")
    path = ann.folder / "params.yaml"
    whole = path.read_text()
    path.write_text("".join(line for line in whole.splitlines(keepends=True) if "approval_hours" not in line))
    commit(ann, "before approval_hours was added")

    assert "flows.approval_hours: missing" in ann.run("cpfd", "check", check=False).stdout
    assert "v1.0.0 is now in production" in ann.run("cpfd", "promote").stdout
    assert [each["version"] for each in json.loads(ann.run("cpfd", "models", "--json").stdout)] == ["v1.0.0"]
    assert "the first in production" in refused(ann, "rollback")
    assert ann.run("cpfd", "params", "--upgrade").stdout == "added flows.approval_hours\n"
    assert path.read_text() == whole


def test_a_time_is_judged_by_who_promotes_and_no_verdict_on_it_is_in_a_report(team: Team, tmp_path: Path) -> None:
    ann = team.clone(tmp_path / "ann")
    verdict = (ann.folder / "reports/gate.json").read_bytes()
    assert b"latency" not in verdict
    ann.set(gate={"max_latency_ms": 0.001})

    said = ann.run("dvc", "repro").stdout

    assert "FAIL median milliseconds per clip" in said
    assert (ann.folder / "reports/gate.json").read_bytes() == verdict
    commit(ann, "ask for the impossible")
    told = refused(ann, "promote")
    assert "the student of HEAD is too slow on this machine: median milliseconds per clip" in told
    assert "(limit 0.001)" in told


def test_a_verdict_written_by_hand_is_refused(team: Team, tmp_path: Path) -> None:
    ann = team.clone(tmp_path / "ann")
    report = ann.folder / "reports/gate.json"
    report.write_text(json.dumps({**json.loads(report.read_text()), "seed": 99}))
    commit(ann, "improve the verdict")
    assert "reports/gate.json was changed after stage gate wrote it" in refused(ann, "promote")


def test_a_parameter_changed_without_a_run_is_refused(team: Team, tmp_path: Path) -> None:
    ann = team.clone(tmp_path / "ann")
    ann.set(distill={"alpha": 0.9})
    commit(ann, "forget to run")
    assert "distill.alpha" in refused(ann, "promote")


def test_a_dirty_work_tree_is_refused(team: Team, tmp_path: Path) -> None:
    ann = team.clone(tmp_path / "ann")
    ann.set(distill={"alpha": 0.9})
    assert "the work tree is dirty: params.yaml" in refused(ann, "promote")


def test_a_model_that_nobody_else_can_get_is_refused(team: Team, tmp_path: Path) -> None:
    ann = team.clone(tmp_path / "ann")
    ann.run("dvc", "remote", "modify", "store", "url", str(tmp_path / "empty"))
    commit(ann, "another remote")
    assert "is not in the DVC remote" in refused(ann, "promote")
    ann.run("dvc", "remote", "remove", "store")
    commit(ann, "no remote")
    assert "no default DVC remote is set" in refused(ann, "promote")


class FileServer(SimpleHTTPRequestHandler):
    """Sends whole files, as plain servers do; what is longer than `limit` is cut off there."""

    limit: int | None = None

    def copyfile(self, source: Any, outputfile: Any) -> None:
        outputfile.write(source.read(self.limit))

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """The address of a server of the files in a folder."""
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(FileServer, directory=str(folder))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_a_remote_that_is_a_server_of_files_is_read_to_its_end(
    team: Team, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ann = team.clone(tmp_path / "ann")
    with served(team.store) as url:
        ann.run("dvc", "remote", "modify", "--local", "store", "url", url)
        monkeypatch.setattr(FileServer, "limit", 1 << 20)
        told = refused(ann, "promote")
        assert "of HEAD cannot be read from the DVC remote: " in told
        monkeypatch.setattr(FileServer, "limit", None)
        assert ann.run("cpfd", "promote", "--dry-run").stdout == "v1.0.0 would be in production; nothing is changed.\n"


def test_a_remote_that_breaks_off_while_a_student_is_fetched_is_told(
    team: Team, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    team.clone(tmp_path / "ann").run("cpfd", "promote")
    subprocess.run(["git", "clone", "--quiet", team.origin, tmp_path / "server"], check=True)
    server = Project(tmp_path / "server")
    write_clip(server.folder / "clips/clip.mp4")
    score = ("score", "clips", "--output", "predictions")
    with served(team.store) as url:
        server.run("dvc", "remote", "modify", "--local", "store", "url", url)
        monkeypatch.setattr(FileServer, "limit", 1 << 20)
        told = refused(server, *score)
        assert "models/student of student@v1.0.0 cannot be fetched from DVC's remote: " in told
        monkeypatch.setattr(FileServer, "limit", None)
        assert "1 of 1 clips classified by student v1.0.0" in server.run("cpfd", *score).stdout


@contextmanager
def tampered(file: Path) -> Iterator[None]:
    """Change one byte of a file without touching other hard links to it; put it back in the end."""
    whole = file.read_bytes()
    aside = file.parent.parent / f"{file.name}.aside"
    file.rename(aside)
    file.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    try:
        yield
    finally:
        file.unlink()
        aside.rename(file)


def test_a_tampered_model_is_refused(team: Team, tmp_path: Path) -> None:
    ann = team.clone(tmp_path / "ann")
    weights = ann.folder / "models/student/model.safetensors"
    with tampered(weights):
        assert "models/student/model.safetensors in the work tree is not what dvc.lock records" in refused(
            ann, "promote"
        )
    same = [file for file in (team.store / "files").rglob("*") if file.is_file() and file.samefile(file)]
    stored = next(file for file in same if file.read_bytes() == weights.read_bytes())
    with tampered(stored):
        told = refused(ann, "promote")
        assert (
            "models/student/model.safetensors of HEAD, as it is in the DVC remote, is not what dvc.lock records" in told
        )
    assert team.tags() == []
    ann.run("cpfd", "promote")


def test_of_two_promotions_at_once_one_wins_and_the_other_gets_a_sentence(team: Team, tmp_path: Path) -> None:
    ann, bob = team.clone(tmp_path / "ann"), team.clone(tmp_path / "bob", who="Bob")
    ready, go = tmp_path / "ready", tmp_path / "go"
    # Bob's git stops right before it pushes: after he has looked at the registry, and before he has changed it.
    hook = bob.folder / ".git/hooks/pre-push"
    hook.write_text(
        f"#!/bin/sh\ntouch {ready}\nfor i in $(seq 600); do [ -e {go} ] && exit 0; sleep 0.1; done; exit 1\n"
    )
    hook.chmod(0o755)
    slower = subprocess.Popen(
        ["cpfd", "promote"],
        cwd=bob.folder,
        env=bob.environment(),
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        while not ready.exists():
            assert slower.poll() is None, slower.communicate()
        assert "v1.0.0 is now in production" in ann.run("cpfd", "promote").stdout
    finally:
        go.touch()
        _, told = slower.communicate(timeout=PATIENCE)
    assert slower.returncode == 1
    assert "somebody else was quicker" in told
    assert bob.run("git", "tag").stdout == ""
    assert "is in production already, by Ann" in bob.run("cpfd", "promote", check=False).stderr


def test_two_in_one_clone_take_turns(team: Team, tmp_path: Path) -> None:
    ann = team.clone(tmp_path / "ann")
    both = [
        subprocess.Popen(
            ["cpfd", "promote"], cwd=ann.folder, env=ann.environment(), stderr=subprocess.PIPE, stdout=subprocess.PIPE
        )
        for _ in range(2)
    ]
    ends = [each.communicate(timeout=PATIENCE) for each in both]
    assert sorted(each.returncode for each in both) == [0, 1], ends
    assert team.tags() == ["student#production#1", "student@v1.0.0"]


def test_a_promotion_cut_off_before_its_push_is_not_taken_for_one(team: Team, tmp_path: Path) -> None:
    ann = team.clone(tmp_path / "ann")
    ann.run("git", "tag", "-a", "student@v1.0.0", "-m", "cut off")
    assert "student@v1.0.0 is in this clone alone" in refused(ann, "promote")
    ann.run("git", "tag", "-d", "student@v1.0.0")
    ann.run("cpfd", "promote")


def test_a_gate_held_against_another_champion_is_refused(team: Team, tmp_path: Path) -> None:
    ann = team.clone(tmp_path / "ann")
    ann.run("cpfd", "promote")
    ann.run("git", "commit", "--quiet", "--allow-empty", "-m", "the same again")
    assert "set champion.version to v1.0.0 in params.yaml" in refused(ann, "promote")


def test_an_unknown_champion_is_explained(team: Team, tmp_path: Path) -> None:
    ann = team.clone(tmp_path / "ann")
    ann.set(champion={"version": "v7.0.0"})
    told = ann.run("dvc", "repro", "champion", check=False).stderr
    assert "no student v7.0.0 is registered in this clone: `git fetch --tags`" in told


def test_nothing_registered_is_said(team: Team, tmp_path: Path) -> None:
    ann = team.clone(tmp_path / "ann")
    assert "No version is registered yet" in ann.run("cpfd", "models").stdout
    assert json.loads(ann.run("cpfd", "models", "--json").stdout) == []
    assert "no version has been in production" in refused(ann, "rollback")
    shutil.rmtree(ann.folder / ".git")
    assert "not a git repository" in ann.run("cpfd", "promote", check=False).stderr


def test_a_promotion_without_a_name_is_refused(team: Team, tmp_path: Path) -> None:
    ann = team.clone(tmp_path / "ann")
    nobody = {**ann.environment(), "HOME": str(tmp_path), "GIT_CONFIG_NOSYSTEM": "1"}
    for key in IDENTITY:
        del nobody[key]
    ann.run("git", "config", "--unset", "user.name")
    done = subprocess.run(
        ["cpfd", "promote"], cwd=ann.folder, env=nobody, capture_output=True, text=True, timeout=PATIENCE
    )
    assert done.returncode == 1
    assert "Git user name and email must be configured" in done.stderr


def test_a_project_in_a_folder_of_a_repository_is_promoted_under_the_name_that_dvc_asks_for(
    project: Project, tmp_path: Path
) -> None:
    top = Project(tmp_path / "Prüfung")
    clips = project.copy(top.folder / "clips")
    shutil.rmtree(clips.folder / ".git")
    top.run("git", "init", "--quiet")
    clips.run("dvc", "remote", "add", "--quiet", "--default", "store", str(tmp_path / "store"))  # DVC writes ASCII here
    top.run("git", "add", ".")
    commit(top, "a project among others")
    clips.run("dvc", "push", "--quiet")
    (top.folder / "other.txt").write_text("another project's")
    top.run("git", "add", ".")

    assert "v1.0.0 is now in production" in clips.run("cpfd", "promote").stdout

    assert top.run("git", "tag").stdout.split() == ["clips=student#production#1", "clips=student@v1.0.0"]
    assert json.loads(clips.run("cpfd", "models", "--json").stdout)[0]["stages"] == ["production"]
    assert "is in production already" in refused(clips, "promote")
    assert "the first in production" in refused(clips, "rollback")
    elsewhere = Project(tmp_path)
    elsewhere.run("dvc", "artifacts", "get", str(top.folder), "clips:student", "--stage", "production", "-o", "got")
    assert files(tmp_path / "got") == files(clips.folder / "models/student")
