"""Loaded by Python at start when on PYTHONPATH: writes down which params and files a stage reads."""

import atexit
import json
import os
import sys
from pathlib import Path

MODULE = next((word for word in sys.orig_argv if word.startswith("cpfd.stages.")), None)

if "CPFD_TRACE" in os.environ and MODULE:
    from opened import watch_opens

    here = Path.cwd()
    sys.path.insert(0, str(here))  # as `python -m` does a little later
    arguments = sys.orig_argv[sys.orig_argv.index(MODULE) + 1 :]
    run = "@".join([MODULE.removeprefix("cpfd.stages."), *filter(None, ["-".join(arguments)])])  # as DVC names it
    opened = watch_opens(here)
    keys: set[str] = set()

    from cpfd.params.schema import Group, Params

    def note_read(group: Group, name: str) -> object:
        if type(group) is not Params and name in type(group).model_fields:
            keys.add(f"{type(group).__name__.lower()}.{name}")
        return object.__getattribute__(group, name)

    Group.__getattribute__ = note_read  # type: ignore[assignment]

    @atexit.register
    def write() -> None:
        files = sorted(str(path.relative_to(here)) for path in opened())
        trace = {"params": sorted(keys), "files": files}
        Path(os.environ["CPFD_TRACE"], f"{run}-{os.getpid()}.json").write_text(json.dumps(trace))
