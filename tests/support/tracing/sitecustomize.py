"""Loaded by Python at start when on PYTHONPATH: writes down which params and files a stage reads.

Python-level opens alone are seen; libraries that read files in C++ or Rust are not.
"""

import atexit
import json
import os
import sys
from pathlib import Path

if "CPFD_TRACE" in os.environ and any(word.startswith("cpfd.stages.") for word in sys.orig_argv):
    stage = next(word for word in sys.orig_argv if word.startswith("cpfd.stages.")).removeprefix("cpfd.stages.")
    here = os.getcwd()
    sys.path.insert(0, here)  # as `python -m` does a little later
    files: set[str] = set()
    keys: set[str] = set()

    def note_open(event: str, arguments: tuple) -> None:
        if event == "open" and isinstance(arguments[0], str | os.PathLike) and not (arguments[2] or 0) & os.O_WRONLY:
            path = os.path.abspath(arguments[0])
            if path.startswith(here + os.sep) and os.path.isfile(path):
                files.add(os.path.relpath(path, here))

    sys.addaudithook(note_open)

    from cpfd.params.schema import Group, Params

    def note_read(group: Group, name: str) -> object:
        if type(group) is not Params and name in type(group).model_fields:
            keys.add(f"{type(group).__name__.lower()}.{name}")
        return object.__getattribute__(group, name)

    Group.__getattribute__ = note_read  # type: ignore[assignment]

    @atexit.register
    def write() -> None:
        trace = {"params": sorted(keys), "files": sorted(files)}
        Path(os.environ["CPFD_TRACE"], f"{stage}-{os.getpid()}.json").write_text(json.dumps(trace))
