"""Stage `champion`: the registered version that champion.version names, and how the student does against it."""

from cpfd.files import read_table, remove, write_table, written_aside
from cpfd.params.load import load_params
from cpfd.params.schema import Params
from cpfd.paths import CONTENT, MODELS, PACKAGE, RAW, SHIPPED, VALIDATED
from cpfd.project.revision import bring, open_version
from cpfd.reports.champion import ChampionReport, NoChampion
from cpfd.stages import run

CHAMPION = MODELS / "champion"
SCORES = VALIDATED.parent / "champion"


def main() -> None:
    """Write models/champion, the version's package, data/champion, the logits of both, and reports/champion.json.

    Without a champion the folders and the report say so.
    """
    params = load_params("champion")
    if params.champion.version is not None:
        return _challenge(params, params.champion.version)
    for folder in (CHAMPION, SCORES):
        with written_aside(folder) as aside:
            aside.mkdir()
            # DVC warns of empty outputs at every turn.
            (aside / "README.md").write_text("There is no champion: champion.version in params.yaml is null.\n")
    NoChampion().write()
    return None


def _challenge(params: Params, version: str) -> None:
    # Torch and transformers take seconds to import: only where there is a champion.
    from cpfd.comparing.contenders import classify, compare, describe_clips, match, select_clips
    from cpfd.datasets.validated import clip_tables, encoded_clips, read_clips
    from cpfd.student.package import assemble_student
    from cpfd.student.student import Student

    revision = open_version(version)
    with written_aside(CHAMPION) as aside:
        revision.fetch(PACKAGE, aside)
    with written_aside(SCORES) as aside:
        aside.mkdir()
        bring(revision, VALIDATED, clip_tables(revision), aside / "learnt")
        learnt = read_clips(aside / "learnt")
        remove(aside / "learnt")
        encoded = encoded_clips(read_clips(VALIDATED), read_table(CONTENT / "index.parquet"))
        clips = select_clips(encoded, learnt)
        videos = RAW / params.dataset.name / "videos"
        student = assemble_student(SHIPPED)
        threads = params.extract.threads
        champion = classify(Student.load(CHAMPION), clips.table, videos, threads, f"champion {version}")
        challenger = classify(student, clips.table, videos, threads, "challenger")
        slices = describe_clips(clips.table, encoded, videos)
        table = clips.table[["video_id", "label", "creator_id"]].assign(
            champion=list(champion.logits), challenger=list(challenger.logits), **slices
        )
        write_table(aside / "scores.parquet", table)
    pair = match(clips, champion, challenger)
    comparison = compare(pair, slices, params.evaluation, params.champion.min_slice_clips)
    assert revision.commit is not None  # a version is one
    ChampionReport(version=version, commit=revision.commit, **dict(comparison)).write()
    f1 = comparison.macro_f1
    if f1 is None:
        print(f"champion: {version}: {comparison.note}")
    else:
        print(
            f"champion: macro-F1 {f1.champion:.3f} of {version}, {f1.challenger:.3f} of the student"
            f" on {comparison.clips} test clips ({f1.mean:+.3f} [{f1.low:+.3f}, {f1.high:+.3f}])"
        )


if __name__ == "__main__":
    run(main)
