"""One thin module a DVC stage: read inputs, call the library, write outputs. `dvc.yaml` says how they hang together."""

import sys
from collections.abc import Callable
from pathlib import Path

from cpfd.errors import CpfdError

VALIDATED = Path("data/validated")
CONTENT = Path("data/features/content")
DENSE = Path("data/features/dense")
CROSSFIT = Path("data/crossfit")
CONFIDENCE = Path("data/confidence")
MODELS = Path("models")
REPORTS = Path("reports")
CODE = Path(__file__).parent.parent
"""The package itself, for fingerprints of unfinished work."""
LOCK = Path("constraints.txt")
"""The lock file of the environment: another library may give other bytes."""


def run(stage: Callable[..., None]) -> None:
    """Run a stage's function with the command line's arguments; a CpfdError becomes one message and exit code 1."""
    try:
        stage(*sys.argv[1:])
    except CpfdError as error:
        sys.exit(f"error: {error}")
