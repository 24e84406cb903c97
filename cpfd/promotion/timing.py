"""How long the student of a revision takes for a clip, measured where it is promoted."""

from functools import reduce
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from cpfd.errors import CpfdError
from cpfd.files import read_table
from cpfd.paths import CONTENT, PARAMS_FILE, RAW, VALIDATED
from cpfd.project.revision import Revision, bring
from cpfd.promotion.gate import judge_times
from cpfd.reports.gate import Rule


def time_student(revision: Revision, champion: Revision | None) -> list[Rule]:
    """Try the exported student of a revision on test clips' files, in turns with the champion, and judge the times.

    Limits and the number of clips are those of the revision's own params.yaml. Raises CpfdError where neither DVC's
    cache nor its remote has the students or the clips.
    """
    # Torch and transformers take seconds to import.
    import torch

    from cpfd.comparing.disagreements import bring_student
    from cpfd.datasets.validated import clip_tables, encoded_clips, read_clips
    from cpfd.features.text import join_text
    from cpfd.student.student import Student
    from cpfd.student.trial import try_student

    torch.set_num_threads(_param(revision, "extract.threads"))
    with TemporaryDirectory() as folder:
        scratch = Path(folder)
        sides = [revision] if champion is None else [revision, champion]
        for number, side in enumerate(sides):
            bring_student(side, scratch / str(number))
        bring(revision, CONTENT, ["index.parquet"], scratch)
        bring(revision, VALIDATED, clip_tables(revision), scratch / "validated")
        encoded = encoded_clips(read_clips(scratch / "validated"), read_table(scratch / "index.parquet"))
        tested = encoded[(encoded["split"] == "test") & (encoded["label"] != "")]
        clips = tested[: _param(revision, "gate.trial_clips")]
        videos = [f"videos/{path}" for path in clips["path"] if path]
        bring(revision, RAW / _param(revision, "dataset.name"), videos, scratch)
        students = [Student.load(scratch / str(number)) for number in range(len(sides))]
        texts = [join_text(clips, each.network.config.text_columns or []) for each in students]
        files = [scratch / "videos" / path if path else None for path in clips["path"]]
        rival = students[1] if champion else None
        trial = try_student(students[0], rival, list(zip(files, texts[0], strict=True)), texts[-1], None)
    return judge_times(trial, _param(revision, "gate.max_latency_ms"), _param(revision, "champion.max_latency_ratio"))


def _param(revision: Revision, key: str) -> Any:
    try:
        return reduce(lambda group, part: group[part], key.split("."), revision.params)
    except (KeyError, TypeError):
        raise CpfdError(f"{PARAMS_FILE} of {revision.name} has no {key}: the student cannot be timed") from None
