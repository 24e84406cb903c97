"""Great Expectations suites: what the tables of a checked data set must look like."""

from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any

import great_expectations as gx
import great_expectations.expectations as gxe
import numpy as np
import pandas as pd
from great_expectations.core import ExpectationSuiteValidationResult, ExpectationValidationResult
from great_expectations.data_context.types.base import (
    DataContextConfig,
    InMemoryStoreBackendDefaults,
    ProgressBarsConfig,
)
from great_expectations.expectations.expectation import Expectation
from scipy.stats import ks_2samp

from cpfd.datasets.contract import MANIFEST_COLUMNS, SPLITS, RawDataset, lookalikes, parse_labels
from cpfd.params.schema import Validation
from cpfd.reports.validation import Outcome
from cpfd.validation.checks import CheckedDataset, classes_of, has_text, kinds

_SHOWN = 5
_NOT_QUARANTINED = "report this fault of CPFD: row-level checks should have put it into quarantine"


@dataclass(frozen=True)
class Suite:
    """Expectations about a table whose rows are named by the column `key`; a single row needs no name."""

    name: str
    key: str | None
    table: pd.DataFrame
    expectations: list[Expectation]


def validate(suites: list[Suite]) -> list[ExpectationSuiteValidationResult]:
    """Run every suite on its table, in order, in memory: no project folder, no network, no progress bars."""
    config = DataContextConfig(
        analytics_enabled=False,
        progress_bars=ProgressBarsConfig(globally=False),
        store_backend_defaults=InMemoryStoreBackendDefaults(init_temp_docs_sites=False),
    )
    source = gx.get_context(mode="ephemeral", project_config=config).data_sources.add_pandas("cpfd")
    results = []
    for suite in suites:
        definition = source.add_dataframe_asset(suite.name).add_batch_definition_whole_dataframe(suite.name)
        result_format: dict[str, Any] = {"result_format": "SUMMARY", "partial_unexpected_count": _SHOWN}
        if suite.key:
            result_format["unexpected_index_column_names"] = [suite.key]
        result = definition.get_batch({"dataframe": suite.table}).validate(
            gx.ExpectationSuite(name=suite.name, expectations=suite.expectations), result_format=result_format
        )
        for expectation in result.results:
            if expectation.exception_info.get("raised_exception"):
                raise RuntimeError(f"{suite.name}: {expectation.exception_info['exception_message']}")
        results.append(result)
    return results


def describe(suite: Suite, result: ExpectationValidationResult) -> Outcome:
    """One expectation's outcome for reports/validation.json."""
    config = result.expectation_config
    return Outcome(
        suite=suite.name,
        expectation=config.type,
        column=config.kwargs["column"],
        severity=config.severity.value,
        success=result.success,
        observed=_observed(suite, result),
        expected=config.meta["expected"],
        remedy=config.meta["remedy"],
    )


def make_suites(raw: RawDataset, checked: CheckedDataset, task: str, limits: Validation) -> list[Suite]:
    """The suites that apply to a data set, the most telling first; a table without rows has none."""
    manifest = checked.manifest
    labels = manifest.assign(**{"class": manifest["label"].map(lambda label: parse_labels(label, task))})
    labels = labels[["video_id", "split", "class"]].explode("class").dropna()
    suites = [
        _label_names(raw.manifest["label"], task),
        _dataset(raw, checked, labels, task, limits),
        _splits(manifest),
        _classes(labels, limits),
        _creators(manifest),
        _manifest(manifest, raw.text_columns),
        _labels(labels, classes_of(manifest, task)),
        _clips(checked.clips, limits),
        _contents(checked.clips),
        _dense_coverage(raw, checked, limits),
        _dense(checked),
        _dense_columns(checked, limits),
        _columns(raw),
    ]
    return [suite for suite in suites if len(suite.table)]


def _dataset(raw: RawDataset, checked: CheckedDataset, labels: pd.DataFrame, task: str, limits: Validation) -> Suite:
    manifest = checked.manifest
    counts = labels["class"].value_counts()
    measured = {
        "quarantine_share": checked.quarantined_clips / len(raw.manifest),
        "labelled_training_clips": ((manifest["split"] == "train") & (manifest["label"] != "")).sum(),
        "classes": len(counts),
        "class_ratio": counts.max() / counts.min() if len(counts) else np.nan,
        "missing_text_share": 1 - has_text(manifest, raw.text_columns).mean(),
    }
    reasons = kinds(checked.quarantine[checked.quarantine["table"] == "manifest"]).value_counts().head(3)
    frequent = ", ".join(f"{kind} ({clips})" for kind, clips in reasons.items()) or "none"
    fewest = 2 if task == "single_label" else 1
    expectations = [
        _within(
            "quarantine_share",
            f"at most {limits.max_quarantine_share:g} of the clips in quarantine",
            f"mend or remove them (most frequent: {frequent}), or raise validation.max_quarantine_share",
            high=limits.max_quarantine_share,
        ),
        _within("labelled_training_clips", "labelled clips in the training split", "label clips of that split", low=1),
        _within(
            "classes",
            f"at least {fewest} class{'es' if fewest > 1 else ''}",
            "label clips of another class, or check the label column and dataset.task",
            low=fewest,
        ),
        _within(
            "class_ratio",
            f"the most frequent class at most {limits.max_class_ratio:g} times as frequent as the least",
            "label more clips of rare classes, or set train.class_weighting: balanced",
            high=limits.max_class_ratio,
            severity="warning",
        ),
        _within(
            "missing_text_share",
            f"at most {limits.max_missing_text_share:g} of the clips without text",
            "check the text columns of the manifest, or raise validation.max_missing_text_share",
            high=limits.max_missing_text_share,
            severity="warning",
        ),
    ]
    return Suite("dataset", None, pd.DataFrame([measured]), expectations)


def _dense_coverage(raw: RawDataset, checked: CheckedDataset, limits: Validation) -> Suite:
    """One row, where there is a dense table."""
    there = raw.dense.columns.tolist() != ["video_id"] and len(checked.manifest)
    valued = checked.dense["video_id"][checked.dense.drop(columns="video_id").notna().any(axis="columns")]
    without = 1 - checked.manifest["video_id"].isin(valued).mean()
    expected = f"at most {limits.max_missing_dense_share:g} of the clips without any dense value"
    remedy = (
        "compare the video_ids of manifest and dense table, complete or remove that table, or raise"
        " validation.max_missing_dense_share"
    )
    return Suite(
        "dense_coverage",
        None,
        pd.DataFrame({"clips_without_share": [without] if there else []}, dtype=np.float64),
        [_within("clips_without_share", expected, remedy, high=limits.max_missing_dense_share)],
    )


def _label_names(labels: pd.Series, task: str) -> Suite:
    named = {name for label in labels.unique() for name in parse_labels(label, task)}
    alike = {name: ", ".join(map(repr, group)) for group in lookalikes(named) for name in group}
    classes = sorted(named)
    table = pd.DataFrame(
        {
            "class": classes,
            "bars": [name.count("|") for name in classes],
            "lookalikes": [alike.get(name, "none") for name in classes],
        }
    )
    expectations = [
        _within(
            "bars",
            "labels of one class, without a |",
            "set dataset.task to multi_label, where a|b means both a and b; or rename the class",
            high=0,
        ),
        _among(
            "lookalikes",
            ["none"],
            "classes that differ in more than case, white space or Unicode form",
            "write the label of a class alike in all rows",
            severity="warning",
        ),
    ]
    return Suite("label_names", "class", table, expectations)


def _splits(manifest: pd.DataFrame) -> Suite:
    counts = manifest["split"][manifest["label"] != ""].value_counts().reindex(SPLITS, fill_value=0)
    remedy = "label more clips or correct the split column; splits by creator need three creators"
    return Suite(
        "splits",
        "split",
        pd.DataFrame({"split": SPLITS, "labelled_clips": counts.to_numpy()}),
        [_within("labelled_clips", "labelled clips in every split", remedy, low=1)],
    )


def _classes(labels: pd.DataFrame, limits: Validation) -> Suite:
    counts = pd.crosstab(labels["class"], labels["split"]).reindex(columns=list(SPLITS), fill_value=0)
    table = counts.assign(clips=counts.sum(axis="columns")).rename_axis(columns=None).reset_index()
    least = limits.min_class_clips
    more = "label more clips of the class, where creators are few of other creators"
    expectations = [
        _within(
            "clips",
            f"at least {least} labelled clips of every class",
            f"{more}; or lower validation.min_class_clips",
            low=least,
        ),
        _within("train", "every class in the training split", more, low=1),
        _within("validation", "every class in the validation split", more, low=1, severity="warning"),
        _within("test", "every class in the test split", more, low=1, severity="warning"),
    ]
    return Suite("classes", "class", table, expectations)


def _creators(manifest: pd.DataFrame) -> Suite:
    creators = manifest.get("creator_id", pd.Series("", manifest.index))
    splits = manifest["split"][creators != ""].groupby(creators.rename("creator_id")).nunique()
    remedy = "give all clips of a creator the same split, or empty the split column to have the splits made"
    return Suite(
        "creators",
        "creator_id",
        splits.rename("splits").reset_index(),
        [_within("splits", "every creator in one split only", remedy, high=1)],
    )


def _manifest(manifest: pd.DataFrame, text_columns: list[str]) -> Suite:
    content = has_text(manifest, text_columns) | (manifest["content_hash"] != "")
    lengths = manifest["video_id"].str.len()
    expectations = [
        _unique("video_id"),
        _within("id_length", "a video_id in every row", _NOT_QUARANTINED, low=1),
        _among("split", SPLITS, f"split one of {', '.join(SPLITS)}", _NOT_QUARANTINED),
        _among("has_content", [True], "text or a video for every clip", _NOT_QUARANTINED),
    ]
    table = manifest[["video_id", "split"]].assign(id_length=lengths, has_content=content)
    return Suite("manifest", "video_id", table, expectations)


def _labels(labels: pd.DataFrame, classes: list[str]) -> Suite:
    expected = "every label among the classes of the training split"
    return Suite("labels", "video_id", labels, [_among("class", classes, expected, _NOT_QUARANTINED)])


def _clips(clips: pd.DataFrame, limits: Validation) -> Suite:
    seconds, sides = (limits.min_seconds, limits.max_seconds), (limits.min_side, limits.max_side)
    expectations = [
        _within("seconds", f"clips of {seconds[0]:g} to {seconds[1]:g} s", _NOT_QUARANTINED, *seconds),
        _within("short_side", f"sides of at least {sides[0]} pixels", _NOT_QUARANTINED, low=sides[0]),
        _within("long_side", f"sides of at most {sides[1]} pixels", _NOT_QUARANTINED, high=sides[1]),
        _within("frames", f"at least {limits.min_frames} frame(s)", _NOT_QUARANTINED, low=limits.min_frames),
    ]
    return Suite("clips", "video_id", clips, expectations)


def _contents(clips: pd.DataFrame) -> Suite:
    grouped = clips.groupby("content_hash")
    table = grouped.agg(video_ids=("video_id", " ".join), copies=("video_id", "size"), splits=("split", "nunique"))
    expectations = [
        _within("splits", "no clip's content in two splits", _NOT_QUARANTINED, high=1),
        _within(
            "copies",
            "no clip's content twice in a split",
            "keep one of the copies in the manifest",
            high=1,
            severity="warning",
        ),
    ]
    return Suite("contents", "video_ids", table.reset_index(drop=True), expectations)


def _dense(checked: CheckedDataset) -> Suite:
    known = checked.dense["video_id"].isin(checked.manifest["video_id"])
    expectations = [
        _unique("video_id"),
        _among("in_manifest", [True], "every video_id of the dense table in the manifest", _NOT_QUARANTINED),
    ]
    return Suite("dense", "video_id", checked.dense[["video_id"]].assign(in_manifest=known), expectations)


def _dense_columns(checked: CheckedDataset, limits: Validation) -> Suite:
    columns = checked.dense_columns
    values = checked.manifest[["video_id", "split"]].merge(checked.dense, on="video_id", how="left")
    table = columns.assign(
        missing_share=np.array([values[name].isna().mean() for name in columns["column"]], np.float64),
        drift=np.array([_drift(values, name) for name in columns["column"]], np.float64),
    )
    expectations = [
        _among(
            "numeric",
            [True],
            "numbers in every dense column",
            "remove the column from the dense table or turn it into numbers",
        ),
        _within(
            "missing_share",
            f"at most {limits.max_missing_dense_share:g} of a dense column missing",
            "complete or remove the column, or raise validation.max_missing_dense_share",
            high=limits.max_missing_dense_share,
            severity="warning",
        ),
        _within(
            "drift",
            f"Kolmogorov-Smirnov distance of a dense column to the training split at most {limits.max_drift:g}",
            "look at how the column came about in each split, or raise validation.max_drift",
            high=limits.max_drift,
            severity="warning",
        ),
    ]
    return Suite("dense_columns", "column", table, expectations)


def _drift(values: pd.DataFrame, column: str) -> float:
    """The larger distance of validation and test to the training split, 0..1; NaN where there is nothing to compare."""
    present = values[["split", column]].dropna()
    train, *others = [present[column][present["split"] == split].to_numpy() for split in SPLITS]
    distances = [ks_2samp(train, other, method="asymp").statistic for other in others if len(train) and len(other)]
    return float(max(distances, default=np.nan))


def _columns(raw: RawDataset) -> Suite:
    expected = "only columns of the contract in the manifest; others are not used"
    remedy = "rename the column to one of the contract, or move numbers to the dense table"
    return Suite(
        "columns",
        "column",
        pd.DataFrame({"column": [*raw.manifest.columns, *raw.other_columns]}),
        [_among("column", MANIFEST_COLUMNS, expected, remedy, severity="warning")],
    )


def _within(
    column: str,
    expected: str,
    remedy: str,
    low: float | None = None,
    high: float | None = None,
    severity: str = "critical",
) -> Expectation:
    return gxe.ExpectColumnValuesToBeBetween(
        column=column, min_value=low, max_value=high, **_words(expected, remedy, severity)
    )


def _among(column: str, values: Sequence[Any], expected: str, remedy: str, severity: str = "critical") -> Expectation:
    return gxe.ExpectColumnValuesToBeInSet(column=column, value_set=list(values), **_words(expected, remedy, severity))


def _unique(column: str) -> Expectation:
    words = _words(f"every {column} once", _NOT_QUARANTINED, "critical")
    return gxe.ExpectColumnValuesToBeUnique(column=column, **words)


def _words(expected: str, remedy: str, severity: str) -> dict[str, Any]:
    return {
        "severity": severity,
        "description": f"{expected} ({severity})",
        "meta": {"expected": expected, "remedy": remedy},
    }


def _observed(suite: Suite, result: ExpectationValidationResult) -> str:
    """What was found, in words: the value of the only row, or how many rows differ and the first by name."""
    column, found = result.expectation_config.kwargs["column"], result.result
    if suite.key is None:
        return _short(suite.table[column].iloc[0])
    rows = found["element_count"] - found["missing_count"]
    if not found["unexpected_count"]:
        return f"all {rows}"
    shown = [
        str(row[suite.key]) + (f" ({_short(row[column])})" if column != suite.key else "")
        for row in found["partial_unexpected_index_list"][:_SHOWN]
    ]
    return f"{found['unexpected_count']} of {rows}: {', '.join(shown)}"


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, Real) else str(value)
