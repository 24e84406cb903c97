"""Locks on folders (flock). They end with the last process that holds them: a killed one leaves none behind."""

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cpfd.errors import CpfdError

_SECONDS_BETWEEN_TRIES = 0.2


def try_lock(folder: Path) -> int | None:
    """Lock a folder, which is made where it is missing; None where somebody else has locked it.

    Returns the descriptor that holds the lock. Closing it lets go, unless a process that inherited it is still there.
    """
    while True:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(folder, os.O_RDONLY)
        except (FileExistsError, FileNotFoundError):  # its last owner has removed it in between
            if folder.is_file():
                raise
            continue
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return None
        if folder.exists() and os.path.samestat(os.fstat(descriptor), folder.stat()):
            return descriptor
        os.close(descriptor)  # the last owner has removed the folder meanwhile: a lock on it keeps nobody out


@contextmanager
def locked(folder: Path, *, patience: float, refusal: str, waiting: str | None = None) -> Iterator[int]:
    """Keep a folder locked while the block runs; gives the lock's descriptor, as `try_lock` does.

    `waiting` is printed once where somebody else has the lock. Raises CpfdError, whose message is `refusal`, where that
    is still so after `patience` seconds.
    """
    deadline = time.monotonic() + patience
    while (descriptor := try_lock(folder)) is None:
        if waiting is not None:
            print(waiting, flush=True)
            waiting = None
        if time.monotonic() >= deadline:
            raise CpfdError(refusal)
        time.sleep(_SECONDS_BETWEEN_TRIES)
    try:
        yield descriptor
    finally:
        os.close(descriptor)
