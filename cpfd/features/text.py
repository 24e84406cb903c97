"""A clip's text as the tokens that a text encoder reads."""

import re
import unicodedata
from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerBase


def join_text(manifest: pd.DataFrame, columns: Sequence[str]) -> list[str]:
    """One string per clip: its text columns in the order given, white space folded, empty ones passed over."""
    present = [column for column in columns if column in manifest]
    rows = manifest[present].itertuples(index=False) if present else [()] * len(manifest)
    return [" | ".join(folded for part in row if (folded := fold(part))) for row in rows]


def fold(text: str) -> str:
    """Text in NFC, in which every run of white space is one space; none at the ends."""
    return re.sub(r"\s+", " ", unicodedata.normalize("NFC", text)).strip()


def tokenize(
    texts: Sequence[str], tokenizer: PreTrainedTokenizerBase, max_tokens: int
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Token ids[N, max_tokens] and mask[N, max_tokens] (False: padding, and all of an empty text)."""
    if not texts:
        return np.zeros((0, max_tokens), np.int64), np.zeros((0, max_tokens), np.bool_)
    tokens = tokenizer(list(texts), padding="max_length", truncation=True, max_length=max_tokens, return_tensors="np")
    mask = np.asarray(tokens["attention_mask"], np.bool_)
    mask[[not text for text in texts]] = False
    return np.asarray(tokens["input_ids"], np.int64), mask
