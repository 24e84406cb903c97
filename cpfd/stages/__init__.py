"""One thin module a DVC stage: read inputs, call the library, write outputs. `dvc.yaml` says how they hang together."""

import sys
import time
from collections.abc import Callable
from pathlib import Path

from cpfd.code import refuse_other_code
from cpfd.errors import CpfdError
from cpfd.files import write_json
from cpfd.paths import CODE, TIMINGS

_STARTED = time.monotonic()  # `python -m cpfd.stages.<name>` comes here first, before the stage's own imports


def run(stage: Callable[..., None]) -> None:
    """Run a stage's function with the command line's arguments; a CpfdError becomes one message and exit code 1.

    A stage whose code is not what its file in code/ says does not run. A success leaves its time in
    reports/timings/<stage>.json, for `cpfd review`; of a run that was killed and resumed, that is the time of the last
    part.
    """
    name = Path(sys.argv[0]).stem
    try:
        if name != CODE.name:
            refuse_other_code(name)
        stage(*sys.argv[1:])
    except CpfdError as error:
        sys.exit(f"error: {error}")
    timed = "@".join([name, *filter(None, ["-".join(sys.argv[1:])])])
    write_json(TIMINGS / f"{timed}.json", {"seconds": round(time.monotonic() - _STARTED, 1)})
