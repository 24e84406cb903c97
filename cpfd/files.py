"""Files that appear whole or not at all, with the same bytes for the same content."""

import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cpfd.errors import CpfdError

if TYPE_CHECKING:
    import pandas as pd  # half a second, which `cpfd check` can do without

_FICLONE = 0x40049409  # ioctl request of Linux (linux/fs.h): share the blocks of another file

SCRATCH = Path(".scratch")
"""Where unfinished work waits to be resumed: outside of every stage's outputs, which DVC deletes before a run."""


@contextmanager
def written_aside(target: Path) -> Iterator[Path]:
    """Give a path beside `target` to write a file or folder to; it takes the name `target` when the block succeeds.

    The parent folder is made where it is missing. A failing block leaves `target` as it was and
    nothing else behind; what a killed one leaves, the next removes.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    aside = target.with_name(f".{target.name}.partial")
    remove(aside)
    try:
        yield aside
        if aside.is_dir():
            remove(target)
        os.replace(aside, target)
    finally:
        remove(aside)


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
