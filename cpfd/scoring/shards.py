"""Batch prediction: a folder or a manifest of clips through one student, in shards that a killed run resumes at.

The answer is a folder that appears whole:

    predictions.parquet   one row per clip in the order read: video_id, path, predicted, probability,
                          probability_<class> for every class of the student, model
    quarantine.parquet    one row per clip that cannot be classified: video_id, path, reason
    summary.json          the counts of both, and what they were made of

Every clip that was read is in exactly one of the two tables.
"""

import errno
import fcntl
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import file_digest, sha256
from importlib.metadata import version
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple, get_args

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from cpfd.datasets.contract import parse_labels
from cpfd.errors import CpfdError
from cpfd.features.text import join_text
from cpfd.files import SCRATCH, fingerprint, remove, write_json, written_aside
from cpfd.importing.folder import SUFFIXES
from cpfd.importing.sources import some
from cpfd.paths import PACKAGE
from cpfd.project.revision import VERSION, open_revision, open_version
from cpfd.promotion import Stage
from cpfd.promotion.events import current_assignments, read_events
from cpfd.student.student import Prediction, Student
from cpfd.validation.checks import kinds

STAGES = get_args(Stage)
MANIFESTS = ("manifest.parquet", "manifest.csv")
PREDICTIONS, QUARANTINE, SUMMARY = "predictions.parquet", "quarantine.parquet", "summary.json"
QUARANTINE_SCHEMA = pa.schema([(name, pa.string()) for name in ("video_id", "path", "reason")])
READ_TOGETHER = 4096
"""Rows of a manifest in memory at once."""
ROW_GROUP = 65_536
"""Rows of a row group: independent of the shards, so that these change no byte."""

_OWN_FAULT = (errno.EACCES, errno.EPERM, errno.ENAMETOOLONG)
"""What opening a clip may fail with because of the clip; all else is a matter of the machine, and stops the run."""


class Model(NamedTuple):
    """An exported student: its folder, and its version where it is a registered one."""

    folder: Path
    version: str | None = None


class Clip(NamedTuple):
    """One clip to classify; `problem` is a reason not to try."""

    video_id: str
    path: str
    text: str
    problem: str


@dataclass(frozen=True)
class Shard:
    """Clips that are scored and kept together; `folder` is there once that is done."""

    clips: Sequence[Clip]
    folder: Path

    @property
    def finished(self) -> bool:
        """Whether its predictions are kept already."""
        return self.folder.is_dir()


def find_model(name: str, cache: Path = SCRATCH / "models") -> Model:
    """Find the student called `name`: a stage (production, staging), a version (v1.2.0), or the path of a folder.

    A registered one is fetched into `cache` once, out of DVC's cache or its remote. Raises CpfdError where there is no
    such stage, version or folder, or neither cache nor remote has the files.
    """
    if name not in STAGES and not VERSION.fullmatch(name):
        return Model(Path(name))
    known = name
    if name in STAGES:
        try:
            open_revision(None)  # says what is wrong where this is no project
            holder = current_assignments(read_events()).get(name)
        except CpfdError as error:
            raise CpfdError(f"model {name}: {error}; a folder of that name is given as ./{name}") from error
        if holder is None:
            raise CpfdError(
                f"model {name}: this clone knows no version in {name}; `git fetch --tags` brings what others have"
                f" assigned, `cpfd promote` assigns one, and a folder of that name is given as ./{name}"
            )
        known = holder.version
    revision = open_version(known)
    folder = cache / f"{known}-{revision.recorded(PACKAGE)[:8]}"
    if not folder.is_dir():
        with written_aside(folder) as aside:
            revision.fetch(PACKAGE, aside)
    return Model(folder, known)


class Clips:
    """The clips of a folder or manifest, always in the same order; only a few rows of it are in memory at a time.

    `source` is a folder, searched for clips at any depth (a data set's folder counts as its manifest), or a Parquet or
    CSV table with `video_id`, and `path` or text columns or both. `path` is relative to `videos`: by default the
    folder of that name beside the manifest, else the manifest's own. A folder's clips have no text; the `video_id` is
    the path without its suffix.
    """

    def __init__(self, source: Path, text_columns: Sequence[str], videos: Path | None = None) -> None:
        """Count the clips and note which ids are there twice: 8 bytes per clip, for a moment.

        Raises CpfdError where the source cannot be read, holds no clip or nothing to classify by.
        """
        own = [source / name for name in MANIFESTS if (source / name).is_file()]
        self.source = own[0] if own else source
        if self.source.is_dir():
            if videos is not None:
                raise CpfdError(f"{source}: a folder's paths are relative to itself; --videos goes with a manifest")
            self.root = self.source
        else:
            beside = self.source.parent / "videos"
            self.root = videos or (beside if beside.is_dir() else self.source.parent)
            if videos is not None and not videos.is_dir():
                raise CpfdError(f"--videos {videos}: no such folder")
        self.left_out = 0
        """Files below a folder that are not called like clips."""
        present = None if self.source.is_dir() else _columns(self.source)
        self._text_columns = [name for name in text_columns if present is not None and name in present]
        self.missing_text_columns = [name for name in text_columns if name not in self._text_columns]
        if present is not None:
            self._refuse_columns(present, text_columns)
        digests = [pd.util.hash_array(rows["video_id"].to_numpy(object)) for rows in self._tables()]
        every = np.sort(np.concatenate([np.empty(0, np.uint64), *digests]))
        self.count = len(every)
        self._suspects = set(every[1:][every[1:] == every[:-1]].tolist())
        if not self.count:
            expected = (
                f"expected files such as clip.mp4 (or {', '.join(SUFFIXES[1:])})" if present is None else "no row"
            )
            raise CpfdError(f"{source}: there is no clip to score; {expected}")

    def __iter__(self) -> Iterator[Clip]:
        """Read the source again."""
        seen: set[str] = set()
        for table in self._tables():
            texts = join_text(table, self._text_columns)
            digests = pd.util.hash_array(table["video_id"].to_numpy(object)).tolist()
            rows = zip(table["video_id"], table["path"], texts, table["problem"], digests, strict=True)
            for video_id, path, text, problem, digest in rows:
                again = video_id in seen
                if digest in self._suspects:
                    seen.add(video_id)
                yield Clip(video_id, path, text, problem or self._problem(video_id, path, again))

    def file(self, clip: Clip) -> Path | None:
        """The clip's file; None for a clip of text alone."""
        return self.root / clip.path if clip.path else None

    def _problem(self, video_id: str, path: str, again: bool) -> str:
        if not video_id:
            return "no video_id"
        if again:
            return "video_id is there more than once: the first is taken"
        inside = os.path.normpath(self.root / path)
        if path and not Path(inside).is_relative_to(os.path.normpath(self.root)):
            return f"path leaves {self.root}"
        return ""

    def _refuse_columns(self, present: Sequence[str], text_columns: Sequence[str]) -> None:
        there = f"the table has: {', '.join(present)}"
        if "video_id" not in present:
            raise CpfdError(f"{self.source}: no column video_id; {there}")
        if "path" not in present and not self._text_columns:
            wanted = ", ".join(["path", *text_columns])
            raise CpfdError(f"{self.source}: none of the columns that this student reads ({wanted}); {there}")

    def _tables(self) -> Iterator[pd.DataFrame]:
        """`video_id`, `path` and the text columns, all strings, some rows at a time."""
        if self.source.is_dir():
            self.left_out = 0
            found = self._files(self.source)
            while paths := list(islice(found, READ_TOGETHER)):
                named = [os.fsencode(path).decode(errors="backslashreplace") for path in paths]
                pairs = zip(paths, named, strict=True)
                problems = ["" if path == name else "its name is not valid UTF-8" for path, name in pairs]
                ids = [name.removesuffix(Path(name).suffix) for name in named]
                yield pd.DataFrame({"video_id": ids, "path": named, "problem": problems}, dtype=object)
            return
        for table in _read_strings(self.source, ["video_id", "path", *self._text_columns]):
            yield table.assign(path=table.get("path", ""), problem="")

    def _files(self, folder: Path) -> Iterator[str]:
        for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
            path = Path(entry.path)
            if entry.name.startswith("."):
                continue
            if entry.is_dir(follow_symlinks=False):
                yield from self._files(path)
            elif path.suffix.lower() in SUFFIXES:
                yield path.relative_to(self.source).as_posix()
            else:
                self.left_out += 1


class Scoring:
    """Clips, the student that classifies them, and what is done; made by `open_scoring`."""

    def __init__(
        self, clips: Clips, student: Student, model: str, scratch: Path, *, shard_clips: int, threads: int
    ) -> None:
        """Take the clips, the student and its name in the result; shards are kept in `scratch`."""
        self.clips, self.student, self.model = clips, student, model
        self._scratch, self._shard_clips, self._threads = scratch, shard_clips, threads
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
        while part := list(islice(clips, self._shard_clips)):
            states = [self._state(clip) for clip in part]
            yield Shard(part, self._scratch / f"{number:06d}-{fingerprint([], part, states)}")
            number += 1

    def score(
        self,
        shards: Iterable[Shard],
        max_quarantine_share: float,
        progress: Callable[[int], Any] = lambda clips: None,
    ) -> None:
        """Classify the clips of each shard that is not finished, side by side; `progress` is told of clips done.

        Raises CpfdError as soon as more than `max_quarantine_share` of all clips cannot be classified.
        """
        for shard in shards:
            if shard.finished:
                progress(len(shard.clips))
            else:
                self._keep(shard, progress)
            self._done[shard.folder] = int(pq.read_metadata(shard.folder / QUARANTINE).num_rows)
            if self.quarantined > max_quarantine_share * self.clips.count:
                raise CpfdError(self._explain(max_quarantine_share))

    def write(self, output: Path) -> dict[str, Any]:
        """Join the shards that are scored to the folder `output`, whole or not at all; returns the summary.

        Raises CpfdError where these are not all clips, because some came or went meanwhile.
        """
        with written_aside(output) as aside:
            aside.mkdir()
            predicted = self._join(PREDICTIONS, self._schema, aside, "predicted")
            reasons = self._join(QUARANTINE, QUARANTINE_SCHEMA, aside, "reason")
            if predicted.total() + reasons.total() != self.clips.count:
                raise CpfdError(f"{self.clips.source}: its clips changed while they were scored; score them again")
            summary = self._summary(predicted, reasons)
            write_json(aside / SUMMARY, summary)
        return summary

    def _state(self, clip: Clip) -> tuple[int, int] | None:
        """Size and time of a clip's file: another file of that name is scored anew."""
        file = self.clips.file(clip)
        try:
            found = file.stat() if file is not None and not clip.problem else None
        except (OSError, ValueError):
            return None
        return None if found is None else (found.st_size, found.st_mtime_ns)

    def _classify(self, clip: Clip) -> Prediction:
        name, text = str(self.clips.file(clip)), clip.text
        if clip.problem:
            return Prediction(name, text, {}, clip.problem)
        try:
            return next(self.student.predict([self.clips.file(clip)], [text]))
        except OSError as error:
            if error.errno not in _OWN_FAULT:
                raise
            return Prediction(name, text, {}, f"cannot be read: {error.strerror}")

    def _keep(self, shard: Shard, progress: Callable[[int], Any]) -> None:
        pairs = []
        with self.student.side_by_side(self._threads) as pool:
            for clip, answer in zip(shard.clips, pool.map(self._classify, shard.clips), strict=True):
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

    def _explain(self, max_share: float) -> str:
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
def open_scoring(
    source: Path,
    model: Model,
    output: Path,
    *,
    videos: Path | None = None,
    shard_clips: int = 256,
    threads: int | None = None,
    force: bool = False,
    scratch: Path = SCRATCH / "score",
) -> Iterator[Scoring]:
    """Prepare to score `source` (as in `Clips`) with `model`; finished shards wait in `scratch` until the block ends.

    They are found again by a later run of the same student, code and clips, and are removed when the block succeeds.
    `threads` clips are classified side by side (None: one per CPU); neither `threads` nor `shard_clips` changes the
    result. Raises CpfdError where `output` is there already (unless `force`, which only ever replaces an earlier
    result), where there is no student or no clip, and where another process is at the same work.
    """
    _refuse_output(output, force=force)
    student = Student.load(model.folder)
    clips = Clips(source, student.network.config.text_columns or [], videos)
    content, code = _content_hash(model.folder), Path(__file__).parent.parent
    libraries = [version(name) for name in ("torch", "transformers", "av")]
    name = model.version or content
    work = scratch / fingerprint(
        [code], libraries, name, content, str(clips.source.resolve()), str(clips.root.resolve())
    )
    work.mkdir(parents=True, exist_ok=True)
    with (work / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise CpfdError(f"{source}: another process is scoring these clips with the same student") from None
        threads = threads or len(os.sched_getaffinity(0))
        yield Scoring(clips, student, name, work, shard_clips=shard_clips, threads=threads)
        remove(work)


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


def _content_hash(folder: Path) -> str:
    """A hash of names and content of the files in a folder, wherever it lies: 16 hexadecimal digits."""
    digest = sha256()
    for file in sorted(path for path in folder.rglob("*") if path.is_file()):
        with file.open("rb") as stream:
            digest.update(file.relative_to(folder).as_posix().encode() + b"\0" + file_digest(stream, "sha256").digest())
    return digest.hexdigest()[:16]


def _columns(manifest: Path) -> list[str]:
    if not manifest.exists():
        raise CpfdError(f"{manifest}: no such file or folder")
    if manifest.suffix not in (".parquet", ".csv"):
        raise CpfdError(f"{manifest}: expected a folder, or a .parquet or .csv table")
    with _explained(manifest):
        if manifest.suffix == ".parquet":
            return list(pq.read_schema(manifest).names)
        return [str(name) for name in pd.read_csv(manifest, nrows=0, dtype=str).columns]


def _read_strings(manifest: Path, columns: Sequence[str]) -> Iterator[pd.DataFrame]:
    """Some rows at a time of those columns that are there, as strings, "" where missing; a CSV's "NA" stays "NA"."""
    with _explained(manifest):
        if manifest.suffix == ".csv":
            # All columns, though few are wanted: with `usecols`, pandas cuts a row with too many cells in silence.
            for chunk in pd.read_csv(manifest, dtype=str, keep_default_na=False, chunksize=READ_TOGETHER):
                present = [name for name in columns if name in chunk]
                yield chunk[present].fillna("").astype(object)  # a row may lack its last cells
            return
        file = pq.ParquetFile(manifest)
        present = [name for name in columns if name in file.schema_arrow.names]
        for batch in file.iter_batches(READ_TOGETHER, columns=present):
            yield pd.DataFrame(
                {name: pc.fill_null(pc.cast(batch[name], pa.string()), "").to_pylist() for name in present},
                dtype=object,
            )


@contextmanager
def _explained(manifest: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError, pa.ArrowException) as error:
        raise CpfdError(f"{manifest}: not a readable {manifest.suffix[1:]} table: {error}") from error
