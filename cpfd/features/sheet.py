"""A clip at a glance: a few of its frames in one picture."""

from pathlib import Path

import cv2
import numpy as np

from cpfd.datasets.video import probe
from cpfd.features.decoding import sample_frames

SHEET_FRAMES = 6
_FRAME_HEIGHT, _FRAME_WIDTH, _ROW_WIDTH, _GAP = 160, 320, 720, 2  # pixels: most of a frame, most of one row


def contact_sheet(video: Path) -> bytes:
    """Frames of a clip in its own aspect ratio, at most 160 pixels high, in one row or else in two: a JPEG file.

    Raises ClipError when the clip cannot be decoded.
    """
    clip = probe(video)
    scale = min(_FRAME_HEIGHT / clip.height, _FRAME_WIDTH / clip.width)
    width, height = (max(1, round(scale * side)) for side in (clip.width, clip.height))
    # Frames are sampled as squares: large enough that undoing it only ever shrinks.
    square = sample_frames(video, SHEET_FRAMES, max(width, height))
    frames = [cv2.resize(frame, (width, height), interpolation=cv2.INTER_AREA) for frame in square]
    columns = SHEET_FRAMES if SHEET_FRAMES * width <= _ROW_WIDTH else SHEET_FRAMES // 2
    sheet = np.full(
        (SHEET_FRAMES // columns * (height + _GAP) - _GAP, columns * (width + _GAP) - _GAP, 3), 128, np.uint8
    )
    for number, frame in enumerate(frames):
        top, left = number // columns * (height + _GAP), number % columns * (width + _GAP)
        sheet[top : top + height, left : left + width] = frame
    written, jpeg = cv2.imencode(".jpg", cv2.cvtColor(sheet, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 80])
    assert written
    return jpeg.tobytes()
