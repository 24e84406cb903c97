"""Stages that start at once: forked from a process that has imported torch and the like, instead of importing them.

`dvc repro` and the commands in dvc.yaml stay as they are, and each stage is a process of its own with its own
arguments, folder, environment and code. Only `python`, which DVC finds on PATH, is ours. Importing is two thirds of
what the stages of a tiny project cost.
"""

import atexit
import os
import shutil
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path

_HERE = Path(__file__).parent
_PYTHON = """\
#!/bin/sh
case "$1 $2" in
"-m cpfd.stages."*) exec '{python}' -I -S '{client}' '{address}' "$@" ;;
*) exec '{python}' "$@" ;;
esac
"""


@cache
def warm_python() -> Path:
    """The folder of a `python` that starts stages warm, for as long as this process lives."""
    folder = Path(tempfile.mkdtemp(prefix="warm-"))
    address, command = folder / "socket", folder / "python"
    command.write_text(_PYTHON.format(python=sys.executable, client=_HERE / "client.py", address=address))
    command.chmod(0o755)
    server = subprocess.Popen(
        [sys.executable, "-E", str(_HERE / "server.py"), str(address)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        start_new_session=True,
    )
    assert server.stdout is not None
    assert server.stdout.readline() == b"ready\n"
    atexit.register(shutil.rmtree, folder)
    atexit.register(server.kill)
    return folder
