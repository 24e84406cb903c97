"""Building the feature store: every clip is decoded, and encoded where the backbones are frozen, exactly once."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

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
from cpfd.files import link, read_table, remove, write_json, write_table, written_aside
from cpfd.params.schema import Backbone, Extract, Text, Video

ENCODED_TOGETHER = 16
"""Clips decoded and encoded in one go by one thread: enough to be efficient, few enough to stay small in memory."""


class _Chunk(NamedTuple):
    """Some clips: their arrays in the order of PARTS (none where no clip can be decoded), index and quarantine rows."""

    arrays: tuple[NDArray[Any], ...]
    rows: pd.DataFrame
    quarantine: pd.DataFrame


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
    # Clips side by side, one thread each: no waiting between layers, and the number of threads changes no bit.
    torch.set_num_threads(1)
    encode = _Encoder(manifest, videos, video, text, backbone)
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
                    _write_shard(shard, aside, encode, pool, progress)
    _assemble(dataset, manifest, encode, output, list(shards), max_quarantined)
    remove(scratch)


class _Encoder:
    """Turns clips into what the store keeps; its methods may run in several threads at once."""

    def __init__(self, manifest: pd.DataFrame, videos: Path, video: Video, text: Text, backbone: Backbone) -> None:
        self.videos, self.size, self.frozen = videos, video.size, backbone.mode == "frozen"
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

    def __call__(self, clips: pd.DataFrame, ids: NDArray[np.int64], mask: NDArray[np.bool_]) -> _Chunk:
        """Decode and encode a few clips of the manifest, whose text is ids[n, L] with mask[n, L]."""
        decoded = [self._decode(path) for path in clips["path"]]
        good = np.array([not isinstance(frames, ClipError) for frames in decoded])
        kept = clips[good]
        rows = pd.DataFrame(
            {
                "video_id": kept["video_id"],
                "split": kept["split"],
                "label": kept["label"],
                "creator_id": kept.get("creator_id", ""),
                "has_video": kept["path"] != "",
                "has_text": mask[good].any(axis=1),
            }
        )
        reasons = [str(frames) for frames in decoded if isinstance(frames, ClipError)]
        quarantine = pd.DataFrame({"table": "clips", "video_id": clips["video_id"][~good], "reason": reasons})
        if not good.any():
            return _Chunk((), rows, quarantine)
        frames = np.stack([frames for frames in decoded if not isinstance(frames, ClipError)])
        return _Chunk(self._encode(frames, ids[good], mask[good]), rows, quarantine)

    def _decode(self, path: str) -> NDArray[np.uint8] | ClipError:
        """Sample the frames of a clip: rgb[F, size, size, 3]; black for a clip without a video."""
        if not path:
            return np.zeros((self.frames, self.size, self.size, 3), np.uint8)
        try:
            return sample_frames(self.videos / path, self.frames, self.size)
        except ClipError as error:
            return error

    @torch.inference_mode()
    def _encode(
        self, frames: NDArray[np.uint8], ids: NDArray[np.int64], mask: NDArray[np.bool_]
    ) -> tuple[NDArray[Any], ...]:
        """Encode frames[n, F, H, W, 3] and text into the arrays of a shard, in the order of PARTS."""
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
    shard: pd.DataFrame, folder: Path, encode: _Encoder, pool: ThreadPoolExecutor, progress: "tqdm[Any]"
) -> None:
    ids, mask = tokenize(join_text(shard, encode.text_columns), encode.tokenizer, encode.max_tokens)
    parts = [slice(start, start + ENCODED_TOGETHER) for start in range(0, len(shard), ENCODED_TOGETHER)]
    chunks = []
    clips = [shard.iloc[part] for part in parts]
    for chunk in pool.map(encode, clips, [ids[part] for part in parts], [mask[part] for part in parts]):
        progress.update(len(chunk.rows) + len(chunk.quarantine))
        chunks.append(chunk)
    whole = [chunk.arrays for chunk in chunks if chunk.arrays]
    for name, arrays in zip(PARTS, zip(*whole, strict=True), strict=True) if whole else ():
        np.save(folder / f"{name}.npy", np.concatenate(arrays))
    write_table(folder / "quarantine.parquet", pd.concat([chunk.quarantine for chunk in chunks]))
    write_table(folder / "rows.parquet", pd.concat([chunk.rows for chunk in chunks]))


def _assemble(
    dataset: dict[str, Any],
    manifest: pd.DataFrame,
    encode: _Encoder,
    output: Path,
    shards: list[Path],
    max_quarantined: int,
) -> None:
    rows = {shard: read_table(shard / "rows.parquet") for shard in shards}
    index = pd.concat(rows.values(), ignore_index=True)
    quarantine = pd.concat([read_table(shard / "quarantine.parquet") for shard in shards], ignore_index=True)
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
        for number, shard in enumerate(shard for shard in shards if len(rows[shard])):
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
