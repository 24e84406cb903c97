"""The project at a git commit, or as it lies in the work tree: its files, its pipeline, and what DVC keeps for it.

Nothing here writes to the project, runs a stage or needs a network, but for `Revision.fetch`.
"""

import json
import os
import re
import subprocess
from collections.abc import Iterable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any, ClassVar, TypeVar

import yaml
from ruamel.yaml.resolver import implicit_resolvers

from cpfd.errors import CpfdError, disk_told
from cpfd.params.load import parse_yaml
from cpfd.paths import LOCK_FILE, PARAMS_FILE, PIPELINE_FILE
from cpfd.reports.report import Report

R = TypeVar("R", bound=Report)
WORK_TREE = "work tree"
ARTIFACT = "student"
"""The name of the exported student among the artifacts of dvc.yaml."""
VERSION = re.compile(r"v\d+\.\d+\.\d+")
"""What a registered version of it is called."""

_HASH = re.compile(r"[0-9a-f]{32}(\.dir)?")


class _Loader(yaml.CSafeLoader):  # type: ignore[misc]
    """Ten times as fast as ruamel.yaml, which DVC reads with, to the same values: 1e-5 is a number, `off` a word."""

    yaml_implicit_resolvers: ClassVar[dict[str, Any]] = {}


for _versions, _tag, _pattern, _first in implicit_resolvers:
    if (1, 2) in _versions:
        _Loader.add_implicit_resolver(_tag, _pattern, _first)


@dataclass(frozen=True)
class Revision:
    """The project in the current folder, at one commit; `commit` is None for the work tree.

    `name` is what the user called it. Open one with `open_revision`.
    """

    repo: Any
    name: str
    commit: str | None

    def read(self, path: Path) -> bytes | None:
        """The bytes of a file that git tracks, in the work tree of any file; None where there is none."""
        return self.read_all([path]).get(path)

    def read_all(self, paths: Iterable[Path]) -> dict[Path, bytes]:
        """What `read` gives for each of many files, those left out that are not there; in one call of git."""
        paths = list(paths)
        if self.commit is None:
            return {path: path.read_bytes() for path in paths if path.is_file()}
        asked = "".join(f"{self.commit}:./{path.as_posix()}\n" for path in paths)
        shown = subprocess.run(["git", "cat-file", "--batch"], input=asked.encode(), capture_output=True, check=True)
        found: dict[Path, bytes] = {}
        rest = shown.stdout
        for path in paths:
            head, _, rest = rest.partition(b"\n")
            if not head.endswith(b" missing"):
                _, kind, size = head.split()
                content, rest = rest[: int(size)], rest[int(size) + 1 :]
                found |= {path: content} if kind == b"blob" else {}
        return found

    def files(self, folder: Path) -> list[Path]:
        """The files below a folder that git tracks; in the work tree, those that it does not ignore."""
        if self.commit is None:
            listed = git("ls-files", "--cached", "--others", "--exclude-standard", "-z", "--", f"{folder}/")
        else:
            listed = git("ls-tree", "-r", "--name-only", "-z", self.commit, "--", f"{folder}/")
        return [Path(path) for path in listed.split("\0") if path]

    def json(self, path: Path) -> Any | None:
        """The content of a JSON file that git tracks; None where there is none."""
        content = self.read(path)
        try:
            return None if content is None else json.loads(content)
        except ValueError as error:
            raise CpfdError(f"{path} of {self.name}: not valid JSON: {error}") from None

    def report(self, kind: type[R]) -> R | None:
        """A report that git tracks; None where there is none.

        Raises CpfdError where it was written by another version of CPFD.
        """
        content = self.read(kind.path)
        return None if content is None else kind.parse(content, f"{kind.path} of {self.name}")

    def yaml(self, path: Path) -> Any:
        """The content of a YAML file that git tracks; an empty mapping where there is none."""
        content = self.read(path)
        try:
            return {} if content is None else load_yaml(content) or {}
        except yaml.YAMLError as error:
            raise CpfdError(f"{path} of {self.name}: not valid YAML: {error}") from None

    @cached_property
    def params(self) -> Mapping[str, Any]:
        """The content of params.yaml, not checked against the schema; raises CpfdError where it is no mapping."""
        name = f"{PARAMS_FILE} of {self.name}"
        raw = self.read(PARAMS_FILE)
        content = {} if raw is None else parse_yaml(raw, name)
        if not isinstance(content, Mapping):
            raise CpfdError(f"{name}: {content!r}, but expected groups of keys as `cpfd params` lists them")
        return content

    @cached_property
    def stages(self) -> Mapping[str, Mapping[str, Any]]:
        """Every stage of dvc.yaml by name, `foreach`, `matrix` and `${}` resolved: cmd, deps, params, outs, metrics."""
        # What `dvc repro` resolves dvc.yaml with; building DVC's stage objects as well would take a second.
        from dvc.exceptions import DvcException
        from dvc.parsing import DataResolver
        from dvc.schema import COMPILED_MULTI_STAGE_SCHEMA
        from voluptuous import Invalid

        definition = self.yaml(PIPELINE_FILE)
        try:
            COMPILED_MULTI_STAGE_SCHEMA(definition)
            with nullcontext() if self.commit is None else self.repo.switch(self.commit):
                resolver = DataResolver(self.repo, self.repo.root_dir, definition)
                return {name: resolver.resolve_one(name)[name] for name in resolver.get_keys()}
        except (DvcException, Invalid) as error:
            raise CpfdError(f"{PIPELINE_FILE} of {self.name}: {error}") from None

    @cached_property
    def lock(self) -> Mapping[str, Mapping[str, Any]]:
        """What dvc.lock records of each stage's last run: cmd, deps, params, outs."""
        return dict(self.yaml(LOCK_FILE).get("stages") or {})

    @cached_property
    def hashes(self) -> Mapping[str, str]:
        """The hash of every path that DVC tracks, from dvc.lock and the .dvc files; folders' end with `.dir`."""
        entries = [out for stage in self.lock.values() for out in stage.get("outs", [])]
        found = {entry["path"]: entry["md5"] for entry in entries if "md5" in entry}
        for file in self._dvc_files():
            for out in self.yaml(file).get("outs") or []:
                if "md5" in out:
                    found[(PurePosixPath(file.as_posix()).parent / out["path"]).as_posix()] = out["md5"]
        return found

    def recorded(self, path: Path) -> str:
        """The hash of a path that DVC tracks; raises CpfdError where it tracks no such path."""
        if path.as_posix() not in self.hashes:
            raise CpfdError(f"{LOCK_FILE} of {self.name} records no {path}: run `dvc repro` and commit {LOCK_FILE}")
        return self.hashes[path.as_posix()]

    def hash_of(self, path: Path) -> str | None:
        """The hash of a path that DVC tracks, or of one inside a tracked folder that is in the cache."""
        name = path.as_posix()
        if name in self.hashes:
            return self.hashes[name]
        for parent in path.parents:
            if parent.as_posix() in self.hashes:
                inside = self.listing(parent)
                return None if inside is None else inside.get(path.relative_to(parent).as_posix())
        return None

    def listing(self, folder: Path) -> dict[str, str] | None:
        """Hash of each file below a tracked folder, by its path relative to it; None where the cache lacks it."""
        return self.files_of(self.hashes.get(folder.as_posix()))

    def files_of(self, md5: str | None) -> dict[str, str] | None:
        """Hash of each file in the folder of that hash, by its path relative to it; None where the cache lacks it.

        Raises CpfdError where one of these paths leads out of the folder.
        """
        index = self.in_cache(md5)
        if index is None:
            return None
        found = {entry["relpath"]: entry["md5"] for entry in json.loads(index.read_bytes())}
        for name in found:
            refuse_outside(name, f"the list of files {md5} of {self.name}")
        return found

    def cached(self, path: Path) -> Path | None:
        """Where DVC's cache keeps a tracked file, to be read only; None where it does not."""
        return self.in_cache(self.hash_of(path))

    def fetch(self, path: Path, target: Path) -> None:
        """Copy a tracked file or folder to `target`, from the cache or else the DVC remote.

        Raises CpfdError where neither has it, the remote breaks off, or the disk is full.
        """
        from dvc.exceptions import DvcException
        from dvc_data.index import DataIndexDirError

        try:
            with disk_told(target):
                self._files.get(path.as_posix(), str(target), recursive=True)
        except RecursionError:  # DVC's file system walks in circles where a list of files has a path with `..`
            raise CpfdError(
                f"{path} of {self.name}: its list of files names some outside of it; nothing was fetched"
            ) from None
        except (DvcException, DataIndexDirError, OSError) as error:
            raise CpfdError(
                f"{path} of {self.name} is neither in DVC's cache nor in its remote ({error});"
                " `dvc push` it from where it was made"
            ) from error
        except CpfdError:
            raise
        except Exception as error:  # each kind of remote fails in a way of its own
            raise CpfdError(f"{path} of {self.name} cannot be fetched from DVC's remote: {error}; try again") from error

    @cached_property
    def _files(self) -> Any:
        """DVC's file system at this revision; opening it builds DVC's index, which takes seconds."""
        from dvc.api import DVCFileSystem

        return DVCFileSystem(self.repo.root_dir, rev=self.commit)

    def in_cache(self, md5: str | None) -> Path | None:
        """Where DVC's cache keeps what has that hash, of a folder its list of files; None where it does not."""
        # dvc.lock may come from a stranger's branch, and a hash becomes a path.
        if md5 is None or not _HASH.fullmatch(md5):
            return None
        path = Path(self.repo.cache.local.oid_to_path(md5))
        return path if path.is_file() else None

    def _dvc_files(self) -> list[Path]:
        tree = ["ls-files", "-z"] if self.commit is None else ["ls-tree", "-r", "-z", "--name-only", self.commit]
        listed = git(*tree).split("\0")
        if self.commit is None:  # `cpfd import` writes one that is not yet added
            listed += git("ls-files", "--others", "--exclude-standard", "-z").split("\0")
        return [Path(name) for name in listed if name.endswith(".dvc") and name != ".dvc"]


def open_revision(name: str | None) -> Revision:
    """Open a revision: anything that git resolves, a DVC experiment's name, or None for the work tree.

    Raises CpfdError where there is no such revision, or where the current folder is not the root of a DVC project.
    """
    from dvc.exceptions import DvcException
    from dvc.repo import Repo
    from dvc.scm import RevError, resolve_rev

    try:
        repo = Repo(".")
        if Path(repo.root_dir) != Path.cwd() or repo.config["core"].get("no_scm"):
            raise CpfdError(f"run this in the root of a CPFD project ({repo.root_dir}), which git must know as well")
        commit = None if name is None else git("rev-parse", f"{resolve_rev(repo.scm, name)}^{{commit}}").strip()
    except RevError:
        raise CpfdError(
            f"{name}: neither a revision that git knows nor a DVC experiment;"
            " `git log` and `dvc exp list` show what there is"
        ) from None
    except DvcException as error:
        raise CpfdError(f"not a CPFD project: {error}") from None
    return Revision(repo, WORK_TREE if name is None else name, commit)


def open_version(version: str) -> Revision:
    """Open the commit that is registered as a version of the student; raises CpfdError where this clone has none."""
    try:
        return open_revision(version_tag(version))
    except CpfdError as error:
        raise CpfdError(
            f"no student {version} is registered in this clone: `git fetch --tags` brings what others have registered,"
            " `cpfd models` lists it"
        ) from error


def artifact_name() -> str:
    """What GTO and `dvc artifacts get` call the student: `student`, or `clips:student` in a folder of a repository."""
    folder = git("rev-parse", "--show-prefix").strip().rstrip("/")
    return f"{folder}:{ARTIFACT}" if folder else ARTIFACT


def tag_prefix() -> str:
    """What all tags of the registry begin with: `student`, or `clips=student` in a folder of a repository."""
    return artifact_name().replace(":", "=")


def version_tag(version: str) -> str:
    """The tag that registers a version of the student: `student@v1.0.0`."""
    return f"{tag_prefix()}@{version}"


def bring(revision: Revision, folder: Path, names: Iterable[str], target: Path) -> None:
    """Make files of a folder readable below `target`: links into DVC's cache, else fetched copies.

    A folder of the work tree that DVC does not track is read where it lies. Raises CpfdError where a name leads out of
    the folder, by itself or as a symbolic link, or the folder's own, which has the data set's name, out of the project.
    """
    refuse_outside(folder.as_posix(), revision.name)
    listing = revision.listing(folder) or {}
    untracked = revision.commit is None and folder.as_posix() not in revision.hashes
    for name in sorted(set(names)):
        refuse_outside(name, f"{folder} of {revision.name}")
        if untracked:
            refuse_outside(os.path.relpath(Path(folder, name).resolve(), folder.resolve()), f"{folder / name}, a link,")
        file = folder / name if untracked else revision.in_cache(listing.get(name))
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        if file is None:
            revision.fetch(folder / name, target / name)
        else:
            (target / name).symlink_to(file.absolute())


def refuse_outside(name: str, where: str) -> None:
    """Raise CpfdError where a path that should lie in a folder leads out of it: `where` may be a stranger's branch."""
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts:
        raise CpfdError(f"{where} names {name!r}, which is outside of its folder: do not trust that revision")


def load_yaml(content: bytes) -> Any:
    """The content of YAML that DVC wrote or reads; raises yaml.YAMLError."""
    return yaml.load(content, Loader=_Loader)


def git(*arguments: str, **options: Any) -> str:
    """Run git and return what it prints; raises CpfdError with git's own message where it fails."""
    done = subprocess.run(["git", *arguments], capture_output=True, text=True, check=False, **options)
    if done.returncode:
        raise CpfdError(f"git {arguments[0]}: {done.stderr.strip() or f'exit code {done.returncode}'}")
    return done.stdout
