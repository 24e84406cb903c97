"""Clips become what the feature store keeps: tokens of frozen backbones, or frames and token ids to finetune on."""

from dataclasses import dataclass
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
from cpfd.params.schema import Backbone, Text, Video


@dataclass(frozen=True)
class ValidatedClips:
    """A data set as stage `validate` leaves it."""

    dataset: dict[str, Any]
    """What dataset.json says of it."""
    manifest: pd.DataFrame
    videos: Path
    """The folder that the manifest's paths start from."""


@dataclass(frozen=True)
class EncodedClips:
    """Some clips: their arrays in the order of PARTS (none where no clip can be decoded), index and quarantine rows."""

    arrays: tuple[NDArray[Any], ...]
    index: pd.DataFrame
    quarantine: pd.DataFrame


class ClipEncoder:
    """Decodes and encodes clips; `encode` may run in several threads at once."""

    def __init__(self, clips: ValidatedClips, video: Video, text: Text, backbone: Backbone, limits: Limits) -> None:
        """Load what the clips, none beyond `limits`, need; raises CpfdError where a backbone cannot be found."""
        # A data set of text alone, or of videos alone, costs and stores nothing for what it does not have.
        self._manifest = manifest = clips.manifest
        self._frames = video.frames if (manifest["path"] != "").any() else 0
        self._text_columns = [name for name in text.columns if name in manifest and (manifest[name] != "").any()]
        self._max_tokens = text.max_tokens if self._text_columns else 1
        self._videos, self._size, self._frozen = clips.videos, video.size, backbone.mode == "frozen"
        self._limits = limits
        self._vision_spec = vision_spec(backbone.vision, backbone.vision_revision, video.grid, video.size)
        self._text_spec = text_spec(backbone.text, backbone.text_revision)
        self._tokenizer = load_tokenizer(backbone.text, backbone.text_revision)
        self._device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        if self._frozen:
            self._vision = VisionEncoder(self._vision_spec, pretrained=True).eval().to(self._device)
            self._text = TextEncoder(self._text_spec, pretrained=True).eval().to(self._device)

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

    def tokenize(self, clips: pd.DataFrame) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """Token ids[N, L] and mask[N, L] of rows of the manifest; not to be called by two threads at once."""
        return tokenize(join_text(clips, self._text_columns), self._tokenizer, self._max_tokens)

    def tell_cut(self) -> str | None:
        """What `text.max_tokens` cuts off the clips' texts; None where it cuts none."""
        texts = join_text(self._manifest, self._text_columns)
        return tell_cut(texts, self._tokenizer, self._max_tokens)

    def encode(self, clips: pd.DataFrame, ids: NDArray[np.int64], mask: NDArray[np.bool_]) -> EncodedClips:
        """Decode and encode n rows of the manifest, whose text is ids[n, L] with mask[n, L]."""
        decoded = [self._decode(path) for path in clips["path"]]
        good = np.array([not isinstance(frames, ClipError) for frames in decoded])
        kept = clips[good]
        index = pd.DataFrame(
            {
                "video_id": kept["video_id"],
                "split": kept["split"],
                "label": kept["label"],
                "creator_id": kept.get("creator_id", ""),
                "has_video": kept["path"] != "",
                "has_text": mask[good].any(axis=1),
            }
        )
        reasons = [str(frames) for frames in decoded if isinstance(frames, ClipError)]
        quarantine = pd.DataFrame({"table": "clips", "video_id": clips["video_id"][~good], "reason": reasons})
        if not good.any():
            return EncodedClips((), index, quarantine)
        frames = np.stack([frames for frames in decoded if not isinstance(frames, ClipError)])
        return EncodedClips(self._arrays(frames, ids[good], mask[good]), index, quarantine)

    def _decode(self, path: str) -> NDArray[np.uint8] | ClipError:
        """Sample the frames of a clip: rgb[F, size, size, 3]; black for a clip without a video."""
        if not path:
            return np.zeros((self._frames, self._size, self._size, 3), np.uint8)
        try:
            return isolated(sample_frames, self._videos / path, self._frames, self._size, self._limits)
        except ClipError as error:
            return error

    @torch.inference_mode()
    def _arrays(
        self, frames: NDArray[np.uint8], ids: NDArray[np.int64], mask: NDArray[np.bool_]
    ) -> tuple[NDArray[Any], ...]:
        """Encode frames[n, F, H, W, 3] and text into the arrays of a shard, in the order of PARTS."""
        if not self._frozen:
            return frames, ids, mask
        visual = self._vision(torch.from_numpy(frames).flatten(0, 1).to(self._device)).unflatten(0, frames.shape[:2])
        longest = max(1, mask.sum(1).max())  # the rest of every text is padding
        # An empty text still needs one position to attend to; its mask stays empty.
        attended = torch.from_numpy(mask[:, :longest] | (np.arange(longest) == 0)).to(self._device)
        textual = self._text(torch.from_numpy(ids[:, :longest]).to(self._device), attended)
        padded = F.pad(textual.half(), (0, 0, 0, mask.shape[1] - longest))
        return visual.half().cpu().numpy(), padded.cpu().numpy(), mask
