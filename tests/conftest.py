"""What many tests read and none changes: a small feature store, a tiny project after `dvc repro`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import hypothesis
import pytest

from tests.support.project import ROOT, Project, new_project

if TYPE_CHECKING:
    from cpfd.features.store import FeatureStore
    from tests.support.small import Extracted

# A busy machine is slow: what a test may cost is guarded by counts.
hypothesis.settings.register_profile("cpfd", deadline=None)
hypothesis.settings.load_profile("cpfd")


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
def trace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder in which each stage of the session's project left what it read (tests/support/tracing)."""
    return tmp_path_factory.mktemp("trace")


@pytest.fixture(scope="session")
def project(tmp_path_factory: pytest.TempPathFactory, trace: Path) -> Project:
    """A tiny project after `dvc repro`, not to be changed."""
    project = new_project(tmp_path_factory.mktemp("session") / "project")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(ROOT / "tests" / "support" / "tracing"))
        patch.setenv("CPFD_TRACE", str(trace))
        project.repro()
    return project
