"""The validation of a whole data set: quarantine, expectations, reports, and the validated tables."""

import hashlib
from pathlib import Path

import numpy as np
import pandas as pd

from cpfd.datasets.contract import SPLITS, RawDataset, parse_labels
from cpfd.datasets.memory import FileMemory
from cpfd.datasets.validated import split_tables
from cpfd.errors import CpfdError
from cpfd.files import write_json, write_table, written_aside
from cpfd.params.schema import Dataset, Split, Validation
from cpfd.reports.validation import Outcome, Quarantine, SplitCounts, ValidatedDataset, ValidationReport
from cpfd.validation.checks import CheckedDataset, check_dataset, classes_of, kinds
from cpfd.validation.docs import write_docs
from cpfd.validation.suites import describe, make_suites, validate


def validate_dataset(
    raw: RawDataset,
    dataset: Dataset,
    split: Split,
    validation: Validation,
    output: Path,
    reports: Path,
    memory: FileMemory | None = None,
) -> ValidationReport:
    """Check a data set, write what is usable to `output` and what was found to `reports`; returns the report.

    `output` is written as `cpfd.datasets.validated` has it. `reports`: validation.json (the report) and validation/
    (Data Docs). Files that `memory` knows are not read again.

    Raises CpfdError when the manifest is empty, its `split` column is filled in part, or a critical expectation is
    not met; in the last case the reports and quarantine.parquet, but no other table, are written before.
    """
    if raw.manifest.empty:
        raise CpfdError(f"{raw.folder}: the manifest has no rows; import clips before validating them")
    checked = check_dataset(raw, dataset.task, split, validation, memory)
    suites = make_suites(raw, checked, dataset.task, validation)
    results = validate(suites)
    expectations = [
        describe(suite, outcome) for suite, result in zip(suites, results, strict=True) for outcome in result.results
    ]
    failures = [each for each in expectations if each.severity == "critical" and not each.success]
    report = ValidationReport(
        passed=not failures,
        dataset=_describe(dataset, raw, checked),
        quarantine=_count_quarantine(raw, checked),
        expectations=expectations,
    )
    write_docs(reports / "validation", results, report, checked.quarantine)
    report.write(reports / ValidationReport.path.name)
    with written_aside(output) as aside:
        aside.mkdir()
        write_table(aside / "quarantine.parquet", checked.quarantine)
        if not failures:
            for name, table in split_tables(checked.manifest).items():
                write_table(aside / name, table)
            write_table(aside / "dense.parquet", checked.dense)
            # Classes as a list: their order is that of the logits.
            classes, has_dense = list(report.dataset.classes), bool(report.dataset.dense_columns)
            write_json(aside / "task.json", {"task": dataset.task, "classes": classes, "has_dense": has_dense})
            write_json(aside / "content.json", {"rows": len(raw.manifest), "quarantined": checked.quarantined_clips})
            write_json(aside / "dataset.json", report.dataset.content() | {"classes": classes})
    if failures:
        raise CpfdError(_explain(raw, failures, output, reports))
    return report


def _describe(dataset: Dataset, raw: RawDataset, checked: CheckedDataset) -> ValidatedDataset:
    manifest = checked.manifest
    return ValidatedDataset(
        name=dataset.name,
        task=dataset.task,
        version=_version(dataset.task, manifest, checked.dense),
        classes=_class_counts(manifest, dataset.task),
        text_columns=raw.text_columns,
        dense_columns=checked.dense_columns["column"].tolist(),
        clips=_per_split(manifest),
        labelled=_per_split(manifest[manifest["label"] != ""]),
        quarantined=checked.quarantined_clips,
    )


def _per_split(manifest: pd.DataFrame) -> SplitCounts:
    return {split: int((manifest["split"] == split).sum()) for split in SPLITS}


def _class_counts(manifest: pd.DataFrame, task: str) -> dict[str, SplitCounts]:
    named = manifest.assign(name=manifest["label"].map(lambda label: parse_labels(label, task))).explode("name")
    return {name: _per_split(named[named["name"] == name]) for name in classes_of(manifest, task)}


def _count_quarantine(raw: RawDataset, checked: CheckedDataset) -> Quarantine:
    reasons = kinds(checked.quarantine).value_counts().sort_index().sort_values(ascending=False, kind="stable")
    return Quarantine(
        clips=checked.quarantined_clips,
        share=checked.quarantined_clips / len(raw.manifest),
        reasons={str(kind): int(rows) for kind, rows in reasons.items()},
    )


def _version(task: str, manifest: pd.DataFrame, dense: pd.DataFrame) -> str:
    """A hash of all content that training can see, the clips' bytes included: 16 hexadecimal digits."""
    digest = hashlib.sha256(task.encode())
    for table in (manifest, dense):
        for column in table:
            values = table[column]
            numbers = values.dtype == np.float64
            content = np.where(values.isna(), np.nan, values).tobytes() if numbers else "\0".join(values).encode()
            digest.update(f"\0{column}\0".encode() + content)
    return digest.hexdigest()[:16]


def _explain(raw: RawDataset, failures: list[Outcome], output: Path, reports: Path) -> str:
    first, others = failures[0], len(failures) - 1
    more = f" (critical expectations not met besides: {others})" if others else ""
    return (
        f"{raw.folder}: expected {first.expected}, observed {first.observed} ({first.suite}:"
        f" {first.column}): {first.remedy}{more}; see {reports / 'validation' / 'index.html'} and"
        f" {output / 'quarantine.parquet'}"
    )
