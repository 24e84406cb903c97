"""A clip's text as the tokens that a text encoder reads."""

import re
import unicodedata
from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerBase

from cpfd.pages.formatting import share

_COUNTED_TOGETHER = 4096
_NEARLY_ALL = 0.95


def join_text(manifest: pd.DataFrame, columns: Sequence[str]) -> list[str]:
    """One string per clip: its text columns in the order given, white space folded, empty ones passed over."""
    present = [column for column in columns if column in manifest]
    rows = manifest[present].itertuples(index=False) if present else [()] * len(manifest)
    return [" | ".join(folded for part in row if (folded := fold(part))) for row in rows]


def fold(text: str) -> str:
    """Text in NFC, in which every run of white space is one space; none at the ends."""
    return re.sub(r"\s+", " ", unicodedata.normalize("NFC", text)).strip()


def tell_cut(texts: Sequence[str], tokenizer: PreTrainedTokenizerBase, max_tokens: int) -> str | None:
    """How many of the texts `tokenize` cuts, and how many tokens would hold nearly all; None where it cuts none."""
    written = [text for text in texts if text]
    parts = (written[start : start + _COUNTED_TOGETHER] for start in range(0, len(written), _COUNTED_TOGETHER))
    tokens = np.array([len(ids) for part in parts for ids in tokenizer(part, verbose=False)["input_ids"]], np.int64)
    cut = int((tokens > max_tokens).sum())
    if not cut:
        return None
    return (
        f"the text of {cut} clips, {share(cut / len(written))} of those with text, is cut at {max_tokens} tokens"
        f" (text.max_tokens); {int(np.quantile(tokens, _NEARLY_ALL, method='higher'))} would hold"
        f" {share(_NEARLY_ALL)} of the texts whole"
    )


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
