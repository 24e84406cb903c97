"""The package that is shipped: a student with its backbones, its processor and its model card."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cpfd.features.backbones import load_tokenizer
from cpfd.models.xvlm import XVlmConfig, XVlmForVideoClassification, build_model
from cpfd.pages.environment import templates
from cpfd.pages.markdown import markdown_code, markdown_prose
from cpfd.reports.confidence import ConfidenceReport, NoTeacher
from cpfd.reports.gate import GateReport
from cpfd.reports.metrics import MetricsReport
from cpfd.student.processing import XVlmProcessor
from cpfd.student.student import Student


@dataclass(frozen=True)
class CardFacts:
    """What the model card tells besides the network's own configuration."""

    dataset: Mapping[str, Any]
    """data/validated/dataset.json."""
    metrics: MetricsReport
    gate: GateReport
    confidence: ConfidenceReport | NoTeacher
    parameters: str
    """params.yaml, as text."""


def assemble_student(trained: Path) -> Student:
    """Join a trained student in folder `trained` with its backbones and its processor."""
    network = XVlmForVideoClassification.from_pretrained(trained)
    if not network.config.backbones:
        config = XVlmConfig(**{**network.config.to_dict(), "backbones": True})
        whole = build_model(config)
        missing, unexpected = whole.load_state_dict(network.state_dict(), strict=False)
        strangers = [name for name in missing if not name.startswith(("vision_encoder.", "text_encoder."))] + unexpected
        assert not strangers, strangers
        network = whole
    config = network.config
    assert config.text is not None
    tokenizer = load_tokenizer(config.text["name"], config.text["revision"])
    return Student(network, XVlmProcessor(tokenizer, config.frames, config.size, config.max_tokens))


def write_package(student: Student, folder: Path, card: CardFacts) -> None:
    """Write network, processor, model card and gate.json, the gate's verdict, to a new `folder`."""
    student.network.save_pretrained(folder)
    student.processor.save_pretrained(folder)
    # Names of classes come from whoever labelled the clips: none of them is markup.
    environment = templates("cpfd.student", {"code": markdown_code, "prose": markdown_prose}, html=False)
    template = environment.get_template("model_card.md.jinja")
    facts = {"config": student.network.config, "shipped": card.metrics.shipped, **vars(card)}
    card.gate.write(folder / GateReport.path.name)
    (folder / "README.md").write_text(template.render(facts) + "\n", encoding="utf-8")
