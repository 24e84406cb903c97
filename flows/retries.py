"""What is worth another attempt: the network, a remote, DVC's lock; a wrong input will be as wrong the next time."""

from collections.abc import Iterator
from typing import Any

from prefect.client.schemas.objects import State, TaskRun

RETRIES: dict[str, Any] = {"retries": 3, "retry_delay_seconds": [2.0, 5.0, 15.0]}

_FINAL = (FileNotFoundError, PermissionError, FileExistsError, NotADirectoryError, IsADirectoryError)


def worth_a_retry(_task: Any, _run: TaskRun, state: State[Any]) -> bool:
    """Whether a task's error, or what it came from, may be gone a little later."""
    from dvc.exceptions import DownloadError, UploadError
    from dvc.lock import LockError

    return any(
        isinstance(error, (LockError, UploadError, DownloadError))
        or (isinstance(error, OSError) and not isinstance(error, _FINAL))
        for error in _causes(state.result(raise_on_failure=False))
    )


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while isinstance(error, BaseException):
        yield error
        error = error.__cause__
