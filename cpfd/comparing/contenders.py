"""Champion against challenger: two exported students on the same test clips, classified from the files."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

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
from cpfd.reports.champion import (
    Classes,
    ComparedClass,
    ComparedF1,
    ComparedSlice,
    Comparison,
    LeftOut,
    OwnClasses,
    Sides,
)
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
class HeldOutClips:
    """The labelled test clips of the challenger that the champion has not learnt from."""

    table: pd.DataFrame
    """One row per clip, by video_id: as `cpfd.datasets.validated` has it, with `creator_id`, empty if unknown."""
    seen_by_champion: int
    """How many labelled test clips the champion has learnt from."""


@dataclass(frozen=True)
class Match:
    """Two contenders over the same classes, on those of N clips that both can be judged on.

    `shared` classes are known to both, `only` to one. judged[N] marks J clips: targets[J, C] and each one's
    logits[J, C] are over `columns`. `logits` is empty where nothing can be compared; `note` says why, or what is left
    out.
    """

    clips: HeldOutClips
    champion: Contender
    challenger: Contender
    task: str
    shared: list[str]
    only: OwnClasses
    judged: NDArray[np.bool_]
    columns: list[str]
    targets: NDArray[np.float32]
    logits: Mapping[str, NDArray[np.float32]]
    note: str | None

    @property
    def judged_clips(self) -> pd.DataFrame:
        """The J clips that both are judged on."""
        return self.clips.table[self.judged].reset_index(drop=True)


def select_clips(encoded: pd.DataFrame, learnt: pd.DataFrame) -> HeldOutClips:
    """Select the clips that both students can be compared on.

    `encoded` are the challenger's clips (`encoded_clips`), `learnt` the champion's as validated: a clip is known by its
    video_id, or by the content of its file.
    """
    clips = encoded[(encoded["split"] == "test") & (encoded["label"] != "")].sort_values("video_id")
    learnt = learnt[learnt["split"] != "test"]
    same_file = (clips["content_hash"] != "") & clips["content_hash"].isin(learnt["content_hash"])
    known = clips["video_id"].isin(learnt["video_id"]) | same_file
    return HeldOutClips(clips[~known].reset_index(drop=True), int(known.sum()))


def classify(student: Student, clips: pd.DataFrame, videos: Path, threads: int, title: str) -> Contender:
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
            raise CpfdError(f"{videos / path}: test clip '{video_id}' cannot be classified: {error}") from error

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


def describe_clips(clips: pd.DataFrame, encoded: pd.DataFrame, videos: Path) -> pd.DataFrame:
    """The slice of each of `clips` by `creator`, `length` and `text`, in words.

    `encoded` are the clips of all splits, which tell how many a creator has. Creators and lengths are cut
    into thirds of `clips`. Raises CpfdError naming a clip that cannot be decoded.
    """
    uploads = encoded.loc[encoded["creator_id"] != "", "creator_id"].value_counts()
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


def match(clips: HeldOutClips, champion: Contender, challenger: Contender) -> Match:
    """Bring two contenders on the same labelled clips[N] onto the same classes, in the challenger's order.

    A clip of a class that only one of them knows is judged in a multi-label task alone, by the shared classes.
    """
    task = challenger.task
    only = OwnClasses(
        champion=[name for name in champion.classes if name not in challenger.classes],
        challenger=[name for name in challenger.classes if name not in champion.classes],
    )
    shared = [name for name in challenger.classes if name in champion.classes]
    carried = [set(parse_labels(label, task)) for label in clips.table["label"]]
    judged = np.array([task == "multi_label" or names <= set(shared) for names in carried], np.bool_)
    # A class that only one of them knows is still one that it may wrongly choose; one label needs one scale for all.
    columns = shared if task == "multi_label" else [*shared, *only.challenger, *only.champion]
    kept = pd.Series(["|".join(sorted(names & set(shared))) for names in carried], dtype=object)[judged]
    targets = label_matrix(kept, columns, task)
    note = _note(champion, challenger, shared, only, bool(targets.any()))
    comparable = champion.task == task and bool(targets.any())
    both = {"champion": champion, "challenger": challenger} if comparable else {}
    logits = {name: _align(each, columns)[judged] for name, each in both.items()}
    return Match(clips, champion, challenger, task, shared, only, judged, columns, targets, logits, note)


def compare(pair: Match, slices: pd.DataFrame, settings: Evaluation, least_clips: int) -> Comparison:
    """Compare two students on their test clips[N], also by slices[N] and by class, of at least `least_clips` clips.

    Intervals of macro-F1 are those of `bootstrap.difference` over creators.
    """
    scored = bool(pair.logits)
    return Comparison(
        classes=Classes(shared=len(pair.shared), only=pair.only),
        bytes=Sides(champion=pair.champion.bytes, challenger=pair.challenger.bytes),
        parameters=Sides(champion=pair.champion.parameters, challenger=pair.challenger.parameters),
        clips=int(pair.judged.sum()),
        left_out=LeftOut(unknown_class=int((~pair.judged).sum()), seen_by_champion=pair.clips.seen_by_champion),
        note=pair.note,
        macro_f1=_compare_f1(pair, np.ones(len(pair.targets), np.bool_), settings) if scored else None,
        accuracy=_compare_accuracy(pair) if scored else None,
        calibration_error=_compare_calibration(pair, settings.calibration_bins) if scored else None,
        per_class=_compare_classes(pair, least_clips) if scored else None,
        per_slice=_compare_slices(pair, slices, settings, least_clips) if scored else None,
    )


def _compare_f1(pair: Match, rows: NDArray[np.bool_], settings: Evaluation) -> ComparedF1:
    """Compare macro-F1 on some of the judged clips: rows[J]."""
    targets, logits = pair.targets[rows], {side: each[rows] for side, each in pair.logits.items()}
    drawn = bootstrap.resample_macro_f1(
        targets,
        {side: each[None] for side, each in logits.items()},
        pair.task,
        _clusters(pair.judged_clips[rows]),
        settings.bootstrap_samples,
        settings.seed,
    )
    scores = {side: metrics.macro_f1(targets, each, pair.task) for side, each in logits.items()}
    change = scores["challenger"] - scores["champion"]
    difference = bootstrap.difference(change, drawn["challenger"], drawn["champion"], settings.interval)
    return ComparedF1(**scores, **difference.content())


def _clusters(clips: pd.DataFrame) -> NDArray[np.intp]:
    """The creator of each clip as a number; as in cpfd.evaluation.results, an unknown one is its own cluster."""
    creators = clips["creator_id"]
    owners = np.where(creators == "", "clip " + clips["video_id"], "creator " + creators)
    return np.unique(owners.astype(str), return_inverse=True)[1]


def _compare_accuracy(pair: Match) -> Sides:
    found = {side: metrics.accuracy(pair.targets, each, pair.task) for side, each in pair.logits.items()}
    return Sides(**found)


def _compare_calibration(pair: Match, bins: int) -> Sides:
    tables = {side: metrics.reliability(pair.targets, each, pair.task, bins) for side, each in pair.logits.items()}
    return Sides(**{side: metrics.calibration_error(each) for side, each in tables.items()})


def _compare_classes(pair: Match, least_clips: int) -> list[ComparedClass]:
    """F1 of each class that has at least `least_clips` judged clips."""
    tables = {
        side: metrics.per_class(pair.targets, each, pair.columns, pair.task) for side, each in pair.logits.items()
    }
    support = tables["champion"]["support"]
    return [
        ComparedClass(
            name=name, clips=int(support[row]), **{side: float(table["f1"][row]) for side, table in tables.items()}
        )
        for row, name in enumerate(pair.columns)
        if support[row] >= least_clips
    ]


def _compare_slices(pair: Match, slices: pd.DataFrame, settings: Evaluation, least_clips: int) -> list[ComparedSlice]:
    """Macro-F1 on each slice that has at least `least_clips` judged clips and a label, and that is not all of them."""
    found = []
    for by in slices:
        for name in sorted(slices[by].unique(), key=_natural):
            rows = (slices[by] == name).to_numpy()[pair.judged]
            if rows.sum() >= least_clips and pair.targets[rows].any() and not rows.all():
                f1 = _compare_f1(pair, rows, settings)
                found.append(ComparedSlice(by=str(by), slice=name, clips=int(rows.sum()), **f1.content()))
    return found


def _note(
    champion: Contender, challenger: Contender, shared: list[str], only: OwnClasses, labelled: bool
) -> str | None:
    if champion.task != challenger.task:
        return f"not comparable: the champion is {champion.task}, the challenger {challenger.task}"
    if not shared:
        return "not comparable: no class is known to both"
    if not labelled:
        return "not comparable: no test clip that the champion has not learnt from carries a class that both know"
    told = [f"only the {name} knows {', '.join(classes)}" for name, classes in only if classes]
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
