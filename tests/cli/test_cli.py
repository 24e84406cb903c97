"""`cpfd` answers at once, refuses misuse, and classifies files with nothing but an exported student."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from cpfd.errors import CpfdError
from tests.support.clips import write_clip
from tests.support.commands import cpfd, invoke
from tests.support.project import ROOT
from tests.support.small import CLASSES
from tests.support.student import save_student

COMMANDS = [
    "params",
    "check",
    "forecast",
    "predict",
    "score",
    "results",
    "review",
    "compare",
    "promote",
    "rollback",
    "models",
    "online",
    "import",
]
IMPORTS = ["folder", "table", "youtube-trending"]
# What typer stands on. Anything else would make `cpfd --help` slow.
LIGHT = {"typer", "rich", "pygments", "markdown_it", "mdurl", "shellingham", "click", "annotated_doc", "attr", "cpfd"}
LIGHT |= {"annotated_types", "typing_extensions"}  # limits of options

WRONG = (ROOT / "params.yaml").read_text().replace("frames: 6", "frames: 0")
HELP = """
import sys
before = set(sys.modules)
from cpfd.cli import main
sys.argv = ["cpfd", "--help"]
try:
    main()
finally:
    print(*sys.modules.keys() - before)
"""


def test_help_imports_nothing_but_the_command_line(tmp_path: Path) -> None:
    run = subprocess.run([sys.executable, "-c", HELP], capture_output=True, text=True, cwd=tmp_path, check=True)
    loaded = run.stdout.splitlines()[-1].split()
    assert {module.partition(".")[0] for module in loaded} - sys.stdlib_module_names <= LIGHT
    own = {module for module in loaded if module.startswith("cpfd.") and not module.startswith("cpfd.cli")}
    rooms = {"cpfd.importing", "cpfd.promotion", "cpfd.scoring", "cpfd.datasets", "cpfd.datasets.limits"}  # of options
    assert own <= {"cpfd.errors", "cpfd.options", "cpfd.importing.sources", "cpfd.scoring.options", *rooms}
    assert len(loaded) < 400


def test_help_lists_every_command_with_a_line(tmp_path: Path) -> None:
    shown = cpfd(tmp_path, "--help")
    assert shown.returncode == 0
    for commands, text in [(COMMANDS, shown.stdout), (IMPORTS, cpfd(tmp_path, "import", "--help").stdout)]:
        rows = [line.strip("│ ").split(maxsplit=1) for line in text.splitlines()]
        described = {row[0]: row[1] for row in rows if len(row) == 2}
        assert all(described[command].endswith(".") for command in commands)


@pytest.mark.parametrize("command", [[name] for name in COMMANDS] + [["import", name] for name in IMPORTS])
def test_every_command_has_help_of_its_own(command: list[str]) -> None:
    result = invoke(*command, "--help")
    assert result.exit_code == 0
    assert "Usage: cpfd" in result.output
    assert f" {' '.join(command)} " in result.output


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["classify"],
        ["params", "extra"],
        ["predict"],
        ["predict", "a.mp4", "--top", "0"],
        ["predict", "a.mp4", "--colour"],
        ["import"],
        ["import", "folder"],
        ["import", "folder", "clips"],
        ["import", "youtube-trending", "clips", "--name", "x", "--tags", "guessed"],
    ],
)
def test_misuse_exits_with_two(arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert invoke(*arguments).exit_code == 2


@pytest.mark.parametrize(
    "arguments",
    [
        ["params"],
        ["predict", "clip.mp4"],
        ["results"],
        ["models"],
        ["rollback"],
        ["promote"],
        ["online", "log.csv"],
        ["import", "folder", "clips", "--name", "x"],
    ],
)
def test_a_wrong_params_yaml_is_no_matter_to_who_does_not_use_it(
    arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "params.yaml").write_text(WRONG)
    monkeypatch.chdir(tmp_path)
    assert "video.frames" not in cpfd(tmp_path, *arguments).stderr


def test_an_error_of_the_users_is_one_message_and_exit_code_one(tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_text(WRONG)
    run = cpfd(tmp_path, "params", "--upgrade")
    assert run.returncode == 1
    assert run.stdout == "params.yaml has every key.\n"
    assert run.stderr.startswith("error: params.yaml: video.frames: 0: ")
    assert "Traceback" not in run.stderr


def test_results_without_reports_says_what_makes_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CpfdError, match=r"reports/metrics\.json: not there yet; `dvc repro` makes it"):
        invoke("results")


# predict


@pytest.fixture(scope="module")
def student(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_student(tmp_path_factory.mktemp("student") / "student")


@pytest.fixture
def clips(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Two clips and, between them, a text file that is called one; nothing else is there."""
    monkeypatch.chdir(tmp_path)
    write_clip(Path("one.mp4"), seed=1)
    Path("broken.mp4").write_text("this is no video")
    write_clip(Path("two [official].mp4"), seed=2)
    return ["one.mp4", "broken.mp4", "two [official].mp4"]


def test_one_bad_file_does_not_stop_the_rest(student: Path, clips: list[str]) -> None:
    result = invoke("predict", *clips, "--model", student, "--json")
    assert result.exit_code == 1
    first, broken, last = json.loads(result.stdout)
    assert [first["video"], broken["video"], last["video"]] == clips
    assert broken["error"].startswith("cannot be decoded")
    assert broken["probabilities"] == {}
    for good in (first, last):
        assert good["error"] is None
        assert sorted(good["probabilities"]) == CLASSES
        chances = list(good["probabilities"].values())
        assert chances == sorted(chances, reverse=True)
        assert sum(chances) == pytest.approx(1)
    assert first["probabilities"] != last["probabilities"]


def test_the_table_shows_each_clips_best_classes(student: Path, clips: list[str]) -> None:
    said = json.loads(invoke("predict", *clips, "--model", student, "--json").stdout)
    result = invoke("predict", *clips, "--model", student, "--top", "2")
    assert result.exit_code == 1
    rows = [line.split("  ") for line in result.stdout.splitlines()]
    shown = [[cell.strip() for cell in row if cell.strip()] for row in rows]
    expected = [["clip", "class", "probability"]]
    for clip in said:
        ranked = [[label, f"{chance:.3f}"] for label, chance in list(clip["probabilities"].items())[:2]]
        expected += [[clip["video"], *ranked[0]], ranked[1]] if ranked else [[clip["video"], f"error: {clip['error']}"]]
    assert shown == expected


def test_it_runs_where_there_is_no_project(student: Path, clips: list[str], tmp_path: Path) -> None:
    run = cpfd(tmp_path, "predict", clips[0], "--text", "my cat", "--model", student, "--json")
    assert run.returncode == 0
    # It has never been judged, which is told; and nothing else is, such as a bar for its weights.
    assert run.stderr == (
        f"student {student}: what the gate said of it is not known ({student}/gate.json: not there yet;"
        " `dvc repro` makes it, `dvc pull` fetches it)\n"
    )
    assert json.loads(run.stdout)[0]["text"] == "my cat"


def test_each_text_belongs_to_its_video(student: Path, clips: list[str]) -> None:
    def predict(*arguments: str) -> list[dict[str, float]]:
        result = invoke("predict", *arguments, "--model", student, "--json")
        return [clip["probabilities"] for clip in json.loads(result.stdout)]

    cat, eel = predict(clips[0], clips[0], "--text", "my cat", "--text", "an eel")
    assert cat != eel
    assert [cat] == predict(clips[0], "--text", "  my \n cat ")
    assert [eel] == predict(clips[0], "--text", "an eel")


def test_text_alone_is_classified(student: Path, clips: list[str]) -> None:
    result = invoke("predict", "--text", "my cat", "--text", "my eel", "--model", student, "--json")
    assert result.exit_code == 0
    assert [(clip["video"], clip["text"]) for clip in json.loads(result.stdout)] == [
        (None, "my cat"),
        (None, "my eel"),
    ]
    assert "my eel" in invoke("predict", "--text", "my eel", "--model", student).stdout


def test_texts_must_be_as_many_as_videos(student: Path, clips: list[str]) -> None:
    result = invoke("predict", *clips, "--text", "my cat", "--model", student)
    assert result.exit_code == 2
    assert "1 --text for 3 videos; give one for each, or none" in result.stderr


def test_without_a_student_there_it_says_how_to_get_one(clips: list[str]) -> None:
    with pytest.raises(CpfdError, match=r"models/student: no exported student there; `dvc repro` or `dvc pull"):
        invoke("predict", clips[0])


@pytest.mark.parametrize("lost", ["model.safetensors", "processor_config.json"])
def test_a_student_that_is_not_whole_is_refused(tmp_path: Path, lost: str) -> None:
    student = save_student(tmp_path / "student")
    Path(student, lost).unlink()
    with pytest.raises(CpfdError, match=rf"not whole: .*{lost}"):
        invoke("predict", "--text", "my cat", "--model", student)


def test_a_student_of_videos_alone_does_not_look_at_text(clips: list[str], tmp_path: Path) -> None:
    blind = save_student(tmp_path / "student", text_columns=())
    said = json.loads(
        invoke("predict", *[clips[0]] * 2, "--text", "", "--text", "my cat", "--model", blind, "--json").stdout
    )
    assert said[0]["probabilities"] == said[1]["probabilities"]
    result = invoke("predict", "--text", "my cat", "--model", blind, "--json")
    assert result.exit_code == 1
    assert json.loads(result.stdout)[0]["error"] == "nothing to go by: this student was trained on videos"


def test_a_student_of_text_alone_does_not_look_at_videos(clips: list[str], tmp_path: Path) -> None:
    reader = save_student(tmp_path / "student", frames=0, text_columns=("title", "caption"))
    result = invoke("predict", "--text", "my cat", "--text", " ", "--model", reader, "--json")
    assert result.exit_code == 1
    read, blank = json.loads(result.stdout)
    assert read["error"] is None
    assert blank["error"] == "nothing to go by: this student was trained on title, caption"
    beside = json.loads(invoke("predict", clips[0], "--text", "my cat", "--model", reader, "--json").stdout)[0]
    assert beside["probabilities"] == read["probabilities"]
