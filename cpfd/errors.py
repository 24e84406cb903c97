"""The one exception that a user is meant to read."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryFile

_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)
_PROBE_BYTES = 1 << 20


class CpfdError(Exception):
    """Something that the user can mend: the message names the file, row or key, what was found and what to do next.

    Commands and stages print the message without a stack trace and exit with 1.
    """


@contextmanager
def disk_told(path: Path | None = None) -> Iterator[None]:
    """Turn what a block fails with into a CpfdError where its disk is full or cannot be written to.

    That names `path`, which the block writes, else the file that the system names.
    """
    try:
        yield
    except CpfdError:
        raise
    except Exception as error:
        if (reason := _no_room(error, path)) is None:
            raise
        file = path or (Path(os.fsdecode(error.filename)) if isinstance(error, OSError) and error.filename else None)
        # What is written aside is known to nobody by that name.
        shown = "a file" if file is None else Path(*(part for part in file.parts if not part.endswith(".partial")))
        raise CpfdError(f"{shown} cannot be written: {reason}") from error


def _no_room(error: Exception, path: Path | None) -> str | None:
    """Why nothing could be written; None where that is not what has happened."""
    for number in _NO_ROOM:
        if getattr(error, "errno", None) == number or os.strerror(number) in str(error):
            return os.strerror(number)
    # numpy and torch do not say why a file could not be written, so it is tried.
    folder = next((each for each in path.absolute().parents if each.is_dir()), None) if path else None
    try:
        if folder is not None:
            with TemporaryFile(dir=folder) as file:
                file.write(bytes(_PROBE_BYTES))
    except OSError as refusal:
        return refusal.strerror if refusal.errno in _NO_ROOM else None
    return None
