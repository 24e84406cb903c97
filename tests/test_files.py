"""Files and folders appear whole or not at all, whoever else writes them and whenever their writer is killed."""

import os
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import pandas as pd
import pytest

from cpfd import files
from cpfd.errors import CpfdError
from cpfd.files import write_json, write_table, written_aside
from tests.support.disk import no_file_above

KILLED = 77
STEPS = ("cpfd/files.py", "cpfd/locks.py")


def write_folder(target: Path, text: str) -> None:
    with written_aside(target) as aside:
        aside.mkdir()
        for name in ("one", "two"):
            (aside / name).write_text(text)


def write_file(target: Path, text: str) -> None:
    with written_aside(target) as aside:
        aside.write_text(text)


def read(target: Path) -> str | list[str] | None:
    if target.is_dir():
        return [path.read_text() for path in sorted(target.iterdir())]
    return target.read_text() if target.exists() else None


def killed_at(step: int, work: Callable[[], None]) -> bool:
    """Do the work in a process that ends, as by kill -9, before the given step; whether it came to that.

    A step is a line of code of those that write, move, flush and remove.
    """
    child = os.fork()
    if child == 0:
        left = step

        def count(frame: FrameType, event: str, _: Any) -> Any:
            nonlocal left
            if not frame.f_code.co_filename.endswith(STEPS):
                return None
            if event == "line":
                left -= 1
                if left < 0:
                    os._exit(KILLED)
            return count

        sys.settrace(count)
        work()
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == KILLED


@pytest.mark.parametrize("write", [write_file, write_folder])
@pytest.mark.parametrize("before", ["old", None])
def test_whatever_step_a_writer_is_killed_at_the_old_is_there_or_the_new(
    tmp_path: Path, write: Callable[[Path, str], None], before: str | None
) -> None:
    target = tmp_path / "work" / "target"
    whole = {"old": tmp_path / "old", "new": tmp_path / "new"}
    for text, path in whole.items():
        write(path, text)
    step, seen = 0, set()
    while True:
        target.parent.mkdir(exist_ok=True)
        if before is not None:
            write(target, before)
        killed = killed_at(step, lambda: write(target, "new"))
        if not killed:
            break
        found = read(target)
        assert found in [read(whole["new"]), read(whole["old"]) if before else None], f"step {step}"
        seen.add(str(found))
        write(target, "next")
        assert [path.name for path in target.parent.iterdir()] == ["target"], f"step {step}"
        files.remove(target)
        step += 1
    assert step > 20
    assert len(seen) == 2  # it was killed before and after the one step that counts


def test_where_folders_cannot_be_exchanged_the_old_one_makes_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(one: Path, other: Path) -> None:
        raise OSError("not on this file system")

    monkeypatch.setattr(files, "_exchange", refuse)
    write_folder(tmp_path / "target", "old")
    write_folder(tmp_path / "target", "new")
    assert read(tmp_path / "target") == ["new", "new"]
    assert os.listdir(tmp_path) == ["target"]


@pytest.mark.parametrize("write", [write_file, write_folder])
def test_two_that_write_the_same_do_not_disturb_each_other(tmp_path: Path, write: Callable[[Path, str], None]) -> None:
    target = tmp_path / "target"
    with written_aside(target) as slow:
        slow.mkdir()
        (slow / "one").write_text("slow")
        write(target, "quick")
        assert read(target) in ("quick", ["quick", "quick"])
    assert read(target) == ["slow"]
    assert os.listdir(tmp_path) == ["target"]

    problems: list[BaseException] = []

    def work(text: str) -> None:
        try:
            for _ in range(20):
                write_folder(target, text)
        except BaseException as error:
            problems.append(error)

    files.remove(target)
    writers = [threading.Thread(target=work, args=(text,)) for text in "abcd"]
    for each in writers:
        each.start()
    for each in writers:
        each.join()
    assert problems == []
    assert read(target) in [[text, text] for text in "abcd"]
    assert os.listdir(tmp_path) == ["target"]


def test_a_file_never_replaces_a_folder(tmp_path: Path) -> None:
    write_folder(tmp_path / "target", "old")
    with pytest.raises(IsADirectoryError):
        write_json(tmp_path / "target", {})
    assert read(tmp_path / "target") == ["old", "old"]
    assert os.listdir(tmp_path) == ["target"]


def test_what_fails_changes_nothing(tmp_path: Path) -> None:
    write_folder(tmp_path / "target", "old")
    with pytest.raises(FileNotFoundError), written_aside(tmp_path / "target"):
        pass  # nothing is there to take the name
    assert read(tmp_path / "target") == ["old", "old"]
    assert os.listdir(tmp_path) == ["target"]


def save_array(target: Path) -> None:
    with written_aside(target) as aside, aside.open("wb") as file:
        np.save(file, np.zeros(100_000))


def save_weights(target: Path) -> None:
    import torch

    with written_aside(target) as aside:
        torch.save(torch.zeros(100_000), aside)


def save_nested(target: Path) -> None:
    with written_aside(target) as aside:
        save_weights(aside / "weights")


WRITERS: dict[str, Callable[[Path], None]] = {
    "text": lambda target: write_json(target, "x" * 100_000),
    "table": lambda target: write_table(target, pd.DataFrame({"x": np.random.default_rng(0).uniform(size=100_000)})),
    "array": save_array,
    "weights": save_weights,
    "folder": save_nested,
}


@pytest.mark.parametrize("writer", WRITERS)
def test_a_file_that_finds_no_room_is_named_with_the_reason_and_leaves_nothing(tmp_path: Path, writer: str) -> None:
    target = tmp_path / "target.parquet"
    named = target / "weights" if writer == "folder" else target
    with no_file_above(4096), pytest.raises(CpfdError) as refused:
        WRITERS[writer](target)
    assert str(refused.value) == f"{named} cannot be written: File too large"
    assert os.listdir(tmp_path) == []
    WRITERS[writer](target)
    assert os.listdir(tmp_path) == ["target.parquet"]


def test_what_fails_for_another_reason_is_no_full_disk(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="another reason"), written_aside(tmp_path / "target"):
        raise ValueError("another reason")
