"""Building the feature store: every clip is decoded, and encoded where the backbones are frozen, exactly once."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from tqdm import tqdm

from cpfd.datasets.contract import parse_labels
from cpfd.datasets.video import ClipError
from cpfd.errors import CpfdError
from cpfd.features.backbones import TextEncoder, VisionEncoder, load_tokenizer, text_spec, vision_spec
from cpfd.features.decoding import sample_frames
from cpfd.features.store import PARTS
from cpfd.features.text import join_text, tokenize
from cpfd.files import link, read_json, remove, write_json, write_table, written_aside
from cpfd.params import Backbone, Extract, Text, Video

ENCODED_TOGETHER = 16
"""Clips encoded in one go: enough to keep the cores busy, few enough to stay small in memory."""


def extract_features(
    dataset: dict[str, Any],
    manifest: pd.DataFrame,
    videos: Path,
    output: Path,
    scratch: Path,
    *,
    max_quarantined: int,
    video: Video,
    text: Text,
    backbone: Backbone,
    extract: Extract,
) -> None:
    """Write the feature store of a validated `manifest` to `output` (its format: cpfd.features.store).

    Finished shards wait in `scratch`; a run that is killed and started again with the same `scratch` goes on after
    them. A clip that cannot be decoded is left out of the index and listed with its reason in quarantine.parquet.

    Raises CpfdError when more than `max_quarantined` clips fail, or a class loses all of its training clips.
    """
    torch.set_num_threads(extract.threads)
    encode = _Encoder(manifest, video, text, backbone)
    shards = {
        scratch / f"{start // extract.shard_clips:05d}": manifest.iloc[start : start + extract.shard_clips]
        for start in range(0, len(manifest), extract.shard_clips)
    }
    finished = sum(len(shard) for folder, shard in shards.items() if folder.exists())
    with (
        ThreadPoolExecutor(extract.threads) as pool,
        tqdm(total=len(manifest), initial=finished, desc="extract", unit="clip", smoothing=0.1) as progress,
    ):
        for folder, shard in shards.items():
            if not folder.exists():
                with written_aside(folder) as aside:
                    aside.mkdir(parents=True)
                    _write_shard(shard, videos, aside, encode, pool, progress)
    _assemble(dataset, manifest, encode, output, list(shards), max_quarantined)
    remove(scratch)


class _Encoder:
    """Turns decoded frames and joined text into what the store keeps."""

    def __init__(self, manifest: pd.DataFrame, video: Video, text: Text, backbone: Backbone) -> None:
        self.size, self.frozen = video.size, backbone.mode == "frozen"
        # A data set of text alone, or of videos alone, costs and stores nothing for what it does not have.
        self.frames = video.frames if (manifest["path"] != "").any() else 0
        self.text_columns = [name for name in text.columns if name in manifest and (manifest[name] != "").any()]
        self.max_tokens = text.max_tokens if self.text_columns else 1
        self.vision_spec = vision_spec(backbone.vision, backbone.vision_revision, video.grid, video.size)
        self.text_spec = text_spec(backbone.text, backbone.text_revision)
        self.tokenizer = load_tokenizer(backbone.text, backbone.text_revision)
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        if self.frozen:
            self.vision = VisionEncoder(self.vision_spec, pretrained=True).eval().to(self.device)
            self.words = TextEncoder(self.text_spec, pretrained=True).eval().to(self.device)

    def decode(self, path: Path | None) -> NDArray[np.uint8] | ClipError:
        """Sample the frames of a clip: rgb[F, size, size, 3]; black for a clip without a video."""
        if path is None:
            return np.zeros((self.frames, self.size, self.size, 3), np.uint8)
        try:
            return sample_frames(path, self.frames, self.size)
        except ClipError as error:
            return error

    @torch.inference_mode()
    def __call__(self, frames: NDArray[np.uint8], texts: list[str]) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
        """Encode frames[n, F, H, W, 3] and n texts into the arrays `frames`, `text` and `mask` of a shard."""
        ids, mask = tokenize(texts, self.tokenizer, self.max_tokens)
        if not self.frozen:
            return frames, ids, mask
        visual = self.vision(torch.from_numpy(frames).flatten(0, 1).to(self.device)).unflatten(0, frames.shape[:2])
        longest = max(1, mask.sum(1).max())  # the rest of every text is padding
        # An empty text still needs one position to attend to; its mask stays empty.
        attended = torch.from_numpy(mask[:, :longest] | (np.arange(longest) == 0)).to(self.device)
        words = self.words(torch.from_numpy(ids[:, :longest]).to(self.device), attended)
        padded = F.pad(words.half(), (0, 0, 0, mask.shape[1] - longest))
        return visual.half().cpu().numpy(), padded.cpu().numpy(), mask


def _write_shard(
    shard: pd.DataFrame, videos: Path, folder: Path, encode: _Encoder, pool: ThreadPoolExecutor, progress: "tqdm[Any]"
) -> None:
    texts = dict(zip(shard["video_id"], join_text(shard, encode.text_columns), strict=True))
    paths = [videos / path if path else None for path in shard["path"]]
    arrays, rows, quarantine = [], [], []
    for chunk in _chunks(zip(shard.itertuples(index=False), pool.map(encode.decode, paths), strict=True)):
        good = []
        for clip, frames in chunk:
            if isinstance(frames, ClipError):
                quarantine.append({"table": "clips", "video_id": clip.video_id, "reason": str(frames)})
            else:
                good.append((clip, frames))
        if good:
            arrays.append(encode(np.stack([frames for _, frames in good]), [texts[clip.video_id] for clip, _ in good]))
        rows += [
            {
                "video_id": clip.video_id,
                "split": clip.split,
                "label": clip.label,
                "creator_id": getattr(clip, "creator_id", ""),
                "has_video": bool(clip.path),
                "has_text": bool(texts[clip.video_id]),
            }
            for clip, _ in good
        ]
        progress.update(len(chunk))
    for name, parts in zip(PARTS, zip(*arrays, strict=True), strict=True) if arrays else ():
        np.save(folder / f"{name}.npy", np.concatenate(parts))
    write_json(folder / "rows.json", {"rows": rows, "quarantine": quarantine})


def _assemble(
    dataset: dict[str, Any],
    manifest: pd.DataFrame,
    encode: _Encoder,
    output: Path,
    shards: list[Path],
    max_quarantined: int,
) -> None:
    found = {shard: read_json(shard / "rows.json") for shard in shards}
    index = pd.DataFrame([row for shard in found.values() for row in shard["rows"]])
    quarantine = pd.DataFrame(
        [row for shard in found.values() for row in shard["quarantine"]], columns=["table", "video_id", "reason"]
    )
    if len(quarantine) > max_quarantined:
        raise CpfdError(
            f"{len(quarantine)} of {len(manifest)} clips cannot be decoded, {max_quarantined} more may be quarantined"
            f" (validation.max_quarantine_share); the first: {quarantine['video_id'][0]}: {quarantine['reason'][0]}"
        )
    kept = index[index["split"] == "train"]["label"].map(lambda label: parse_labels(label, dataset["task"])).explode()
    lost = sorted(set(dataset["classes"]) - set(kept))
    if lost:
        raise CpfdError(f"no training clip of {', '.join(lost)} can be decoded")
    with written_aside(output) as aside:
        (aside / "shards").mkdir(parents=True)
        for number, shard in enumerate(shard for shard in shards if found[shard]["rows"]):
            target = aside / "shards" / f"{number:05d}"
            target.mkdir()
            for part in PARTS:
                link(shard / f"{part}.npy", target / f"{part}.npy")
        write_table(aside / "index.parquet", index)
        write_table(aside / "quarantine.parquet", quarantine)
        meta = {
            **{key: dataset[key] for key in ("name", "task", "classes", "version")},
            "mode": "frozen" if encode.frozen else "finetune",
            "frames": encode.frames,
            "size": encode.size,
            "max_tokens": encode.max_tokens,
            "text_columns": encode.text_columns,
            "vision": encode.vision_spec,
            "text": encode.text_spec,
        }
        write_json(aside / "meta.json", meta)


def _chunks(clips: Iterator[Any]) -> Iterator[list[Any]]:
    while chunk := list(islice(clips, ENCODED_TOGETHER)):
        yield chunk
