"""The clips themselves: rendered frame by frame, measured by a "heavy model", encoded as H.264.

A clip is a scene (what a single frame shows) and a course (how it moves through the two seconds). Look-alike topics
share the scene up to tint and shape of the props, and the places that subject and camera visit; they differ in timing.
"""

from itertools import pairwise
from pathlib import Path

import av
import cv2
import numpy as np
from numpy.typing import NDArray

from cpfd.demo.story import TALKING_HEAD

FRAMES, RATE, WIDTH, HEIGHT = 24, 12, 112, 192
"""Frames in a clip, frames per second, and size in pixels (portrait)."""

HEAVY_DIMS = 24
"""Dimensions of the heavy model's embedding."""

_MARGIN = 28  # pixels that the camera can move in each direction
# Without cpu-independent, x264's vector code reads memory that it never wrote, and the bytes change from run to run.
_CODEC = {"preset": "veryfast", "crf": "27", "threads": "1", "x264-params": "cpu-independent=1"}
_HUES = (14, 160, 112, 55, 95)  # OpenCV hue (0 to 179) of table, room, screen, outdoors, talking head

Frames = NDArray[np.uint8]
Track = NDArray[np.float64]
Colour = tuple[int, int, int]


def render(look: int, course: int, overlay: str, creator_hue: float, rng: np.random.Generator) -> Frames:
    """Draw frames[FRAMES, HEIGHT, WIDTH, 3], uint8 RGB; `creator_hue` shifts all hues as the creator's filter does."""
    scene, variant = divmod(look, 2)
    hue = _HUES[scene] + (8 if variant else -8) * (look != TALKING_HEAD) + creator_hue + rng.normal(0, 9)
    backdrop = _backdrop(scene, variant, hue, rng)
    subject, camera = _course(course, rng)
    if look == TALKING_HEAD:
        subject, camera = 0.25 * subject, 0.1 * camera
    subject_colour = _rgb(hue + rng.uniform(60, 120), rng.uniform(60, 160), rng.uniform(150, 255))
    skin = _rgb(rng.uniform(5, 18), rng.uniform(60, 150), rng.uniform(90, 245))
    light = rng.uniform(0.75, 1.2) * (1 + 0.03 * rng.standard_normal(FRAMES))
    grain = rng.normal(0, rng.uniform(2, 7), (HEIGHT + FRAMES, WIDTH, 1)).astype(np.float32)
    frames = np.empty((FRAMES, HEIGHT, WIDTH, 3), np.uint8)
    for index in range(FRAMES):
        left, top = np.clip(_MARGIN * (1 + camera[index]), 0, 2 * _MARGIN).astype(int)
        image = np.ascontiguousarray(backdrop[top : top + HEIGHT, left : left + WIDTH])
        _draw_subject(image, scene, subject[index], subject_colour, skin)
        frames[index] = np.clip(image * light[index] + grain[index : index + HEIGHT], 0, 255)
        if overlay:
            _write(frames[index], overlay)
    return frames


def encode(path: Path, frames: Frames) -> None:
    """Write frames[N, H, W, 3], uint8 RGB, as H.264 in MP4 at RATE frames a second; same frames, same bytes."""
    with av.open(str(path), "w", format="mp4", container_options={"fflags": "+bitexact"}) as container:
        stream = container.add_stream("libx264", rate=RATE, options=_CODEC)
        stream.width, stream.height, stream.pix_fmt = frames.shape[2], frames.shape[1], "yuv420p"
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode(None))


def heavy_embedding(frames: Frames) -> NDArray[np.float32]:
    """Measure every frame and embed the clip: float32[HEAVY_DIMS], a fixed function of the frames alone.

    Colour by blocks; Farneback's optical flow between all neighbouring frames: its mean, spread and peak by blocks;
    and the spectrum and burstiness of the motion over time. The measurements are projected by a fixed random matrix.
    """
    small = [cv2.resize(frame, (28, 48), interpolation=cv2.INTER_AREA) for frame in frames]
    grey = [cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in small]
    flow = np.stack(
        [cv2.calcOpticalFlowFarneback(before, after, None, 0.5, 2, 9, 2, 5, 1.1, 0) for before, after in pairwise(grey)]
    )
    speed = np.linalg.norm(flow, axis=-1)
    motion = np.concatenate([flow.mean(axis=(1, 2)), speed.mean(axis=(1, 2))[:, None], _blocks(speed)], axis=1)
    centred = motion - motion.mean(axis=0)
    spread = np.sqrt((centred**2).mean(axis=0))
    steps = np.abs(np.diff(motion, axis=0)).mean(axis=0)
    measured = np.concatenate(
        [
            _blocks(np.stack(small) / 64).mean(axis=0),
            np.log1p(4 * np.abs(motion).mean(axis=0)),
            np.log1p(4 * spread),
            np.log1p(4 * np.abs(centred).max(axis=0)),
            steps / (spread + 0.05),
            np.log1p(np.abs(np.fft.rfft(centred[:, :3], axis=0))[1:9]).ravel(),
        ]
    )
    projection = np.random.default_rng(0).standard_normal((HEAVY_DIMS, len(measured))) / np.sqrt(len(measured))
    # Not a matrix product: its bits would depend on the number of BLAS threads.
    return np.asarray((projection * measured).sum(axis=1), np.float32)


def _blocks(maps: Track) -> Track:
    """Average maps[N, 48, 28, ...] over 3 x 2 blocks: [N, 6 * ...]."""
    blocks = maps.reshape(len(maps), 3, 16, 2, 14, -1).mean(axis=(2, 4))
    return np.asarray(blocks.reshape(len(maps), -1))


def _course(course: int, rng: np.random.Generator) -> tuple[Track, Track]:
    """Positions (x, y) of subject and camera in each frame, each [FRAMES, 2] within about [-1, 1]."""
    pair, jerky = divmod(course, 2)
    time = np.arange(FRAMES) / RATE
    phase, tempo = rng.uniform(0, 2 * np.pi), rng.uniform(0.7, 1.5)
    handheld = rng.normal(0, 0.02, (FRAMES, 2))
    drift = np.linspace(-1, 1, FRAMES)[:, None] * rng.uniform(-0.1, 0.1, 2)
    still = drift + handheld
    # Stop and go: the same path, walked in leaps with rests between, at irregular moments.
    leaps = np.cumsum(rng.uniform(0.25, 0.6, FRAMES))
    clock = np.concatenate([[0], leaps])[np.searchsorted(leaps, time, side="right")] if jerky else time
    if pair == 0:  # a hand circling over the table: stirring, or moving from piece to piece
        angle = 2 * np.pi * tempo * clock + phase
        return 0.6 * np.stack([np.cos(angle), np.sin(angle)], 1) + handheld, still
    if pair == 1:  # a body swaying and bouncing: evenly on the beat, or rep by rep with a rest at both ends
        angle = 2 * np.pi * tempo * time * (0.75 if jerky else 1) + phase
        angle += 0.48 * np.sin(2 * angle) * jerky
        return np.stack([0.5 * np.sin(angle), 0.4 * np.sin(2 * angle)], 1) + handheld, still
    # A travelling camera: evenly (scrolling, strolling) or by leaps (cuts of a game, chasing an animal).
    direction = rng.uniform(0, 2 * np.pi)
    way = np.array([np.cos(direction), np.sin(direction)]) * rng.uniform(0.5, 0.9)
    place = 0.5 * np.stack([np.cos(3 * tempo * clock + phase), np.sin(5 * tempo * clock)], 1)
    return place + handheld, (clock - 1)[:, None] * way + still


def _backdrop(scene: int, variant: int, hue: float, rng: np.random.Generator) -> Frames:
    """Draw what does not move, wider and higher than a frame by the camera's margin on each side."""
    height, width = HEIGHT + 2 * _MARGIN, WIDTH + 2 * _MARGIN
    dark = scene == 2
    ground = rng.uniform(30, 80) if dark else rng.uniform(120, 220)
    image = np.full((height, width, 3), _rgb(hue, rng.uniform(50, 130), ground), np.uint8)
    second = _rgb(hue + rng.normal(10, 8), rng.uniform(60, 160), ground * rng.uniform(0.6, 0.85))
    horizon = int(height * rng.uniform(0.55, 0.75))
    if scene == 0:  # a table of boards, seen from above, with a plate
        for x in range(0, width, int(rng.integers(18, 30))):
            cv2.line(image, (x, 0), (x, height), second, 2)
        cv2.circle(image, (width // 2, height // 2), int(rng.integers(34, 48)), _rgb(hue, 20, 230), -1)
    elif scene == 3:  # hills under a sky
        along = np.arange(0, width + 8, 8)
        ridge = horizon + 18 * np.sin(along / rng.uniform(20, 40) + rng.uniform(0, 6))
        outline = np.concatenate([np.stack([along, ridge], 1), [[width, height], [0, height]]])
        image[:] = _rgb(hue + 45, rng.uniform(40, 120), rng.uniform(180, 250))
        cv2.fillPoly(image, [outline.astype(np.int32)], second)
    else:  # a floor, a desk or a shelf
        cv2.rectangle(image, (0, horizon), (width, height), second, -1)
    roundness = 0.35 if variant else 0.65
    for _ in range(rng.integers(5, 11)):
        x, y, size = int(rng.integers(width)), int(rng.integers(height)), int(rng.integers(6, 19))
        colour = _rgb(hue + rng.normal(25, 25), rng.uniform(60, 200), rng.uniform(90, 250))
        if rng.random() < roundness:
            cv2.circle(image, (x, y), size, colour, -1, cv2.LINE_AA)
        else:
            corners = cv2.boxPoints(((x, y), (2 * size, 1.4 * size), 0 if dark else rng.uniform(0, 90)))
            cv2.fillPoly(image, [corners.astype(np.int32)], colour, cv2.LINE_AA)
    return np.asarray(cv2.GaussianBlur(image, (3, 3), 0), np.uint8)


def _draw_subject(image: Frames, scene: int, place: Track, colour: Colour, skin: Colour) -> None:
    """Draw the hand, body, pointer, animal or talking head at `place`, (x, y) within [-1, 1]."""
    x, y = int(WIDTH / 2 * (1 + 0.8 * place[0])), int(HEIGHT / 2 * (1 + 0.6 * place[1]))
    if scene == 0:
        cv2.line(image, (int(0.8 * WIDTH), HEIGHT), (x, y), skin, 16, cv2.LINE_AA)
        cv2.line(image, (x, y), (x - 14, y - 16), colour, 4, cv2.LINE_AA)
    elif scene == 1:
        for side in (-1, 1):
            cv2.line(image, (x, y + 20), (WIDTH // 2 + side * 14, HEIGHT - 14), colour, 8, cv2.LINE_AA)
            cv2.line(image, (x, y - 12), (x + side * 22, y - int(30 * place[1])), skin, 6, cv2.LINE_AA)
        cv2.line(image, (x, y - 16), (x, y + 20), colour, 16, cv2.LINE_AA)
        cv2.circle(image, (x, y - 32), 11, skin, -1, cv2.LINE_AA)
    elif scene == 2:
        pointer = np.array([[x, y], [x + 5, y + 22], [x + 17, y + 13]], np.int32)
        cv2.fillPoly(image, [pointer], colour, cv2.LINE_AA)
        cv2.rectangle(image, (6, HEIGHT - 14), (WIDTH - 6, HEIGHT - 8), colour, -1)
    elif scene == 3:
        cv2.ellipse(image, (x, y + 30), (17, 10), 0, 0, 360, colour, -1, cv2.LINE_AA)
        cv2.circle(image, (x + 15, y + 20), 7, skin, -1, cv2.LINE_AA)
    else:
        cv2.ellipse(image, (x, HEIGHT), (44, 62), 0, 0, 360, colour, -1, cv2.LINE_AA)
        cv2.circle(image, (x, y - 2), 27, skin, -1, cv2.LINE_AA)


def _write(image: Frames, text: str) -> None:
    """Write white on a black bar across the upper part, as large as fits."""
    (width, _), _ = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, 0.42, 1)
    scale = min(0.5, 0.42 * (WIDTH - 8) / width)
    bottom = 34
    cv2.rectangle(image, (0, bottom - 20), (WIDTH, bottom), (0, 0, 0), -1)
    cv2.putText(image, text, (4, bottom - 6), cv2.FONT_HERSHEY_SIMPLEX, scale, (255, 255, 255), 1, cv2.LINE_AA)


def _rgb(hue: float, saturation: float, value: float) -> Colour:
    """Colour of an OpenCV hue (wraps at 180), saturation and value (to 255)."""
    pixel = np.array([[[round(hue) % 180, saturation, value]]]).astype(np.uint8)
    red, green, blue = cv2.cvtColor(pixel, cv2.COLOR_HSV2RGB)[0, 0].tolist()
    return red, green, blue
