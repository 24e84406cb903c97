"""One thin module a DVC stage: read inputs, call the library, write outputs. `dvc.yaml` says how they hang together."""

import sys
import time
from collections.abc import Callable
from pathlib import Path

from cpfd.errors import CpfdError
from cpfd.files import write_json
from cpfd.paths import TIMINGS

CODE = Path(__file__).parent.parent
"""The package itself, for fingerprints of unfinished work."""
LOCK = Path("constraints.txt")
"""The lock file of the environment: another library may give other bytes."""

_STARTED = time.monotonic()  # `python -m cpfd.stages.<name>` comes here first, before the stage's own imports


def run(stage: Callable[..., None]) -> None:
    """Run a stage's function with the command line's arguments; a CpfdError becomes one message and exit code 1.

    A success leaves its time in reports/timings/<stage>.json, for `cpfd review`; of a run that was killed and resumed,
    that is the time of the last part.
    """
    try:
        stage(*sys.argv[1:])
    except CpfdError as error:
        sys.exit(f"error: {error}")
    name = "@".join([Path(sys.argv[0]).stem, *filter(None, ["-".join(sys.argv[1:])])])
    write_json(TIMINGS / f"{name}.json", {"seconds": round(time.monotonic() - _STARTED, 1)})
