"""Every program of the benchmark explains itself, and a wrong start of one is one message."""

import importlib
import sys
from pathlib import Path

import pytest

from bench import command, startup
from tests.support.project import ROOT

MAIN = 'if __name__ == "__main__"'
PROGRAMS = sorted(path.stem for path in (ROOT / "bench").glob("*.py") if MAIN in path.read_text())


@pytest.mark.parametrize("name", PROGRAMS)
def test_help_has_an_example(name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", [f"python -m bench.{name}", "--help"])
    with pytest.raises(SystemExit) as ended:
        command.run(importlib.import_module(f"bench.{name}").main)
    assert ended.value.code == 0
    assert f"python -m bench.{name}" in capsys.readouterr().out.partition("Example: ")[2]


def test_a_wrong_start_is_one_message(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sys, "argv", ["python -m bench.heavy", str(tmp_path), str(tmp_path / "heavy.parquet")])
    with pytest.raises(SystemExit, match=r"error: .*: no clip in this folder; expected files that end in \.mp4"):
        command.run(importlib.import_module("bench.heavy").main)


def test_the_start_of_every_command_is_measured(capsys: pytest.CaptureFixture[str]) -> None:
    startup.main(rounds=1)
    rows = capsys.readouterr().out.splitlines()[2:]
    assert [row.split("`")[1] for row in rows] == ["python -c pass", "cpfd --help", "python -m cpfd.stages.code"]


def test_damaged_tables_do_no_harm(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["python -m bench.faults", "tables", "--count", "44"])
    with pytest.raises(SystemExit) as ended:
        command.run(importlib.import_module("bench.faults").main)
    told = capsys.readouterr().out
    assert ended.value.code == 0, told
    assert told.endswith("no faults\n")
    assert sum(int(cell) for cell in told.splitlines()[-3].split("|")[2:-1]) == 44
