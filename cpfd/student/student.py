"""A shipped student: one folder with all that it takes to classify files."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from cpfd.datasets.isolation import isolated
from cpfd.datasets.limits import Limits
from cpfd.datasets.video import ClipError
from cpfd.errors import CpfdError
from cpfd.features.decoding import sample_frames
from cpfd.features.text import fold
from cpfd.metrics import probabilities
from cpfd.models.xvlm import XVlmForVideoClassification
from cpfd.student.processing import Sampler, XVlmProcessor


@dataclass(frozen=True)
class Prediction:
    """What a student says of one clip: `probabilities`, most probable class first; or the `error` that prevented it."""

    video: str | None
    text: str
    probabilities: dict[str, float]
    error: str | None = None


class Student:
    """A network, backbones included, with its processor."""

    def __init__(self, network: XVlmForVideoClassification, processor: XVlmProcessor) -> None:
        """Take a network with backbones and the processor that fits it."""
        self.network, self.processor = network.eval(), processor

    @staticmethod
    def load(folder: Path) -> "Student":
        """Load an exported student; raises CpfdError where `folder` holds none, or not all of it."""
        if not (folder / "config.json").is_file():
            raise CpfdError(f"{folder}: no exported student there; `dvc repro` or `dvc pull {folder}` brings one")
        if not (folder / "processor_config.json").is_file():  # transformers would take defaults in silence
            raise CpfdError(f"{folder}: the exported student there is not whole: processor_config.json is missing")
        try:
            processor = XVlmProcessor.from_pretrained(folder, trust_remote_code=False)
            return Student(XVlmForVideoClassification.from_pretrained(folder), processor)
        except (OSError, ValueError) as error:
            raise CpfdError(f"{folder}: the exported student there is not whole: {error}") from error

    def predict(self, videos: Sequence[Path | None], texts: Sequence[str], limits: Limits) -> Iterator[Prediction]:
        """Classify clips that nobody has looked at yet, one by one, in order.

        One that cannot be decoded, is beyond `limits` or kills the process that decodes it yields its error, and the
        rest go on.
        """

        def sample(path: Path, count: int, size: int) -> NDArray[np.uint8]:
            return isolated(sample_frames, path, count, size, limits)

        for video, text in zip(videos, texts, strict=True):
            name = None if video is None else str(video)
            try:
                self._refuse_unseen(video, text)
                logits = self.logits(video, text, sample)
            except ClipError as error:
                yield Prediction(name, text, {}, str(error))
                continue
            chances = probabilities(logits[None].numpy(), self.network.config.task)[0]
            named = zip(self.network.config.classes or [], chances.tolist(), strict=True)
            yield Prediction(name, text, dict(sorted(named, key=lambda pair: -pair[1])))

    @contextmanager
    def side_by_side(self, threads: int) -> Iterator[ThreadPoolExecutor]:
        """A pool in which clips are classified side by side; a clip's numbers do not depend on `threads`."""
        torch.set_num_threads(1)
        # Before threads share it: the first call sets the tokenizer's padding, which must not happen in two at once.
        self.processor([None], [""])
        with ThreadPoolExecutor(threads) as pool:
            yield pool

    @torch.inference_mode()
    def logits(self, video: Path | None, text: str, sample: Sampler = sample_frames) -> torch.Tensor:
        """Logits[C] of one clip, which `sample` decodes; raises ClipError when its video cannot be decoded.

        A text is not looked at where the student was trained on videos alone.
        """
        read = fold(text) if self.network.config.text_columns else ""
        logits = self.network(**self.processor([video], [read], sample)).logits
        assert logits is not None
        return logits[0].float()

    def _refuse_unseen(self, video: Path | None, text: str) -> None:
        config = self.network.config
        usable = (video is not None and config.frames > 0) or (bool(fold(text)) and bool(config.text_columns))
        if not usable:
            seen = [*(["videos"] if config.frames else []), *(config.text_columns or [])]
            raise ClipError(f"nothing to go by: this student was trained on {', '.join(seen)}")
