"""Which code and which libraries changed, and for which stages."""

from collections import Counter
from collections.abc import Collection
from pathlib import PurePosixPath
from typing import Any

from cpfd.paths import CODE, LOCK_FILE, PARAMS_FILE, PIPELINE_FILE
from cpfd.project.code import code_files
from cpfd.project.revision import Revision, git

_CHANGES = {"A": "added", "D": "removed"}


def changed_code(base: Revision, head: Revision) -> dict[str, list[dict[str, Any]]]:
    """Code and libraries that differ between `base`, a commit, and `head` for any stage, and a count of other files.

    `by_file` has `file` (or the library), `change` ("changed", "added", "removed", or versions `2.4.5 -> 2.4.6`) and
    `stages` in the pipeline's order; dvc.yaml is one with the stages that it defines otherwise. What no stage would
    notice, such as a comment, is not there. `elsewhere` has `folder` (the topmost, "." for none) and `files`, how many
    others changed. Left out is what the other sections of a review are about: params.yaml, dvc.lock, .dvc files and
    outputs that git holds; and the .gitignore files in folders, which DVC writes. Raises CpfdError where a dvc.yaml
    cannot be resolved.
    """
    told_elsewhere = {str(PARAMS_FILE), str(LOCK_FILE), *base.hashes, *head.hashes}
    files = _changed_files(base, head)
    by_file = [
        {"file": name, "change": change, "stages": _users(base, head, name, families)}
        for (name, change), families in sorted(_changed_lines(base, head).items())
    ]
    for listed in (_listed_files(base, head) & set(files)) - {row["file"] for row in by_file} - told_elsewhere:
        by_file.append({"file": listed, "change": files[listed], "stages": _users(base, head, listed)})
    if str(PIPELINE_FILE) in files:
        names = [*head.stages, *(stage for stage in base.stages if stage not in head.stages)]
        stages = [stage for stage in names if base.stages.get(stage) != head.stages.get(stage)]
        by_file += [{"file": str(PIPELINE_FILE), "change": files[str(PIPELINE_FILE)], "stages": stages}] * bool(stages)
    told = {row["file"] for row in by_file} | told_elsewhere
    elsewhere = Counter(
        PurePosixPath(file).parts[0] if "/" in file else "."
        for file in files
        if file not in told and not file.endswith((".dvc", "/.gitignore")) and not file.startswith(f"{CODE}/")
    )
    return {
        "by_file": sorted(by_file, key=lambda row: row["file"]),
        "elsewhere": [{"folder": folder, "files": number} for folder, number in sorted(elsewhere.items())],
    }


def _changed_lines(base: Revision, head: Revision) -> dict[tuple[str, str], set[str]]:
    """Families of stages by what changed for them in code/ and how: a file's name, or a library's."""
    found: dict[tuple[str, str], set[str]] = {}
    old, new = ({stage: _lines(text) for stage, text in code_files(side).items()} for side in (base, head))
    for stage in {**new, **old}:
        was, now = old.get(stage, {}), new.get(stage, {})
        for name in {**was, **now}:
            if was.get(name) != now.get(name):
                change = "added" if name not in was else "removed" if name not in now else "changed"
                if change == "changed" and "/" not in name:
                    change = f"{was[name]} -> {now[name]}"
                found.setdefault((name, change), set()).add(stage)
    return found


def _lines(text: str) -> dict[str, str]:
    """Digest of each file, and version of each library, of a file in code/."""
    parts = (line.replace("==", " ").split() for line in text.splitlines())
    return dict(parts)


def _family(stage: str) -> str:
    return stage.partition("@")[0]


def _listed_files(base: Revision, head: Revision) -> set[str]:
    """Files that a stage lists under `deps` itself, as stages of other projects may do."""
    return {dep for side in (base, head) for stage in side.stages.values() for dep in stage.get("deps", [])}


def _users(base: Revision, head: Revision, file: str, families: Collection[str] = ()) -> list[str]:
    """The stages of head that are of the families or list the file as a dependency; where there is none, of base."""
    sides = (
        [stage for stage, it in side.stages.items() if _family(stage) in families or file in it.get("deps", [])]
        for side in (head, base)
    )
    return next(filter(None, sides), [])


def _changed_files(base: Revision, head: Revision) -> dict[str, str]:
    """What was done to each file below the current folder that git knows or should know."""
    commits = [revision.commit for revision in (base, head) if revision.commit is not None]
    listed = git("diff", "--relative", "--name-status", "--no-renames", "-z", *commits, "--").split("\0")
    files = {file: _CHANGES.get(status, "changed") for status, file in zip(listed[::2], listed[1::2], strict=False)}
    if head.commit is None:
        untracked = git("ls-files", "--others", "--exclude-standard", "-z").split("\0")
        files |= dict.fromkeys(filter(None, untracked), "added")
    return files
