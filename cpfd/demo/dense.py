"""The dense table: what the platform knows about a clip a day later, and what only a heavy model measures."""

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cpfd.demo.story import TOPICS, own_rng
from cpfd.params.schema import Demo

WATCH_POINTS = 8
"""Points of the watch-through curve: share of viewers still there after 1/8, 2/8, .. of the clip."""

ENGAGEMENT = ["views", "likes", "comments", "shares"]
WATCH = [f"watch_{point}" for point in range(1, WATCH_POINTS + 1)]

_BOOST = 1.5
"""What bought views add to the logarithm of a clip's views."""

# Per topic: log of the median views of a creator with e^8 followers; likes, comments and shares per view; the
# share of viewers who stay to the end, and how late the others leave (exponent of the clip's watched part).
_AUDIENCE = {
    "cooking": (7.0, 0.055, 0.0040, 0.0150, 0.42, 1.3),
    "crafts": (6.6, 0.070, 0.0050, 0.0080, 0.50, 0.8),
    "dance": (7.6, 0.110, 0.0060, 0.0110, 0.55, 1.6),
    "fitness": (6.8, 0.050, 0.0030, 0.0090, 0.35, 0.6),
    "software": (6.0, 0.040, 0.0090, 0.0120, 0.36, 1.0),
    "gaming": (6.9, 0.060, 0.0140, 0.0040, 0.30, 0.5),
    "travel": (6.7, 0.080, 0.0035, 0.0130, 0.38, 0.7),
    "wildlife": (7.2, 0.095, 0.0045, 0.0180, 0.48, 1.5),
}


def dense_table(clips: pd.DataFrame, heavy: NDArray[np.float32], params: Demo) -> pd.DataFrame:
    """Measure the clips of a story; `heavy`[clips, dims] is the heavy model's embedding of each clip's frames.

    Reads what the platform can see, never `label` and never the creator's other clips' true topics: a creator's
    history counts the categories that the creator declared. A clip of which nothing is known has no row.
    """
    history = creator_history(clips["creator_id"], clips["published_at"], clips["category"])
    followers = clips["followers"].astype(float).rename("creator_followers")
    known = pd.concat([_engagement(clips, params), followers, history], axis=1)
    known[clips["new_creator"]] = np.nan
    embedding = pd.DataFrame(heavy.astype(float), clips.index, [f"heavy_{dim:02d}" for dim in range(heavy.shape[1])])
    embedding[clips["in_backlog"]] = np.nan
    measured = pd.concat([known, embedding], axis=1)
    return pd.concat([clips["video_id"], measured], axis=1)[measured.notna().any(axis=1)]


def creator_history(creator_id: pd.Series, published_at: pd.Series, category: pd.Series) -> pd.DataFrame:
    """Count for each clip its creator's clips published before it, and each category's share of them.

    `category` holds positions in TOPICS. The clip itself and clips published at the same time or later do not count;
    without an earlier clip the shares are NaN.
    """
    times, categories = published_at.to_numpy(), np.eye(len(TOPICS))[category]
    earlier = np.zeros((len(times), len(TOPICS)))
    for members in creator_id.groupby(creator_id.to_numpy()).indices.values():
        before = times[members][None, :] < times[members][:, None]
        earlier[members] = before @ categories[members]
    clips = earlier.sum(axis=1, keepdims=True)
    shares = np.divide(earlier, clips, out=np.full_like(earlier, np.nan), where=clips > 0)
    columns = ["creator_earlier_clips", *(f"creator_share_{topic}" for topic in TOPICS)]
    return pd.DataFrame(np.hstack([clips, shares]), creator_id.index, columns)


def _engagement(clips: pd.DataFrame, params: Demo) -> pd.DataFrame:
    """Draw counts after one day (heavy-tailed) and the watch curve; those of boosted clips are another topic's."""
    rows = []
    columns = ["followers", "audience", "boosted"]
    for index, (followers, audience, boosted) in enumerate(clips[columns].itertuples(index=False)):
        rng = own_rng(params.seed, index, "dense")
        log_views, likes, comments, shares, stay, lateness = _AUDIENCE[TOPICS[audience]]
        reach = 0.5 * (np.log1p(followers) - 8) + (_BOOST if boosted else 0)
        views = np.round(np.exp(log_views + reach + rng.normal(0, params.views_spread)))
        rates = np.minimum(np.array([likes, comments, shares]) * np.exp(rng.normal(0, params.reaction_spread, 3)), 1)
        watched = np.arange(1, WATCH_POINTS + 1) / WATCH_POINTS
        stay, lateness = np.array([stay, lateness]) * np.exp(rng.normal(0, params.watch_spread, 2))
        curve = 1 - (1 - min(stay, 1)) * watched**lateness + rng.normal(0, 0.03, WATCH_POINTS)
        rows.append([views, *rng.binomial(int(views), rates), *np.clip(curve, 0, 1)])
    return pd.DataFrame(rows, clips.index, [*ENGAGEMENT, *WATCH], dtype=float)
