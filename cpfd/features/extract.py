"""Building the feature store: each clip that is not in an earlier store is decoded, and encoded where backbones are
frozen, exactly once.

The store is a function of the clips and of how they are encoded, never of what was known before. A shard ends after a
clip whose key says so (content-defined chunking, as rsync and backup tools cut files: Muthitacharoen et al., "A
low-bandwidth network file system", SOSP 2001): a clip that is added, removed or changed changes one shard, and others
keep their names and bytes.
"""

import hashlib
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from safetensors.numpy import save_file
from tqdm import tqdm

from cpfd.datasets.video import ClipError
from cpfd.errors import CpfdError
from cpfd.features.encoding import ClipEncoder
from cpfd.features.known import KnownClips
from cpfd.features.store import PARTS, shard_file
from cpfd.files import link, read_table, remove, write_json, write_table, written_aside
from cpfd.params.schema import Extract

Arrays = tuple[NDArray[Any], ...]
"""What one clip became, in the order of PARTS."""


class _Shard(NamedTuple):
    """Consecutive clips, the last one excluded, and the name of the shard that they become."""

    first: int
    last: int
    name: str


def extract_features(
    clips: pd.DataFrame,
    encoder: ClipEncoder,
    extract: Extract,
    known: KnownClips,
    find: Callable[[list[str]], Path],
    output: Path,
    scratch: Path,
    *,
    max_quarantined: int,
) -> None:
    """Write the feature store of `clips` (`video_id`, `path`, `content_hash`, texts) to `output`; cpfd.features.store.

    What `known` has is taken from there; `find` gives the folder in which the files of others are. Finished shards wait
    in `scratch`, which is removed in the end; a run that is killed and started again with the same `scratch` goes on
    after them. A clip that cannot be decoded is left out of the index and listed with its reason in quarantine.parquet.

    Raises CpfdError when more than `max_quarantined` clips fail.
    """
    texts = encoder.texts(clips)
    keys = clip_keys(clips["content_hash"], texts)
    shards = cut_shards(keys, extract.shard_clips, encoder.state)
    reasons = _fill_shards(shards, clips["path"].to_list(), texts, keys, encoder, extract, known, find, scratch)
    table = clips[["video_id"]].assign(key=keys, reason=reasons)
    quarantine = table[table["reason"] != ""].assign(table="clips")[["table", "video_id", "key", "reason"]]
    _refuse_losses(len(clips), quarantine, max_quarantined)
    held = table["reason"] == ""
    index = table.assign(has_video=clips["path"] != "", has_text=[bool(text) for text in texts])[held]
    counts = [int(held[shard.first : shard.last].sum()) for shard in shards]
    with written_aside(output) as aside:
        (aside / "shards").mkdir(parents=True)
        for name in dict.fromkeys(shard.name for shard, count in zip(shards, counts, strict=True) if count):
            link(scratch / shard_file(name), aside / "shards" / shard_file(name))
        listed = pd.DataFrame({"name": [shard.name for shard in shards], "clips": counts})
        write_table(aside / "shards.parquet", listed[listed["clips"] > 0])
        write_table(aside / "index.parquet", index.drop(columns="reason"))
        write_table(aside / "quarantine.parquet", quarantine)
        write_json(aside / "meta.json", {"state": encoder.state, **encoder.describe()})
    remove(scratch)


def clip_keys(content_hashes: Iterable[str], texts: Iterable[str]) -> list[str]:
    """What a clip's features depend on but for the encoder, hashed: 32 hexadecimal digits a clip."""
    pairs = zip(content_hashes, texts, strict=True)
    return [hashlib.sha256(f"{content}\0{text}".encode()).hexdigest()[:32] for content, text in pairs]


def cut_shards(keys: Sequence[str], clips: int, state: str) -> list[_Shard]:
    """Cut clips into shards of about so many `clips`, at least a quarter and at most twice that, but for the last one.

    A shard ends after a key that is divisible by `clips`; its name is the hash of its keys and of `state`.
    """
    least, most = max(clips // 4, 1), clips * 2
    shards, first = [], 0
    for last, key in enumerate(keys, start=1):
        size = last - first
        if size == most or (size >= least and int(key[-8:], 16) % clips == 0) or last == len(keys):
            digest = hashlib.sha256("\0".join([state, *keys[first:last]]).encode())
            shards.append(_Shard(first, last, digest.hexdigest()[:32]))
            first = last
    return shards


def _fill_shards(
    shards: list[_Shard],
    paths: list[str],
    texts: list[str],
    keys: list[str],
    encoder: ClipEncoder,
    extract: Extract,
    known: KnownClips,
    find: Callable[[list[str]], Path],
    scratch: Path,
) -> list[str]:
    """Have the file of each shard in `scratch`; returns why a clip cannot be decoded, "" where it can."""
    todo = {shard.name: shard for shard in shards if not (scratch / f"{shard.name}.parquet").exists()}
    new = {
        shard.name: {keys[row]: row for row in range(shard.first, shard.last) if not known.has(keys[row])}
        for shard in todo.values()
    }
    files = [paths[row] for rows in new.values() for row in rows.values() if paths[row]]
    videos = find(files) if files else Path()
    count = sum(map(len, new.values()))
    if count < len(paths):
        print(f"extract: {len(paths) - count} of {len(paths)} clips are known, {count} to decode", flush=True)
    if count:
        encoder.load()
    # Clips side by side, one thread each: no waiting between layers, and the number of threads changes no bit.
    torch.set_num_threads(1)
    scratch.mkdir(parents=True, exist_ok=True)
    with (
        ThreadPoolExecutor(extract.threads) as pool,
        tqdm(total=count, desc="extract", unit="clip", smoothing=0.1, disable=not count) as progress,
    ):
        for shard in todo.values():
            rows = new[shard.name].values()
            clips = [videos / paths[row] if paths[row] else None for row in rows]
            tokens = encoder.tokenize([texts[row] for row in rows])
            encoded = {}
            for key, found in zip(new[shard.name], pool.map(encoder.encode, clips, *tokens), strict=True):
                encoded[key] = found
                progress.update()
            _write_shard(shard, keys[shard.first : shard.last], encoded, known, scratch)
    by_shard = {shard.name: read_table(scratch / f"{shard.name}.parquet")["reason"] for shard in shards}
    return [reason for shard in shards for reason in by_shard[shard.name]]


def _write_shard(
    shard: _Shard, keys: list[str], encoded: dict[str, Arrays | ClipError], known: KnownClips, scratch: Path
) -> None:
    """Write a shard's file, if one of its clips can be decoded, and then the table that says why others cannot."""
    failed = {key: str(found) for key, found in encoded.items() if isinstance(found, ClipError)}
    reasons = [failed.get(key) or known.reason(key) for key in keys]
    held = [key for key, reason in zip(keys, reasons, strict=True) if not reason]
    target = scratch / shard_file(shard.name)
    if held and (whole := known.shard(shard.name)) is not None:
        remove(target)
        link(whole, target)
    elif held:
        rows = [encoded[key] if key in encoded else known.arrays(key) for key in held]
        arrays = {part: np.stack(values) for part, values in zip(PARTS, zip(*rows, strict=True), strict=True)}
        with written_aside(target) as aside:
            save_file(arrays, aside)
    write_table(scratch / f"{shard.name}.parquet", pd.DataFrame({"reason": reasons}))


def _refuse_losses(clips: int, quarantine: pd.DataFrame, max_quarantined: int) -> None:
    """Raise CpfdError where too many clips cannot be decoded."""
    if len(quarantine) > max_quarantined:
        first = quarantine.iloc[0]
        raise CpfdError(
            f"{len(quarantine)} of {clips} clips cannot be decoded, {max_quarantined} more may be"
            f" quarantined (validation.max_quarantine_share); the first: {first['video_id']}: {first['reason']}"
        )
