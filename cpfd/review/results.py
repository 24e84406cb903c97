"""What came out at two revisions: scores with paired intervals, evidence, plots and the gate's rules.

Everything is read from git and from DVC's cache; what is not there is said, never computed anew.
"""

import hashlib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, TypeVar

from cpfd.errors import CpfdError
from cpfd.files import read_json
from cpfd.pages.captions import CAPTIONS, EVIDENCE
from cpfd.pages.names import model_name
from cpfd.params.schema import Evaluation
from cpfd.paths import CONTENT, LOCK_FILE, MODELS, REPORTS
from cpfd.project.revision import Revision
from cpfd.reports.confidence import ConfidenceReport
from cpfd.reports.gate import GateReport
from cpfd.reports.metrics import Difference, GapClosed, MetricsReport
from cpfd.reports.report import Report
from cpfd.reports.validation import ValidationReport

if TYPE_CHECKING:
    from cpfd.evaluation.results import Split

R = TypeVar("R", bound=Report)
T = TypeVar("T")
Sides = Mapping[str, MetricsReport | None]
SCORES = ("macro_f1", "weighted_f1", "accuracy", "calibration_error")
_IMAGE = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*\.png")  # a name is written to disk, so none leads out of a folder
MIN_SHARED = 0.5
"""Least share of the larger test split that both sides must have for paired intervals."""
_TOLERANCE = 1e-6  # of macro-F1 computed anew against metrics.json: far above rounding, far below one clip


def changed_results(base: Revision, head: Revision) -> dict[str, Any]:
    """Compare reports/metrics.json and what belongs to it; each `old` or `new` is None where its side has none.

    `files`: by path, what is at each side: "there", "missing" or "altered" (other content than dvc.lock records).
    `models`: `model`, `name`, {`old`, `new`} of each of SCORES on the test split as in metrics.json, and `difference`:
    macro-F1 of new minus old, {mean, low, high, probability} by `bootstrap.difference`, or None.
    `shipped`: method, its `name`, seed, macro-F1 of the method (mean over seeds) and of the shipped student alone, and
    the `difference` between the two methods. `paired`: what the differences are computed from, {clips, left_out: {old,
    new}, seeds, interval, samples}, or None; `note` then says why. `gap_closed` by method; `confidence` and
    `validation`: evidence of the teacher, and the data checks. A report that another version of CPFD wrote counts as
    none; of metrics.json, `note` says so.
    """
    metrics, notes = _read(MetricsReport, base, head)
    checks, _ = _read(ValidationReport, base, head)
    paired: dict[str, Any] | None = None
    differences: dict[str, Difference] = {}
    note = notes[0] if notes else None
    try:
        if not notes:
            paired, differences = _paired(base, head, metrics["old"], metrics["new"])
    except CpfdError as error:
        note = str(error)
    except (KeyError, OSError, ValueError) as error:  # files of another version of CPFD, or damaged ones
        note = f"what both sides have cannot be paired ({type(error).__name__}: {error})"
    return {
        "files": {
            path.as_posix(): {side: _state(revision, path) for side, revision in _both(base, head).items()}
            for path in (MetricsReport.path, GateReport.path, ValidationReport.path)
        },
        "task": next((each.task for each in (metrics["new"], metrics["old"]) if each), "single_label"),
        "interval": next((each.interval for each in (metrics["new"], metrics["old"]) if each), None),
        "clips": {side: each and each.clips.test for side, each in metrics.items()},
        "models": _models(metrics, differences),
        "shipped": {
            **{side: each and _shipped(each) for side, each in metrics.items()},
            "difference": differences.get("shipped"),
        },
        "paired": paired,
        "note": note,
        "gap_closed": _gap_closed(metrics),
        "confidence": {side: _evidence(revision) for side, revision in _both(base, head).items()},
        "validation": {side: each and _validation(each) for side, each in checks.items()},
    }


def changed_gate(base: Revision, head: Revision) -> dict[str, Any]:
    """Lay the gate's verdicts side by side: `old`, `new`: {passed, method, name, seed, champion} or None.

    `rules`: `name`, `description`, and of each side {value, comparison, limit, passed, note}, or None where that side's
    gate has no such rule. `notes`: reports that another version of CPFD wrote.
    """
    gates, notes = _read(GateReport, base, head)
    rules = {side: {rule.name: rule for rule in gate.rules} if gate else {} for side, gate in gates.items()}
    keys = ("value", "comparison", "limit", "passed", "note")
    return {
        **{side: gate and _verdict(gate) for side, gate in gates.items()},
        "rules": [
            {
                "name": name,
                "description": (rules["new"].get(name) or rules["old"][name]).description,
                **{
                    side: {key: getattr(of[name], key) for key in keys} if name in of else None
                    for side, of in rules.items()
                },
            }
            for name in {**rules["new"], **rules["old"]}
        ],
        "notes": notes,
    }


def changed_plots(base: Revision, head: Revision) -> dict[str, Any]:
    """Pair the PNG files of tracked folders in reports/ by name.

    `plots`: `name` (`plots/f1`), `caption`, hash `old` and `new` (None where there is none), and `outcome`: "same",
    "changed", "added" or "removed". `notes`: folders that DVC's cache does not have.
    """
    captions = {f"plots/{name}": text for name, text in CAPTIONS.items()}
    captions |= {f"confidence/{name}": text for name, text in EVIDENCE.items()}
    old, new = _plot_hashes(base), _plot_hashes(head)
    unknown = {folder for hashes in (old, new) for folder, inside in hashes.items() if inside is None}
    plots = []
    for folder in {**new, **old}:
        # Nothing can be said about a folder of which one side is not known.
        if folder in unknown:
            continue
        before, after = old.get(folder) or {}, new.get(folder) or {}
        for name in {**after, **before}:
            hashes = {"old": before.get(name), "new": after.get(name)}
            plots.append({"name": name, "caption": captions.get(name, ""), **hashes, "outcome": _outcome(**hashes)})
    order = list(captions)
    return {
        "plots": sorted(plots, key=lambda plot: order.index(plot["name"]) if plot["name"] in order else len(order)),
        "notes": [
            _fetch(f"{REPORTS.as_posix()}/{folder}", revision)
            for revision, hashes in ((base, old), (head, new))
            for folder, inside in hashes.items()
            if inside is None
        ],
    }


def read_plots(revision: Revision) -> dict[str, bytes]:
    """The PNG files of tracked folders in reports/, by name (`plots/f1`), as far as DVC's cache has them."""
    names = [name for inside in _plot_hashes(revision).values() for name in inside or {}]
    cached = {name: revision.cached(REPORTS / f"{name}.png") for name in names}
    return {name: path.read_bytes() for name, path in cached.items() if path is not None}


def _both(old: T, new: T) -> dict[str, T]:
    return {"old": old, "new": new}


def _read(kind: type[R], base: Revision, head: Revision) -> tuple[dict[str, R | None], list[str]]:
    """A report of both sides, None where there is none that this version of CPFD can read; and a note on each such."""
    found: dict[str, R | None] = {}
    notes = []
    for side, revision in _both(base, head).items():
        try:
            found[side] = revision.report(kind)
        except CpfdError as error:
            found[side] = None
            notes.append(str(error))
    return found, notes


def _state(revision: Revision, path: Path) -> str:
    content, recorded = revision.read(path), revision.hashes.get(path.as_posix())
    if content is None:
        return "missing"
    return "there" if recorded in (None, hashlib.md5(content, usedforsecurity=False).hexdigest()) else "altered"


def _models(metrics: Sides, differences: Mapping[str, Difference]) -> list[dict[str, Any]]:
    tests = {side: each.test if each else {} for side, each in metrics.items()}
    return [
        {
            "model": model,
            "name": model_name(model),
            **{
                score: {side: getattr(test[model], score) if model in test else None for side, test in tests.items()}
                for score in SCORES
            },
            "difference": differences.get(model),
        }
        for model in {**tests["new"], **tests["old"]}
    ]


def _shipped(metrics: MetricsReport) -> dict[str, Any]:
    shipped = metrics.shipped
    return {
        "method": shipped.method,
        "name": model_name(shipped.method),
        "seed": shipped.seed,
        "macro_f1": metrics.test[shipped.method].macro_f1.mean,
        "student": shipped.test,
    }


def _gap_closed(metrics: Sides) -> dict[str, dict[str, GapClosed | None]]:
    gaps = {side: each.gap_closed if each else {} for side, each in metrics.items()}
    return {
        method: {side: each.get(method) for side, each in gaps.items()} for method in {**gaps["new"], **gaps["old"]}
    }


def _evidence(revision: Revision) -> dict[str, Any] | None:
    """What the confidence stage found out about the teacher; None where the cache lacks it or it cannot be read."""
    path = revision.cached(ConfidenceReport.path)
    if path is None:
        return None
    try:
        report = ConfidenceReport.read(path)
    except CpfdError:
        return None
    return {key: getattr(report, key) for key in ("eta", "gain", "temperature", "method", "why")}


def _validation(report: ValidationReport) -> dict[str, Any]:
    return {
        "passed": report.passed,
        "quarantined": report.quarantine.clips,
        "unmet": [{key: getattr(each, key) for key in ("expected", "observed", "severity")} for each in report.unmet],
    }


def _verdict(gate: GateReport) -> dict[str, Any]:
    return {
        "passed": gate.passed,
        "method": gate.method,
        "name": model_name(gate.method),
        "seed": gate.seed,
        "champion": gate.champion,
    }


def _paired(
    base: Revision, head: Revision, old_metrics: MetricsReport | None, new_metrics: MetricsReport | None
) -> tuple[dict[str, Any], dict[str, Difference]]:
    """Bootstrap macro-F1 of new minus old by model, and of the `shipped` methods, on what both sides have.

    Raises CpfdError that says why there is nothing to pair.
    """
    import numpy as np

    from cpfd import metrics
    from cpfd.evaluation import bootstrap

    if old_metrics is None or new_metrics is None:
        lacking = [revision.name for revision, each in ((base, old_metrics), (head, new_metrics)) if each is None]
        raise CpfdError(f"{MetricsReport.path} is not there at {' nor at '.join(lacking)}: there is nothing to compare")
    (old, old_seeds), (new, new_seeds) = _test_split(base, old_metrics), _test_split(head, new_metrics)
    rows = _shared_rows(old, new)
    seeds = [seed for seed in new_seeds if seed in old_seeds]
    if not seeds:
        raise CpfdError(
            f"the students of both sides share no training seed ({_listed(old_seeds)} and {_listed(new_seeds)}):"
            " there is no paired interval"
        )
    shape = (len(seeds), len(rows["new"]), len(new.classes))
    logits = {}
    for side, split, of in (("old", old, old_seeds), ("new", new, new_seeds)):
        for model, runs in split.logits.items():
            shared = runs if model == "teacher" else runs[[of.index(seed) for seed in seeds]]
            logits[f"{side} {model}"] = np.broadcast_to(shared[:, rows[side]], shape)
    targets, task = new.targets[rows["new"]], new.task
    clusters = np.unique(new.clusters[rows["new"]], return_inverse=True)[1]
    settings = Evaluation.model_validate(_recorded(head)["evaluation"])
    drawn = bootstrap.resample_macro_f1(targets, logits, task, clusters, settings.bootstrap_samples, settings.seed)
    observed = {name: np.mean([metrics.macro_f1(targets, run, task) for run in runs]) for name, runs in logits.items()}
    pairs = {model: (model, model) for model in new.logits if model in old.logits}
    pairs["shipped"] = (old_metrics.shipped.method, new_metrics.shipped.method)
    differences = {}
    for name, (before, after) in pairs.items():
        mean = float(observed[f"new {after}"] - observed[f"old {before}"])
        of_new, of_old = drawn[f"new {after}"], drawn[f"old {before}"]
        differences[name] = bootstrap.difference(mean, of_new, of_old, settings.interval)
    paired = {
        "clips": shape[1],
        "left_out": {"old": len(old.video_ids) - shape[1], "new": len(new.video_ids) - shape[1]},
        "clusters": int(clusters.max()) + 1,
        "seeds": seeds,
        "interval": settings.interval,
        "samples": settings.bootstrap_samples,
    }
    return paired, differences


def _test_split(revision: Revision, metrics: MetricsReport) -> tuple["Split", list[int]]:
    """The test split as stage evaluate saw it, from DVC's cache, and the seeds of its students.

    Raises CpfdError where the cache lacks a part of it, or where it is not what metrics.json was made of.
    """
    import numpy as np
    import pandas as pd

    from cpfd.datasets.validated import encoded_clips, label_files
    from cpfd.evaluation.results import build_split
    from cpfd.metrics import macro_f1

    students = _recorded(revision)["students"]
    taught = "teacher" in metrics.test  # without dense features there is no teacher, and the student alone is trained
    files = {"teacher": [MODELS / "teacher" / "logits.parquet"]} if taught else {}
    for method in students["methods"] if taught else ["none"]:
        files[method] = [MODELS / "students" / f"{method}-{seed}" / "logits.parquet" for seed in students["seeds"]]
    index, (labels, about) = CONTENT / "index.parquet", label_files(revision)
    needed = [index, labels, about, *(path for each in files.values() for path in each)]
    cached = {path: revision.cached(path) for path in needed}
    absent = [path for path, where in cached.items() if where is None]
    if absent:
        raise CpfdError(_fetch(absent[0].as_posix(), revision) + "; without it there is no paired interval")
    found = {path: where for path, where in cached.items() if where is not None}
    tables = {model: {str(path): pd.read_parquet(found[path]) for path in paths} for model, paths in files.items()}
    clips = encoded_clips(pd.read_parquet(found[labels]), pd.read_parquet(found[index]))
    task = read_json(found[about])
    split = build_split("test", clips, task["classes"], task["task"], tables)
    for model, runs in split.logits.items():
        scored = float(np.mean([macro_f1(split.targets, run, split.task) for run in runs]))
        stated = next((each.macro_f1.mean for name, each in metrics.test.items() if name == model), None)
        if stated is None or abs(scored - stated) > _TOLERANCE:
            raise CpfdError(
                f"{MetricsReport.path} of {revision.name} was not made from the logits that {LOCK_FILE} records there"
                f" ({model}: macro-F1 {'absent' if stated is None else f'{stated:.4f}'}, from logits {scored:.4f}):"
                " run `dvc repro` and commit; until then there is no paired interval"
            )
    return split, list(students["seeds"])


def _shared_rows(old: "Split", new: "Split") -> dict[str, list[int]]:
    """Rows of the clips that both splits have, in the same order; raises CpfdError where they cannot be paired."""
    reason = None
    places = {side: {clip: row for row, clip in enumerate(split.video_ids)} for side, split in _both(old, new).items()}
    shared = [clip for clip in new.video_ids if clip in places["old"]]
    rows = {side: [of[clip] for clip in shared] for side, of in places.items()}
    larger = max(len(old.video_ids), len(new.video_ids))
    if old.task != new.task or old.classes != new.classes:
        reason = f"the sides have other classes or another task ({len(old.classes)} and {len(new.classes)} classes)"
    elif len(shared) < MIN_SHARED * larger:
        reason = f"the test splits share {len(shared)} of {larger} clips, less than {MIN_SHARED:.0%}"
    else:
        relabelled = (old.targets[rows["old"]] != new.targets[rows["new"]]).any(axis=1).sum()
        if relabelled:
            reason = f"{relabelled} of the {len(shared)} test clips that both sides have carry another label"
    if reason is not None:
        raise CpfdError(f"{reason}: the scores are of different tests, and no paired interval can be given")
    return rows


def _recorded(revision: Revision) -> Mapping[str, Any]:
    """The parameters with which stage evaluate last ran: `evaluation` and `students`."""
    try:
        return dict(revision.lock["evaluate"]["params"]["params.yaml"])
    except KeyError:
        raise CpfdError(
            f"{LOCK_FILE} of {revision.name} records no run of stage evaluate: there is no paired interval"
        ) from None


def _plot_hashes(revision: Revision) -> dict[str, dict[str, str] | None]:
    """By folder in reports/, the hash of each PNG by name (`plots/f1`); None for a folder that the cache lacks."""
    found: dict[str, dict[str, str] | None] = {}
    for path, md5 in sorted(revision.hashes.items()):
        if md5.endswith(".dir") and PurePosixPath(path).parent == PurePosixPath(REPORTS.as_posix()):
            folder, inside = PurePosixPath(path).name, revision.listing(Path(path))
            found[folder] = None
            if inside is not None:
                images = {f"{folder}/{name}": md5 for name, md5 in sorted(inside.items())}
                found[folder] = {name[:-4]: md5 for name, md5 in images.items() if _IMAGE.fullmatch(name)}
    return found


def _outcome(old: str | None, new: str | None) -> str:
    if old is None or new is None:
        return "added" if old is None else "removed"
    return "same" if old == new else "changed"


def _fetch(path: str, revision: Revision) -> str:
    where = "" if revision.commit is None else f" with {revision.name} checked out"
    return f"DVC's cache lacks {path} of {revision.name}: run `dvc fetch`{where}"


def _listed(values: Sequence[Any]) -> str:
    return ", ".join(str(value) for value in values)
