"""From logits on disk to the numbers of reports/metrics.json."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cpfd import metrics
from cpfd.datasets.contract import label_matrix
from cpfd.errors import CpfdError
from cpfd.evaluation import bootstrap
from cpfd.files import read_table
from cpfd.params.schema import Evaluation, Method
from cpfd.reports.metrics import (
    MeanScores,
    MeanScoresInterval,
    MetricsReport,
    PerSplit,
    Scores,
    ShippedStudent,
    Spread,
    SpreadInterval,
)

BASELINES = ("none", "pfd", "teacher")
"""What every method is compared with."""


@dataclass(frozen=True)
class Split:
    """The labelled clips of a split, sorted by video_id, and what each model says of them.

    video_ids[N]; targets[N, C]; clusters[N], 0 to K - 1: clips of one creator share a cluster; logits[R, N, C] of each
    model: one run per seed, and `teacher` with R = 1.
    """

    name: str
    classes: list[str]
    task: str
    video_ids: list[str]
    targets: NDArray[np.float32]
    clusters: NDArray[np.intp]
    logits: Mapping[str, NDArray[np.float32]]


@dataclass(frozen=True)
class Shipped:
    """The student that goes to the gate: `run` is the position of its seed among the seeds of its method."""

    method: Method
    seed: int
    run: int


def read_split(
    name: str, index: pd.DataFrame, classes: list[str], task: str, files: Mapping[str, Sequence[Path]]
) -> Split:
    """Read the logits of split `name` from `files` of each model, one per run; see `build_split`.

    Raises CpfdError where a file is absent as well.
    """
    tables = {model: {str(path): _read_logits(path) for path in paths} for model, paths in files.items()}
    return build_split(name, index, classes, task, tables)


def build_split(
    name: str, index: pd.DataFrame, classes: list[str], task: str, tables: Mapping[str, Mapping[str, pd.DataFrame]]
) -> Split:
    """Build split `name` from the logits of each model: one table per run, under the name that errors give it.

    index: `video_id`, `split`, `label` and `creator_id` of all clips. Raises CpfdError where the split has no labelled
    clip, and where a table does not hold exactly the labelled clips of the split. Unlabelled clips, which the teacher
    judges as well, are left out.
    """
    labelled = index["label"] != ""
    clips = index[(index["split"] == name) & labelled].sort_values("video_id")
    unlabelled = index["video_id"][~labelled]
    if clips.empty:
        raise CpfdError(f"the {name} split has no labelled clip to evaluate on: label some clips of it in the manifest")
    # A clip of an unknown creator is its own cluster; the prefix keeps creators and clips of one name apart.
    owners = np.where(clips["creator_id"] == "", "clip " + clips["video_id"], "creator " + clips["creator_id"])
    return Split(
        name=name,
        classes=classes,
        task=task,
        video_ids=clips["video_id"].to_list(),
        targets=label_matrix(clips["label"], classes, task),
        clusters=np.unique(owners.astype(str), return_inverse=True)[1],
        logits={
            model: np.stack(
                [
                    _split_logits(source, table, name, clips["video_id"], unlabelled, len(classes))
                    for source, table in runs.items()
                ]
            )
            for model, runs in tables.items()
        },
    )


def choose_shipped(method: Method, seeds: Sequence[int], validation: Split) -> Shipped:
    """Choose the seed of `method` with the best validation macro-F1; of equal ones, the first."""
    scores = [metrics.macro_f1(validation.targets, run, validation.task) for run in validation.logits[method]]
    run = int(np.argmax(scores))
    return Shipped(method, seeds[run], run)


def summarise(validation: Split, test: Split, shipped: Shipped, settings: Evaluation) -> MetricsReport:
    """Everything of reports/metrics.json; comparisons, intervals and closed gaps are of the test split."""
    repeated = {
        model: np.broadcast_to(runs, (_most_runs(test), *runs.shape[1:])) for model, runs in test.logits.items()
    }
    drawn = bootstrap.resample_macro_f1(
        test.targets, repeated, test.task, test.clusters, settings.bootstrap_samples, settings.seed
    )
    bins = settings.calibration_bins
    spread = _spread(test, bins)
    observed = {model: scores.macro_f1.mean for model, scores in spread.items()}
    methods = [model for model in test.logits if model != "teacher"]
    return MetricsReport.model_validate(
        {
            "task": test.task,
            "interval": settings.interval,
            "clips": PerSplit(test=len(test.targets), validation=len(validation.targets)),
            "clusters": PerSplit(test=_clusters(test), validation=_clusters(validation)),
            "shipped": ShippedStudent(
                method=shipped.method,
                seed=shipped.seed,
                test=_shipped_scores(test, shipped, bins),
                validation=_shipped_scores(validation, shipped, bins),
            ),
            "test": {
                model: _with_interval(scores, bootstrap.interval(drawn[model], settings.interval))
                for model, scores in spread.items()
            },
            "validation": _spread(validation, bins),
            "comparisons": {
                method: {
                    baseline: bootstrap.difference(
                        observed[method] - observed[baseline], drawn[method], drawn[baseline], settings.interval
                    )
                    for baseline in BASELINES
                    if baseline in test.logits and baseline != method
                }
                for method in methods
            },
            "gap_closed": {
                method: bootstrap.gap_closed(observed, drawn, method, settings.interval)
                for method in methods
                if method != "none"
            },
        }
    )


def runs_table(validation: Split, test: Split, seeds: Sequence[int]) -> pd.DataFrame:
    """Tabulate macro-F1 of every run: `model`, `seed` (of a student), `validation`, `test`."""
    rows = []
    for model, runs in test.logits.items():
        for run in range(len(runs)):
            f1 = {
                split.name: metrics.macro_f1(split.targets, split.logits[model][run], split.task)
                for split in (validation, test)
            }
            rows.append({"model": model, "seed": None if model == "teacher" else seeds[run], **f1})
    return pd.DataFrame(rows).astype({"seed": "Int64"})


def class_table(test: Split, shipped: Shipped) -> pd.DataFrame:
    """Tabulate the test split by class: `class`, `support`, and `precision`, `recall`, `f1` of the shipped student.

    `f1_<model>` is the mean over the runs of the teacher and of each method.
    """
    table = metrics.per_class(test.targets, test.logits[shipped.method][shipped.run], test.classes, test.task)
    table.insert(1, "support", table.pop("support"))
    for model, runs in test.logits.items():
        by_run = [metrics.per_class(test.targets, run, test.classes, test.task)["f1"] for run in runs]
        table[f"f1_{model}"] = np.mean(by_run, axis=0)
    return table


def read_class_table(path: Path) -> pd.DataFrame:
    """Read the table of `class_table` from its CSV file, every digit of it."""
    # A class may well be called 1 or null.
    return pd.read_csv(path, dtype={"class": str}, keep_default_na=False)


def confusion_pairs(test: Split, shipped: Shipped) -> pd.DataFrame:
    """Pair `actual` and `predicted` class of each test clip, as DVC's confusion template asks; single-label only."""
    logits = test.logits[shipped.method][shipped.run]
    names = np.array(test.classes, dtype=object)
    return pd.DataFrame({"actual": names[test.targets.argmax(axis=1)], "predicted": names[logits.argmax(axis=1)]})


def confidence_histogram(confidence: pd.DataFrame, classes: list[str], task: str, bins: int) -> pd.DataFrame:
    """Count labelled training clips by the calibrated confidence `max_prob` of the teachers that have not seen them.

    confidence: data/confidence/confidence.parquet. Returns `low`, `high`, `agrees` and `disagrees`: clips whose
    out-of-fold prediction is, and is not, the given label.
    """
    labelled = confidence[confidence["label"] != ""]
    targets = label_matrix(labelled["label"], classes, task)
    agrees = metrics.correct(targets, np.stack(labelled["oof_logits"].to_list()), task)
    edges = np.linspace(0, 1, bins + 1)
    values = labelled["max_prob"].to_numpy()
    return pd.DataFrame(
        {
            "low": edges[:-1],
            "high": edges[1:],
            "agrees": np.histogram(values[agrees], edges)[0],
            "disagrees": np.histogram(values[~agrees], edges)[0],
        }
    )


def _spread(split: Split, bins: int) -> dict[str, MeanScores]:
    """Mean and standard deviation over runs of each score of each model."""
    return {model: _spread_of([_scores(split, run, bins) for run in runs]) for model, runs in split.logits.items()}


def _spread_of(runs: Sequence[Scores]) -> MeanScores:
    by_score = pd.DataFrame([run.content() for run in runs])
    return MeanScores.model_validate(
        {
            str(score): Spread(mean=float(values.mean()), std=float(values.std()) if len(values) > 1 else None)
            for score, values in by_score.items()
        }
    )


def _with_interval(scores: MeanScores, interval: tuple[float, float]) -> MeanScoresInterval:
    """Add the interval of macro-F1, low and high."""
    low, high = interval
    f1 = SpreadInterval(mean=scores.macro_f1.mean, std=scores.macro_f1.std, low=low, high=high)
    return MeanScoresInterval(
        macro_f1=f1,
        weighted_f1=scores.weighted_f1,
        accuracy=scores.accuracy,
        calibration_error=scores.calibration_error,
    )


def _scores(split: Split, logits: NDArray[np.float32], bins: int) -> Scores:
    reliability = metrics.reliability(split.targets, logits, split.task, bins)
    return Scores(
        macro_f1=metrics.macro_f1(split.targets, logits, split.task),
        weighted_f1=metrics.weighted_f1(split.targets, logits, split.task),
        accuracy=metrics.accuracy(split.targets, logits, split.task),
        calibration_error=metrics.calibration_error(reliability),
    )


def _shipped_scores(split: Split, shipped: Shipped, bins: int) -> Scores:
    return _scores(split, split.logits[shipped.method][shipped.run], bins)


def _clusters(split: Split) -> int:
    return int(split.clusters.max()) + 1


def _most_runs(split: Split) -> int:
    return max(len(runs) for runs in split.logits.values())


def _read_logits(path: Path) -> pd.DataFrame:
    if not path.is_file():
        raise CpfdError(
            f"{path}: no such file; `dvc pull {path.parent}` fetches what others have trained, `dvc repro` trains it"
        )
    return read_table(path)


def _split_logits(
    source: str, table: pd.DataFrame, split: str, video_ids: pd.Series, unlabelled: pd.Series, classes: int
) -> NDArray[np.float32]:
    """The logits[N, C] of a split's labelled clips, `video_ids`, in their order; errors call the table `source`."""
    table = table[(table["split"] == split) & ~table["video_id"].isin(unlabelled)].set_index("video_id")
    if not table.index.is_unique:
        twice = table.index[table.index.duplicated()].unique().sort_values()
        raise CpfdError(f"{source}: {_first(twice)} in it twice; remove the file and run `dvc repro`")
    expected = pd.Index(video_ids)
    for problem, ids in [
        ("lacks", expected.difference(table.index)),
        ("is alone in having", table.index.difference(expected)),
    ]:
        if len(ids):
            raise CpfdError(
                f"{source}: {problem} {_first(ids)} of the {split} split, which has {len(expected)} labelled clips in"
                " data/features/content/index.parquet: it was made from other data; run `dvc repro`"
            )
    rows = table["logits"].loc[expected]
    wrong = [video_id for video_id, row in rows.items() if len(row) != classes or not np.isfinite(row).all()]
    if wrong:
        raise CpfdError(
            f"{source}: {_first(pd.Index(wrong))} must have {classes} finite logits, one per class;"
            " run `dvc repro --force` on the stage that made the file"
        )
    return np.stack(rows.to_list()).astype(np.float32)


def _first(ids: pd.Index) -> str:
    """Name the first few ids: "3 clips (a, b, c)"."""
    shown = ", ".join(str(one) for one in ids[:3]) + (", ..." if len(ids) > 3 else "")
    return f"{len(ids)} clip{'s' * (len(ids) > 1)} ({shown})"
