"""Run single stages of the pipeline in processes of their own, and tell how each ended."""

import codecs
import os
import re
import selectors
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from cpfd.params.schema import Flows
from flows import repro
from flows.workspace import Workspace

Log = Callable[[str], None]
Ending = Literal["ran", "cached", "failed", "interrupted", "timed out", "stopped"]
PROGRESS_SECONDS = 5.0
"""A progress bar reaches the log at most once in that time."""

_BUSY = ("Unable to acquire lock", "it is being blocked by")  # dvc.lock, dvc.rwlock
_DVC_ERROR = "ERROR: "  # may follow upon a line that the stage did not end
_EXITED = re.compile(r"exited with (-?\d+)$")  # dvc.stage.exceptions.StageCmdFailedError
_ANSI = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


@dataclass(frozen=True)
class Result:
    """How a stage ended.

    "ran": its command did; "cached": it was up to date or came out of DVC's run cache; "failed": it would fail again;
    "interrupted": it may go well the next time; "timed out"; "stopped": by `StageRunner.stop`. `message` is one line.
    """

    ending: Ending
    message: str


class StageRunner:
    """Runs stages in a workspace, any number of them at once, from as many threads.

    The processes keep the workspace's locks: it stays theirs until the last of them has ended.
    """

    def __init__(self, workspace: Workspace, limits: Flows) -> None:
        """Remember where and within which time limits to run."""
        self.workspace, self.limits = workspace, limits
        self._guard = threading.Lock()
        self._stopped = False
        self._server: _Server | None = None
        self._running: set[_Process] = set()

    def run(self, stage: str, log: Log) -> Result:
        """Run a stage if `dvc repro` would; everything that it prints goes to `log`, line by line."""
        minutes = self.minutes(stage)
        output = _Output(stage, log)
        process = self._start(stage)
        if process is None:
            return Result("stopped", "stopped before it began")
        try:
            in_time = _read(process, output, time.monotonic() + 60 * minutes)
        finally:
            self._let_go(process)
            code = process.wait()
        if self._stopped:
            return Result("stopped", "stopped with the flow run")
        if not in_time:
            return Result("timed out", f"stopped after {minutes:g} minutes, its limit in params.yaml (group flows)")
        return output.result(code)

    def minutes(self, stage: str) -> float:
        """The time limit of a stage: its own, else its family's, else the general one."""
        limits = self.limits.stage_timeout_minutes
        return limits.get(stage, limits.get(stage.partition("@")[0], self.limits.timeout_minutes))

    def stop(self) -> None:
        """End all stages that run, with everything they started, and start no more; returns when they are gone."""
        with self._guard:
            self._stopped = True
            running = list(self._running)
        for process in running:
            self._let_go(process)
        if self._server is not None:
            self._server.stop()

    def _start(self, stage: str) -> "_Process | None":
        with self._guard:
            if self._stopped:
                return None
            if self._server is None or self._server.died():
                self._server = _Server(self.workspace)
            process = self._server.start(stage)
            self._running.add(process)
        return process

    def _let_go(self, process: "_Process") -> None:
        """Close this end of a process's leash: if it has not ended, it now ends itself."""
        with self._guard:
            if process in self._running:
                self._running.remove(process)
                os.close(process.leash)


@dataclass(frozen=True)
class _Process:
    """A stage's process by what leads to it: what it prints, where its exit code will be, and its leash."""

    output: int
    ended: int
    leash: int

    def wait(self) -> int:
        """Its exit code, less than 0 for a signal, once it has ended. To be called once: it closes what is read."""
        told = os.read(self.ended, 16)
        os.close(self.output)
        os.close(self.ended)
        return int(told or -signal.SIGKILL)


class _Server:
    """The process that stages are forked from; see flows.repro. Without the flow's process it ends itself."""

    def __init__(self, workspace: Workspace) -> None:
        self._channel, end = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with end:
            self._process = subprocess.Popen(
                # -P: the folder of repro.py is no place to import from.
                [sys.executable, "-P", repro.__file__, str(end.fileno())],
                cwd=workspace.folder,
                env=_environment(),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                pass_fds=(end.fileno(), *workspace.locks),
                start_new_session=True,
            )

    def start(self, stage: str) -> _Process:
        output, output_end = os.pipe()
        ended, ended_end = os.pipe()
        leash_end, leash = os.pipe()
        ends = [output_end, ended_end, leash_end]
        try:
            socket.send_fds(self._channel, [stage.encode()], ends)
        finally:
            for end in ends:
                os.close(end)
        return _Process(output, ended, leash)

    def died(self) -> bool:
        return self._process.poll() is not None

    def stop(self) -> None:
        """Wait until all its stages have ended, and it has, too."""
        self._channel.close()
        self._process.wait()


class _Output:
    """What a stage and DVC around it print: passed on to the log, and kept as far as it tells how the stage ended."""

    def __init__(self, stage: str, log: Log) -> None:
        self.log = log
        self.began = f"Running stage '{stage}':"
        self.ran = False
        self.last = ""
        self.error = ""
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._rest = ""
        self._progress = ""
        self._logged = 0.0

    def feed(self, data: bytes, final: bool = False) -> None:
        """Take more bytes; `final` ends the last line."""
        *parts, self._rest = re.split(r"(\r\n|\n|\r)", self._rest + self._decoder.decode(data, final))
        if self._rest == "" and parts[-1:] == ["\r"] and not final:  # it may be the first half of \r\n
            self._rest = parts[-2] + parts[-1]
            parts = parts[:-2]
        for text, end in zip(parts[::2], parts[1::2], strict=True):
            if end == "\r":
                self._show_progress(text)
            else:
                self._line(text)
        if final:
            self._line(self._rest)
            self._rest = ""

    def result(self, code: int) -> Result:
        """How the stage ended, whose process left with that exit code."""
        if code == 0:
            return Result("ran", "") if self.ran else Result("cached", "")
        if code < 0:
            return Result("interrupted", f"killed by {_signal(-code)}")
        if any(phrase in self.error for phrase in _BUSY):
            return Result("interrupted", self.error)
        exited = _EXITED.search(self.error)
        number = int(exited[1]) if exited else 0
        if number < 0 or number > 128:  # a shell tells of a signal by 128 and its number
            number = -number if number < 0 else number - 128
            return Result("interrupted", f"its command was killed by {_signal(number)}")
        return Result("failed", self.error if exited is None and self.error else self.last)

    def _show_progress(self, text: str) -> None:
        """A line that the next one will overwrite."""
        self._progress = _ANSI.sub("", text).rstrip() or self._progress
        if self._progress and time.monotonic() - self._logged >= PROGRESS_SECONDS:
            self._logged = time.monotonic()
            self.log(self._progress)
            self._progress = ""

    def _line(self, text: str) -> None:
        line = _ANSI.sub("", text).rstrip()
        shown, told, error = (line or self._progress).partition(_DVC_ERROR)
        self._progress = ""
        if shown:
            self.log(shown)
            self.ran = self.ran or shown == self.began
            self.last = shown
        if told:
            self.log(told + error)
            self.error = error


def _read(process: _Process, output: _Output, deadline: float) -> bool:
    """Read all that a process prints; whether it ended before the deadline.

    What a stage leaves running in the background may keep the pipe open, so the end of the process is the end.
    """
    with selectors.DefaultSelector() as selector:
        for descriptor in (process.output, process.ended):
            selector.register(descriptor, selectors.EVENT_READ)
        while (left := deadline - time.monotonic()) > 0:
            ready = [key.fd for key, _ in selector.select(left)]
            if process.output in ready:
                data = os.read(process.output, 65536)
                output.feed(data, final=not data)
                if not data:
                    selector.unregister(process.output)
            elif process.ended in ready:
                output.feed(b"", final=True)
                return True
    return False


def _environment() -> dict[str, str]:
    """The environment of a stage: its `python` is the one that runs the flow."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
    return {**os.environ, "PATH": path, "PYTHONUNBUFFERED": "1", "DVC_NO_ANALYTICS": "1"}


def _signal(number: int) -> str:
    return signal.Signals(number).name if number in set(signal.Signals) else f"signal {number}"
