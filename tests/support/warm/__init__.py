"""Commands that start at once: forked from a process that has imported torch, DVC and the like, instead of importing.

`dvc repro` and the commands in dvc.yaml stay as they are, and each command is a process of its own with its own
arguments, folder, environment and code. Only `python`, `dvc` and `cpfd`, which are found on PATH, are ours. Importing
is two thirds of what the stages and commands of a tiny project cost.
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
_COMMAND = "#!/bin/sh\nexec '{python}' -I -S '{client}' '{socket}' '{command}' \"$@\"\n"
_PYTHON = """\
#!/bin/sh
case "$1 $2" in
"-m cpfd.stages."*) exec '{python}' -I -S '{client}' '{socket}' "$@" ;;
*) exec '{python}' "$@" ;;
esac
"""


@cache
def warm_commands() -> Path:
    """The folder of `python`, `dvc` and `cpfd` that start warm, for as long as this process lives.

    It is a virtual environment with the libraries of this one: what looks for `python` beside the interpreter finds it.
    """
    environment = Path(tempfile.mkdtemp(prefix="warm-"))
    folder = environment / "bin"
    folder.mkdir()
    python, socket = folder / "python3", environment / "socket"
    python.symlink_to(os.path.realpath(sys.executable))
    (environment / "lib").symlink_to(Path(sys.prefix, "lib"))
    shutil.copy(Path(sys.prefix, "pyvenv.cfg"), environment)
    for name, text in {"python": _PYTHON, "dvc": _COMMAND, "cpfd": _COMMAND}.items():
        command = Path(sys.executable).with_name(name)
        (folder / name).write_text(
            text.format(python=python, client=_HERE / "client.py", socket=socket, command=command)
        )
        (folder / name).chmod(0o755)
    server = subprocess.Popen(
        [sys.executable, "-E", str(_HERE / "server.py"), str(socket)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        start_new_session=True,
    )
    assert server.stdout is not None
    assert server.stdout.readline() == b"ready\n"
    atexit.register(shutil.rmtree, environment)
    atexit.register(server.kill)
    return folder
