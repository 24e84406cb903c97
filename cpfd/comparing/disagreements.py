"""Two students of any two revisions against each other, on the test clips of the second, and where they disagree."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from cpfd import metrics
from cpfd.comparing.contenders import Match, classify, compare, describe_clips, match, select_clips
from cpfd.datasets.contract import TEXT_COLUMNS
from cpfd.datasets.validated import clip_tables, encoded_clips, read_clips
from cpfd.features.text import join_text
from cpfd.files import read_json, read_table
from cpfd.params.schema import Params
from cpfd.paths import CONTENT, PACKAGE, RAW, VALIDATED
from cpfd.project.revision import Revision, bring
from cpfd.reports.duel import ComparedRevisions, Differences, Disagreement, DuelReport, Latency, NamedRevision, Opinion
from cpfd.student.student import Student
from cpfd.student.trial import try_student


@dataclass(frozen=True)
class Duel:
    """How two students did; `videos` is the folder that a disagreement's `path` is relative to."""

    report: DuelReport
    videos: Path


def hold_duel(champion: Revision, challenger: Revision, params: Params, disagreements: int, scratch: Path) -> Duel:
    """Score the exported students of two revisions on the challenger's test clips that the champion has not learnt.

    What DVC's cache has is linked into the folder `scratch`, the rest is fetched into it. `params` are those of the
    comparison: evaluation, extract.threads, champion.min_slice_clips and gate.trial_clips. Raises CpfdError where a
    revision records no student, where neither cache nor remote has a file, and where a clip cannot be decoded.
    """
    bring_student(champion, scratch / "champion")
    bring_student(challenger, scratch / "challenger")
    bring(champion, VALIDATED, clip_tables(champion), scratch / "learnt")
    bring(challenger, VALIDATED, [*clip_tables(challenger), "dataset.json"], scratch / "validated")
    bring(challenger, CONTENT, ["index.parquet"], scratch / "content")
    index = read_table(scratch / "content" / "index.parquet")
    encoded = encoded_clips(read_clips(scratch / "validated"), index)
    clips = select_clips(encoded, read_clips(scratch / "learnt"))
    dataset = read_json(scratch / "validated" / "dataset.json")["name"]
    bring(challenger, RAW / dataset, [f"videos/{path}" for path in clips.table["path"] if path], scratch / "raw")

    videos, threads = scratch / "raw" / "videos", params.extract.threads
    students = {side: Student.load(scratch / side) for side in ("champion", "challenger")}
    pair = match(
        clips,
        classify(students["champion"], clips.table, videos, threads, champion.name),
        classify(students["challenger"], clips.table, videos, threads, challenger.name),
    )
    slices = describe_clips(clips.table, encoded, videos)
    comparison = compare(pair, slices, params.evaluation, params.champion.min_slice_clips)
    report = DuelReport(
        revisions=ComparedRevisions(champion=_named(champion), challenger=_named(challenger)),
        dataset=dataset,
        task=pair.task,
        interval=params.evaluation.interval,
        **dict(comparison),
        latency_ms=_measure_latency(students, pair, params.gate.trial_clips, videos, threads),
        differ=count_differences(pair),
        disagreements=rank_disagreements(pair, disagreements),
    )
    return Duel(report, videos)


def count_differences(pair: Match) -> Differences | None:
    """Count the clips on which the predictions differ; None without a comparison. Right is as in `metrics.correct`."""
    if not pair.logits:
        return None
    chosen = [metrics.predictions(logits, pair.task) for logits in pair.logits.values()]
    differ = (chosen[0] != chosen[1]).any(axis=1)
    right = {name: metrics.correct(pair.targets, logits, pair.task) for name, logits in pair.logits.items()}
    return Differences(
        clips=int(differ.sum()),
        champion_right=int((differ & right["champion"]).sum()),
        challenger_right=int((differ & right["challenger"]).sum()),
    )


def rank_disagreements(pair: Match, count: int) -> list[Disagreement]:
    """The `count` clips on which two students disagree most: other predictions first, then by distance and video_id.

    The distance is the largest difference between the probabilities that they give to one and the same event: for
    `single_label` the total variation distance, half the sum of the absolute differences over all classes; for
    `multi_label` the largest absolute difference in a class. Clips without any are left out, as are those that cannot
    be judged (`contenders.match`).
    """
    if not pair.logits:
        return []
    chances = {name: metrics.probabilities(logits, pair.task) for name, logits in pair.logits.items()}
    chosen = {name: metrics.predictions(logits, pair.task) for name, logits in pair.logits.items()}
    right = {name: metrics.correct(pair.targets, logits, pair.task) for name, logits in pair.logits.items()}
    differ = (chosen["champion"] != chosen["challenger"]).any(axis=1)
    apart = np.abs(chances["challenger"] - chances["champion"])
    distance = apart.max(axis=1) if pair.task == "multi_label" else apart.sum(axis=1) / 2
    judged = pair.judged_clips
    judged["text"] = join_text(judged, TEXT_COLUMNS)
    order = np.lexsort((judged["video_id"].to_numpy(object), -distance, ~differ))
    known = {"champion": pair.champion.classes, "challenger": pair.challenger.classes}

    def opinion(side: str, row: int) -> Opinion:
        pairs = zip(pair.columns, chances[side][row].tolist(), strict=True)
        ranked = sorted(pairs, key=lambda each: -each[1])
        return Opinion(
            predicted=[name for name, is_chosen in zip(pair.columns, chosen[side][row], strict=True) if is_chosen],
            right=bool(right[side][row]),
            probabilities={name: chance for name, chance in ranked if name in known[side]},
        )

    return [
        Disagreement(
            **judged.loc[row, ["video_id", "path", "text", "label"]].to_dict(),
            differ=bool(differ[row]),
            distance=float(distance[row]),
            champion=opinion("champion", row),
            challenger=opinion("challenger", row),
        )
        for row in order[:count]
        if distance[row] > 0
    ]


def _named(revision: Revision) -> NamedRevision:
    return NamedRevision(name=revision.name, commit=revision.commit)


def bring_student(revision: Revision, target: Path) -> None:
    """Make the exported student of a revision readable in `target`; raises CpfdError where there is none to be had."""
    revision.recorded(PACKAGE)  # else it has no student
    listing = revision.listing(PACKAGE)
    if listing is None:
        revision.fetch(PACKAGE, target)
    else:
        bring(revision, PACKAGE, listing, target)


def _measure_latency(
    students: Mapping[str, Student], pair: Match, count: int, videos: Path, threads: int
) -> Latency | None:
    """Median milliseconds per clip of each on this machine, one of the first `count` clips at a time, in turns."""
    clips = pair.clips.table[:count]
    if clips.empty:
        return None
    torch.set_num_threads(threads)
    files = [videos / path if path else None for path in clips["path"]]
    champion, challenger = students["champion"], students["challenger"]
    texts, champion_texts = (
        join_text(clips, each.network.config.text_columns or []) for each in (challenger, champion)
    )
    trial = try_student(challenger, champion, list(zip(files, texts, strict=True)), champion_texts, None)
    assert trial.champion_milliseconds is not None
    return Latency(champion=trial.champion_milliseconds, challenger=trial.milliseconds, clips=trial.clips)
