"""From files and strings to what the network takes."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import PreTrainedTokenizerBase, ProcessorMixin

from cpfd.features.decoding import sample_frames
from cpfd.features.text import tokenize

Sampler = Callable[[Path, int, int], NDArray[np.uint8]]


class XVlmProcessor(ProcessorMixin):
    """Samples frames and tokenises text exactly as the feature store did when the network was trained."""

    tokenizer: PreTrainedTokenizerBase

    def __init__(
        self, tokenizer: PreTrainedTokenizerBase, frames: int = 6, size: int = 160, max_tokens: int = 32
    ) -> None:
        """Take the text encoder's tokenizer and the sizes of XVlmConfig."""
        super().__init__(tokenizer)
        self.frames, self.size, self.max_tokens = frames, size, max_tokens

    def __call__(
        self, videos: Sequence[Path | None], texts: Sequence[str], sample: Sampler = sample_frames
    ) -> dict[str, Tensor]:
        """Inputs of XVlmForVideoClassification.forward for N clips; None for a clip without a video, "" without text.

        `sample` makes rgb[count, size, size, 3] of a path, count and size. Raises ClipError when a video cannot be
        decoded.
        """
        frames = np.zeros((len(videos), self.frames, self.size, self.size, 3), np.uint8)
        for clip, path in enumerate(videos):
            if path is not None and self.frames:
                frames[clip] = sample(path, self.frames, self.size)
        ids, mask = tokenize(texts, self.tokenizer, self.max_tokens)
        inputs: dict[str, Any] = {
            "frames": frames,
            "text": ids,
            "text_mask": mask,
            "has_video": np.array([path is not None for path in videos]),
        }
        return {name: torch.from_numpy(values) for name, values in inputs.items()}
