"""Building the feature store: every clip is decoded, and encoded where the backbones are frozen, exactly once."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from tqdm import tqdm

from cpfd.datasets.contract import parse_labels
from cpfd.errors import CpfdError
from cpfd.features.encoding import ClipEncoder, ValidatedClips
from cpfd.features.store import PARTS
from cpfd.files import link, read_table, remove, write_json, write_table, written_aside
from cpfd.params.schema import Extract

ENCODED_TOGETHER = 16
"""Clips decoded and encoded in one go by one thread: enough to be efficient, few enough to stay small in memory."""


def extract_features(
    clips: ValidatedClips, encoder: ClipEncoder, extract: Extract, output: Path, scratch: Path, *, max_quarantined: int
) -> None:
    """Write the feature store of `clips` to `output` (its format: cpfd.features.store).

    Finished shards wait in `scratch`; a run that is killed and started again with the same `scratch` goes on after
    them. A clip that cannot be decoded is left out of the index and listed with its reason in quarantine.parquet.

    Raises CpfdError when more than `max_quarantined` clips fail, or a class loses all of its training clips.
    """
    shards = _encode_shards(clips.manifest, encoder, extract, scratch)
    rows = [read_table(shard / "index.parquet") for shard in shards]
    index = pd.concat(rows, ignore_index=True)
    quarantine = pd.concat([read_table(shard / "quarantine.parquet") for shard in shards], ignore_index=True)
    _refuse_losses(clips, index, quarantine, max_quarantined)
    with written_aside(output) as aside:
        _link_shards([shard for shard, held in zip(shards, rows, strict=True) if len(held)], aside / "shards")
        write_table(aside / "index.parquet", index)
        write_table(aside / "quarantine.parquet", quarantine)
        about = {key: clips.dataset[key] for key in ("name", "task", "classes", "version", "dense_columns")}
        write_json(aside / "meta.json", {**about, **encoder.describe()})
    remove(scratch)


def _encode_shards(manifest: pd.DataFrame, encoder: ClipEncoder, extract: Extract, scratch: Path) -> list[Path]:
    """Encode what has no shard in `scratch` yet; returns the folders of all shards, in the manifest's order."""
    # Clips side by side, one thread each: no waiting between layers, and the number of threads changes no bit.
    torch.set_num_threads(1)
    shards = {
        scratch / f"{start // extract.shard_clips:05d}": manifest.iloc[start : start + extract.shard_clips]
        for start in range(0, len(manifest), extract.shard_clips)
    }
    finished = sum(len(clips) for shard, clips in shards.items() if shard.exists())
    with (
        ThreadPoolExecutor(extract.threads) as pool,
        tqdm(total=len(manifest), initial=finished, desc="extract", unit="clip", smoothing=0.1) as progress,
    ):
        for shard, clips in shards.items():
            if not shard.exists():
                with written_aside(shard) as aside:
                    aside.mkdir(parents=True)
                    _write_shard(clips, aside, encoder, pool, progress)
    return list(shards)


def _write_shard(
    clips: pd.DataFrame, folder: Path, encoder: ClipEncoder, pool: ThreadPoolExecutor, progress: "tqdm[Any]"
) -> None:
    """Encode rows of the manifest into one folder: an array for each of PARTS, the rows of index and quarantine."""
    ids, mask = encoder.tokenize(clips)
    parts = [slice(start, start + ENCODED_TOGETHER) for start in range(0, len(clips), ENCODED_TOGETHER)]
    rows = [clips.iloc[part] for part in parts]
    encoded = []
    for some in pool.map(encoder.encode, rows, [ids[part] for part in parts], [mask[part] for part in parts]):
        progress.update(len(some.index) + len(some.quarantine))
        encoded.append(some)
    arrays = [some.arrays for some in encoded if some.arrays]
    for name, values in zip(PARTS, zip(*arrays, strict=True), strict=True) if arrays else ():
        np.save(folder / f"{name}.npy", np.concatenate(values))
    write_table(folder / "quarantine.parquet", pd.concat([some.quarantine for some in encoded]))
    write_table(folder / "index.parquet", pd.concat([some.index for some in encoded]))


def _refuse_losses(clips: ValidatedClips, index: pd.DataFrame, quarantine: pd.DataFrame, max_quarantined: int) -> None:
    """Raise CpfdError where too many clips cannot be decoded, or a class has none left to train on."""
    if len(quarantine) > max_quarantined:
        raise CpfdError(
            f"{len(quarantine)} of {len(clips.manifest)} clips cannot be decoded, {max_quarantined} more may be"
            f" quarantined (validation.max_quarantine_share); the first: {quarantine['video_id'][0]}:"
            f" {quarantine['reason'][0]}"
        )
    task = clips.dataset["task"]
    trained_on = index[index["split"] == "train"]["label"].map(lambda label: parse_labels(label, task)).explode()
    lost = sorted(set(clips.dataset["classes"]) - set(trained_on))
    if lost:
        raise CpfdError(f"no training clip of {', '.join(lost)} can be decoded")


def _link_shards(shards: list[Path], folder: Path) -> None:
    """Number the shards anew, so that one of which nothing is left leaves no hole."""
    folder.mkdir(parents=True)
    for number, shard in enumerate(shards):
        target = folder / f"{number:05d}"
        target.mkdir()
        for part in PARTS:
            link(shard / f"{part}.npy", target / f"{part}.npy")
