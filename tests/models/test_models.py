"""The networks read what they should, nothing else, and travel whole."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from transformers import (
    AutoModel,
    CLIPConfig,
    ConvNextConfig,
    Dinov2Config,
    MobileNetV2Config,
    ResNetConfig,
)

from cpfd.errors import CpfdError
from cpfd.features.backbones import (
    EFFICIENTNET,
    MINILM,
    TextEncoder,
    VisionEncoder,
    load_tokenizer,
    text_spec,
    vision_spec,
)
from cpfd.features.store import FeatureStore
from cpfd.features.text import join_text, tokenize
from cpfd.models.xvlm import XVlmConfig, XVlmForVideoClassification, build_model
from cpfd.reports.gate import GateReport, Rule
from cpfd.reports.metrics import MetricsReport
from cpfd.student.package import CardFacts, assemble_student, write_package
from cpfd.student.student import Student
from cpfd.training.batches import ClipDataset
from cpfd.training.fit import network_config, predict_logits
from tests.support.project import ROOT
from tests.support.small import CLASSES, ONE_LAYER, VIT, Extracted, extract, save_text, save_vision, small_params
from tests.support.trained import confidence_report

VISION = {
    "vit": VIT,
    "dinov2": Dinov2Config(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, image_size=64, patch_size=16),
    "resnet": ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic"),
    "convnext": ConvNextConfig(hidden_sizes=[8, 16], depths=[1, 1], num_stages=2),
    "mobilenet": MobileNetV2Config(depth_multiplier=0.1, initializer_range=0.5),
    "clip": CLIPConfig(
        vision_config={**ONE_LAYER, "image_size": 64, "patch_size": 16}, text_config={**ONE_LAYER, "vocab_size": 9}
    ),
}


def new_model(store: FeatureStore, *, dense_values: int = 0, seed: int = 0, **model: Any) -> XVlmForVideoClassification:
    params = small_params(model=model)
    torch.manual_seed(seed)
    network = build_model(network_config(store, params.model, params.train, dense_values)).eval()
    with torch.no_grad():  # as after training: what starts at nothing or next to it no longer is
        for name, parameter in network.named_parameters():
            if "position" in name or name in ("no_video", "query", "head.2.weight"):
                parameter.normal_()
            elif parameter.dim() == 2 and not name.startswith(("vision_encoder", "text_encoder")):
                parameter.mul_(12)
    return network


def inputs(store: FeatureStore, rows: list[int]) -> dict[str, Tensor]:
    content = store.content(np.array(rows))
    return {name: torch.from_numpy(values) for name, values in content.items()}


@torch.inference_mode()
def logits(model: XVlmForVideoClassification, clips: dict[str, Tensor], **more: Tensor) -> Tensor:
    result = model(**{**clips, **more}).logits
    assert result is not None
    return result


# clips with and without frames and text: row 3 has no video, row 2 no text, row 17 neither


def test_a_saved_network_is_the_same_when_it_is_loaded(store: FeatureStore, tmp_path: Path) -> None:
    model = new_model(store, hidden_size=32, fusion_layers=3)
    model.save_pretrained(tmp_path)
    again = XVlmForVideoClassification.from_pretrained(tmp_path)
    everything = ClipDataset(store, np.arange(24))
    np.testing.assert_array_equal(predict_logits(again, everything), predict_logits(model, everything))
    assert again.config.classes == CLASSES


def test_a_clip_without_a_video_does_not_depend_on_frames(store: FeatureStore) -> None:
    model, clips = new_model(store), inputs(store, [3, 0])
    said = logits(model, clips)
    seen = logits(model, clips, frames=clips["frames"] + 1)
    torch.testing.assert_close(seen[0], said[0], rtol=0, atol=0)
    assert not torch.allclose(seen[1], said[1])


def test_a_clip_without_a_text_does_not_depend_on_its_place(store: FeatureStore) -> None:
    model, clips = new_model(store), inputs(store, [2, 0])
    said = logits(model, clips)
    read = logits(model, clips, text=clips["text"] + 1)
    torch.testing.assert_close(read[0], said[0], rtol=0, atol=0)
    assert not torch.allclose(read[1], said[1])


def test_padding_changes_nothing(store: FeatureStore) -> None:
    model, clips = new_model(store), inputs(store, [0, 1, 2, 3])
    longest = int(clips["text_mask"].sum(1).max())
    assert longest < 8
    cut = logits(model, clips, text=clips["text"][:, :longest], text_mask=clips["text_mask"][:, :longest])
    torch.testing.assert_close(cut, logits(model, clips))


def test_a_clip_is_judged_alike_alone_and_among_others(store: FeatureStore) -> None:
    model = new_model(store)
    together = predict_logits(model, ClipDataset(store, np.arange(24)))
    alone = np.concatenate([predict_logits(model, ClipDataset(store, np.array([row]))) for row in range(24)])
    np.testing.assert_allclose(alone, together, atol=1e-5)


def test_a_clip_with_neither_video_nor_text_still_gets_finite_logits(store: FeatureStore) -> None:
    clips = inputs(store, [17])
    assert not clips["has_video"].any()
    assert not clips["text_mask"].any()
    assert torch.isfinite(logits(new_model(store), clips)).all()


def test_the_order_of_frames_and_the_place_in_a_frame_matter(store: FeatureStore) -> None:
    model, clips = new_model(store), inputs(store, [0, 1])
    said = logits(model, clips)
    assert not torch.allclose(logits(model, clips, frames=clips["frames"].flip(1)), said)
    assert not torch.allclose(logits(model, clips, frames=clips["frames"].flip(2)), said)


# teacher and student


def test_a_teacher_needs_dense_features_and_reads_them(store: FeatureStore) -> None:
    teacher, clips = new_model(store, dense_values=6), inputs(store, [0, 1])
    with pytest.raises(ValueError, match="needs `dense`"):
        logits(teacher, clips)
    dense = torch.randn(2, 6)
    assert not torch.allclose(logits(teacher, clips, dense=dense), logits(teacher, clips, dense=-dense))


def test_a_student_has_nothing_that_could_read_dense_features(store: FeatureStore) -> None:
    student, teacher, clips = new_model(store), new_model(store, dense_values=6), inputs(store, [0, 1])
    assert {name.split(".")[0] for name in teacher.state_dict()} - {
        name.split(".")[0] for name in student.state_dict()
    } == {"dense_encoder"}
    torch.testing.assert_close(logits(student, clips, dense=torch.randn(2, 6)), logits(student, clips), rtol=0, atol=0)


# backbones


@pytest.mark.parametrize("kind", VISION)
def test_any_vision_model_gives_a_grid_of_tokens(kind: str, tmp_path: Path) -> None:
    name = save_vision(tmp_path / kind, VISION[kind])
    spec = vision_spec(name, None, 2, 64)
    encoder = VisionEncoder(spec, pretrained=True).eval()
    frames = torch.randint(0, 256, (3, 64, 64, 3), dtype=torch.uint8)
    with torch.inference_mode():
        tokens = encoder(frames)
        assert tokens.shape == (3, 4, spec["dim"])
        # From its description alone it is built again, without the folder.
        shutil.rmtree(name)
        again = VisionEncoder(json.loads(json.dumps(spec))).eval()
        again.load_state_dict(encoder.state_dict())
        torch.testing.assert_close(again(frames), tokens, rtol=0, atol=0)


@pytest.mark.parametrize("kind", ["vit", "dinov2", "resnet", "convnext", "clip"])
def test_each_quarter_of_a_frame_has_its_own_token(kind: str, tmp_path: Path) -> None:
    encoder = VisionEncoder(vision_spec(save_vision(tmp_path, VISION[kind]), None, 2, 64), pretrained=True).eval()
    frames = torch.randint(0, 256, (4, 64, 64, 3), dtype=torch.uint8)
    changed = frames.clone()
    for quarter, (y, x) in enumerate([(0, 0), (0, 48), (48, 0), (48, 48)]):
        changed[quarter, y : y + 16, x : x + 16] = 255 - changed[quarter, y : y + 16, x : x + 16]
    with torch.inference_mode():
        change = (encoder(changed) - encoder(frames)).abs().sum(-1)
    assert change.argmax(1).tolist() == [0, 1, 2, 3]


def test_pixels_are_normalised_as_the_model_wants(tmp_path: Path) -> None:
    name = save_vision(tmp_path / "resnet", VISION["resnet"])
    frames = torch.randint(0, 256, (1, 64, 64, 3), dtype=torch.uint8)
    pixels = (frames.permute(0, 3, 1, 2) / 255 - torch.tensor([0.5, 0.4, 0.3]).view(3, 1, 1)) / 0.2
    with torch.inference_mode():
        features = AutoModel.from_pretrained(name).eval()(pixel_values=pixels).last_hidden_state
        tokens = VisionEncoder(vision_spec(name, None, 1, 64), pretrained=True).eval()(frames)
    torch.testing.assert_close(tokens[:, 0], features.mean((2, 3)), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("name", [MINILM, "bert"])
def test_text_models_give_a_token_a_word(name: str, tmp_path: Path) -> None:
    name = save_text(tmp_path / name) if name != MINILM else name
    spec = text_spec(name, None)
    encoder = TextEncoder(spec, pretrained=True).eval()
    ids, mask = tokenize(["my cat", "dog", ""], load_tokenizer(name, None), 6)
    assert mask.sum(1).tolist() == [4, 3, 0]
    attended = torch.from_numpy(mask | (np.arange(6) == 0))
    with torch.inference_mode():
        tokens = encoder(torch.from_numpy(ids), attended)
        again = TextEncoder(json.loads(json.dumps(spec))).eval()
        again.load_state_dict(encoder.state_dict())
        torch.testing.assert_close(again(torch.from_numpy(ids), attended), tokens, rtol=0, atol=0)
    assert tokens.shape == (3, 6, spec["dim"])


def test_descriptions_name_no_folder_but_the_one_in_params(tmp_path: Path) -> None:
    vision, text = save_vision(tmp_path / "vit", VIT), save_text(tmp_path / "bert")
    for spec in (vision_spec(vision, None, 2, 64), text_spec(text, None), text_spec(MINILM, None)):
        assert "/" not in json.dumps(spec["config"])


@pytest.mark.parametrize("revision", [None, "main", "v1.0"])
def test_a_model_on_a_hub_needs_a_pinned_commit(revision: str | None) -> None:
    with pytest.raises(CpfdError, match=f"backbone.vision: 'google/vit' is no folder .* use '{EFFICIENTNET}'"):
        vision_spec("google/vit", revision, 2, 64)
    with pytest.raises(
        CpfdError, match=f"needs a commit in backbone.text_revision .found {revision!r}.* use '{MINILM}'"
    ):
        text_spec("google/bert", revision)


def test_a_vision_model_that_does_not_take_frames_of_that_size_is_refused(tmp_path: Path) -> None:
    name = save_vision(tmp_path / "vit", VIT)
    with pytest.raises(CpfdError, match=r"params\.yaml: video\.size: 160: .*vit.*64"):
        vision_spec(name, None, 2, 160)


@pytest.mark.parametrize("content", [None, "{}", '{"image_mean": [0.5, 0.5, 0.5]}'])
def test_a_vision_model_that_does_not_say_how_to_normalise_is_refused(content: str | None, tmp_path: Path) -> None:
    name = save_vision(tmp_path / "vit", VIT)
    file = tmp_path / "vit" / "preprocessor_config.json"
    file.unlink()
    if content is not None:
        file.write_text(content)
    with pytest.raises(CpfdError, match=r"backbone\.vision: .*vit: its preprocessor_config\.json"):
        vision_spec(name, None, 2, 64)


def test_a_folder_without_a_model_is_refused(tmp_path: Path) -> None:
    for describe in (lambda: vision_spec(str(tmp_path), None, 2, 64), lambda: text_spec(str(tmp_path), None)):
        with pytest.raises(CpfdError, match=r"params\.yaml: backbone\.(vision|text): .* cannot be loaded"):
            describe()
    with pytest.raises(CpfdError, match="its tokenizer cannot be loaded"):
        load_tokenizer(save_vision(tmp_path / "vit", VIT), None)


# the package that is shipped

METRICS = MetricsReport.read(ROOT / MetricsReport.path)
RULE = Rule(name="f1", description="macro-F1", value=0.702, comparison=">=", limit=0.9, passed=False, note="")
TIME = Rule(name="t", description="time", value=None, comparison="<=", limit=9, passed=True, note="measured")
CARD = CardFacts(
    dataset={"name": "small", "version": "0123456789abcdef"},
    metrics=METRICS,
    gate=GateReport(passed=False, method="pfd", seed=3, champion=None, rules=[RULE, TIME]),
    confidence=confidence_report("pfd"),
    parameters="train:\n  epochs: 3\n",
)


def package(model: XVlmForVideoClassification, folder: Path) -> Path:
    """Save a trained network, package it, and move the package elsewhere."""
    model.save_pretrained(folder / "trained")
    write_package(assemble_student(folder / "trained"), folder / "package", CARD)
    elsewhere = folder / "elsewhere" / "student"
    shutil.copytree(folder / "package", elsewhere)
    shutil.rmtree(folder / "package")
    shutil.rmtree(folder / "trained")
    return elsewhere


def logits_from_files(student: Student, clips: Extracted) -> np.ndarray:
    texts = join_text(clips.manifest, clips.store.meta["text_columns"])
    files = [clips.folder / "videos" / path if path else None for path in clips.manifest["path"]]
    return np.stack([student.logits(file, text).numpy() for file, text in zip(files, texts, strict=True)])


def test_the_package_says_of_files_what_training_said_of_features(extracted: Extracted, tmp_path: Path) -> None:
    model = new_model(extracted.store)
    student = Student.load(package(model, tmp_path))
    expected = predict_logits(model, ClipDataset(extracted.store, np.arange(24)))
    # Cached features have half precision.
    np.testing.assert_allclose(logits_from_files(student, extracted), expected, atol=0.02)
    assert np.ptp(expected, axis=0).min() > 1


def test_a_finetuned_package_needs_no_backbone_folder(extracted: Extracted, tmp_path: Path) -> None:
    (tmp_path / "videos").symlink_to(extracted.folder / "videos")
    backbone = {
        "mode": "finetune",
        "vision": save_vision(tmp_path / "backbones" / "vit", VIT),
        "text": save_text(tmp_path / "backbones" / "bert"),
    }
    store = extract(tmp_path, extracted.manifest, small_params(backbone=backbone))
    model = new_model(store)
    expected = predict_logits(model, ClipDataset(store, np.arange(24)))
    shipped = package(model, tmp_path)
    shutil.rmtree(tmp_path / "backbones")
    student = Student.load(shipped)
    np.testing.assert_allclose(logits_from_files(student, extracted), expected, atol=1e-5)


def test_a_new_network_starts_from_pretrained_backbones(tmp_path: Path) -> None:
    vision, text = save_vision(tmp_path / "vit", VIT), save_text(tmp_path / "bert")
    config = XVlmConfig(
        vision=vision_spec(vision, None, 2, 64), text=text_spec(text, None), classes=CLASSES, hidden_size=16
    )
    model = build_model(config)
    for encoder, name in [(model.vision_encoder, vision), (model.text_encoder, text)]:
        for key, value in AutoModel.from_pretrained(name).state_dict().items():
            torch.testing.assert_close(encoder.network.state_dict()[key], value, rtol=0, atol=0)


def test_the_model_card_tells_the_facts(store: FeatureStore, tmp_path: Path) -> None:
    f1, own = METRICS.test[METRICS.shipped.method].macro_f1, METRICS.shipped.test

    card = (package(new_model(store), tmp_path) / "README.md").read_text()

    for fact in (
        "`small`, version `0123456789abcdef`",
        "2 frames and text\n(title) into 3 classes:\n`cat`, `dog`, `eel`.",
        f"{METRICS.shipped.method}, seed {METRICS.shipped.seed} (28% of labels are noise)",
        f"| vision backbone | `{EFFICIENTNET}` |",
        f"| text backbone | `{MINILM}` |",
        f"| {METRICS.shipped.method} (shipped) | {f1.mean:.3f} | {f1.low:.3f} to {f1.high:.3f} |",
        f"macro-F1 {own.macro_f1:.3f}, accuracy {own.accuracy:.3f},\ncalibration error {own.calibration_error:.3f}",
        "## Gate: not passed",
        "| macro-F1 | 0.702 | >= 0.9 | failed |",
        "| time | measured | <= 9 | passed |",
        "## Intended use and limits",
        "```yaml\ntrain:\n  epochs: 3\n```",
    ):
        assert fact in card
    assert card.startswith("---\nlibrary_name: transformers\n")


def test_the_card_of_a_student_that_reads_text_alone_speaks_of_no_frames(extracted: Extracted, tmp_path: Path) -> None:
    store = extract(tmp_path, extracted.manifest.assign(path=""), small_params())

    card = (package(new_model(store), tmp_path) / "README.md").read_text()

    assert "Classifies short videos from their text alone\n(title) into 3 classes" in card
    assert '    cpfd predict --text "caption"' in card
    assert 'student.predict([None], ["caption"])' in card
    for word in ("frames", "clip.mp4", "CLIP.mp4", "either video or text"):
        assert word not in card
