"""A params.yaml of an older version gets what it lacks, and keeps all that it has."""

from pathlib import Path

import pytest

from cpfd.errors import CpfdError
from cpfd.params.load import load_params, parse_yaml
from cpfd.params.problems import check_params, known_keys
from cpfd.params.upgrade import defaults, upgrade
from tests.support.project import ROOT

WHOLE = (ROOT / "params.yaml").read_text()


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def without(*keys: str) -> str:
    """The repository's params.yaml without the lines of some keys, `group` or `field`."""
    return "".join(line for line in WHOLE.splitlines(keepends=True) if line.split(":")[0].strip() not in keys)


def test_every_key_has_a_default_that_is_allowed() -> None:
    check_params(defaults())


def test_new_keys_take_their_places_among_comments_that_stay() -> None:
    old = without("max_side", "threads", "approval_hours", "columns").replace(
        "  min_frames: 1\n", "  # one is enough\n  min_frames: 1   # indeed\n"
    )
    Path("params.yaml").write_text(old)

    added = upgrade()

    assert added == [
        "validation.max_side",
        "text.columns",
        "extract.threads",
        "train.threads",
        "flows.approval_hours",
    ]
    text = Path("params.yaml").read_text()
    assert [line for line in text.splitlines() if line in old.splitlines()] == old.splitlines()
    assert text.replace("  # one is enough\n  min_frames: 1   # indeed\n", "  min_frames: 1\n") == WHOLE.replace(
        "columns: [title, caption, overlay_text, transcript]",
        'columns: ["title", "caption", "overlay_text", "transcript"]',
    )
    load_params()
    assert upgrade() == []
    assert Path("params.yaml").read_text() == text


def test_a_new_group_comes_last_and_lists_written_line_by_line_stay_whole() -> None:
    lines = without("champion", "version").replace("  seeds: [0, 1, 2]", "  seeds:\n    - 0\n    - 5")
    limits = [line for line in WHOLE[WHOLE.index("champion:") : WHOLE.index("\nflows:")].splitlines()[1:] if line]
    old = lines.replace("\n".join(limits[1:]) + "\n", "").replace(
        "methods: [none, pfd, cpfd, posterior]\n", "methods:\n  - none\n  - posterior\n"
    )
    old = old.rstrip("\n").replace("  batch_size: 32\n", "")
    Path("params.yaml").write_text(old)

    assert upgrade() == ["train.batch_size", *(key for key in known_keys() if key.startswith("champion."))]

    params = load_params()
    assert params.students.seeds == [0, 5]
    assert params.students.methods == ["none", "posterior"]
    assert params.champion.version is None
    assert list(parse_yaml(Path("params.yaml").read_bytes(), ""))[-1] == "champion"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("video: {frames: 6}\n", "params.yaml: video lacks size and is written in braces"),
        ("- a\n", "params.yaml: .'a'., but expected groups of keys"),
        ("video: {\n", "params.yaml: not valid YAML"),
        ("", "params.yaml: None, but expected groups of keys"),
    ],
)
def test_what_cannot_be_upgraded_stays_as_it_is(text: str, message: str) -> None:
    Path("params.yaml").write_text(text)
    with pytest.raises(CpfdError, match=message):
        upgrade()
    assert Path("params.yaml").read_text() == text


def test_a_missing_key_says_what_adds_it() -> None:
    Path("params.yaml").write_text(without("max_side"))
    with pytest.raises(CpfdError, match=r"validation.max_side: missing; .*`cpfd params --upgrade` adds what is new"):
        load_params()
