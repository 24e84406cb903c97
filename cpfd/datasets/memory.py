"""What was found of files that have not changed since: a database that may be deleted at any time."""

import json
import os
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

_TABLE = """
create table if not exists files (
    inode integer, size integer, mtime_ns integer, about text, found text, used integer,
    primary key (inode, size, mtime_ns, about)
) without rowid
"""
_KEY = "inode = ? and size = ? and mtime_ns = ? and about = ?"
_COMMIT_AFTER = 256


class FileMemory:
    """What was found of each file, by inode, size and time of change, as DVC knows files; for several threads."""

    def __init__(self, database: sqlite3.Connection, about: str) -> None:
        """Use an open database (`file_memory`)."""
        self._database, self._about = database, about
        self._turn = threading.Lock()
        self._noted = 0

    def recall(self, status: os.stat_result) -> Any:
        """What was noted of a file of this status; None where nothing was."""
        with self._turn:
            key = self._key(status)
            row = self._database.execute(f"select found from files where {_KEY}", key).fetchone()
            if row is not None:
                self._database.execute(f"update files set used = 1 where {_KEY}", key)
        return None if row is None else json.loads(row[0])

    def note(self, status: os.stat_result, found: Any) -> None:
        """Note what was found of a file, JSON-able; `status` is from before it was read."""
        with self._turn:
            row = (*self._key(status), json.dumps(found))
            self._database.execute("insert or replace into files values (?, ?, ?, ?, ?, 1)", row)
            self._noted += 1
            if self._noted % _COMMIT_AFTER == 0:
                self._database.commit()

    def _key(self, status: os.stat_result) -> tuple[int, int, int, str]:
        return status.st_ino, status.st_size, status.st_mtime_ns, self._about


@contextmanager
def file_memory(path: Path, about: str) -> Iterator[FileMemory]:
    """Open the database at `path`; `about` stands for how files are examined.

    A process that is killed keeps nearly all it has noted; what a whole run has no use for is forgotten in the end.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        opened = _open(path)
    except sqlite3.DatabaseError:  # a power cut may have left half of it
        path.unlink()
        opened = _open(path)
    with closing(opened) as database:
        try:
            yield FileMemory(database, about)
            database.execute("delete from files where used = 0")
        finally:
            database.commit()


def _open(path: Path) -> sqlite3.Connection:
    database = sqlite3.connect(path, check_same_thread=False)
    database.execute("pragma synchronous = off")  # what is lost is examined again
    database.execute(_TABLE)
    database.execute("update files set used = 0")
    database.commit()
    return database
