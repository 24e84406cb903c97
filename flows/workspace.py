"""Where a run works: in the project's own work tree, or in one of its own that is gone afterwards.

Its locks (cpfd.locks) are inherited by the stages that run in it, so it stays taken until the last of them has ended.
"""

import hashlib
import itertools
import json
import os
import re
import secrets
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from cpfd.errors import CpfdError
from cpfd.files import SCRATCH, remove
from cpfd.locks import locked, try_lock
from cpfd.params.load import parse_yaml
from cpfd.params.problems import check_params, known_keys
from cpfd.params.schema import Params
from cpfd.paths import PARAMS_FILE, TIMINGS
from cpfd.project.revision import git

_PLACES = Path(".dvc", "tmp", "flows")
_LINKS = (SCRATCH, TIMINGS)
"""Folders of an isolated work tree that are links to what outlives it."""
_PATIENCE = 20.0
"""Seconds that a run waits for the processes of one that was killed a moment ago."""
_SAVE_PATIENCE = 300.0
"""Seconds that a finished run waits for its turn to save its experiment."""


@dataclass(frozen=True)
class Workspace:
    """A work tree that a run has for itself, as long as any process holds the descriptors of its locks open."""

    folder: Path
    locks: tuple[int, ...]


@dataclass(frozen=True)
class Commit:
    """What a run leaves in git: `ref` is that of its experiment, None where the run has changed nothing."""

    sha: str
    ref: str | None

    @property
    def experiment(self) -> str | None:
        """The experiment's name."""
        return self.ref and self.ref.rpartition("/")[2]


def parse_overrides(changes: Iterable[str]) -> dict[str, Any]:
    """Overrides out of KEY=VALUE, the value as in YAML; raises CpfdError that names what is not of that form."""
    overrides = {}
    for change in changes:
        key, equals, value = change.partition("=")
        if not equals:
            raise CpfdError(f"{change}: expected KEY=VALUE, such as distill.alpha=0.7")
        overrides[key] = parse_yaml(value.encode(), key)
    return overrides


def changed_params(project: Path, overrides: Mapping[str, Any], committed: bool) -> Params:
    """The parameters of a run, from the last commit or the work tree as it is.

    Raises CpfdError naming key, value and what is allowed.
    """
    try:
        path = f"HEAD:./{PARAMS_FILE}"
        raw = git("show", path, cwd=project).encode() if committed else (project / PARAMS_FILE).read_bytes()
    except FileNotFoundError:
        raise CpfdError(f"{PARAMS_FILE}: no such file in {project}; run this in the root of a CPFD project") from None
    content = parse_yaml(raw, str(PARAMS_FILE))
    check_params(content)
    for key in overrides:
        if key not in known_keys():
            raise CpfdError(f"override {key}: unknown key; `cpfd params` lists those that exist")
    return check_params(_overridden(content, overrides), Path("override"))


@contextmanager
def work_tree(project: Path) -> Iterator[Workspace]:
    """The project itself; raises CpfdError where another run works in it."""
    refusal = f"another run works in {project}; wait for it, or run isolated"
    with locked(project / _PLACES / "work-tree", patience=_PATIENCE, refusal=refusal) as descriptor:
        yield Workspace(project, (descriptor,))


@contextmanager
def isolated_tree(project: Path, overrides: Mapping[str, Any]) -> Iterator[Workspace]:
    """A git work tree of HEAD with the project's cache and the outputs of its dvc.lock, and with changed parameters.

    What a run leaves unfinished stays in the project's `.scratch`, for the next run with the same overrides, and the
    times of its stages in the project's reports/timings. What killed runs have left of their work trees is removed.
    """
    with committed_tree(project) as tree, _scratch(project, overrides) as (scratch, scratch_descriptor):
        rewrite_params(tree.folder / PARAMS_FILE, overrides)
        for link, target in zip(_LINKS, (scratch, project / TIMINGS), strict=True):
            target.mkdir(parents=True, exist_ok=True)
            (tree.folder / link).parent.mkdir(exist_ok=True)
            (tree.folder / link).symlink_to(target, target_is_directory=True)
        dvc(tree.folder, "checkout", "--allow-missing")
        yield Workspace(tree.folder, (*tree.locks, scratch_descriptor))


@contextmanager
def committed_tree(project: Path, commit: str = "HEAD") -> Iterator[Workspace]:
    """A git work tree of a commit with the project's DVC settings and cache, and no data; gone afterwards."""
    _clear_abandoned(project)
    place, descriptor = _lock_first_free(project / _PLACES / str(number) for number in itertools.count(1))
    try:
        _clear(project, place)
        git("worktree", "add", "--quiet", "--detach", str(place / "project"), commit, cwd=project)
        folder = place / "project" / git("rev-parse", "--show-prefix", cwd=project).strip()
        _configure(project, folder)
        yield Workspace(folder, (descriptor,))
    finally:
        _clear(project, place)
        os.close(descriptor)


def experiment_name(dataset: str, overrides: Mapping[str, Any]) -> str:
    """A name for the experiment of a run: data set, what was changed, and six digits that make it unique."""
    parts = [dataset, *(f"{key}-{value}" for key, value in overrides.items())]
    words = re.sub(r"[^A-Za-z0-9._]+", "-", "-".join(parts)).strip("-.")
    return f"{re.sub(r'[.]{2,}', '.', words)[:60].rstrip('-.')}-{secrets.token_hex(3)}"


def save_experiment(project: Path, workspace: Workspace, name: str) -> Commit:
    """Keep the state of a project's isolated work tree as a DVC experiment, which the project then has too.

    Where nothing differs from the commit that the run started from, that commit is what is returned.
    """
    for link in _LINKS:  # nothing runs there any more, and a link to another folder is no result
        (workspace.folder / link).unlink(missing_ok=True)
    if not uncommitted(workspace.folder):
        return Commit(git("rev-parse", "HEAD", cwd=workspace.folder).strip(), None)
    new = git("ls-files", "--others", "--exclude-standard", "-z", cwd=workspace.folder).split("\0")
    options = [f"--include-untracked={path}" for path in new if path]
    # DVC notes what it is saving in refs/exps/exec, which all work trees of a clone share: two at once fail, or worse.
    refusal = f"{project / _PLACES / 'save'}: locked by runs that save their experiments; retry this one"
    with locked(project / _PLACES / "save", patience=_SAVE_PATIENCE, refusal=refusal):
        dvc(workspace.folder, "exp", "save", "--name", name, *options)
    saved = git("for-each-ref", "--format=%(objectname) %(refname)", f"refs/exps/*/*/{name}", cwd=workspace.folder)
    return Commit(*saved.split())


def require_remote(project: Path, what: str) -> None:
    """Raise CpfdError where DVC has no default remote, which `what` needs."""
    from dvc.repo import Repo

    with Repo(str(project)) as repo:
        if not repo.config["core"].get("remote"):
            raise CpfdError(f"{what}: DVC has no default remote here; `dvc remote add --default` sets one")


def has_origin(project: Path) -> bool:
    """Whether git knows a remote of that name."""
    return "origin" in git("remote", cwd=project).split()


def fetch_commit(project: Path, commit: Commit) -> None:
    """Have a commit here that a run in another clone has pushed to `origin`."""
    if commit.ref is None or git("for-each-ref", commit.ref, cwd=project):
        return
    git("fetch", "--quiet", "origin", f"{commit.ref}:{commit.ref}", cwd=project)


def uncommitted(project: Path) -> list[str]:
    """Files that an isolated run does not see as they are: it starts from the last commit."""
    listed = git("status", "--porcelain", "-z", "--", ".", cwd=project).split("\0")
    prefix = git("rev-parse", "--show-prefix", cwd=project).strip()  # git tells paths from the root of the repository
    return [line[3:].removeprefix(prefix) for line in listed if line]


def dvc(folder: Path, *arguments: str) -> None:
    """Run a command of DVC; raises CpfdError with its error, or else its last line, where it fails."""
    command = [sys.executable, "-m", "dvc", *arguments]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        lines = (done.stderr or done.stdout).strip().splitlines() or [f"exit code {done.returncode}"]
        errors = [line.removeprefix("ERROR: ") for line in lines if line.startswith("ERROR: ")]
        raise CpfdError(f"dvc {arguments[0]}: {(errors or lines)[-1]}")


def _lock_first_free(folders: Iterable[Path]) -> tuple[Path, int]:
    """The first of these folders that no other run has, and the descriptor of its lock."""
    return next((folder, descriptor) for folder in folders if (descriptor := try_lock(folder)) is not None)


def _clear_abandoned(project: Path) -> None:
    """Remove the work trees that killed runs have left."""
    for place in (project / _PLACES).glob("[0-9]*"):
        descriptor = try_lock(place)
        if descriptor is not None:
            _clear(project, place)
            os.close(descriptor)


def _clear(project: Path, place: Path) -> None:
    """Remove the work tree in a place, if there is one."""
    deadline = time.monotonic() + _PATIENCE
    while True:
        try:
            remove(place / "project")
            break
        except OSError:  # what a stage has left running may still write there
            if time.monotonic() >= deadline:
                raise
            time.sleep(0.2)
    git("worktree", "prune", cwd=project)


@contextmanager
def _scratch(project: Path, overrides: Mapping[str, Any]) -> Iterator[tuple[Path, int]]:
    """A folder for unfinished work, and the descriptor of its lock.

    It is kept for the next run with the same overrides unless the block succeeds. Two runs at once never share one:
    both would write the same checkpoint.
    """
    key = hashlib.sha256(json.dumps(overrides, sort_keys=True, default=str).encode()).hexdigest()[:12]
    isolated = project / SCRATCH / "isolated"
    folder, descriptor = _lock_first_free(isolated / f"{key}-{number}" for number in itertools.count(1))
    try:
        yield folder.absolute(), descriptor
        remove(folder)
    finally:
        os.close(descriptor)


def _configure(project: Path, folder: Path) -> None:
    """Give a work tree the project's cache, remotes and local settings, their relative paths resolved."""
    from configobj import ConfigObj
    from dvc.config import Config, _pack_named, merge
    from dvc.repo import Repo

    with Repo(str(project)) as repo:
        settings: dict[str, Any] = {}
        for level in ("repo", "local"):
            merge(settings, repo.config.read(level))
        settings["cache"]["dir"] = repo.cache.local_cache_dir
    # DVC sends statistics and looks for updates in processes that outlive its commands, and so the work tree.
    settings["core"] = {**settings.get("core", {}), "analytics": False, "check_update": False}
    path = folder / ".dvc" / "config.local"
    path.touch(mode=0o600)  # it may hold what gives access to a remote
    # As Config.edit would, whose ASCII has no letter for many a folder.
    written = ConfigObj(_pack_named(Config._map_dirs(settings, str)), encoding="utf-8")
    with path.open("wb") as file:
        written.write(file)


def rewrite_params(path: Path, overrides: Mapping[str, Any]) -> None:
    """Set keys of a params.yaml, comments kept."""
    if not overrides:
        return
    yaml = YAML()
    yaml.preserve_quotes = True
    yaml.width = 10_000
    content = yaml.load(path)
    yaml.dump(_overridden(content, overrides), path)


def _overridden(content: Any, overrides: Mapping[str, Any]) -> Any:
    for key, value in overrides.items():
        group, _, field = key.partition(".")
        content[group][field] = value
    return content
