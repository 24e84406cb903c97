"""A clip that kills the process that reads it, or keeps it busy for ever, costs that clip alone."""

import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from cpfd.datasets import isolation
from cpfd.datasets.isolation import isolated
from cpfd.datasets.video import ClipError, probe
from cpfd.features import encoding
from cpfd.features.decoding import sample_frames
from cpfd.importing.motion import motion
from cpfd.params.schema import Validation
from cpfd.validation import checks
from tests.support.clips import write_clip
from tests.support.deadly import crash, crash_once, deadly_probe, deadly_sample, spin
from tests.support.project import ROOT
from tests.support.small import Extracted, extract, small_params


def test_values_and_exceptions_come_back_as_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clip = write_clip(tmp_path / "clip.mp4")
    np.testing.assert_array_equal(isolated(sample_frames, clip, 3, 32), sample_frames(clip, 3, 32))
    np.testing.assert_array_equal(isolated(motion, clip), motion(clip))
    for folder in (tmp_path, tmp_path / "empty"):
        folder.mkdir(exist_ok=True)
        monkeypatch.chdir(folder)  # relative paths are those of the caller
        if folder == tmp_path:
            assert isolated(probe, Path("clip.mp4")) == probe(clip)
        else:
            with pytest.raises(ClipError, match=r"^file is missing$"):
                isolated(probe, Path("clip.mp4"))
    with pytest.raises(FileExistsError):
        isolated(os.mkdir, tmp_path)


def test_a_process_that_dies_costs_its_clip_alone(tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "clip.mp4")
    with ThreadPoolExecutor(4) as pool:
        deadly = [pool.submit(isolated, crash, clip) for _ in range(2)]
        sound = [pool.submit(isolated, probe, clip) for _ in range(6)]
        assert {each.result() for each in sound} == {probe(clip)}
        for each in deadly:
            with pytest.raises(ClipError, match=r"^kills the process that reads it: SIGSEGV$"):
                each.result()


def test_a_process_that_was_killed_by_somebody_else_is_no_verdict(tmp_path: Path) -> None:
    assert isolated(crash_once, tmp_path / "tried") == "read"


def test_a_clip_that_keeps_a_process_busy_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(isolation, "CPU_SECONDS", 1)
    with pytest.raises(ClipError, match=r"^takes too long: more than 1 s of processor time$"):
        isolated(spin, tmp_path)


def test_readers_end_with_the_process_that_has_started_them(tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "clip.mp4")
    script = (
        "import os, sys; from pathlib import Path; from cpfd.datasets.isolation import _idle, isolated\n"
        "from cpfd.datasets.video import probe\n"
        "isolated(probe, Path(sys.argv[1])); assert _idle; os.kill(os.getpid(), 9)\n"
    )
    command = [sys.executable, "-c", script, str(clip)]
    # The reader writes to the same stderr, which ends when the reader has ended as well.
    run = subprocess.run(command, cwd=ROOT, stderr=subprocess.PIPE, text=True, timeout=100)
    assert (run.returncode, run.stderr) == (-signal.SIGKILL, "")


def test_validation_quarantines_a_deadly_clip_and_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "probe", deadly_probe)
    for name in ("11.mp4", "sound.mp4"):
        write_clip(tmp_path / name)
    limits = Validation(**small_params().validation.model_dump())
    measured, reasons = checks._probe_clips(pd.Series(["11.mp4", "sound.mp4"]), tmp_path, limits, None)
    assert reasons.to_dict() == {0: "kills the process that reads it: SIGSEGV"}
    assert measured["frames"].to_dict() == {1: 12}


def test_extraction_quarantines_a_deadly_clip_and_goes_on(
    extracted: Extracted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(encoding, "sample_frames", deadly_sample)
    (tmp_path / "videos").symlink_to(extracted.folder / "videos")
    store = extract(tmp_path, extracted.manifest, small_params(), max_quarantined=1)
    quarantine = pd.read_parquet(tmp_path / "content" / "quarantine.parquet")
    assert quarantine[["video_id", "reason"]].to_numpy().tolist() == [
        ["clip-11", "kills the process that reads it: SIGSEGV"]
    ]
    assert len(store.index) == 23
