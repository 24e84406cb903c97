"""A student as `export` leaves it, without a training."""

from pathlib import Path

import torch

from cpfd.features.backbones import EFFICIENTNET, MINILM, load_tokenizer, text_spec, vision_spec
from cpfd.models.xvlm import XVlmConfig, build_model
from cpfd.student.processing import XVlmProcessor
from cpfd.student.student import Student
from tests.support.small import CLASSES


def save_student(folder: Path, *, frames: int = 2, text_columns: tuple[str, ...] = ("title",)) -> Path:
    """Save a student that has seen no clip: random weights on the bundled backbones."""
    torch.manual_seed(0)
    config = XVlmConfig(
        vision=vision_spec(EFFICIENTNET, None, 2, 64),
        text=text_spec(MINILM, None),
        frames=frames,
        size=64,
        max_tokens=8 if text_columns else 1,
        text_columns=list(text_columns),
        classes=CLASSES,
        hidden_size=16,
        fusion_layers=1,
        attention_heads=2,
    )
    student = Student(build_model(config), XVlmProcessor(load_tokenizer(MINILM, None), frames, 64, config.max_tokens))
    student.network.save_pretrained(folder)
    student.processor.save_pretrained(folder)
    return folder
