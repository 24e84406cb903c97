"""What stage `validate` tells of a data set that it lets pass."""

from collections.abc import Iterator

import pandas as pd

from cpfd.datasets.contract import RawDataset, parse_labels
from cpfd.pages.formatting import share
from cpfd.params.schema import Validation
from cpfd.reports.validation import ValidationReport
from cpfd.validation.checks import has_text


def told(
    raw: RawDataset, report: ValidationReport, manifest: pd.DataFrame, quarantine: pd.DataFrame, limits: Validation
) -> Iterator[str]:
    """Lines about splits, quarantine, lost classes, copies and unmet expectations; counts come with their shares.

    `manifest` and `quarantine` are the tables in data/validated.
    """
    labelled = report.dataset.labelled
    for split, clips in report.dataset.clips.items():
        yield f"{split}: {clips} clips, {labelled[split]} with a label"
    most = f"at most {share(limits.max_quarantine_share)}, validation.max_quarantine_share"
    yield f"quarantine: {report.quarantine.clips} clips, {share(report.quarantine.share)} ({most})"
    for reason, rows in report.quarantine.reasons.items():
        yield f"  {reason}: {rows}"
    yield from _lost_classes(raw.manifest, report, quarantine)
    yield from _copies(manifest, raw.text_columns)
    for expectation in report.unmet:
        yield f"warning: expected {expectation.expected}, observed {expectation.observed}"


def _lost_classes(manifest: pd.DataFrame, report: ValidationReport, quarantine: pd.DataFrame) -> Iterator[str]:
    """Classes that clips were given, but that no training clip has any more."""
    named = manifest["label"].map(lambda label: parse_labels(label, report.dataset.task)).explode().dropna()
    reasons = quarantine[quarantine["table"] == "manifest"].drop_duplicates("video_id").set_index("video_id")["reason"]
    lost = named[~named.isin(report.dataset.classes)]
    for name, labels in lost.groupby(lost.to_numpy(), sort=True):  # a clip of several classes has several rows
        found = manifest["video_id"][labels.index].map(reasons).dropna()
        why = f" ({found.value_counts().index[0]})" if len(found) else ""
        yield (
            f"warning: class '{name}' is lost: no training clip of it is left of {len(labels)} clips,"
            f" {share(len(labels) / len(manifest))} of all{why}; label more clips of it, or try another split.seed"
        )


def _copies(manifest: pd.DataFrame, text_columns: list[str]) -> Iterator[str]:
    """Copies of a clip that are kept: within a split by their bytes, and over splits of text alone by the text."""
    filmed = manifest[manifest["content_hash"] != ""]
    if again := int(filmed.duplicated(["split", "content_hash"]).sum()):
        yield (
            f"warning: {again} clips, {share(again / len(filmed))} of those with a video, are copies of another in the"
            " same split, byte for byte; keep one of each in the manifest"
        )
    written = manifest[(manifest["content_hash"] == "") & has_text(manifest, text_columns)]
    texts = [tuple(" ".join(text.split()) for text in row) for row in written[text_columns].to_numpy().tolist()]
    splits = written["split"].tolist()
    learnt = {text for text, split in zip(texts, splits, strict=True) if split == "train"}
    judged = [text for text, split in zip(texts, splits, strict=True) if split != "train"]
    if again := sum(text in learnt for text in judged):
        yield (
            f"warning: {again} clips of validation and test, {share(again / len(judged))} of those of text alone,"
            " have the very text of a training clip: their results flatter; keep one of each in the manifest"
        )
