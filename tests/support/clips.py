"""Real video files for tests, written on the spot."""

from pathlib import Path

import av
import numpy as np


def write_clip(
    path: Path,
    *,
    frames: int = 12,
    width: int = 64,
    height: int = 48,
    rate: int = 12,
    seed: int = 0,
    codec: str = "libx264",
    pix_fmt: str = "yuv420p",
) -> Path:
    """Write an MP4 in which a bright square moves over a coloured background; another seed looks different."""
    rng = np.random.default_rng(seed)
    background = rng.integers(40, 200, size=3, dtype=np.uint8)
    start, step = rng.integers(0, 20, size=2), rng.integers(1, 4, size=2)
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=rate)
        stream.width, stream.height, stream.pix_fmt = width, height, pix_fmt
        stream.codec_context.thread_count = 1
        if codec == "libx264":
            # Its fastest code reads uninitialised memory: the same frames would not always give the same bytes.
            stream.options = {"x264-params": "cpu-independent=1"}
        for index in range(frames):
            image = np.full((height, width, 3), background, np.uint8)
            y, x = (start + index * step) % (height - 8, width - 8)
            image[y : y + 8, x : x + 8] = 255
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode(None))
    return path
