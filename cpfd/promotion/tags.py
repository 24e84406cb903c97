"""The tags of the registry: fetched from git's remote, written, and pushed all together or not at all."""

import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from cpfd.errors import CpfdError
from cpfd.locks import locked
from cpfd.project.revision import git, tag_prefix
from cpfd.promotion.events import current_assignments, read_events

PATIENCE = 600
"""Seconds that a promotion waits for another in the same clone; most of one is reading the model from the remote."""


@contextmanager
def lock_registry() -> Iterator[None]:
    """Let one promotion at a time touch this clone's tags; a second waits for the first.

    Raises CpfdError where that takes longer than PATIENCE.
    """
    folder = Path(git("rev-parse", "--git-common-dir").strip()) / "cpfd-registry"
    with locked(folder, patience=PATIENCE, refusal=f"another promotion is at work in {folder}: wait for it to end"):
        yield


def fetch_tags() -> str | None:
    """Bring the remote's registry tags here; returns the remote's name, None where git has no remote."""
    remotes = git("remote").split()
    if not remotes:
        return None
    remote = "origin" if "origin" in remotes else remotes[0]
    tags = [f"refs/tags/{pattern}" for pattern in _patterns()]
    git("fetch", "--quiet", "--no-tags", remote, *(f"{each}:{each}" for each in tags))
    there = {line.split("\t")[1] for line in git("ls-remote", "--refs", remote, *tags).splitlines()}
    here = set(git("for-each-ref", "--format=%(refname)", *tags).split())
    if here - there:
        names = sorted(tag.removeprefix("refs/tags/") for tag in here - there)
        raise CpfdError(
            f"{', '.join(names)} is in this clone alone, left by a promotion that was cut off: keep it with"
            f" `git push --atomic {remote} {' '.join(names)}`, or drop it with `git tag -d {' '.join(names)}`"
        )
    return remote


def publish(write: Callable[[], list[str]], version: str, stage: str, remote: str | None) -> list[str]:
    """Make tags by `write`, which put `version` in `stage`, and push them together, or leave none of them behind."""
    from gto.exceptions import GTOException
    from scmrepo.exceptions import SCMError

    before = _registry_tags()
    _wait_for_the_next_second()
    try:
        tags = write()
        if current_assignments(read_events())[stage].version != version:
            raise CpfdError(f"the clock of this machine is behind the last assignment of {stage}: set it, try again")
        if remote is not None:
            _push(remote, tags)
    except BaseException as error:
        _drop(_registry_tags() - before)
        if isinstance(error, GTOException | SCMError):
            raise CpfdError(f"git does not take the tag: {error}") from error
        raise
    return tags


def _push(remote: str, tags: list[str]) -> None:
    pushed = subprocess.run(
        ["git", "push", "--quiet", "--atomic", remote, *(f"refs/tags/{tag}" for tag in tags)],
        capture_output=True,
        text=True,
        check=False,
    )
    if pushed.returncode == 0:
        return
    taken = git("ls-remote", "--refs", remote, *(f"refs/tags/{tag}" for tag in tags)).strip()
    if taken:
        raise CpfdError(
            f"somebody else was quicker: {', '.join(tags)} is in {remote} already, and nothing of this promotion is;"
            f" `git fetch {remote} --tags` and `cpfd models` show by whom"
        )
    raise CpfdError(f"git push to {remote} failed, nothing is promoted: {pushed.stderr.strip()}")


def _registry_tags() -> set[str]:
    return set(git("tag", "--list", *_patterns()).split())


def _patterns() -> list[str]:
    return [f"{tag_prefix()}@*", f"{tag_prefix()}#*"]


def _drop(tags: set[str]) -> None:
    if tags:
        git("tag", "--delete", *sorted(tags))


def _wait_for_the_next_second() -> None:
    """Tags carry whole seconds, and DVC takes the last tag by time: no two may carry the same."""
    if events := read_events():
        ahead = (events[-1].when - datetime.now(UTC)).total_seconds() + 1
        time.sleep(min(max(ahead, 0), 2))
