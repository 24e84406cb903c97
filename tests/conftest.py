"""One tiny project, run through the whole pipeline once per session; tests that change it work on copies."""

from pathlib import Path

import hypothesis
import pytest

from tests.support.project import ROOT, Project, new_project

# A busy machine is slow: what a test may cost is guarded by counts.
hypothesis.settings.register_profile("cpfd", deadline=None)
hypothesis.settings.load_profile("cpfd")


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
