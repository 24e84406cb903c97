"""A Prefect server for flows that run in the tests themselves."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from prefect.settings import PREFECT_API_URL, PREFECT_HOME, temporary_settings
from prefect.testing.utilities import prefect_test_harness

from tests.support.project import ROOT


@pytest.fixture(scope="session")
def prefect_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Prefect's folder of a server with a database of its own, which all modules of this process share."""
    home = tmp_path_factory.mktemp("prefect")
    with temporary_settings({PREFECT_HOME: home}), prefect_test_harness(server_startup_timeout=120):
        yield home


@pytest.fixture(scope="module")
def server(prefect_home: Path) -> Iterator[None]:
    """That server for the flows of a module: those that run here and those in other processes."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PREFECT_HOME", str(prefect_home))
        patch.setenv("PREFECT_SERVER_ANALYTICS_ENABLED", "false")
        patch.setenv("DO_NOT_TRACK", "1")
        patch.setenv("PYTHONPATH", str(ROOT))
        patch.setenv("PREFECT_API_URL", str(PREFECT_API_URL.value()))
        yield
