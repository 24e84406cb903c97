"""Files that appear whole or not at all, with the same bytes for the same content."""

import ctypes
import errno
import fcntl
import glob
import hashlib
import json
import os
import secrets
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cpfd.errors import CpfdError, disk_told
from cpfd.locks import try_lock

if TYPE_CHECKING:
    import pandas as pd  # half a second, which `cpfd check` can do without

_FICLONE = 0x40049409  # ioctl request of Linux (linux/fs.h): share the blocks of another file
_AT_FDCWD, _RENAME_EXCHANGE = -100, 2  # linux/fcntl.h, linux/fs.h
_LIBC = ctypes.CDLL(None, use_errno=True)

SCRATCH = Path(".scratch")
"""Where unfinished work waits to be resumed: outside of every stage's outputs, which DVC deletes before a run."""


@contextmanager
def written_aside(target: Path) -> Iterator[Path]:
    """Give a path on the same disk to write a file or folder to; it takes the place of `target` if the block succeeds.

    The parent folder is made where it is missing. At any moment, also after a power cut, `target` is what it was or
    what it becomes, whole; only where the file system cannot exchange two folders is there a moment without either. A
    failing block leaves nothing behind, and several at once do not disturb each other: each has a locked folder
    `.<name>.<random>.partial` to itself. What killed processes have left of those, the next writer of `target` removes.
    Raises CpfdError where the disk is full.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    _clear_abandoned(target)
    place, descriptor = _partial_folder(target)
    made = place / target.name
    try:
        with disk_told(target):
            yield made
            _flush(made)
            _put(made, target)
            _flush_entry(target.parent)
    finally:
        remove(place)
        os.close(descriptor)


def _partial_folder(target: Path) -> tuple[Path, int]:
    """A new folder beside `target`, and the descriptor of its lock."""
    while True:
        place = target.with_name(f".{target.name}.{secrets.token_hex(4)}.partial")
        descriptor = try_lock(place)
        if descriptor is not None:  # else it was taken for abandoned before it was locked
            return place, descriptor


def _clear_abandoned(target: Path) -> None:
    for place in target.parent.glob(f".{glob.escape(target.name)}.*.partial"):
        if place.is_dir() and (descriptor := try_lock(place)) is not None:
            remove(place)
            os.close(descriptor)


def _put(made: Path, target: Path) -> None:
    """Give `made` the name `target`; what had that name is then at `made`, or beside it, or gone."""
    try:
        return os.replace(made, target)
    except OSError:  # a folder takes no name that another folder or a file has
        if not made.is_dir():
            raise
    try:
        _exchange(made, target)
    except OSError:
        shutil.move(target, made.with_name("replaced"))
        return os.replace(made, target)


def _exchange(one: Path, other: Path) -> None:
    """Let two paths change names, in one step; raises OSError where system or file system cannot."""
    renameat2 = getattr(_LIBC, "renameat2", None)
    if renameat2 is None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
    if renameat2(_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), _RENAME_EXCHANGE):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), one)


def _flush(path: Path) -> None:
    """Have a file or a folder with all that it holds on the disk."""
    if path.is_dir() and hasattr(_LIBC, "syncfs"):
        # The whole file system at once: 800 small files took 0.6 s like that, and 3.8 s one by one (ext4).
        with _opened(path) as descriptor:
            _LIBC.syncfs(descriptor)
    elif path.is_dir():
        os.sync()
    else:
        _flush_entry(path)


def _flush_entry(path: Path) -> None:
    """Have a file, or the names in a folder, on the disk."""
    with _opened(path) as descriptor:
        os.fsync(descriptor)


@contextmanager
def _opened(path: Path) -> Iterator[int]:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def remove(path: Path) -> None:
    """Remove a file or a folder, if there is one."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def write_json(path: Path, content: Any) -> None:
    """Write `content` as indented JSON, keys in the order given; NaN and infinity are refused with a ValueError."""
    text = json.dumps(content, indent=2, allow_nan=False, ensure_ascii=False) + "\n"
    with written_aside(path) as aside:
        aside.write_text(text, encoding="utf-8")


def read_json(path: Path) -> Any:
    """Read a JSON file."""
    return json.loads(path.read_text(encoding="utf-8"))


def write_table(path: Path, table: "pd.DataFrame") -> None:
    """Write a table as Parquet or CSV, by the suffix of `path`; the index is not written."""
    with written_aside(path) as aside:
        if path.suffix == ".parquet":
            table.to_parquet(aside, index=False)
        else:
            table.to_csv(aside, index=False, lineterminator="\n")


def read_table(path: Path) -> "pd.DataFrame":
    """Read a Parquet table that CPFD has written; what comes from outside is read by `cpfd.datasets.tables`.

    Raises CpfdError naming the file when it is absent or unreadable.
    """
    import pandas as pd

    if not path.is_file():
        raise CpfdError(f"{path}: no such file")
    try:
        return pd.read_parquet(path)
    except Exception as error:
        raise CpfdError(f"{path}: not a readable parquet table: {error}") from error


def fingerprint(paths: Iterable[Path], *values: Any) -> str:
    """Hash the content of files and folders together with JSON-able values: 16 hexadecimal digits.

    Work that was left unfinished is only resumed under the fingerprint of everything that it depends on.
    """
    digest = hashlib.sha256()
    for path in paths:
        inside = sorted(file for file in path.rglob("*") if file.is_file() and file.suffix != ".pyc")
        for file in inside if path.is_dir() else [path]:
            digest.update(file.as_posix().encode() + b"\0")
            with file.open("rb") as stream:
                digest.update(hashlib.file_digest(stream, "sha256").digest())
    digest.update(json.dumps(values, sort_keys=True, default=str).encode())
    return digest.hexdigest()[:16]


def link(source: Path, target: Path) -> None:
    """Make `target` a reflink of `source`, else a hard link, else a copy: as little new disk space as can be had."""
    source = source.resolve(strict=True)
    try:
        with source.open("rb") as reader, target.open("xb") as writer:
            fcntl.ioctl(writer.fileno(), _FICLONE, reader.fileno())
        return
    except OSError:
        target.unlink(missing_ok=True)
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)
