"""X-VLM for video classification.

After Zeng et al. 2021, "Multi-Grained Vision Language Pre-Training" (arXiv 2111.08276): a vision encoder, a text
encoder and fusion layers in which text tokens attend to visual tokens; Shi et al. 2024 (arXiv 2410.03038) add dense
tokens for the teacher. Reads from top to bottom as the figure does: encode frames, encode text, fuse, classify.

Shapes: B clips, F frames, P tokens a frame, L text tokens, M dense values, T dense tokens, H hidden size, C classes.
"""

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import AutoConfig, PreTrainedConfig, PreTrainedModel
from transformers.utils.generic import ModelOutput

from cpfd.features.backbones import TextEncoder, VisionEncoder


class XVlmConfig(PreTrainedConfig):
    """What an X-VLM is made of; `dense_values` > 0 makes it the teacher."""

    model_type = "xvlm"

    vision: dict[str, Any] | None = None
    """Vision encoder (cpfd.features.backbones.vision_spec)."""
    text: dict[str, Any] | None = None
    """Text encoder (cpfd.features.backbones.text_spec)."""
    backbones: bool = True
    """Whether the encoders are part of the network; otherwise it takes their tokens, computed beforehand."""
    frames: int = 6
    size: int = 160
    max_tokens: int = 32
    text_columns: list[str] | None = None
    """Which text a clip's text is joined from; a note for users of the model."""
    classes: list[str] | None = None
    task: str = "single_label"
    hidden_size: int = 128
    fusion_layers: int = 2
    attention_heads: int = 4
    dropout: float = 0.1
    label_smoothing: float = 0.0
    dense_values: int = 0
    """Length of the dense vector, missing-value indicators included; 0 for a student."""
    dense_tokens: int = 4


AutoConfig.register(XVlmConfig.model_type, XVlmConfig)  # else transformers warns that it does not know the type


@dataclass
class XVlmOutput(ModelOutput):
    """`logits`[B, C]; `loss`, a scalar, where labels were given."""

    loss: Tensor | None = None
    logits: Tensor | None = None


class XVlmForVideoClassification(PreTrainedModel):
    """Classifies clips from frames and text, and from dense features where its config says so."""

    config_class = XVlmConfig
    config: XVlmConfig
    main_input_name = "frames"

    def __init__(self, config: XVlmConfig) -> None:
        """Build the network with random weights."""
        super().__init__(config)
        assert config.vision is not None
        assert config.text is not None
        assert config.classes is not None
        hidden = config.hidden_size
        if config.backbones:
            self.vision_encoder = VisionEncoder(config.vision)
            self.text_encoder = TextEncoder(config.text)
        self.visual_in = _Projection(config.vision["dim"], hidden, config.dropout)
        self.textual_in = _Projection(config.text["dim"], hidden, config.dropout)
        self.frame_position = nn.Parameter(torch.empty(config.frames, 1, hidden))
        self.patch_position = nn.Parameter(torch.empty(1, config.vision["grid"] ** 2, hidden))
        self.no_video = nn.Parameter(torch.empty(1, 1, hidden))
        self.query = nn.Parameter(torch.empty(1, 1, hidden))
        if config.dense_values:
            self.dense_encoder = _DenseEncoder(config)
        self.fusion = nn.ModuleList([_FusionLayer(config) for _ in range(config.fusion_layers)])
        self.head = nn.Sequential(
            nn.LayerNorm(hidden), nn.Dropout(config.dropout), nn.Linear(hidden, len(config.classes))
        )
        self.post_init()

    def forward(
        self,
        frames: Tensor,
        text: Tensor,
        text_mask: Tensor,
        has_video: Tensor,
        dense: Tensor | None = None,
        labels: Tensor | None = None,
    ) -> XVlmOutput:
        """Classify a batch of clips.

        frames[B, F, H, W, 3] uint8 and text[B, L] token ids; or their encoders' tokens, frames[B, F, P, Dv] and
        text[B, L, Dt], floating. text_mask[B, L] is False at padding, has_video[B] False for a clip of text alone.
        dense[B, M] is for the teacher only. labels[B, C]: float targets, a distribution or multi-hot.
        """
        visual = self.encode_frames(frames, has_video)
        textual = self.encode_text(text, text_mask)
        fused = self.fuse(visual, textual, text_mask, has_video, dense)
        logits = self.head(fused)
        loss = None
        if labels is not None:
            loss = label_loss(logits, labels, self.config.task, self.config.label_smoothing).mean()
        return XVlmOutput(loss=loss, logits=logits)

    def encode_frames(self, frames: Tensor, has_video: Tensor) -> Tensor:
        """Frames or their tokens to visual tokens[B, F * P, H] that know their frame and their place in it."""
        if not frames.is_floating_point():
            frames = self.vision_encoder(frames.flatten(0, 1)).unflatten(0, frames.shape[:2])
        projected = self.visual_in(frames.to(self.dtype))
        return (projected + self.frame_position + self.patch_position).flatten(1, 2)

    def encode_text(self, text: Tensor, text_mask: Tensor) -> Tensor:
        """Token ids or their tokens to text tokens[B, L, H]."""
        if not text.is_floating_point():
            # An empty text still needs one position to attend to; fusion masks it out again.
            attended = text_mask | (torch.arange(text.shape[1], device=text.device) == 0)
            text = self.text_encoder(text, attended)
        return self.textual_in(text.to(self.dtype))

    def fuse(
        self, visual: Tensor, textual: Tensor, text_mask: Tensor, has_video: Tensor, dense: Tensor | None
    ) -> Tensor:
        """Let query, text and dense tokens attend to each other and to the visual tokens; returns the query[B, H]."""
        clips = len(visual)
        always = torch.ones(clips, 1, dtype=torch.bool, device=visual.device)
        visual_mask = has_video.bool()[:, None].expand(-1, visual.shape[1])
        # The query starts as the mean of what there is: few clips are not enough to learn pooling from nothing.
        query = self.query + _mean(textual, text_mask) + _mean(visual, visual_mask)
        tokens, mask = [textual], [text_mask.bool()]
        if self.config.dense_values:
            if dense is None:
                raise ValueError("a teacher (dense_values > 0) needs `dense`")
            tokens.append(self.dense_encoder(dense.to(self.dtype)))
            mask.append(always.expand(-1, self.config.dense_tokens))
            query = query + tokens[-1].mean(1, keepdim=True)
        x, x_mask = torch.cat([query, *tokens], 1), torch.cat([always, *mask], 1)
        # One learned token stands for "there is no video", so that attention always has somewhere to look.
        memory = torch.cat([self.no_video.expand(clips, -1, -1), visual], 1)
        memory_mask = torch.cat([always, visual_mask], 1)
        for layer in self.fusion[:-1]:
            x = layer(x, x_mask, memory, memory_mask)
        # Of the last layer only the query is read, so only the query is computed.
        return self.fusion[-1](x, x_mask, memory, memory_mask, keep=1)[:, 0]

    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, VisionEncoder | TextEncoder):
            return
        if isinstance(module, nn.Linear):
            nn.init.trunc_normal_(module.weight, std=0.02)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.LayerNorm):
            nn.init.ones_(module.weight)
            nn.init.zeros_(module.bias)
        elif isinstance(module, XVlmForVideoClassification):
            for parameter in (module.frame_position, module.patch_position, module.no_video, module.query):
                nn.init.trunc_normal_(parameter, std=0.02)


def build_model(config: XVlmConfig) -> XVlmForVideoClassification:
    """Build a network with random fusion and, where it has backbones, their pretrained weights."""
    model = XVlmForVideoClassification(config)
    if config.backbones:
        assert config.vision is not None
        assert config.text is not None
        model.vision_encoder = VisionEncoder(config.vision, pretrained=True)
        model.text_encoder = TextEncoder(config.text, pretrained=True)
    return model


def label_loss(
    logits: Tensor, labels: Tensor, task: str, smoothing: float = 0.0, class_weights: Tensor | None = None
) -> Tensor:
    """Cross-entropy[N] of logits[N, C] to labels[N, C], a distribution (single_label) or independent probabilities.

    `smoothing` mixes the uniform distribution into the labels (Szegedy et al. 2016, arXiv 1512.00567, section 7; for
    multi_label towards 1/2 per class); `class_weights`[C] weights each class's share. Multi-label losses are means over
    classes.
    """
    logits = logits.float()
    weights = logits.new_ones(()) if class_weights is None else class_weights
    if task == "single_label":
        labels = (1 - smoothing) * labels + smoothing / labels.shape[-1]
        return -(weights * labels * logits.log_softmax(-1)).sum(-1)
    labels = (1 - smoothing) * labels + smoothing / 2
    return F.binary_cross_entropy_with_logits(logits, labels, weights.expand_as(logits), reduction="none").mean(-1)


def _mean(tokens: Tensor, mask: Tensor) -> Tensor:
    """Mean[B, 1, H] of the tokens[B, N, H] that mask[B, N] keeps; 0 where it keeps none."""
    kept = mask[..., None].to(tokens.dtype)
    return (tokens * kept).sum(1, keepdim=True) / kept.sum(1, keepdim=True).clamp(min=1)


class _Projection(nn.Sequential):
    """Tokens of an encoder[..., D] to the fusion's width[..., H]."""

    def __init__(self, width: int, hidden: int, dropout: float) -> None:
        super().__init__(nn.LayerNorm(width), nn.Linear(width, hidden), nn.Dropout(dropout))


class _DenseEncoder(nn.Module):
    """Dense values[B, M] to dense tokens[B, T, H]."""

    def __init__(self, config: XVlmConfig) -> None:
        super().__init__()
        self.tokens = config.dense_tokens
        self.network = nn.Sequential(
            nn.Linear(config.dense_values, 2 * config.hidden_size),
            nn.GELU(),
            nn.Dropout(config.dropout),
            nn.Linear(2 * config.hidden_size, config.dense_tokens * config.hidden_size),
        )

    def forward(self, dense: Tensor) -> Tensor:
        return self.network(dense).unflatten(1, (self.tokens, -1))


class _FusionLayer(nn.Module):
    """Self-attention among the tokens, cross-attention to the visual memory, feed-forward; each pre-normalised."""

    def __init__(self, config: XVlmConfig) -> None:
        super().__init__()
        hidden = config.hidden_size
        self.self_attention = _Attention(hidden, config.attention_heads)
        self.cross_attention = _Attention(hidden, config.attention_heads)
        self.feed_forward = nn.Sequential(nn.Linear(hidden, 4 * hidden), nn.GELU(), nn.Linear(4 * hidden, hidden))
        self.norms = nn.ModuleList([nn.LayerNorm(hidden) for _ in range(4)])
        self.dropout = nn.Dropout(config.dropout)

    def forward(
        self, x: Tensor, x_mask: Tensor, memory: Tensor, memory_mask: Tensor, keep: int | None = None
    ) -> Tensor:
        y = self.norms[0](x)
        x = x[:, :keep] + self.dropout(self.self_attention(y[:, :keep], y, x_mask))
        x = x + self.dropout(self.cross_attention(self.norms[1](x), self.norms[2](memory), memory_mask))
        return x + self.dropout(self.feed_forward(self.norms[3](x)))


class _Attention(nn.Module):
    """Multi-head attention of x[B, N, H] to memory[B, K, H], False in mask[B, K] hides a key (arXiv 1706.03762)."""

    def __init__(self, hidden: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query, self.key_value, self.out = (
            nn.Linear(hidden, hidden),
            nn.Linear(hidden, 2 * hidden),
            nn.Linear(hidden, hidden),
        )

    def forward(self, x: Tensor, memory: Tensor, mask: Tensor) -> Tensor:
        query = self.query(x).unflatten(-1, (self.heads, -1)).transpose(1, 2)
        key, value = self.key_value(memory).unflatten(-1, (2, self.heads, -1)).permute(2, 0, 3, 1, 4)
        attended = F.scaled_dot_product_attention(query, key, value, attn_mask=mask[:, None, None])
        return self.out(attended.transpose(1, 2).flatten(2))
