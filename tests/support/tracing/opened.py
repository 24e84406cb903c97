"""Which files below a folder get opened, told by the kernel: reads by C++ and Rust are seen like those by Python."""

import ctypes
import os
import struct
from collections.abc import Callable
from pathlib import Path

# linux/inotify.h
_OPEN, _OVERFLOW, _FOLDER = 0x20, 0x4000, 0x40000000
_EVENT = struct.Struct("iIII")  # watch, mask, cookie, length of the name that follows


def watch_opens(folder: Path) -> Callable[[], set[Path]]:
    """Watch a folder and those below it; the function returned tells, once, which of their files were opened since.

    By whom does not matter, nor whether for reading or writing. Folders that are made later are not watched.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    queue = libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
    watched = {}
    for path, _, _ in os.walk(folder):
        watch = libc.inotify_add_watch(queue, os.fsencode(path), _OPEN)
        if watch < 0:
            raise OSError(ctypes.get_errno(), "inotify", path)
        watched[watch] = Path(path)

    def opened() -> set[Path]:
        files = set()
        with open(queue, "rb", buffering=0) as stream:
            while events := stream.read(1 << 16):
                while events:
                    watch, mask, _, length = _EVENT.unpack_from(events)
                    name, events = events[_EVENT.size :][:length].rstrip(b"\0"), events[_EVENT.size + length :]
                    if mask & _OVERFLOW:
                        raise RuntimeError(f"{folder}: more files were opened than the kernel keeps in mind")
                    if not mask & _FOLDER:
                        files.add(watched[watch] / os.fsdecode(name))
        return files

    return opened
