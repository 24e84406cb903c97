"""`flows.train`: the stages of dvc.yaml under Prefect, side by side, to the same bytes as `dvc repro`."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from prefect.client.orchestration import get_client
from ruamel.yaml import YAML

from cpfd.files import write_json
from cpfd.paths import TIMINGS
from flows.workspace import isolated_tree, save_experiment
from tests.support.flow_runs import flow_run_id, logs, run, task_runs
from tests.support.project import NOISE, PATIENCE, Project, wait_for
from tests.support.scripts import DIAMOND, Toy, toy
from tests.support.toy import commit

pytestmark = pytest.mark.usefixtures("server")


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Toy:
    """A project that nothing has run in, as the current folder."""
    made = toy(tmp_path)
    monkeypatch.chdir(made.folder)
    for key, value in made.environment().items():
        monkeypatch.setenv(key, value)
    return made


def files(project: Project) -> list[Path]:
    """What a user sees of a project: all but the folders of git and DVC, and unfinished work."""
    hidden = (".git", ".dvc", ".scratch", ".prefect")
    return [
        path
        for path in project.folder.rglob("*")
        if path.is_file() and path.relative_to(project.folder).parts[0] not in hidden
    ]


@contextmanager
def hold(path: Path, seconds: float) -> Iterator[None]:
    """Lock a file as another process of DVC would, for some seconds."""
    script = f"import time, zc.lockfile; lock = zc.lockfile.LockFile({str(path)!r}); print('held', flush=True); "
    with subprocess.Popen([sys.executable, "-c", f"{script}time.sleep({seconds})"], stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"held\n"
        yield


def test_a_run_leaves_the_bytes_of_dvc_repro_and_a_second_one_runs_nothing(project: Toy, tmp_path: Path) -> None:
    """Stages end in another order than in `dvc repro`, and one reads a folder that several of them write to."""
    for side in ("left", "right"):
        wait = f"timeout 600 sh -c 'until [ $(wc -l < {tmp_path}/ended) = 3 ]; do sleep 0.1; done'"
        project.script(side, f"[ ! -e {tmp_path}/slow-{side} ] || {wait}; echo {side} >> {tmp_path}/ended")
    commit(project, "start")
    alone = Toy(tmp_path / "alone")
    shutil.copytree(project.folder, alone.folder)
    in_turn = alone.repro()
    early, late = sorted(["left", "right"], key=in_turn.index)
    (tmp_path / f"slow-{early}").touch()

    first = run()

    assert first.message == "5 stages ran, 0 cached"
    assert (tmp_path / "ended").read_text().split() == [early, late, late, early], "side by side"
    order = project.ran[len(in_turn) :]
    assert sorted(order) == sorted(in_turn)
    assert project.lock() == alone.lock()
    assert (project.folder / "sides/.gitignore").read_text() == (alone.folder / "sides/.gitignore").read_text()
    assert {name: each.state_name for name, each in task_runs(first).items()} == dict.fromkeys(DIAMOND, "Completed")

    second = run(max_parallel=5)

    assert second.message == "0 stages ran, 5 cached"
    assert {name: each.state_name for name, each in task_runs(second).items()} == dict.fromkeys(DIAMOND, "Cached")
    assert project.ran[len(in_turn) :] == order
    assert project.lock() == alone.lock()


def test_a_comment_runs_stage_code_alone_and_a_changed_line_what_depends_on_it(project: Toy, tmp_path: Path) -> None:
    write_code = "rm -rf code; mkdir code; grep -v '^#' left.sh > code/left.txt; grep -v '^#' right.sh > code/right.txt"
    pipeline = YAML().load(project.folder / "dvc.yaml")
    for side in ("left", "right"):
        pipeline["stages"][side]["deps"].remove(f"{side}.sh")
        pipeline["stages"][side]["deps"].append(f"code/{side}.txt")
    code = {
        "cmd": f"echo code >> {tmp_path}/ran; {write_code}",
        "deps": ["left.sh", "right.sh"],
        "outs": [{"code": {"cache": False}}],
    }
    pipeline["stages"].insert(0, "code", code)
    YAML().dump(pipeline, project.folder / "dvc.yaml")
    commit(project, "code as a dependency")
    assert run().is_completed()
    before, lock = len(project.ran), project.lock()

    script = project.folder / "left.sh"
    script.write_text("# Why it is so.\n" + script.read_text())
    commented = run()
    assert project.ran[before:] == ["code"]
    assert {name for name, each in task_runs(commented).items() if each.state and each.state.name != "Cached"} == {
        "code"
    }
    changed = set(project.lock().splitlines()) ^ set(lock.splitlines())
    assert all("md5" in line or "size" in line for line in changed)

    before = len(project.ran)
    script.write_text(script.read_text() + "echo more >> $OUT\n")
    assert run().is_completed()
    assert project.ran[before:] == ["code", "left", "join"]


def test_many_short_stages_at_once_lose_no_entry_of_dvc_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Eight processes at a time want DVC's locks; in between, somebody else holds one longer than DVC would wait."""
    project = toy(tmp_path, {f"s{number}": [] for number in range(12)})
    monkeypatch.chdir(project.folder)
    commit(project, "start")
    for text in ("echo one", "echo two"):
        for number in range(12):
            project.script(f"s{number}", text)
        with hold(project.folder / ".dvc/tmp/lock", seconds=5):
            state = run(max_parallel=8)
        assert state.message == "12 stages ran, 0 cached"
        assert project.run("dvc", "status").stdout.strip() == "Data and pipelines are up to date."
    together = project.lock()
    project.run("dvc", "repro", "--force")
    assert together == project.lock()


def test_a_failure_is_told_by_the_last_line_and_stops_only_what_needs_it(project: Toy) -> None:
    project.script("left", "echo looking\necho 'error: data/raw/demo: expected videos/' >&2\nexit 1")

    failed = run()

    assert failed.is_failed()
    assert failed.message == "stage left: error: data/raw/demo: expected videos/; not started: join"
    states = {name: (each.state_name, each.run_count) for name, each in task_runs(failed).items()}
    assert states == {**dict.fromkeys(["source", "right", "aside"], ("Completed", 1)), "left": ("Failed", 1)}
    assert task_runs(failed)["left"].state.message == "error: data/raw/demo: expected videos/"
    assert "Traceback" not in logs(failed)

    project.script("left")
    mended = run()
    assert mended.message == "2 stages ran, 3 cached"
    assert project.ran.count("source") == 1


def test_a_stage_that_was_killed_runs_again(project: Toy, tmp_path: Path) -> None:
    """The kernel does that when memory runs out."""
    project.script("aside", f"[ -e {tmp_path}/once ] || {{ touch {tmp_path}/once; kill -9 $$; }}")

    state = run(targets=["aside"])

    assert state.message == "1 stages ran, 0 cached"
    assert project.ran == ["aside", "aside"]
    assert "its command was killed by SIGKILL" in logs(state)


def test_a_stage_that_takes_too_long_is_stopped(project: Toy) -> None:
    project.set(flows={"stage_timeout_minutes": {"aside": 0.05}})
    project.script("aside", "sleep 3600 & sleep 3600")
    project.script("left", "sleep 4")

    state = run(targets=["aside", "left"])

    assert state.message == "stage aside: stopped after 0.05 minutes, its limit in params.yaml (group flows)"
    assert {name: each.state_name for name, each in task_runs(state).items()} == {
        "source": "Completed",
        "left": "Completed",
        "aside": "TimedOut",
    }
    wait_for(lambda: not [each for each in project.processes() if each.name() == "sleep"])


def test_a_progress_bar_does_not_flood_the_log(project: Toy) -> None:
    steps = "for n in $(seq 2000); do printf '\\r%s of 2000' $n; done"
    project.script("aside", f"{steps}; printf '\\nfirst\\r\\nlast'")

    lines = logs(run(targets=["aside"])).splitlines()

    shown = [line for line in lines if line.endswith("of 2000")]
    assert shown[-1] == "2000 of 2000"
    assert len(shown) <= 3
    assert "first" in lines
    assert [words for words in NOISE if words in "\n".join(lines)] == []  # the stage left a .gitignore to add
    assert any(line.startswith("last") for line in lines)


def test_a_run_tells_first_what_its_networks_will_cost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    project = toy(tmp_path, {"teacher": [], "crossfit": [], "join": ["out/teacher"]})
    monkeypatch.chdir(project.folder)

    # The demo's 800 clips: 384 are labelled for training, in 12 batches an epoch; crossfit leaves a fifth out.
    write_json(TIMINGS / "teacher.json", {"seconds": 61.0})
    told = "to train: 11 networks, 2240 optimiser steps at most (teacher 1 x 240, crossfit 10 x 200)"
    first = logs(run())
    assert 0 < first.index(told) < first.index("teacher reads")
    assert "crossfit.repeats 2 (5 networks each)" in first
    assert "to wait: about 61 s by earlier runs here, one stage after the other; crossfit, join never ran" in first
    assert "to train" not in logs(run())


def test_two_isolated_runs_share_the_cache_and_leave_the_work_tree_alone(project: Toy, tmp_path: Path) -> None:
    """Each becomes an experiment that can be made a branch; a comment in params.yaml survives."""
    project.repro()
    commit(project, "results")
    project.script("right", "sleep 2")
    commit(project, "slow")
    (project.folder / "notes.md").write_text("not committed")
    before = {path: path.read_bytes() for path in files(project)}
    head = project.run("git", "rev-parse", "HEAD").stdout

    one = project.start("--isolated", "--set", "distill.alpha=0.7")
    two = project.start("--isolated", "--set", "distill.alpha=0.9", "--set", "train.epochs=3")
    said = [process.communicate(timeout=PATIENCE)[0] for process in (one, two)]

    assert [one.returncode, two.returncode] == [0, 0], said
    assert "2 stages ran, 3 cached" in said[0]
    assert "without your changes of notes.md" in said[0]
    assert {path: path.read_bytes() for path in files(project)} == before
    assert project.run("git", "rev-parse", "HEAD").stdout == head
    assert project.run("git", "worktree", "list").stdout.count("\n") == 1
    assert not list(project.folder.glob(".dvc/tmp/flows/*/project"))
    names = sorted(project.run("dvc", "exp", "list", "--name-only").stdout.split())
    assert [name[:-7] for name in names] == ["demo-distill.alpha-0.7", "demo-distill.alpha-0.9-train.epochs-3"]
    assert all(name in project.run("dvc", "exp", "show", "--csv").stdout for name in names)

    project.run("dvc", "exp", "branch", names[0], "pr")
    project.run("git", "checkout", "--quiet", "pr")
    params = (project.folder / "params.yaml").read_text()
    assert "alpha: 0.7" in params
    assert params.startswith("# Every knob of the pipeline.")
    project.run("dvc", "checkout")
    assert project.run("dvc", "status").stdout.strip() == "Data and pipelines are up to date."

    again = run(isolated=True, overrides={"distill.alpha": 0.7})
    assert again.message == "0 stages ran, 5 cached", "the branch has it already, so there is no experiment to save"
    with get_client(sync_client=True) as client:
        assert client.read_flow_run(flow_run_id(again)).name == "demo · distill.alpha=0.7"


def test_runs_that_end_at_once_save_each_its_own_experiment(project: Toy) -> None:
    """DVC keeps what it is saving in one place for all work trees of a clone."""
    project.repro()
    commit(project, "results")
    alphas = (0.1, 0.2, 0.3, 0.4)
    with ExitStack() as stack, ThreadPoolExecutor(len(alphas)) as pool:
        trees = [stack.enter_context(isolated_tree(project.folder, {"distill.alpha": alpha})) for alpha in alphas]
        saved = list(pool.map(partial(save_experiment, project.folder), trees, [f"alpha-{a}" for a in alphas]))

    assert [each.experiment for each in saved] == [f"alpha-{alpha}" for alpha in alphas]
    for each, alpha in zip(saved, alphas, strict=True):
        assert f"  alpha: {alpha}\n" in project.run("git", "show", f"{each.sha}:params.yaml").stdout


def test_a_work_tree_goes_even_while_somebody_still_writes_there(project: Toy) -> None:
    writes = "for n in $(seq 20); do mkdir -p .dvc/tmp/late; touch .dvc/tmp/late/$n; sleep 0.1; done"
    with isolated_tree(project.folder, {}) as tree:
        assert "False" in project.run("dvc", "--cd", str(tree.folder), "config", "core.analytics").stdout
        writer = subprocess.Popen(["bash", "-c", writes], cwd=tree.folder, stderr=subprocess.DEVNULL)

    writer.wait(PATIENCE)
    assert not tree.folder.exists()
    assert project.run("git", "worktree", "list").stdout.count("\n") == 1


def test_an_isolated_run_works_in_a_folder_of_a_repository_whatever_its_letters(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = toy(tmp_path / "Prüfung ✓")
    shutil.rmtree(project.folder / ".git")
    top = Project(project.folder.parent)
    top.run("git", "init", "--quiet", "--initial-branch", "main")
    commit(top, "a project among others")
    monkeypatch.chdir(project.folder)
    for key, value in project.environment().items():
        monkeypatch.setenv(key, value)

    first, second = (run(isolated=True, overrides=overrides) for overrides in ({"train.epochs": 2}, {}))

    assert first.is_completed(), first.message
    assert "; experiment " in str(first.message)
    assert second.is_completed(), second.message
    saved = str(first.message).rpartition(" ")[2]
    project.run("dvc", "exp", "apply", saved)
    assert project.repro() == []
    commit(project, "the experiment")
    again = run(isolated=True)
    assert "experiment" not in str(again.message)  # nothing has changed


def test_a_first_isolated_run_keeps_what_git_has_not_seen_yet(project: Toy) -> None:
    """Nothing was ever run or committed here: dvc.lock and the .gitignore files are new."""
    state = run(isolated=True)

    name = str(state.message).rpartition(" ")[2]
    assert state.is_completed(), state.message
    assert not (project.folder / "dvc.lock").exists()
    project.run("dvc", "exp", "apply", name)
    assert project.run("dvc", "status").stdout.strip() == "Data and pipelines are up to date."
    assert (project.folder / "out/join").exists()


@pytest.mark.parametrize("isolated", [False, True])
def test_a_cancelled_run_ends_all_its_processes_and_the_next_goes_on(
    project: Toy, tmp_path: Path, isolated: bool
) -> None:
    """SIGTERM is what a worker sends; the stage ignores it, and has children."""
    arguments = ["--isolated"] if isolated else []
    project.script(
        "left", f"trap '' TERM; sleep 3600 & echo half > .scratch/half; touch {tmp_path}/there; wait; sleep 3600"
    )
    (project.folder / ".scratch").mkdir()
    commit(project, "slow")
    running = project.start(*arguments)
    wait_for((tmp_path / "there").exists)
    wait_for(lambda: [each.name() for each in project.processes()].count("sleep") == 1)

    running.send_signal(signal.SIGTERM)

    wait_for(lambda: not [each for each in project.processes() if each.pid != running.pid])
    output, _ = running.communicate(timeout=PATIENCE)
    assert running.returncode != 0
    assert not list(project.folder.glob(".dvc/tmp/flows/*/project"))
    assert project.run("git", "worktree", "list").stdout.count("\n") == 1
    before = len(project.ran)

    project.script("left", "test -e .scratch/half")
    commit(project, "mended")
    with project.start(*arguments) as again:
        output, _ = again.communicate(timeout=PATIENCE)
    assert again.returncode == 0, output
    ran = project.ran[before:]
    assert {"left", "join"} <= set(ran) <= DIAMOND.keys() - {"source"}, "right and aside, if they were at it too"
    assert f"{len(ran)} stages ran, {len(DIAMOND) - len(ran)} cached" in output


@pytest.mark.parametrize("isolated", [False, True])
def test_nothing_outlives_a_killed_run_and_the_next_goes_on(project: Toy, tmp_path: Path, isolated: bool) -> None:
    """Not even the flow itself has a say in kill -9."""
    arguments = ["--isolated"] if isolated else []
    project.script("left", f"[ -e {tmp_path}/there ] || {{ touch {tmp_path}/there; sleep 3600; }}")
    commit(project, "slow")
    running = project.start(*arguments)
    wait_for((tmp_path / "there").exists)

    running.kill()
    running.communicate(timeout=PATIENCE)

    with project.start(*arguments) as again:
        output, _ = again.communicate(timeout=PATIENCE)
    assert again.returncode == 0, output
    wait_for(lambda: not project.processes())
    assert not list(project.folder.glob(".dvc/tmp/flows/*/project"))
    alone = Toy(tmp_path / "alone")
    if not isolated:
        project.run("git", "clone", "--quiet", ".", str(alone.folder))
        alone.repro()
        assert project.lock() == alone.lock()


def test_two_runs_never_work_in_one_work_tree(project: Toy, tmp_path: Path) -> None:
    project.script("aside", f"touch {tmp_path}/there; while [ ! -e {tmp_path}/go ]; do sleep 0.1; done")
    with project.start("aside") as running:
        wait_for((tmp_path / "there").exists)
        refused = run(targets=["source"])
        (tmp_path / "go").touch()
        output, _ = running.communicate(timeout=PATIENCE)

    assert refused.message == f"another run works in {project.folder}; wait for it, or run isolated"
    assert running.returncode == 0, output


def test_a_stage_that_somebody_runs_by_hand_is_waited_for(project: Toy, tmp_path: Path) -> None:
    project.script("aside", f"touch {tmp_path}/there; sleep 4")
    with subprocess.Popen(["dvc", "repro", "aside"], stdout=subprocess.DEVNULL) as by_hand:
        wait_for((tmp_path / "there").exists)
        state = run(targets=["aside"])

    assert by_hand.returncode == 0
    assert state.message == "0 stages ran, 1 cached"
    assert project.ran == ["aside"]


def test_a_stage_that_wants_a_gpu_says_so_where_there_is_one(
    project: Toy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The tags are what Prefect's concurrency limits count."""
    pipeline = YAML().load(project.folder / "dvc.yaml")
    pipeline["stages"]["right"]["meta"] = {"gpu": True}
    YAML().dump(pipeline, project.folder / "dvc.yaml")
    driver = tmp_path / "driver" / "nvidia-smi"
    driver.parent.mkdir()
    monkeypatch.setenv("PATH", str(driver.parent), prepend=os.pathsep)
    found = []
    for says in ("No devices were found", "GPU 0: Imaginary (UUID: GPU-0)"):
        driver.write_text(f"#!/bin/sh\necho '{says}'\n")
        driver.chmod(0o755)
        found.append({name: set(each.tags) for name, each in task_runs(run(targets=["right"])).items()})

    assert found == [{"source": {"cpu"}, "right": {"cpu"}}, {"source": {"cpu"}, "right": {"gpu"}}]


def test_results_are_pushed_and_no_secret_is_told(project: Toy, tmp_path: Path) -> None:
    """The remote's address is relative to the project, and its password is in DVC's local configuration."""
    project.run("git", "init", "--quiet", "--bare", str(tmp_path / "origin"))
    project.run("git", "remote", "add", "origin", str(tmp_path / "origin"))
    project.run("git", "push", "--quiet", "origin", "main")
    project.run("dvc", "remote", "add", "--default", "store", "../store")
    project.run("dvc", "remote", "add", "--local", "vault", "ssh://nobody@localhost/vault")
    project.run("dvc", "remote", "modify", "--local", "vault", "password", "hunter2")
    project.script("left", "dvc config --show-origin remote.vault.url; dvc remote list")
    commit(project, "remotes")

    state = run(isolated=True, overrides={"train.epochs": 2}, push=True)

    assert state.is_completed(), state.message
    assert task_runs(state)["push"].state_name == "Completed"
    assert len([path for path in (tmp_path / "store/files").rglob("*") if path.is_file()]) == len(DIAMOND)
    assert str(state.message).rpartition(" ")[2] in project.run("dvc", "exp", "list", "origin", "--name-only").stdout
    assert "vault" in logs(state)
    assert "hunter2" not in logs(state)


def test_a_data_set_that_is_in_no_commit_is_told_before_anything_runs(project: Toy) -> None:
    pipeline = YAML().load(project.folder / "dvc.yaml")
    pipeline["stages"]["source"]["deps"].append("data/raw/${dataset.name}")
    YAML().dump(pipeline, project.folder / "dvc.yaml")
    project.set(dataset={"name": "ours"})
    commit(project, "another data set")
    (project.folder / "data/raw/ours").mkdir(parents=True)

    state = run(isolated=True)

    assert state.is_failed()
    assert "data/raw/ours is not in HEAD: `dvc add data/raw/ours`, then commit" in str(state.message)
    assert project.ran == []


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"overrides": {"distill.alpha": 7}, "isolated": True}, "distill.alpha: 7: "),
        ({"overrides": {"distill.alfa": 0.7}, "isolated": True}, "override distill.alfa: unknown key"),
        ({"overrides": {"distill.alpha": 0.7}}, "overrides need `isolated`"),
        ({"targets": ["middle"]}, "dvc.yaml: no stage middle; there are: source, left, right, join, aside"),
        ({"push": True}, "push: DVC has no default remote here"),
    ],
)
def test_a_wrong_parameter_is_refused_before_anything_runs(
    project: Toy, parameters: dict[str, Any], message: str
) -> None:
    state = run(**parameters)

    assert state.is_failed()
    assert message in str(state.message)
    assert project.ran == []
    assert task_runs(state) == {}
