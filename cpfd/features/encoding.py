"""Clips become what the feature store keeps: tokens of frozen backbones, or frames and token ids to finetune on."""

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from cpfd.datasets.isolation import isolated
from cpfd.datasets.limits import Limits
from cpfd.datasets.video import ClipError
from cpfd.features.backbones import TextEncoder, VisionEncoder, load_tokenizer, text_spec, vision_spec
from cpfd.features.decoding import sample_frames
from cpfd.features.text import join_text, tell_cut, tokenize
from cpfd.files import fingerprint
from cpfd.params.schema import Params


class ClipEncoder:
    """Decodes and encodes clips, each by itself: what becomes of one does not depend on others.

    `encode` may run in several threads at once, after `load`.
    """

    def __init__(self, clips: pd.DataFrame, params: Params, code: str = "") -> None:
        """Prepare for a data set's clips (`path`, texts), none of which may be beyond the limits of validation.

        `code` stands for the code and the weights that encode. Raises CpfdError where a backbone cannot be found.
        """
        # A data set of text alone, or of videos alone, costs and stores nothing for what it does not have.
        self._frames = params.video.frames if (clips["path"] != "").any() else 0
        self._text_columns = [name for name in params.text.columns if name in clips and (clips[name] != "").any()]
        self._max_tokens = params.text.max_tokens if self._text_columns else 1
        self._size, self._frozen = params.video.size, params.backbone.mode == "frozen"
        self._limits, self._code, backbone = Limits.of(params.validation), code, params.backbone
        self._vision_spec = vision_spec(backbone.vision, backbone.vision_revision, params.video.grid, self._size)
        self._text_spec = text_spec(backbone.text, backbone.text_revision)
        self._tokenizer = load_tokenizer(backbone.text, backbone.text_revision)
        self._device = torch.device("cuda" if torch.cuda.is_available() else "cpu")

    def load(self) -> None:
        """Load the backbones, where `encode` needs them."""
        if self._frozen:
            self._vision.eval()
            self._text.eval()

    @cached_property
    def _vision(self) -> VisionEncoder:
        return VisionEncoder(self._vision_spec, pretrained=True).to(self._device)

    @cached_property
    def _text(self) -> TextEncoder:
        return TextEncoder(self._text_spec, pretrained=True).to(self._device)

    @property
    def state(self) -> str:
        """The hash of all that decides on what a clip becomes, but for the clip: 16 hexadecimal digits."""
        return fingerprint([], self.describe(), self._limits, self._code)

    def describe(self) -> dict[str, Any]:
        """How clips are encoded: the store's meta.json, but for what it says of the data set."""
        return {
            "mode": "frozen" if self._frozen else "finetune",
            "frames": self._frames,
            "size": self._size,
            "max_tokens": self._max_tokens,
            "text_columns": self._text_columns,
            "vision": self._vision_spec,
            "text": self._text_spec,
        }

    def texts(self, clips: pd.DataFrame) -> list[str]:
        """The text of each clip."""
        return join_text(clips, self._text_columns)

    def tokenize(self, texts: Sequence[str]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """Token ids[N, L] and mask[N, L] of texts; not to be called by two threads at once."""
        return tokenize(texts, self._tokenizer, self._max_tokens)

    def tell_cut(self, texts: Sequence[str]) -> str | None:
        """What `text.max_tokens` cuts off the clips' texts; None where it cuts none."""
        return tell_cut(texts, self._tokenizer, self._max_tokens)

    def encode(
        self, file: Path | None, ids: NDArray[np.int64], mask: NDArray[np.bool_]
    ) -> tuple[NDArray[Any], ...] | ClipError:
        """Decode and encode a clip, whose text is ids[L] with mask[L]: an array for each of PARTS, or why it fails."""
        try:
            return self._arrays(self._decode(file), ids, mask)
        except ClipError as error:
            return error

    def _decode(self, file: Path | None) -> NDArray[np.uint8]:
        """Sample the frames of a clip: rgb[F, size, size, 3]; black for a clip without a video."""
        if file is None:
            return np.zeros((self._frames, self._size, self._size, 3), np.uint8)
        return isolated(sample_frames, file, self._frames, self._size, self._limits)

    @torch.inference_mode()
    def _arrays(
        self, frames: NDArray[np.uint8], ids: NDArray[np.int64], mask: NDArray[np.bool_]
    ) -> tuple[NDArray[Any], ...]:
        """Encode frames[F, H, W, 3] and text: an array for each of PARTS."""
        if not self._frozen:
            return frames, ids, mask
        visual = self._vision(torch.from_numpy(frames).to(self._device))
        length = max(1, int(mask.sum()))  # the rest is padding
        # An empty text still needs one position to attend to; its mask stays empty.
        attended = torch.ones(1, length, dtype=torch.bool, device=self._device)
        textual = self._text(torch.from_numpy(ids[None, :length]).to(self._device), attended)[0]
        padded = F.pad(textual.half(), (0, 0, 0, len(mask) - length))
        return visual.half().cpu().numpy(), padded.cpu().numpy(), mask
