"""A wrong params.yaml is refused with the key, what was found and what is allowed."""

import re
import shutil
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from cpfd.errors import CpfdError
from cpfd.params.load import load_params, stage_keys
from cpfd.params.problems import check_params
from cpfd.params.reference import reference
from cpfd.params.schema import Params
from tests.support.project import ROOT
from tests.support.small import read_params


def refusal(content: Any) -> str:
    with pytest.raises(CpfdError) as caught:
        check_params(content)
    return str(caught.value)


def changed(key: str, value: Any) -> dict[str, Any]:
    group, _, field = key.partition(".")
    content = deepcopy(read_params())
    if field:
        content[group][field] = value
    else:
        content[group] = value
    return content


def test_the_repositorys_own_params_are_good() -> None:
    assert isinstance(load_params(path=ROOT / "params.yaml"), Params)


@pytest.mark.parametrize(
    ("key", "value", "allowed"),
    [
        ("video.frames", "six", "integer >= 1 and <= 256"),
        ("video.frames", 6.5, "integer >= 1 and <= 256"),
        ("video.frames", True, "integer >= 1 and <= 256"),
        ("video.frames", 0, "integer >= 1 and <= 256"),
        ("video.frames", None, "integer >= 1 and <= 256"),
        ("model.dropout", 1.0, "number >= 0 and < 1"),
        ("train.learning_rate", 0, "number > 0 and <= 1"),
        ("train.learning_rate", float("nan"), "number > 0 and <= 1"),
        ("demo.views_spread", float("inf"), "number >= 0 and <= 3"),
        ("dense.scaler", "minmax", "signed_log, robust, quantile"),
        ("dataset.task", "regression", "single_label, multi_label"),
        ("students.methods", "none", "list of: none, pfd, cpfd, posterior"),
        ("students.methods", ["none", "magic"], "list of: none, pfd, cpfd, posterior"),
        ("students.seeds", [0, -1], "list of: integer >= 0"),
        ("text.columns", [], "list of: title, caption, overlay_text, transcript"),
        ("backbone.vision_revision", 7, "string or null"),
        ("video", 6, "a group of keys"),
    ],
)
def test_a_wrong_value_is_named_with_what_is_allowed(key: str, value: Any, allowed: str) -> None:
    message = refusal(changed(key, value))
    assert re.search(rf"^params\.yaml: {re.escape(key)}(\.\d+)?: ", message)
    assert allowed in message
    shown = value[-1] if isinstance(value, list) and value else value
    assert repr(shown) in message


def test_a_name_that_leaves_the_data_folder_is_refused() -> None:
    assert "dataset.name: '../elsewhere'" in refusal(changed("dataset.name", "../elsewhere"))


@pytest.mark.parametrize("key", ["video.colour", "colours"])
def test_an_unknown_key_is_refused(key: str) -> None:
    assert refusal(changed(key, 1)) == f"params.yaml: {key}: unknown key; `cpfd params` lists those that exist"


def test_a_missing_key_or_group_is_asked_for() -> None:
    content = read_params()
    del content["video"]["frames"]
    del content["gate"]
    message = refusal(content)
    assert "params.yaml: video.frames: missing; allowed: integer >= 1 and <= 256" in message
    assert "params.yaml: gate: missing; allowed: a group of keys" in message


def test_all_wrong_keys_are_reported_at_once() -> None:
    content = changed("video.frames", 0)
    content["train"]["epochs"] = -3
    assert len(refusal(content).splitlines()) == 2


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model.attention_heads": 3}, "model.attention_heads: 3 must divide model.hidden_size 128"),
        ({"validation.min_seconds": 500.0}, "validation.min_seconds: 500.0 must not be above validation.max_seconds"),
        ({"validation.min_side": 5000}, "validation.min_side: 5000 must not be above validation.max_side 4096"),
        ({"students.methods": ["pfd", "posterior"]}, "students.methods: 'none', the student alone"),
        ({"students.methods": ["none", "pfd"]}, "distill.method: 'auto' may choose 'posterior'"),
        ({"students.methods": ["none"], "distill.method": "pfd"}, "distill.method: 'pfd' is not among"),
        ({"students.seeds": [1, 1]}, "students.seeds: [1, 1] repeats a value"),
        ({"students.methods": ["none", "none", "posterior"]}, "students.methods: ['none', 'none', 'posterior']"),
        ({"text.columns": ["title", "title"]}, "text.columns: ['title', 'title'] repeats a value"),
    ],
)
def test_keys_must_agree_with_each_other(changes: dict[str, Any], message: str) -> None:
    content = read_params()
    for key, value in changes.items():
        group, field = key.split(".")
        content[group][field] = value
    assert f"params.yaml: {message}" in refusal(content)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"video: {frames: 6", "params.yaml: not valid YAML"),
        (b"video:\n  frames: 6\nvideo:\n  frames: 7\n", "params.yaml: not valid YAML"),
        (b"video: \xff\xfe\n", "params.yaml: not valid YAML"),
        (b"", "params.yaml: (file): None"),
        (b"- a\n- b\n", "params.yaml: (file): ['a', 'b']"),
    ],
)
def test_a_broken_file_is_refused(text: bytes, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("params.yaml").write_bytes(text)
    with pytest.raises(CpfdError, match=re.escape(message)):
        load_params()


def test_outside_of_a_project_the_message_says_where_to_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CpfdError, match=r"params\.yaml: no such file; run this in the root of a CPFD project"):
        load_params()


def test_the_reference_page_is_what_the_schema_says() -> None:
    assert (ROOT / "docs" / "parameters.md").read_text() == reference() + "\n", "run `cpfd params > docs/parameters.md`"


def test_the_reference_tells_every_key_and_its_meaning() -> None:
    page = reference()
    for group, values in read_params().items():
        for field in values:
            row = re.search(rf"^\| `{group}\.{field}` \| (.+?) \| (.+) \|$", page, re.MULTILINE)
            assert row, f"{group}.{field}"
            assert len(row[2]) > 10, f"{group}.{field} needs a description"


def test_a_stage_sees_only_the_keys_that_dvc_watches_for_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copy(ROOT / "params.yaml", "params.yaml")
    Path("dvc.yaml").write_text("stages:\n  shrink:\n    cmd: shrink\n    params: [video.size, text]\n")
    params = load_params("shrink")
    assert params.video.size == read_params()["video"]["size"]
    assert params.text.max_tokens == read_params()["text"]["max_tokens"]
    with pytest.raises(AttributeError, match=r"video\.frames is read, but dvc\.yaml does not list it for this stage"):
        _ = params.video.frames
    with pytest.raises(AttributeError, match=r"gate\.min_macro_f1 is read, but dvc\.yaml does not list it"):
        _ = params.gate.min_macro_f1
    assert params.model_dump(exclude_defaults=True)["video"] == {"size": params.video.size}
    with pytest.raises(CpfdError, match=r"dvc\.yaml: no stage 'grow'; there are: shrink"):
        load_params("grow")


def test_every_key_that_dvc_yaml_lists_exists() -> None:
    known = {f"{group}.{field}" for group, values in read_params().items() for field in values} | set(read_params())
    for stage in YAML(typ="safe").load(ROOT / "dvc.yaml")["stages"]:
        assert set(stage_keys(stage, ROOT / "dvc.yaml")) <= known, stage
