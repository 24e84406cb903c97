"""What reads clips, in processes of its own: a clip that kills one, or keeps it busy for ever, costs that clip alone.

Decoders are C code that hostile bytes can crash, and nothing stops a call of C in the own process. Here

    isolated(probe, path)

is probe(path), value and exceptions alike, done by a process that waits for the next call afterwards.
"""

import atexit
import os
import pickle
import resource
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO, ParamSpec, TypeVar

from cpfd.datasets.showing import ClipError

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")

CPU_SECONDS = 600
"""Processor time for one clip. A load on the machine does not shorten it, and only what is hopeless comes near."""

_idle: "deque[_Reader]" = deque()


def isolated(function: Callable[Parameters, Result], *args: Parameters.args, **kwargs: Parameters.kwargs) -> Result:
    """Call a function of a module in another process, from any thread; as many processes as calls at once.

    Raises what the function raises; ClipError where it kills its process twice, the second time a new one, or
    takes more than CPU_SECONDS of processor time.
    """
    call = (Path.cwd(), CPU_SECONDS, function, args, kwargs)
    for fresh in (False, True):
        try:
            reader = _Reader() if fresh else _idle.pop()
        except IndexError:
            reader = _Reader()
        try:
            succeeded, answer = reader.ask(call)
        except (EOFError, BrokenPipeError, pickle.UnpicklingError):
            died = reader.end()
            if died == signal.SIGXCPU:
                raise ClipError(f"takes too long: more than {CPU_SECONDS} s of processor time") from None
            continue
        _idle.append(reader)
        if succeeded:
            return answer
        raise answer
    raise ClipError(f"kills the process that reads it: {died.name}")


class _Reader:
    """A process that answers calls one by one, and ends with the last end of its pipe."""

    def __init__(self) -> None:
        package = str(Path(__file__).parents[2])
        known = os.environ.get("PYTHONPATH")
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", __spec__.name],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": os.pathsep.join([package, known] if known else [package])},
        )

    def ask(self, call: tuple[Any, ...]) -> tuple[bool, Any]:
        """Whether the call succeeded, and its value or exception; raises EOFError and the like where there is none."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        pickle.dump(call, self._process.stdin)
        self._process.stdin.flush()
        succeeded, answer = pickle.load(self._process.stdout)
        return succeeded, answer

    def dismiss(self) -> None:
        """Let the process end, and wait for it."""
        self._process.communicate()

    def end(self) -> signal.Signals:
        """The signal that has ended the process; raises RuntimeError where it was none."""
        self.dismiss()
        if self._process.returncode >= 0:
            raise RuntimeError(f"the process that reads clips ended by itself, with code {self._process.returncode}")
        return signal.Signals(-self._process.returncode)


def _answer(calls: BinaryIO, answers: BinaryIO) -> None:
    while True:
        try:
            folder, seconds, function, args, kwargs = pickle.load(calls)
        except EOFError:
            return
        os.chdir(folder)
        until, most = int(time.process_time()) + 1 + seconds, resource.getrlimit(resource.RLIMIT_CPU)[1]
        resource.setrlimit(resource.RLIMIT_CPU, (until if most == resource.RLIM_INFINITY else min(until, most), most))
        try:
            answer = (True, function(*args, **kwargs))
        except Exception as error:
            answer = (False, error)
        pickle.dump(answer, answers)
        answers.flush()


@atexit.register
def _dismiss() -> None:
    while _idle:
        _idle.pop().dismiss()


os.register_at_fork(after_in_child=_idle.clear)

if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # ctrl-C is for the parent, with which the pipes end
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _answer(sys.stdin.buffer, sys.stdout.buffer)
