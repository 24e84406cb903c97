"""Batch prediction: a folder or a manifest of clips through one student, in shards that a killed run resumes at.

The answer is a folder that appears whole:

    predictions.parquet   one row per clip in the order read: video_id, path, predicted, probability,
                          probability_<class> for every class of the student, model
    quarantine.parquet    one row per clip that cannot be classified: video_id, path, reason
    summary.json          the counts of both, and what they were made of

Every clip that was read is in exactly one of the two tables.
"""

import errno
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from itertools import islice
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from cpfd.datasets.contract import parse_labels
from cpfd.datasets.memory import FileMemory, file_memory
from cpfd.errors import CpfdError
from cpfd.files import SCRATCH, fingerprint, remove, write_json, written_aside
from cpfd.importing.dataset import some
from cpfd.locks import locked
from cpfd.scoring.clips import Clip, Clips
from cpfd.scoring.models import Model, content_hash
from cpfd.scoring.options import ScoringOptions
from cpfd.student.student import Prediction, Student
from cpfd.validation.checks import kinds

PREDICTIONS, QUARANTINE, SUMMARY = "predictions.parquet", "quarantine.parquet", "summary.json"
QUARANTINE_SCHEMA = pa.schema([(name, pa.string()) for name in ("video_id", "path", "reason")])
ROW_GROUP = 65_536
"""Rows of a row group: independent of the shards, so that these change no byte."""

_OWN_FAULT = (errno.EACCES, errno.EPERM, errno.ENAMETOOLONG)
"""What opening a clip may fail with because of the clip; all else is a matter of the machine, and stops the run."""


@dataclass(frozen=True)
class Shard:
    """Clips that are scored and kept together; `folder` is there once that is done."""

    clips: Sequence[Clip]
    folder: Path

    @property
    def finished(self) -> bool:
        """Whether its predictions are kept already."""
        return self.folder.is_dir()


class Scoring:
    """Clips, the student that classifies them, and what is done; made by `open_scoring`."""

    def __init__(
        self, options: ScoringOptions, clips: Clips, student: Student, model: str, scratch: Path, memory: FileMemory
    ) -> None:
        """Take the clips, the student and its name in the result; shards are kept in `scratch`.

        `memory` is of this student: what it knows of a file is not computed again.
        """
        self.options, self.clips, self.student, self.model = options, clips, student, model
        self._scratch, self._memory = scratch, memory
        self._done: dict[Path, int] = {}
        """Folders of the shards that are scored, in order, and how many clips of each are in quarantine."""
        config = student.network.config
        self.classes: list[str] = list(config.classes or [])
        self.task: str = config.task
        numbers = ["probability", *(f"probability_{name}" for name in self.classes)]
        self._schema = pa.schema(
            [(name, pa.string()) for name in ("video_id", "path", "predicted")]
            + [(name, pa.float32()) for name in numbers]
            + [("model", pa.string())]
        )

    @property
    def quarantined(self) -> int:
        """How many of the clips scored so far cannot be classified."""
        return sum(self._done.values())

    def shards(self) -> Iterator[Shard]:
        """Every shard in order, made as it is asked for."""
        clips = iter(self.clips)
        number = 0
        while part := list(islice(clips, self.options.shard_clips)):
            found = [self._status(clip) for clip in part]
            states = [None if each is None else (each.st_size, each.st_mtime_ns) for each in found]
            yield Shard(part, self._scratch / f"{number:06d}-{fingerprint([], part, states, self.options.limits)}")
            number += 1

    def classify(self, shards: Iterable[Shard], progress: Callable[[int], Any] = lambda clips: None) -> None:
        """Classify the clips of each shard that is not finished, side by side; `progress` is told of clips done.

        Raises CpfdError as soon as more clips than the options' `max_quarantine_share` cannot be classified.
        """
        for shard in shards:
            if shard.finished:
                progress(len(shard.clips))
            else:
                self._keep(shard, progress)
            self._done[shard.folder] = int(pq.read_metadata(shard.folder / QUARANTINE).num_rows)
            if self.quarantined > self.options.max_quarantine_share * self.clips.count:
                raise CpfdError(self._too_many_quarantined())

    def write(self) -> dict[str, Any]:
        """Join the shards that are scored to the options' `output`, whole or not at all; returns the summary.

        Raises CpfdError where these are not all clips, because some came or went meanwhile.
        """
        with written_aside(self.options.output) as aside:
            aside.mkdir()
            predicted = self._join(PREDICTIONS, self._schema, aside, "predicted")
            reasons = self._join(QUARANTINE, QUARANTINE_SCHEMA, aside, "reason")
            if predicted.total() + reasons.total() != self.clips.count:
                raise CpfdError(f"{self.clips.source}: its clips changed while they were scored; score them again")
            summary = self._summary(predicted, reasons)
            write_json(aside / SUMMARY, summary)
        return summary

    def _status(self, clip: Clip) -> os.stat_result | None:
        """What the system says of a clip's file, if there is one: another file of that name is scored anew."""
        file = self.clips.file(clip)
        try:
            return file.stat() if file is not None and not clip.problem else None
        except (OSError, ValueError):
            return None

    def _predict(self, clip: Clip) -> Prediction:
        name, text = str(self.clips.file(clip)), clip.text
        if clip.problem:
            return Prediction(name, text, {}, clip.problem)
        status = self._status(clip)
        if status and (known := self._memory.recall(status)) and known["text"] == text:
            return Prediction(name, text, known["probabilities"], None)
        try:
            answer = next(self.student.predict([self.clips.file(clip)], [text], self.options.limits))
        except OSError as error:
            if error.errno not in _OWN_FAULT:
                raise
            return Prediction(name, text, {}, f"cannot be read: {error.strerror}")
        if status and answer.error is None:
            self._memory.note(status, {"text": text, "probabilities": answer.probabilities})
        return answer

    def _keep(self, shard: Shard, progress: Callable[[int], Any]) -> None:
        pairs = []
        with self.student.side_by_side(self.options.threads or len(os.sched_getaffinity(0))) as pool:
            for clip, answer in zip(shard.clips, pool.map(self._predict, shard.clips), strict=True):
                pairs.append((clip, answer))
                progress(1)
        rows = [self._row(clip, answer.probabilities) for clip, answer in pairs if answer.error is None]
        bad = [{**clip._asdict(), "reason": answer.error} for clip, answer in pairs if answer.error is not None]
        with written_aside(shard.folder) as aside:
            aside.mkdir()
            pq.write_table(pa.Table.from_pylist(rows, self._schema), aside / PREDICTIONS)
            pq.write_table(pa.Table.from_pylist(bad, QUARANTINE_SCHEMA), aside / QUARANTINE)

    def _row(self, clip: Clip, chances: dict[str, float]) -> dict[str, Any]:
        best = next(iter(chances))
        chosen = [name for name in self.classes if chances[name] > 0.5]
        return {
            "video_id": clip.video_id,
            "path": clip.path,
            # As labels are written in a manifest: `a|b`, and `|` for none.
            "predicted": best if self.task == "single_label" else "|".join(chosen) or "|",
            "probability": chances[best],
            **{f"probability_{name}": chances[name] for name in self.classes},
            "model": self.model,
        }

    def _join(self, name: str, schema: Any, folder: Path, counted: str) -> Counter[str]:
        """Write one table of all shards to `folder`; returns how often each value of the column `counted` is there."""
        counts: Counter[str] = Counter()
        with pq.ParquetWriter(folder / name, schema) as writer:
            waiting = schema.empty_table()
            for shard in self._done:
                table = pq.read_table(shard / name)
                counts.update(table[counted].to_pylist())
                waiting = pa.concat_tables([waiting, table])
                while len(waiting) >= ROW_GROUP:
                    writer.write_table(waiting.slice(0, ROW_GROUP).combine_chunks())
                    waiting = waiting.slice(ROW_GROUP)
            if len(waiting):
                writer.write_table(waiting.combine_chunks())
        return counts

    def _too_many_quarantined(self) -> str:
        max_share = self.options.max_quarantine_share
        bad = pd.concat([pd.read_parquet(folder / QUARANTINE) for folder in self._done], ignore_index=True)
        first, found = bad.iloc[0], kinds(bad).value_counts(sort=False).sort_values(ascending=False, kind="stable")
        return (
            f"{self.clips.source}: {len(bad)} of {self.clips.count} clips cannot be classified, at most"
            f" {int(max_share * self.clips.count)} may be (max_quarantine_share {max_share:g}):"
            f" {some(f'{count} {kind}' for kind, count in found.items())}; the first is"
            f" {first['path'] or first['video_id'] or 'a row without an id'}: {first['reason']}"
        )

    def _summary(self, predicted: Counter[str], reasons: Counter[str]) -> dict[str, Any]:
        carried = {label: parse_labels(label, self.task) for label in predicted}
        by_class = {name: sum(predicted[label] for label in carried if name in carried[label]) for name in self.classes}
        by_kind: Counter[str] = Counter()
        for reason, count in sorted(reasons.items()):
            by_kind[reason.partition(": ")[0]] += count
        return {
            "model": self.model,
            "task": self.task,
            "source": str(self.clips.source),
            "clips": self.clips.count,
            "classified": predicted.total(),
            "predicted": by_class | ({"|": predicted["|"]} if self.task == "multi_label" else {}),
            "quarantined": reasons.total(),
            "reasons": dict(by_kind.most_common()),
            "missing_text_columns": self.clips.missing_text_columns,
            "left_out_files": self.clips.left_out,
        }


@contextmanager
def open_scoring(options: ScoringOptions, model: Model) -> Iterator[Scoring]:
    """Prepare to score with `model`, which is what `find_model` has found for the options' name.

    Finished shards wait in .scratch/score. They are found again by a later run of the same student, code and clips, and
    are removed when the block succeeds. What the student said of each file stays there for the next run, until another
    student scores the same source. Raises CpfdError where the output is there already (unless `force`, which only
    ever replaces an earlier result), where there is no student or no clip, and where another process is at the same
    work.
    """
    _refuse_output(options.output, force=options.force)
    student = Student.load(model.folder)
    clips = Clips(options.source, student.network.config.text_columns or [], options.videos)
    content, code = content_hash(model.folder), Path(__file__).parent.parent
    libraries = [version(name) for name in ("torch", "transformers", "av")]
    name = model.version or content
    source = fingerprint([], str(clips.source.resolve()), str(clips.root.resolve()))
    by_whom = fingerprint([code], libraries, name, content)
    work = SCRATCH / "score" / f"{source}-{by_whom}"
    refusal = f"{options.source}: another process is scoring these clips with the same student"
    with locked(work, patience=0, refusal=refusal):
        known = work.with_suffix(".sqlite")
        with file_memory(known, fingerprint([], options.limits)) as memory:
            yield Scoring(options, clips, student, name, work, memory)
        remove(work)
        for old in set(known.parent.glob(f"{source}-*.sqlite")) - {known}:
            remove(old)


def classified(summary: Mapping[str, Any]) -> str:
    """What a run has come to, as the beginning of a sentence."""
    return f"{summary['classified']} of {summary['clips']} clips classified by student {summary['model']}"


def _refuse_output(output: Path, *, force: bool) -> None:
    if not output.exists():
        return
    if not output.is_dir():
        raise CpfdError(f"{output}: is a file; --output names the folder to make")
    strange = sorted(path.name for path in output.iterdir() if path.name not in (PREDICTIONS, QUARANTINE, SUMMARY))
    if strange:
        raise CpfdError(f"{output}: holds {some(strange)}, which is no earlier result; name another --output")
    if not force:
        raise CpfdError(f"{output}: is there already; --force replaces it")
