"""What many tests read and none changes: a small feature store, a tiny project after `dvc repro`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import hypothesis
import pytest

from cpfd.locks import locked
from tests.support.project import ROOT, Project, new_project

if TYPE_CHECKING:
    from cpfd.features.store import FeatureStore
    from tests.support.small import Extracted

# Else each command of DVC starts a process that tries to tell of it.
os.environ["DVC_NO_ANALYTICS"] = "1"
# A busy machine is slow: what a test may cost is guarded by counts.
hypothesis.settings.register_profile("cpfd", deadline=None)
hypothesis.settings.load_profile("cpfd")


# Whole files go to the workers, one after the other: none may begin a long one when the others are about to end. The
# first alone makes the tiny project; the others, but for the next two, wait for it.
LONG = (
    "pipeline/test_pipeline.py",
    "flows/test_flows_story.py",
    "flows/test_flows.py",
    "pipeline/test_leaks.py",
    "promotion/test_promotion.py",
    "flows/test_flows_server.py",
    "comparing/test_disagreements.py",
    "flows/test_flows_artifacts.py",
    "flows/test_flows_ingest.py",
    "training/test_training.py",
    "features/test_features.py",
    "workflows/test_precommit.py",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put long files first."""
    order = {Path(__file__).parent / name: place for place, name in enumerate(LONG)}
    items.sort(key=lambda item: order.get(item.path, len(LONG)))


@pytest.fixture(scope="session")
def extracted(tmp_path_factory: pytest.TempPathFactory) -> Extracted:
    """The small data set and its features by the bundled backbones."""
    from tests.support.small import Extracted, extract, small_params, write_videos  # torch; not every test needs it

    folder = tmp_path_factory.mktemp("extracted")
    manifest = write_videos(folder / "videos")
    return Extracted(folder, manifest, extract(folder, manifest, small_params()))


@pytest.fixture(scope="session")
def store(extracted: Extracted) -> FeatureStore:
    """The features of the small data set."""
    return extracted.store


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that all workers of this run of the tests have in common."""
    own = tmp_path_factory.getbasetemp()
    return own.parent if "PYTEST_XDIST_WORKER" in os.environ else own


@pytest.fixture(scope="session")
def trace(shared: Path) -> Path:
    """Folder in which each stage of the shared project left what it read (tests/support/tracing)."""
    return shared / "trace"


@pytest.fixture(scope="session")
def said(shared: Path, project: Project) -> str:
    """What the stages of the shared project printed beside what `dvc repro` tells of them."""
    return (shared / "said").read_text()


@pytest.fixture(scope="session")
def project(shared: Path, trace: Path) -> Project:
    """A tiny project after `dvc repro`, made by the worker that asks first; nothing runs in it, but in copies."""
    made = Project(shared / "project")
    with locked(shared / "project.lock", patience=1200, refusal="another worker makes the tiny project, for too long"):
        if not made.folder.exists():
            trace.mkdir(exist_ok=True)
            unfinished = new_project(shared / "unfinished")
            with pytest.MonkeyPatch.context() as patch:
                patch.setenv("PYTHONPATH", str(ROOT / "tests" / "support" / "tracing"))
                patch.setenv("CPFD_TRACE", str(trace))
                said = unfinished.reproduce()
            (shared / "said").write_text(said.stderr)
            unfinished.folder.rename(made.folder)
    return made
