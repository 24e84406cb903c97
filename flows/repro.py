"""Run stages with `dvc repro --single-item`, each in a process of its own that does not outlive the flow.

A program of its own: flows.stages starts it by its path, so that the code of the project it works in need not have it.
It imports DVC once, which takes most of the time of a short stage, and forks for each stage that it is asked for.
"""

import gc
import logging
import os
import signal
import socket
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

import psutil
from zc.lockfile import LockError, LockFile

LOCKS = (Path(".dvc/tmp/lock"), Path(".dvc/tmp/rwlock.lock"))
"""Under the first DVC writes dvc.lock, under the second its list of who reads and writes what, both in place."""
_TERM_SECONDS = 3.0
_LOCK_SECONDS = 3.0


def main(channel: socket.socket) -> int:
    """Fork for each request until the other end of `channel` closes, and end once all that was forked has ended.

    A request is the name of a stage with three descriptors: where its output goes, where its exit code is told, and
    its leash. Each stage returns from here, too, with DVC's exit code.
    """
    from dvc.cli import main as dvc

    # That a stage changed files which git may add is nothing for the log of each stage.
    logging.getLogger("dvc.repo.scm_context").setLevel(logging.WARNING)
    dvc(["stage", "list", "--quiet"])  # imports what it needs, which is nearly all that `dvc repro` does
    gc.freeze()  # so that a fork's collector leaves the pages alone that it shares
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # no supervisor is waited for: the kernel clears them up
    while True:
        name, descriptors, _, _ = socket.recv_fds(channel, 4096, 3)
        if not name:
            break
        if os.fork() == 0:
            channel.close()
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            return _supervise(name.decode(), *descriptors)
        for descriptor in descriptors:
            os.close(descriptor)
    with suppress(ChildProcessError):
        os.wait()  # for all of them: see SIG_IGN above
    return 0


def _supervise(stage: str, output: int, ended: int, leash: int) -> int:
    """Fork once more, for the stage, and tell how that ended; a killed one takes all that it had started with it."""
    pid = os.fork()
    if pid == 0:
        os.close(ended)
        os.setsid()
        os.dup2(output, 1)
        os.dup2(output, 2)
        os.close(output)
        return _run(stage, leash)
    os.close(output)
    os.close(leash)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if code < 0:
        with suppress(ProcessLookupError):
            os.killpg(pid, signal.SIGKILL)
    os.write(ended, str(code).encode())
    return 0


def _run(stage: str, leash: int) -> int:
    """Run the stage and return DVC's exit code; end with the whole process group once the other end of `leash` closes.

    `leash` is the reading end of a pipe. Its other end closes when the flow stops the stage, and when the flow dies.
    """
    # A handler and not SIG_IGN, which the stage's command would inherit.
    signal.signal(signal.SIGTERM, lambda *_: None)
    let_go = threading.Event()
    follower = threading.Thread(target=_follow, args=(leash, let_go), daemon=True)
    follower.start()
    from dvc.cli import main as dvc

    # A stage may have run for hours when DVC wants its lock back; without waiting it would give up after 3 seconds.
    code = int(dvc(["--wait-for-lock", "repro", "--single-item", stage]))
    if let_go.is_set():
        follower.join()
    return code


def _follow(leash: int, let_go: threading.Event) -> None:
    """Wait for the end of the leash, then end what was started here, and this process."""
    os.read(leash, 1)
    let_go.set()
    children = psutil.Process().children(recursive=True)
    os.killpg(os.getpgrp(), signal.SIGTERM)
    psutil.wait_procs(children, timeout=_TERM_SECONDS)
    # Killed while it writes a file in place, DVC would leave half of it. The locks go with this process.
    deadline = time.monotonic() + _LOCK_SECONDS
    held = [_lock(path, deadline) for path in LOCKS]
    os.killpg(os.getpgrp(), signal.SIGKILL)
    del held


def _lock(path: Path, deadline: float) -> LockFile | None:
    while time.monotonic() < deadline:
        with suppress(LockError):
            return LockFile(str(path))
        time.sleep(0.02)
    return None


if __name__ == "__main__":
    sys.exit(main(socket.socket(fileno=int(sys.argv[1]))))
