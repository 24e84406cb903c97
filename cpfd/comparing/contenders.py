"""Champion against challenger: two exported students on the same test clips, scored from the files."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from tqdm import tqdm

from cpfd import metrics
from cpfd.datasets.contract import TEXT_COLUMNS, label_matrix, parse_labels
from cpfd.datasets.video import ClipError, probe
from cpfd.errors import CpfdError
from cpfd.evaluation import bootstrap
from cpfd.features.text import join_text
from cpfd.params.schema import Evaluation
from cpfd.student.student import Student

NEVER = -1e9
"""Logit of a class that a student does not know: finite, and of no probability."""


@dataclass(frozen=True)
class Contender:
    """A student's logits[N, C] on N test clips, over its own C classes, and its size."""

    classes: list[str]
    task: str
    logits: NDArray[np.float32]
    bytes: int
    parameters: int


@dataclass(frozen=True)
class Match:
    """Two contenders over the same classes, on those of N clips that both can be judged on.

    `shared` classes are known to both, `only` to one. judged[N] marks J clips: targets[J, C] and each one's
    logits[J, C] are over `columns`. `logits` is empty where nothing can be compared; `note` says why, or what is left
    out.
    """

    task: str
    shared: list[str]
    only: dict[str, list[str]]
    judged: NDArray[np.bool_]
    columns: list[str]
    targets: NDArray[np.float32]
    logits: Mapping[str, NDArray[np.float32]]
    note: str | None


def select_clips(index: pd.DataFrame, manifest: pd.DataFrame, learnt: pd.DataFrame) -> tuple[pd.DataFrame, int]:
    """The labelled test clips that the champion has not learnt from, by video_id, and how many it has.

    index, manifest: the challenger's data/features/content/index.parquet and data/validated/manifest.parquet.
    `learnt` is the champion's manifest: a clip is known by its video_id, or by the content of its file. Returns rows
    of `manifest` with `creator_id`, empty where it is unknown.
    """
    tested = index[(index["split"] == "test") & (index["label"] != "")].sort_values("video_id")
    clips = manifest.set_index("video_id").loc[tested["video_id"]].reset_index()
    clips["creator_id"] = tested["creator_id"].to_numpy()
    learnt = learnt[learnt["split"] != "test"]
    same_file = (clips["content_hash"] != "") & clips["content_hash"].isin(learnt["content_hash"])
    known = clips["video_id"].isin(learnt["video_id"]) | same_file
    return clips[~known].reset_index(drop=True), int(known.sum())


def score(student: Student, clips: pd.DataFrame, videos: Path, threads: int, title: str) -> Contender:
    """Classify `clips` from their files, as in production: `threads` of them side by side, each by itself.

    clips: `video_id`, `path` relative to `videos` (empty for text alone) and text columns. The result does not depend
    on `threads`. Raises CpfdError naming a clip that cannot be decoded.
    """
    network = student.network
    texts = join_text(clips, network.config.text_columns or [])

    def logits(clip: tuple[str, str, str]) -> NDArray[np.float32]:
        video_id, path, text = clip
        try:
            return student.logits(videos / path if path else None, text).numpy()
        except ClipError as error:
            raise CpfdError(f"{videos / path}: test clip '{video_id}' cannot be scored: {error}") from error

    todo = list(zip(clips["video_id"], clips["path"], texts, strict=True))
    with student.side_by_side(threads) as pool:
        rows = list(tqdm(pool.map(logits, todo), title, total=len(todo), unit="clip"))
    return Contender(
        classes=list(network.config.classes or []),
        task=network.config.task,
        logits=np.array(rows, np.float32).reshape(len(rows), len(network.config.classes or [])),
        bytes=sum(tensor.nbytes for tensor in network.state_dict().values()),
        parameters=network.num_parameters(),
    )


def describe_clips(clips: pd.DataFrame, index: pd.DataFrame, videos: Path) -> pd.DataFrame:
    """The slice of each of `clips` by `creator`, `length` and `text`, in words.

    `index` has the clips of all splits, and so tells how many of them a creator has. Creators and lengths are cut
    into thirds of `clips`. Raises CpfdError naming a clip that cannot be decoded.
    """
    uploads = index.loc[index["creator_id"] != "", "creator_id"].value_counts()
    named = zip(clips["video_id"], clips["path"], strict=True)
    seconds = [_seconds(videos / path, video_id) if path else np.nan for video_id, path in named]
    written = [bool(text) for text in join_text(clips, TEXT_COLUMNS)]
    return pd.DataFrame(
        {
            "creator": _thirds(clips["creator_id"].map(uploads), "creators of {} clips", ".0f", "creator unknown"),
            "length": _thirds(pd.Series(seconds, clips.index), "clips of {} s", ".1f", "no video"),
            "text": np.where(written, "with text", "without text"),
        },
        clips.index,
    )


def match(clips: pd.DataFrame, champion: Contender, challenger: Contender) -> Match:
    """Bring two contenders on the same labelled clips[N] onto the same classes, in the challenger's order.

    A clip of a class that only one of them knows is judged in a multi-label task alone, by the shared classes.
    """
    task = challenger.task
    only = {
        "champion": [name for name in champion.classes if name not in challenger.classes],
        "challenger": [name for name in challenger.classes if name not in champion.classes],
    }
    shared = [name for name in challenger.classes if name in champion.classes]
    carried = [set(parse_labels(label, task)) for label in clips["label"]]
    judged = np.array([task == "multi_label" or names <= set(shared) for names in carried], np.bool_)
    # A class that only one of them knows is still one that it may wrongly choose; one label needs one scale for all.
    columns = shared if task == "multi_label" else [*shared, *only["challenger"], *only["champion"]]
    kept = pd.Series(["|".join(sorted(names & set(shared))) for names in carried], dtype=object)[judged]
    targets = label_matrix(kept, columns, task)
    note = _note(champion, challenger, shared, only, bool(targets.any()))
    comparable = champion.task == task and bool(targets.any())
    both = {"champion": champion, "challenger": challenger} if comparable else {}
    logits = {name: _align(each, columns)[judged] for name, each in both.items()}
    return Match(task, shared, only, judged, columns, targets, logits, note)


def compare(
    clips: pd.DataFrame,
    slices: pd.DataFrame,
    champion: Contender,
    challenger: Contender,
    settings: Evaluation,
    least_clips: int,
) -> dict[str, Any]:
    """Compare two students on the same N labelled test clips: clips[N] with `label` and `creator_id`, slices[N].

    Returns `clips`, how many were `left_out` because the champion does not know their class, the `classes` that only
    one of them knows, and for each score {champion, challenger}; macro-F1 with its difference (`bootstrap.difference`
    over creators). `per_class` and `per_slice` have those with at least `least_clips` clips, and no slice that is all
    of them; they and every score are None where nothing can be compared, and `note` says why.
    """
    pair = match(clips, champion, challenger)
    told: dict[str, Any] = {
        "classes": {"shared": len(pair.shared), "only": pair.only},
        "bytes": {"champion": champion.bytes, "challenger": challenger.bytes},
        "parameters": {"champion": champion.parameters, "challenger": challenger.parameters},
        "clips": int(pair.judged.sum()),
        "left_out": {"unknown_class": int((~pair.judged).sum())},
        "note": pair.note,
    }
    if not pair.logits:
        return told | dict.fromkeys(("macro_f1", "accuracy", "calibration_error", "per_class", "per_slice"))

    task, targets, logits = pair.task, pair.targets, pair.logits
    # As in cpfd.evaluation.results: a clip of an unknown creator is its own cluster.
    creators = clips["creator_id"]
    owners = np.where(creators == "", "clip " + clips["video_id"], "creator " + creators)[pair.judged]
    clusters = np.unique(owners.astype(str), return_inverse=True)[1]

    def difference(rows: NDArray[np.bool_]) -> dict[str, float]:
        compact = np.unique(clusters[rows], return_inverse=True)[1]
        chosen = {name: each[rows] for name, each in logits.items()}
        drawn = bootstrap.resample_macro_f1(
            targets[rows],
            {name: each[None] for name, each in chosen.items()},
            task,
            compact,
            settings.bootstrap_samples,
            settings.seed,
        )
        scores = {name: metrics.macro_f1(targets[rows], each, task) for name, each in chosen.items()}
        change = scores["challenger"] - scores["champion"]
        return scores | bootstrap.difference(change, drawn["challenger"], drawn["champion"], settings.interval)

    every = np.ones(len(targets), np.bool_)
    tables = {name: metrics.per_class(targets, each, pair.columns, task) for name, each in logits.items()}
    support = tables["champion"]["support"]
    errors = {
        name: metrics.calibration_error(metrics.reliability(targets, each, task, settings.calibration_bins))
        for name, each in logits.items()
    }
    return told | {
        "macro_f1": difference(every),
        "accuracy": {name: metrics.accuracy(targets, each, task) for name, each in logits.items()},
        "calibration_error": errors,
        "per_class": [
            {
                "class": name,
                "clips": int(support[row]),
                **{each: float(table["f1"][row]) for each, table in tables.items()},
            }
            for row, name in enumerate(pair.columns)
            if support[row] >= least_clips
        ],
        "per_slice": [
            {"by": by, "slice": name, "clips": int(rows.sum()), **difference(rows)}
            for by in slices
            for name in sorted(slices[by].unique(), key=_natural)
            if (rows := (slices[by] == name).to_numpy()[pair.judged]).sum() >= least_clips
            and targets[rows].any()
            and not rows.all()
        ],
    }


def _note(
    champion: Contender, challenger: Contender, shared: list[str], only: dict[str, list[str]], labelled: bool
) -> str | None:
    if champion.task != challenger.task:
        return f"not comparable: the champion is {champion.task}, the challenger {challenger.task}"
    if not shared:
        return "not comparable: no class is known to both"
    if not labelled:
        return "not comparable: no test clip that the champion has not learnt from carries a class that both know"
    told = [f"only the {name} knows {', '.join(classes)}" for name, classes in only.items() if classes]
    return f"compared on the {len(shared)} classes that both know: {'; '.join(told)}" if told else None


def _align(contender: Contender, columns: Sequence[str]) -> NDArray[np.float32]:
    """The logits[N, len(columns)] of a contender in another order of classes."""
    aligned = np.full((len(contender.logits), len(columns)), NEVER, np.float32)
    for column, name in enumerate(columns):
        if name in contender.classes:
            aligned[:, column] = contender.logits[:, contender.classes.index(name)]
    return aligned


def _seconds(video: Path, video_id: str) -> float:
    try:
        return probe(video).seconds
    except ClipError as error:
        raise CpfdError(f"{video}: test clip '{video_id}' cannot be measured: {error}") from error


def _natural(name: str) -> list[tuple[float, str]]:
    """A key that sorts numbers in a name by their value, and before words."""
    parts = re.split(r"(\d+(?:\.\d+)?)", name)
    return [(float(part), "") if part[0].isdigit() else (np.inf, part) for part in parts if part]


def _thirds(values: pd.Series, form: str, digits: str, missing: str) -> pd.Series:
    """Name the third that each value lies in by its smallest and largest value; equal values share a third."""
    # Ranks from 0 to 1 instead of pandas.qcut, which loses all values where they are equal.
    third = (3 * values.rank(pct=True)).apply(np.ceil)
    ends = values.groupby(third).agg(["min", "max"])
    names = {}
    for key, low, high in ends.itertuples():
        first, last = format(low, digits), format(high, digits)
        names[key] = form.format(first if first == last else f"{first} to {last}")
    return third.map(names).astype(object).fillna(missing)
