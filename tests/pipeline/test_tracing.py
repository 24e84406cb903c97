"""What the tests of data leaks see with: the opens of a stage, by whichever library."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pandas as pd
import pyarrow.parquet
import pytest
import safetensors.torch
import torch

from tests.support.clips import write_clip
from tests.support.tracing.opened import watch_opens


def read_video(path: Path) -> None:
    with av.open(path) as container:
        next(container.decode(video=0))


READS: dict[str, Callable[[Path], object]] = {
    "table.parquet": pd.read_parquet,
    "arrow.parquet": pyarrow.parquet.read_table,
    "model.safetensors": safetensors.torch.load_file,
    "lazy.safetensors": lambda path: safetensors.safe_open(path, "pt").__enter__().get_tensor("weight"),
    "values.npy": np.load,
    "mapped.npy": lambda path: np.load(path, mmap_mode="r"),
    "model.pt": torch.load,
    "clip.mp4": read_video,
    "report.json": Path.read_bytes,
    "child.json": lambda path: subprocess.run([sys.executable, "-c", f"open({str(path)!r})"], check=True),
}


@pytest.mark.parametrize("name", READS)
def test_a_file_is_seen_whoever_opens_it(tmp_path: Path, name: str) -> None:
    path = tmp_path / "below" / name
    path.parent.mkdir()
    write(path)
    write(path.with_stem("untouched"))
    opened = watch_opens(tmp_path)
    READS[name](path)
    assert opened() == {path}


def write(path: Path) -> None:
    match path.suffix:
        case ".parquet":
            pd.DataFrame({"watch_25": [0.5]}).to_parquet(path)
        case ".safetensors":
            safetensors.torch.save_file({"weight": torch.ones(3)}, path)
        case ".npy":
            np.save(path, np.ones(3))
        case ".pt":
            torch.save(torch.ones(3), path)
        case ".mp4":
            write_clip(path)
        case _:
            path.write_text("{}")
