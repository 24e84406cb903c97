"""From the logits of cross-fitted networks to what students are taught, and to the method that ships."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cpfd.distill.confidence import (
    Array,
    OutOfFold,
    as_choices,
    calibrate,
    choose_method,
    class_prior,
    confidences,
    fit_transition,
    gather_evidence,
    pool_target,
    posterior,
    shown_eta,
)
from cpfd.distill.distillability import distillability
from cpfd.features.store import FeatureStore
from cpfd.params.schema import Distill
from cpfd.reports.confidence import ConfidenceReport


@dataclass(frozen=True)
class Assessment:
    """What stage `confidence` finds out, before any student is trained."""

    table: pd.DataFrame
    """One row per training clip: video_id, label, oof_logits, each confidence, target (data/confidence)."""
    report: ConfidenceReport
    """The evidence as a whole, and the method that it speaks for."""
    clips: OutOfFold
    """The labelled ones of these clips, in the order of the table."""


def assess(store: FeatureStore, teacher: pd.DataFrame, student: pd.DataFrame, distill: Distill) -> Assessment:
    """Assess the tables that cross-fitting the teacher and the student gave (`cpfd.training.crossfit`)."""
    task = store.task
    judged = _judged(store, teacher, student)
    labels, labelled = store.targets[judged.rows].astype(np.float64), store.labelled[judged.rows]
    unlabelled = int((~labelled).sum())
    clips = OutOfFold(labels[labelled], judged.teacher[labelled], judged.student[labelled], task)
    evidence = gather_evidence(clips, *_held_back(store, teacher))
    # A rate that cannot be told from honest disagreement counts as no noise.
    eta = shown_eta(evidence, distill.min_eta)
    true = calibrate(judged.teacher, evidence.true_temperature, task)
    transition, strength = fit_transition(*as_choices(true[labelled], clips.labels, task), eta)
    target = np.empty_like(true)
    target[labelled] = posterior(true[labelled], clips.labels, transition, task)
    target[~labelled] = pool_target(judged.teacher[~labelled], class_prior(clips.labels, task), task)

    method, why = choose_method(evidence, eta, unlabelled, distill.min_gain)
    if distill.method != "auto":
        method, why = distill.method, f"distill.method says so; the rule would choose {method}: {why}"
    given = calibrate(judged.teacher, evidence.temperature, task)
    table = store.index.iloc[judged.rows][["video_id", "label"]].reset_index(drop=True)
    table = table.assign(
        oof_logits=list(judged.teacher.astype(np.float32)),
        **confidences(given, labels, labelled, task),
        target=list(target.astype(np.float32)),
    )
    report = ConfidenceReport(
        **evidence.content(),
        eta_applied=eta,
        noise_strength=strength if np.isfinite(strength) else None,
        transition=transition.round(4).tolist(),
        distillability=distillability(
            clips, true[labelled], target[labelled], evidence, eta=eta, unlabelled=unlabelled
        ),
        labelled=len(clips.labels),
        unlabelled=unlabelled,
        method=method,
        why=why,
    )
    return Assessment(table, report, clips)


class _Judged(NamedTuple):
    """Training clips by row of the store[N], and the logits[N, C] of the networks that have not seen them."""

    rows: NDArray[np.intp]
    teacher: Array
    student: Array


def _judged(store: FeatureStore, teacher: pd.DataFrame, student: pd.DataFrame) -> _Judged:
    tables = [table[table["split"] == "train"].set_index("video_id")["logits"] for table in (teacher, student)]
    ids = tables[0].index
    rows = pd.Index(store.index["video_id"]).get_indexer(ids)
    return _Judged(rows, *(_stack(table.loc[ids]) for table in tables))


def _held_back(store: FeatureStore, teacher: pd.DataFrame) -> tuple[Array, Array]:
    """The teachers' logits[V, C] of validation clips, and the labels[V, C] of these."""
    held_back = teacher[teacher["split"] == "validation"]
    rows = pd.Index(store.index["video_id"]).get_indexer(held_back["video_id"])
    return _stack(held_back["logits"]), store.targets[rows].astype(np.float64)


def _stack(lists: "pd.Series[Any]") -> Array:
    return np.stack(lists.to_list()).astype(np.float64)
