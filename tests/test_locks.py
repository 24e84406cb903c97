"""A folder is one process's own until the last that holds its lock has ended, however it ends."""

import os
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from cpfd.errors import CpfdError
from cpfd.locks import locked, try_lock

HOLD = """\
import sys, time
from pathlib import Path
from cpfd.locks import locked
with locked(Path(sys.argv[1]), patience=0, refusal=""):
    print("locked", flush=True)
    time.sleep(600)
"""


def test_who_comes_second_is_told_what_to_do(tmp_path: Path) -> None:
    with (
        locked(tmp_path / "place", patience=0, refusal=""),
        pytest.raises(CpfdError, match=r"^somebody is at work here; wait$"),
        locked(tmp_path / "place", patience=0.1, refusal="somebody is at work here; wait"),
    ):
        pass
    with locked(tmp_path / "place", patience=0, refusal="free again"):
        pass


def test_the_patient_have_the_lock_once_it_is_free(tmp_path: Path) -> None:
    order = []

    def work() -> None:
        with locked(tmp_path, patience=60, refusal="not even after a minute"):
            order.append("second")

    with locked(tmp_path, patience=0, refusal=""):
        waiting = threading.Thread(target=work)
        waiting.start()
        time.sleep(0.1)
        order.append("first")
    waiting.join()
    assert order == ["first", "second"]


def test_a_killed_process_leaves_no_lock(tmp_path: Path) -> None:
    command = [sys.executable, "-c", HOLD, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "locked\n"
        assert try_lock(tmp_path) is None
        holder.kill()
    with locked(tmp_path, patience=0, refusal="the lock outlived its owner"):
        pass


def test_a_process_that_inherits_the_descriptor_keeps_the_lock(tmp_path: Path) -> None:
    with locked(tmp_path, patience=0, refusal="") as descriptor:
        heir = subprocess.Popen(["cat"], stdin=subprocess.PIPE, pass_fds=[descriptor])
    assert try_lock(tmp_path) is None
    heir.communicate()
    with locked(tmp_path, patience=0, refusal="the heir has ended"):
        pass


def test_a_folder_that_its_owner_removed_is_made_and_locked_anew(tmp_path: Path) -> None:
    place = tmp_path / "place"
    with locked(place, patience=0, refusal=""):
        shutil.rmtree(place)
        with locked(place, patience=0, refusal="nobody is kept out of what is gone") as descriptor:
            assert os.path.samestat(os.fstat(descriptor), place.stat())
