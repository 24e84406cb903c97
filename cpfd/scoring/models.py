"""Which student scores: the one in production or staging, a registered version, or that of a folder."""

from hashlib import file_digest, sha256
from pathlib import Path
from typing import NamedTuple, get_args

from cpfd.errors import CpfdError
from cpfd.files import SCRATCH, written_aside
from cpfd.paths import PACKAGE
from cpfd.project.revision import VERSION, open_revision, open_version
from cpfd.promotion import Stage
from cpfd.promotion.events import current_assignments, read_events
from cpfd.reports.gate import GateReport

STAGES = get_args(Stage)


class Model(NamedTuple):
    """An exported student: its folder, and its version where it is a registered one."""

    folder: Path
    version: str | None = None


def find_model(name: str, cache: Path = SCRATCH / "models") -> Model:
    """Find the student called `name`: a stage (production, staging), a version (v1.2.0), or the path of a folder.

    A registered one is fetched into `cache` once, out of DVC's cache or its remote. Raises CpfdError where there is no
    such stage, version or folder, or neither cache nor remote has the files.
    """
    if name not in STAGES and not VERSION.fullmatch(name):
        return Model(Path(name))
    known = name
    if name in STAGES:
        try:
            open_revision(None)  # says what is wrong where this is no project
            holder = current_assignments(read_events()).get(name)
        except CpfdError as error:
            raise CpfdError(f"model {name}: {error}; {_by_folder(name)}") from error
        if holder is None:
            raise CpfdError(
                f"model {name}: this clone knows no version in {name}; `git fetch --tags` brings what others have"
                f" assigned, `cpfd promote` assigns one; {_by_folder(name)}"
            )
        known = holder.version
    revision = open_version(known)
    folder = cache / f"{known}-{revision.recorded(PACKAGE)[:8]}"
    if not folder.is_dir():
        with written_aside(folder) as aside:
            revision.fetch(PACKAGE, aside)
    return Model(folder, known)


def introduce(model: Model) -> str:
    """Which student that is, and what the gate said of it by the gate.json that `export` leaves in its folder."""
    name = f"student {model.version or model.folder}"
    try:
        gate = GateReport.read(model.folder / GateReport.path.name)
    except (
        CpfdError
    ) as error:  # exported by another version of CPFD, or by something else: it can classify all the same
        return f"{name}: what the gate said of it is not known ({error})"
    reasons = "; ".join(f"{rule.description} must be {rule.comparison} {rule.limit}" for rule in gate.failed)
    judged = "passed by the gate" if gate.passed else f"rejected by the gate: {reasons}"
    return f"{name}, by method {gate.method} with seed {gate.seed}: {judged}"


def _by_folder(name: str) -> str:
    return (
        f"`--model {PACKAGE}` takes the student of that folder, and `--model ./{name}` that of a folder called {name}"
    )


def content_hash(folder: Path) -> str:
    """A hash of names and content of the files in a folder, wherever it lies: 16 hexadecimal digits."""
    digest = sha256()
    for file in sorted(path for path in folder.rglob("*") if path.is_file()):
        with file.open("rb") as stream:
            digest.update(file.relative_to(folder).as_posix().encode() + b"\0" + file_digest(stream, "sha256").digest())
    return digest.hexdigest()[:16]
