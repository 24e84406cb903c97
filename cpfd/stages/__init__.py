"""One thin module a DVC stage: read inputs, call the library, write outputs. `dvc.yaml` says how they hang together."""

import os
import select
import signal
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from cpfd.code import refuse_other_code
from cpfd.errors import CpfdError, disk_told
from cpfd.files import SCRATCH, remove, write_json
from cpfd.locks import locked
from cpfd.paths import CODE, TIMINGS

_STARTED = time.monotonic()  # `python -m cpfd.stages.<name>` comes here first, before the stage's own imports
_PATIENCE = 60.0
"""Seconds that a stage waits for one of a run that was killed a moment ago."""


def run(stage: Callable[..., None]) -> None:
    """Run a stage's function with the command line's arguments; a CpfdError becomes one message and exit code 1.

    A stage whose code is not what its file in code/ says does not run, nor does one that runs in this project already;
    one whose `dvc repro` was killed ends with it. A success leaves its time in reports/timings/<stage>.json, for
    `cpfd review`; of a run that was killed and resumed, that is the time of the last part.
    """
    _end_with_dvc()
    name = Path(sys.argv[0]).stem
    full_name = "@".join([name, *filter(None, ["-".join(sys.argv[1:])])])
    try:
        if name != CODE.name:
            refuse_other_code(name)
        place = SCRATCH / f"running-{full_name}"
        refusal = f"stage {full_name} runs in this project already: wait for it to end, or end it"
        waiting = f"{full_name}: waiting for the same stage of another run to end"
        with disk_told(), locked(place, patience=_PATIENCE, waiting=waiting, refusal=refusal):
            try:
                stage(*sys.argv[1:])
            finally:
                remove(place)
            write_json(TIMINGS / f"{full_name}.json", {"seconds": round(time.monotonic() - _STARTED, 1)})
    except CpfdError as error:
        sys.exit(f"error: {error}")


def _end_with_dvc() -> None:
    """End this process, as by kill -9, once the `dvc` that has started it is gone.

    Else a stage would outlive a killed `dvc repro`, and write checkpoints and outputs into those of the next one. A
    stage that somebody starts by hand is not watched.
    """
    if "DVC_STAGE" not in os.environ or not hasattr(os, "pidfd_open"):
        return
    watched = select.poll()
    try:
        for process in _started_by():
            watched.register(os.pidfd_open(process), select.POLLIN)
    except ProcessLookupError:  # gone already
        os.kill(os.getpid(), signal.SIGKILL)

    def end() -> None:
        watched.poll()
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=end, daemon=True).start()


def _started_by() -> list[int]:
    """The processes between this one and `dvc`, and `dvc` itself: the first whose environment lacks DVC_STAGE."""
    found = [os.getppid()]
    with suppress(OSError):  # a process of somebody else's is none of ours, nor is one that is gone
        while b"DVC_STAGE=" in Path(f"/proc/{found[-1]}/environ").read_bytes():
            status = Path(f"/proc/{found[-1]}/stat").read_text()
            found.append(int(status.rpartition(")")[2].split()[1]))
    return found
