"""A data set of 24 tiny clips as `validate` leaves it, its feature store, and small backbones: in about a second."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from ruamel.yaml import YAML
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import AutoModel, BertConfig, PreTrainedConfig, PreTrainedTokenizerFast, ViTConfig

from cpfd.datasets.validated import split_tables
from cpfd.features.encoding import ClipEncoder
from cpfd.features.extract import extract_features
from cpfd.features.known import KnownClips
from cpfd.features.store import FeatureStore
from cpfd.files import read_table, write_json, write_table
from cpfd.params.problems import check_params
from cpfd.params.schema import Params
from tests.support.clips import write_clip
from tests.support.project import ROOT

CLASSES = ["cat", "dog", "eel"]
SMALL: dict[str, dict[str, Any]] = {
    "dataset": {"name": "small"},
    "video": {"frames": 2, "size": 64, "grid": 2},
    "text": {"max_tokens": 8},
    "extract": {"threads": 1, "shard_clips": 10},
    "model": {"hidden_size": 16, "fusion_layers": 2, "attention_heads": 2},
    "train": {"epochs": 3, "batch_size": 4, "patience": 3},
}

ONE_LAYER = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
VIT = ViTConfig(**ONE_LAYER, image_size=64, patch_size=16)
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "my", *CLASSES, "number"]


def read_params() -> dict[str, dict[str, Any]]:
    """The repository's params.yaml."""
    return YAML(typ="safe").load(ROOT / "params.yaml")


def small_params(**groups: dict[str, Any]) -> Params:
    """The repository's params.yaml with small sizes and `groups` on top."""
    content = read_params()
    for overrides in (SMALL, groups):
        for group, values in overrides.items():
            content[group].update(values)
    return check_params(content)


def write_videos(folder: Path) -> pd.DataFrame:
    """Write clips below `folder` and return their manifest.

    Twelve labelled training clips, four unlabelled ones, four for validation, four for the test. Every seventh row is a
    text without a video; every fifth row has no text.
    """
    rows = []
    for number in range(24):
        split = "train" if number < 16 else "validation" if number < 20 else "test"
        name = CLASSES[number % 3]
        rows.append(
            {
                "video_id": f"clip-{number:02}",
                "path": "" if number % 7 == 3 else f"{number:02}.mp4",
                "title": "" if number % 5 == 2 else f"my {name}  number {number}",
                "label": "" if 12 <= number < 16 else name,
                "creator_id": f"creator-{number // 2}",
                "split": split,
            }
        )
        if rows[-1]["path"]:
            write_clip(folder / f"{number:02}.mp4", seed=number, frames=6)
    return pd.DataFrame(rows)


def extract(
    folder: Path,
    manifest: pd.DataFrame,
    params: Params,
    known: KnownClips | None = None,
    *,
    task: str = "single_label",
    classes: Sequence[str] = CLASSES,
    max_quarantined: int = 0,
) -> FeatureStore:
    """Extract the features of the clips in folder/videos into folder/content."""
    if "content_hash" not in manifest:
        manifest = manifest.assign(content_hash=[content_hash(folder / "videos" / path) for path in manifest["path"]])
    for name, table in split_tables(manifest).items():
        write_table(folder / name, table)
    write_json(folder / "task.json", {"task": task, "classes": list(classes), "has_dense": True})
    clips = read_table(folder / "content.parquet")
    extract_features(
        clips,
        ClipEncoder(clips, params),
        params.extract,
        known or KnownClips(),
        lambda paths: folder / "videos",
        folder / "content",
        folder / "scratch",
        max_quarantined=max_quarantined,
    )
    return FeatureStore(folder / "content", folder)


def content_hash(file: Path) -> str:
    """The hash of a clip's file, as stage validate notes it; of one that has gone since then, of its name."""
    if file.is_dir():  # a clip without a video
        return ""
    return hashlib.sha256(file.read_bytes() if file.exists() else file.name.encode()).hexdigest()


@dataclass(frozen=True)
class Extracted:
    """A data set's folder with videos/ and content/, its manifest and its features."""

    folder: Path
    manifest: pd.DataFrame
    store: FeatureStore


def save_vision(folder: Path, config: PreTrainedConfig) -> str:
    """Save a small vision model with random weights, and how its pixels are normalised, as on a hub."""
    torch.manual_seed(0)
    AutoModel.from_config(config).save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text('{"image_mean": [0.5, 0.4, 0.3], "image_std": [0.2, 0.2, 0.2]}')
    return str(folder)


def save_text(folder: Path) -> str:
    """Save a small BERT with random weights and a tokenizer of nine words."""
    torch.manual_seed(0)
    AutoModel.from_config(BertConfig(**ONE_LAYER, vocab_size=9, max_position_embeddings=16)).save_pretrained(folder)
    tokenizer = Tokenizer(models.WordLevel({word: number for number, word in enumerate(WORDS)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]"
    ).save_pretrained(folder)
    return str(folder)
