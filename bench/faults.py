"""What goes wrong in the world: damaged clips and tables, and kills at any moment; and what becomes of the work.

What is damaged is drawn from a seed, and nothing is judged by seconds. docs/reliability.md says what is promised.
"""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import unicodedata
from collections import Counter
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Annotated, Any

import av
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import typer
from numpy.random import Generator
from ruamel.yaml import YAML
from tqdm import tqdm

from bench.replicates import project
from bench.tasks import ROOT, overlaid
from cpfd.datasets.contract import RawDataset, read_dataset, write_dataset
from cpfd.errors import CpfdError
from cpfd.files import fingerprint, read_table, remove
from cpfd.params.load import load_params
from cpfd.paths import CONTENT, PACKAGE, PARAMS_FILE, RAW, VALIDATED
from cpfd.validation.checks import check_dataset
from flows.workspace import rewrite_params

PATIENCE = 3600
"""Seconds after which a stage hangs: no clip is allowed a sixth of that."""
SMALL: dict[str, dict[str, Any]] = {
    "dataset": {"name": "damaged", "task": "single_label"},
    "validation": {"max_quarantine_share": 1.0, "max_drift": 1.0, "min_class_clips": 1},
    "video": {"frames": 2, "size": 64, "grid": 1},
    "extract": {"shard_clips": 32, "threads": 2},
}
TINY: dict[str, dict[str, Any]] = {
    "demo": {"clips": 72, "creators": 24, "unlabelled_share": 0.2},
    "validation": {"max_drift": 1.0, "min_class_clips": 1},
    "video": {"frames": 2, "size": 64, "grid": 1},
    "text": {"max_tokens": 8},
    "extract": {"shard_clips": 24},
    "model": {"hidden_size": 16, "fusion_layers": 1, "attention_heads": 2},
    "train": {"epochs": 2},
    "crossfit": {"folds": 2, "repeats": 1},
    "students": {"seeds": [0]},
    "evaluation": {"bootstrap_samples": 200},
    "gate": {"trial_clips": 3},
}
"""Parameters of the project whose commands are killed."""
CODECS = {
    "mp4": "libx264",
    "mkv": "libx264",
    "webm": "libvpx",
    "avi": "mpeg4",
    "ts": "libx264",
    "gif": "gif",
    "png": "png",
}
"""The kinds of clips that are damaged, and what encodes each."""
OUTCOMES = ("as before", "ended first", "in quarantine", "refused", "read, and differs", "FAULT")

CPFD = [sys.executable, "-c", "from cpfd.cli import main; main()"]
IMPORT = [*CPFD, "import", "folder", "uploads", "--name", "uploads", "--no-dvc"]
SCORE = [*CPFD, "score", "uploads", "--model", "./student", "--output", "predictions", "--shard-clips", "4"]
REPRO = [sys.executable, "-m", "dvc", "repro"]
VICTIMS: dict[str, tuple[list[list[str]], list[str]]] = {
    "import": ([IMPORT, [*IMPORT, "--force"]], ["data/raw/uploads"]),
    "score": ([SCORE], ["predictions/predictions.parquet", "predictions/quarantine.parquet"]),
    "repro": (
        [REPRO],
        ["dvc.lock", "data", "models", "reports/metrics.json", "reports/gate.json", "reports/index.html"],
    ),
}
"""The commands that are killed: the first run, how it is run again, and the files that it makes."""

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, no_args_is_help=True, help=__doc__)
Count = Annotated[int, typer.Option(min=1, help="How many are damaged.")]
Seed = Annotated[int, typer.Option(min=0, help="What is drawn from it is the same each time.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print the counts and the faults as JSON.")]


@app.command()
def clips(count: Count = 200, seed: Seed = 0, as_json: AsJson = False) -> None:
    """Damage clips in every container, and run the stages validate and extract on them, twice.

    Each must end in the feature store or in quarantine with a reason; clips beside it that are whole must not be
    missed; no stage may hang, crash, or give other bytes the second time.

    Example: python -m bench.faults clips --count 40
    """
    rng = np.random.default_rng(seed)
    with tempfile.TemporaryDirectory(prefix="cpfd-faults-") as name:
        films = {kind: _film(Path(name, f"film.{kind}")) for kind in CODECS}
        kinds = {f"clip-{number:04}": list(CODECS)[number % len(CODECS)] for number in range(count)}
        damaged = {clip: _damage(films[kind].read_bytes(), rng) for clip, kind in kinds.items()}
        whole = {f"whole-{number:02}": "mp4" for number in range(12)}
        with project(Path(name, "project"), overlaid(YAML(typ="safe").load(ROOT / PARAMS_FILE), SMALL)):
            _write_clips(kinds | whole, damaged, films, Path(name))
            first, faults = _outcomes(kinds, whole)
            before = fingerprint([VALIDATED, CONTENT])
            for folder in (VALIDATED, CONTENT):
                remove(folder)
            again, _ = _outcomes(kinds, whole)
            if again != first or fingerprint([VALIDATED, CONTENT]) != before:
                faults.append("the second run gave other bytes than the first")
    rows = {kind: Counter(first[clip] for clip in kinds if kinds[clip] == kind) for kind in CODECS}
    _tell("container", rows, faults, as_json)


@app.command()
def tables(count: Count = 200, seed: Seed = 0, as_json: AsJson = False) -> None:
    """Damage manifests in CSV and Parquet, read them, and check their rows as the stage validate does.

    What is done to the form of a table (cells too many, another encoding, rows in quotes that never end) must be
    refused by a sentence that names the file, or change nothing. A changed byte may change its own cell alone.

    Example: python -m bench.faults tables --count 50 --seed 3
    """
    rng = np.random.default_rng(seed)
    rows: dict[str, Counter[str]] = {}
    faults: list[str] = []
    kinds = [*FORMS, "bytes of csv", "bytes of parquet"]
    with tempfile.TemporaryDirectory(prefix="cpfd-faults-") as name:
        for number in tqdm(range(count), "tables", leave=False):
            kind = kinds[number % len(kinds)]
            folder = Path(name, str(number))
            outcome, why = _read_damaged(folder, kind, rng)
            rows.setdefault(kind, Counter())[outcome] += 1
            if why:
                faults.append(f"{number}, {kind}: {why}")
    _tell("damage", rows, faults, as_json)


@app.command()
def kills(
    count: Annotated[int, typer.Option(min=1, help="Kills of each command.")] = 20,
    seed: Seed = 0,
    only: Annotated[list[str] | None, typer.Argument(metavar="COMMAND...", help=f"Of: {', '.join(VICTIMS)}.")] = None,
    as_json: AsJson = False,
) -> None:
    """Kill commands by SIGKILL at random moments, run each again at once, and compare with an undisturbed run.

    Every second kill takes the command alone, and leaves what it has started to itself. The second run must end well,
    with the bytes of the undisturbed one, and nothing of the first may be left. It works on a clone of the last commit.

    Example: python -m bench.faults kills import --count 5
    """
    rng = np.random.default_rng(seed)
    rows: dict[str, Counter[str]] = {}
    faults: list[str] = []
    with tempfile.TemporaryDirectory(prefix="cpfd-faults-") as name:
        template = _clone(Path(name, "template"))
        for victim in only or VICTIMS:
            if victim not in VICTIMS:
                raise CpfdError(f"{victim}: none of the commands {', '.join(VICTIMS)}")
            commands, results = VICTIMS[victim]
            whole = shutil.copytree(template, Path(name, "whole"), symlinks=True)
            began = time.monotonic()
            _run(whole, commands[-1])
            lasted, expected = time.monotonic() - began, _content(whole, results)
            remove(whole)
            for number in tqdm(range(count), victim, leave=False):
                folder = shutil.copytree(template, Path(name, "killed"), symlinks=True)
                moment = float(rng.uniform(0, lasted))
                killed = _kill(folder, commands[0], moment, family=number % 2 == 0)
                why = _ended_otherwise(folder, commands[-1], results, expected)
                rows.setdefault(victim, Counter())["FAULT" if why else "as before" if killed else "ended first"] += 1
                if why:
                    faults.append(f"{victim}, killed after {moment:.2f} of {lasted:.2f} s: {why}")
                remove(folder)
    _tell("command", rows, faults, as_json)


def _clone(folder: Path) -> Path:
    """A clone of the last commit with small parameters, clips to import and a student to score with."""
    _run(ROOT, ["git", "clone", "--quiet", str(ROOT), str(folder)])
    changes = {f"{group}.{key}": value for group, keys in TINY.items() for key, value in keys.items()}
    rewrite_params(folder / PARAMS_FILE, changes)
    for number in range(12):
        clip = folder / "uploads" / ("cat" if number % 2 else "dog") / f"{number}.mp4"
        clip.parent.mkdir(parents=True, exist_ok=True)
        _film(clip)
    if not (ROOT / PACKAGE).is_dir():
        raise CpfdError(f"{ROOT / PACKAGE}: no student to score with; `dvc repro` or `dvc pull` brings one")
    shutil.copytree(ROOT / PACKAGE, folder / "student")
    return folder


def _run(folder: Path, command: list[str]) -> None:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=PATIENCE)
    if done.returncode:
        raise CpfdError(f"`{' '.join(command)}` failed:\n{done.stderr[-2000:]}")


def _kill(folder: Path, command: list[str], moment: float, *, family: bool) -> bool:
    """Start a command and kill it, or all its family, after so many seconds; False where it has ended first."""
    process = subprocess.Popen(
        command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    try:
        process.wait(moment)
    except subprocess.TimeoutExpired:
        with contextlib.suppress(ProcessLookupError):
            if family:
                os.killpg(process.pid, signal.SIGKILL)
            else:
                process.kill()
        process.wait()
        return True
    return False


def _ended_otherwise(folder: Path, command: list[str], results: list[str], expected: str) -> str:
    """Run the command to its end; what is wrong with how it ended, "" where nothing is."""
    try:
        _run(folder, command)
    except CpfdError as error:
        return str(error)
    left = [path for path in folder.rglob(".*.partial") if ".git" not in path.parts]
    if _content(folder, results) != expected:
        return "other bytes than those of an undisturbed run"
    return f"left behind: {', '.join(str(path.relative_to(folder)) for path in left)}" if left else ""


def _content(folder: Path, results: list[str]) -> str:
    with contextlib.chdir(folder):
        return fingerprint([Path(each) for each in results])


def _film(path: Path) -> Path:
    """Write a clip of 24 frames (a still image: of one) with a square that moves."""
    kind = path.suffix[1:]
    with av.open(str(path), "w", format="image2" if kind == "png" else None, options={}) as container:
        stream = container.add_stream(CODECS[kind], rate=12)
        stream.width, stream.height = 64, 48
        stream.pix_fmt = {"gif": "rgb8", "png": "rgb24"}.get(kind, "yuv420p")
        stream.codec_context.thread_count = 1
        if CODECS[kind] == "libx264":
            stream.options = {"x264-params": "cpu-independent=1:keyint=8"}
        for number in range(1 if kind == "png" else 24):
            image = np.full((48, 64, 3), 90, np.uint8)
            image[8:24, number : number + 16] = (250, 180, 40)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode(None))
    return path


def _damage(content: bytes, rng: Generator) -> bytes:
    """Do one of seven things to a file, in its head or anywhere."""
    data, size = bytearray(content), len(content)
    reach = int(rng.choice([min(512, size), size]))
    start = int(rng.integers(0, reach))
    length = int(rng.integers(1, 64))
    match int(rng.integers(0, 7)):
        case 0:
            return content[:start]
        case 1:
            for place in rng.integers(0, reach, length):
                data[place] ^= 1 << int(rng.integers(0, 8))
        case 2:
            data[start : start + length] = bytes(length)
        case 3:
            data[start:start] = rng.bytes(length)
        case 4:
            del data[start : start + length]
        case 5:  # a size, an offset or a duration that no file has
            data[start : start + 4] = b"\xff\xff\xff\x7f"
        case _:
            data[start : start + length] = rng.bytes(length)
    return bytes(data)


def _write_clips(kinds: dict[str, str], damaged: dict[str, bytes], films: dict[str, Path], folder: Path) -> None:
    files = {}
    for clip, kind in kinds.items():
        files[f"{clip}.{kind}"] = path = folder / "clips" / f"{clip}.{kind}"
        path.parent.mkdir(exist_ok=True)
        # Each whole clip is another: copies across splits are no clips of their own.
        path.write_bytes(damaged.get(clip) or films[kind].read_bytes() + clip.encode() * (clip not in damaged))
    manifest = pd.DataFrame({"video_id": list(kinds), "path": list(files)})
    manifest["label"] = np.resize(["cat", "dog"], len(manifest))
    write_dataset(RAW / "damaged", manifest, None, files)


def _outcomes(kinds: dict[str, str], whole: dict[str, str]) -> tuple[dict[str, str], list[str]]:
    """Run both stages; what became of each damaged clip, and what should not have happened."""
    faults = []
    for stage in ("validate", "extract"):
        done = subprocess.run(
            [sys.executable, "-m", f"cpfd.stages.{stage}"], capture_output=True, text=True, timeout=PATIENCE
        )
        if done.returncode:
            raise CpfdError(f"stage {stage} ended with exit code {done.returncode}:\n{done.stderr[-2000:]}")
    index = read_table(CONTENT / "index.parquet")
    held = set(index["video_id"])
    refused = pd.concat([read_table(folder / "quarantine.parquet") for folder in (VALIDATED, CONTENT)])
    reasons = dict(zip(refused["video_id"], refused["reason"], strict=True))
    faults += [f"{clip}: whole, and not in the store: {reasons.get(clip)}" for clip in whole if clip not in held]
    found = {}
    for clip in kinds:
        found[clip] = "read, and differs" if clip in held else "in quarantine" if reasons.get(clip) else "FAULT"
        if found[clip] == "FAULT":
            faults.append(f"{clip}.{kinds[clip]}: neither in the store nor in quarantine")
    for file in CONTENT.rglob("*.npy"):
        if not np.isfinite(np.load(file).astype(np.float32)).all():
            faults.append(f"{file}: not finite")
    return found, faults


def _table() -> pd.DataFrame:
    """A manifest of texts alone, with what readers like to guess about."""
    count = 24
    titles = ["NA", "null", "007", "1e5", "12345678901234567890", 'say "hi", twice', "two\nlines", "café", "😀 | 🐈"]
    return pd.DataFrame(
        {
            "video_id": [str(7301234567890123457 + number) for number in range(count)],
            "title": [titles[number % len(titles)] for number in range(count)],
            "label": ["cat" if number % 2 else "dog" for number in range(count)],
            "creator_id": [("NA", "x1", "")[number % 3] for number in range(count)],
        }
    )


def _csv(table: pd.DataFrame) -> bytes:
    return table.to_csv(index=False, lineterminator="\n").encode()


def _lines(change: Callable[[list[bytes], int], list[bytes]]) -> Callable[[Generator], bytes]:
    """Damage the lines of the table; the second argument of `change` is the place of a row that is one line."""

    def damaged(rng: Generator) -> bytes:
        lines = _csv(_table()).split(b"\n")[:-1]
        return b"\n".join(change(lines, len(lines) - 1 - int(rng.integers(0, 3)))) + b"\n"

    return damaged


def _replaced(lines: list[bytes], place: int, line: bytes) -> list[bytes]:
    return [*lines[:place], line, *lines[place + 1 :]]


FORMS: dict[str, Callable[[Generator], bytes]] = {
    "a comma ends every row": _lines(lambda lines, _: [lines[0], *(line + b"," for line in lines[1:])]),
    "a comma ends one row": _lines(lambda lines, at: _replaced(lines, at, lines[at] + b",")),
    "a cell is missing": _lines(lambda lines, at: _replaced(lines, at, lines[at].rpartition(b",")[0])),
    "a quote never ends": _lines(lambda lines, at: _replaced(lines, at, lines[at].replace(b",", b',"', 1))),
    "a column twice": _lines(lambda lines, _: [lines[0].replace(b"title", b"label"), *lines[1:]]),
    "a column without a name": _lines(lambda lines, _: [lines[0].replace(b"title", b""), *lines[1:]]),
    "semicolons": lambda _: _table().to_csv(index=False, sep=";").encode(),
    "tabs": lambda _: _table().to_csv(index=False, sep="\t").encode(),
    "UTF-16": lambda _: _table().to_csv(index=False).encode("utf-16"),
    "Latin-1": lambda _: _table().replace("😀 | 🐈", "smile").to_csv(index=False).encode("latin-1"),
    "cut off": lambda rng: _csv(_table())[: int(rng.integers(1, 700))],
    "a byte order mark": lambda _: b"\xef\xbb\xbf" + _csv(_table()),
    "Windows line ends": lambda _: _table().to_csv(index=False, lineterminator="\r\n").encode(),
    "blank lines": _lines(lambda lines, at: [*lines[:at], b"", b"", *lines[at:], b""]),
    "decomposed letters": lambda _: unicodedata.normalize("NFD", _csv(_table()).decode()).encode(),
    "columns in another order": lambda _: _csv(_table()[["label", "creator_id", "title", "video_id"]]),
    "ids as floats": lambda _: _parquet(_table().assign(video_id=lambda table: table["video_id"].astype(float))),
    "ids as integers": lambda _: _parquet(_table().assign(video_id=lambda table: table["video_id"].astype("Int64"))),
    "labels as categories": lambda _: _parquet(_table().astype({"label": "category"})),
    "empty": lambda _: b"",
}
"""What is done to the form of a table, each as bytes of the whole file."""


def _parquet(table: pd.DataFrame) -> bytes:
    stream = BytesIO()
    pq.write_table(pa.Table.from_pandas(table, preserve_index=False), stream)
    return stream.getvalue()


def _read_damaged(folder: Path, kind: str, rng: Generator) -> tuple[str, str]:
    """Write a damaged manifest, read and check it: what became of it, and what is wrong with that."""
    flips = int(rng.integers(1, 4))
    content = _flipped(_csv(_table()) if kind.endswith("csv") else _parquet(_table()), flips, rng)
    content = FORMS[kind](rng) if kind in FORMS else content
    file = folder / f"manifest.{'parquet' if content[:4] == b'PAR1' or kind.endswith('parquet') else 'csv'}"
    folder.mkdir()
    file.write_bytes(content)
    try:
        raw = read_dataset(folder)
        _check_rows(raw)
    except CpfdError as error:
        named = str(folder) in str(error)
        return ("refused", "") if named else ("FAULT", f"the file is not named: {error}")
    except Exception as error:
        return "FAULT", f"{type(error).__name__}: {error}"
    cells = _differences(raw.manifest)
    if cells == 0:
        return "as before", ""
    # Of a column whose name has changed, validation warns. Parquet as people write it has no checksums.
    renamed = cells is None and bool(raw.other_columns) and len(raw.manifest) == len(_expected())
    if kind == "bytes of parquet" or (kind == "bytes of csv" and (renamed or (cells is not None and cells <= flips))):
        return "read, and differs", ""
    if kind == "cut off" and raw.manifest.equals(_expected().iloc[: len(raw.manifest)].reset_index(drop=True)):
        return "read, and differs", ""  # at the end of a row, or in its last cell
    return "FAULT", f"read with {cells} other cells"


def _flipped(content: bytes, flips: int, rng: Generator) -> bytes:
    data = bytearray(content)
    for place in rng.integers(0, len(data), flips):
        data[place] ^= 1 << int(rng.integers(0, 8))
    return bytes(data)


def _expected() -> pd.DataFrame:
    return _table().assign(path="")


def _differences(manifest: pd.DataFrame) -> int | None:
    """Cells that differ from the table's; None where rows or columns do."""
    expected = _expected()
    if len(manifest) != len(expected) or set(manifest.columns) != set(expected.columns):
        return None
    return int((manifest[expected.columns].to_numpy(object) != expected.to_numpy(object)).sum())


def _check_rows(raw: RawDataset) -> None:
    """As the stage validate; every row is kept or in quarantine."""
    params = load_params(path=ROOT / PARAMS_FILE)
    checked = check_dataset(raw, "single_label", params.split, params.validation)
    if len(checked.manifest) + checked.quarantined_clips != len(raw.manifest):
        raise AssertionError(f"{len(raw.manifest) - len(checked.manifest) - checked.quarantined_clips} rows are lost")


def _tell(what: str, rows: dict[str, Counter[str]], faults: list[str], as_json: bool) -> None:
    """Print the counts by kind and the faults; ends with exit code 1 where there are any."""
    if as_json:
        print(json.dumps({"counts": rows, "faults": faults}, indent=2))
    else:
        shown = [name for name in OUTCOMES if any(row[name] for row in rows.values())]
        print(f"| {what} | {' | '.join(shown)} |\n|---|{'---:|' * len(shown)}")
        for kind, row in rows.items():
            print(f"| {kind} | {' | '.join(str(row[name]) for name in shown)} |")
        total = sum(rows.values(), Counter[str]())
        print(f"| **all** | {' | '.join(str(total[name]) for name in shown)} |")
        print("\n".join(["", *faults]) if faults else "\nno faults")
    raise SystemExit(1 if faults else 0)


if __name__ == "__main__":
    try:
        app()
    except CpfdError as error:
        sys.exit(f"error: {error}")
