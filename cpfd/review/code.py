"""Which changed files are code of which stages."""

from collections import Counter
from collections.abc import Iterable
from pathlib import PurePosixPath
from typing import Any

from cpfd.params import PARAMS_FILE, PIPELINE_FILE
from cpfd.revisions import LOCK_FILE, Revision, git

_CHANGES = {"A": "added", "D": "removed"}


def changed_code(base: Revision, head: Revision) -> dict[str, list[dict[str, Any]]]:
    """Files that differ between `base`, a commit, and `head`: those that stages depend on, and a count of the others.

    `by_file` has `file`, `change` ("changed", "added" or "removed") and `stages` in the pipeline's order; dvc.yaml is
    one with the stages that it defines otherwise. `elsewhere` has `folder` (the topmost, "." for none) and `files`, how
    many. Left out is what the other sections of a review are about: params.yaml, dvc.lock, .dvc files and outputs that
    git holds; and the .gitignore files in folders, which DVC writes. Raises CpfdError where a dvc.yaml cannot be
    resolved.
    """
    told_elsewhere = {str(PARAMS_FILE), str(LOCK_FILE), *base.hashes, *head.hashes}
    by_file, elsewhere = [], Counter[str]()
    for file, change in sorted(_changed_files(base, head).items()):
        if file in told_elsewhere or file.endswith((".dvc", "/.gitignore")):
            continue
        stages = _users(head, file) or _users(base, file)  # a file that has gone was used before
        if file == str(PIPELINE_FILE):
            names = [*head.stages, *(name for name in base.stages if name not in head.stages)]
            stages = [name for name in names if base.stages.get(name) != head.stages.get(name)]
        if stages:
            by_file.append({"file": file, "change": change, "stages": stages})
        else:
            elsewhere[PurePosixPath(file).parts[0] if "/" in file else "."] += 1
    return {
        "by_file": by_file,
        "elsewhere": [{"folder": folder, "files": files} for folder, files in sorted(elsewhere.items())],
    }


def families(stages: Iterable[str]) -> list[str]:
    """Name stages in few words, in their order: `student (12)` for the twelve `student@...`, others by their name."""
    members: dict[str, list[str]] = {}
    for stage in stages:
        members.setdefault(stage.partition("@")[0], []).append(stage)
    return [names[0] if len(names) == 1 else f"{family} ({len(names)})" for family, names in members.items()]


def _users(revision: Revision, file: str) -> list[str]:
    """The stages that depend on a file of git, by itself or by a folder that holds it."""
    return [
        stage
        for stage, definition in revision.stages.items()
        if any(file == dep or file.startswith(f"{dep}/") for dep in definition.get("deps", []))
    ]


def _changed_files(base: Revision, head: Revision) -> dict[str, str]:
    """What was done to each file below the current folder that git knows or should know."""
    commits = [revision.commit for revision in (base, head) if revision.commit is not None]
    listed = git("diff", "--relative", "--name-status", "--no-renames", "-z", *commits, "--").split("\0")
    files = {file: _CHANGES.get(status, "changed") for status, file in zip(listed[::2], listed[1::2], strict=False)}
    if head.commit is None:
        untracked = git("ls-files", "--others", "--exclude-standard", "-z").split("\0")
        files |= dict.fromkeys(filter(None, untracked), "added")
    return files
