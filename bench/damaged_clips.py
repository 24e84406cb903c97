"""Damaged clips: `python -m bench.faults clips`."""

import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import av
import numpy as np
import pandas as pd
from av.video.stream import VideoStream
from numpy.random import Generator
from ruamel.yaml import YAML

from bench.replicates import project
from bench.tasks import ROOT, overlaid
from cpfd.datasets.contract import write_dataset
from cpfd.errors import CpfdError
from cpfd.features.store import map_shard
from cpfd.files import fingerprint, read_table, remove
from cpfd.paths import CONTENT, PARAMS_FILE, RAW, VALIDATED

PATIENCE = 3600
"""Seconds after which a stage hangs: no clip is allowed a sixth of that."""
SMALL: dict[str, dict[str, Any]] = {
    "dataset": {"name": "damaged", "task": "single_label"},
    "validation": {"max_quarantine_share": 1.0, "max_drift": 1.0, "min_class_clips": 1},
    "video": {"frames": 2, "size": 64, "grid": 1},
    "extract": {"shard_clips": 32, "threads": 2},
}
CODECS = {
    "mp4": "libx264",
    "mkv": "libx264",
    "webm": "libvpx",
    "avi": "mpeg4",
    "ts": "libx264",
    "gif": "gif",
    "png": "png",
}
"""The kinds of clips that are damaged, and what encodes each."""


def damage_clips(count: int, seed: int) -> tuple[dict[str, Counter[str]], list[str]]:
    """Damage clips in every container, and run the stages validate and extract on them, twice.

    Each must end in the feature store or in quarantine with a reason; clips beside it that are whole must not be
    missed; no stage may hang, crash, or give other bytes the second time. Returns what became of how many in each
    container, and the faults.
    """
    rng = np.random.default_rng(seed)
    with tempfile.TemporaryDirectory(prefix="cpfd-faults-") as name:
        films = {kind: write_film(Path(name, f"film.{kind}")) for kind in CODECS}
        kinds = {f"clip-{number:04}": list(CODECS)[number % len(CODECS)] for number in range(count)}
        damaged = {clip: _damage(films[kind].read_bytes(), rng) for clip, kind in kinds.items()}
        whole = {f"whole-{number:02}": "mp4" for number in range(12)}
        with project(Path(name, "project"), overlaid(YAML(typ="safe").load(ROOT / PARAMS_FILE), SMALL)):
            _write_clips(kinds | whole, damaged, films, Path(name))
            first, faults = _outcomes(kinds, whole)
            before = fingerprint([VALIDATED, CONTENT])
            for folder in (VALIDATED, CONTENT):
                remove(folder)
            again, _ = _outcomes(kinds, whole)
            if again != first or fingerprint([VALIDATED, CONTENT]) != before:
                faults.append("the second run gave other bytes than the first")
    rows = {kind: Counter(first[clip] for clip in kinds if kinds[clip] == kind) for kind in CODECS}
    return rows, faults


def write_film(path: Path) -> Path:
    """Write a clip of 24 frames (a still image: of one) with a square that moves."""
    kind = path.suffix[1:]
    with av.open(str(path), "w", format="image2" if kind == "png" else None, options={}) as container:
        stream = container.add_stream(CODECS[kind], rate=12)
        assert isinstance(stream, VideoStream)
        stream.width, stream.height = 64, 48
        stream.pix_fmt = {"gif": "rgb8", "png": "rgb24"}.get(kind, "yuv420p")
        stream.codec_context.thread_count = 1
        if CODECS[kind] == "libx264":
            stream.options = {"x264-params": "cpu-independent=1:keyint=8"}
        for number in range(1 if kind == "png" else 24):
            image = np.full((48, 64, 3), 90, np.uint8)
            image[8:24, number : number + 16] = (250, 180, 40)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode(None))
    return path


def _damage(content: bytes, rng: Generator) -> bytes:
    """Do one of seven things to a file, in its head or anywhere."""
    data, size = bytearray(content), len(content)
    reach = int(rng.choice([min(512, size), size]))
    start = int(rng.integers(0, reach))
    length = int(rng.integers(1, 64))
    match int(rng.integers(0, 7)):
        case 0:
            return content[:start]
        case 1:
            for place in rng.integers(0, reach, length):
                data[place] ^= 1 << int(rng.integers(0, 8))
        case 2:
            data[start : start + length] = bytes(length)
        case 3:
            data[start:start] = rng.bytes(length)
        case 4:
            del data[start : start + length]
        case 5:  # a size, an offset or a duration that no file has
            data[start : start + 4] = b"\xff\xff\xff\x7f"
        case _:
            data[start : start + length] = rng.bytes(length)
    return bytes(data)


def _write_clips(kinds: dict[str, str], damaged: dict[str, bytes], films: dict[str, Path], folder: Path) -> None:
    files = {}
    for clip, kind in kinds.items():
        files[f"{clip}.{kind}"] = path = folder / "clips" / f"{clip}.{kind}"
        path.parent.mkdir(exist_ok=True)
        # Each whole clip is another: copies across splits are no clips of their own.
        path.write_bytes(damaged.get(clip) or films[kind].read_bytes() + clip.encode() * (clip not in damaged))
    manifest = pd.DataFrame({"video_id": list(kinds), "path": list(files)})
    manifest["label"] = np.resize(["cat", "dog"], len(manifest))
    write_dataset(RAW / "damaged", manifest, None, files)


def _outcomes(kinds: dict[str, str], whole: dict[str, str]) -> tuple[dict[str, str], list[str]]:
    """Run both stages; what became of each damaged clip, and what should not have happened."""
    faults = []
    for stage in ("validate", "extract"):
        done = subprocess.run(
            [sys.executable, "-m", f"cpfd.stages.{stage}"], capture_output=True, text=True, timeout=PATIENCE
        )
        if done.returncode:
            raise CpfdError(f"stage {stage} ended with exit code {done.returncode}:\n{done.stderr[-2000:]}")
    index = read_table(CONTENT / "index.parquet")
    held = set(index["video_id"])
    refused = pd.concat([read_table(folder / "quarantine.parquet") for folder in (VALIDATED, CONTENT)])
    reasons = dict(zip(refused["video_id"], refused["reason"], strict=True))
    faults += [f"{clip}: whole, and not in the store: {reasons.get(clip)}" for clip in whole if clip not in held]
    found = {}
    for clip in kinds:
        found[clip] = "read" if clip in held else "in quarantine" if reasons.get(clip) else "FAULT"
        if found[clip] == "FAULT":
            faults.append(f"{clip}.{kinds[clip]}: neither in the store nor in quarantine")
    for file in CONTENT.rglob("*.safetensors"):
        if not all(np.isfinite(values.astype(np.float32)).all() for values in map_shard(file).values()):
            faults.append(f"{file}: not finite")
    return found, faults
