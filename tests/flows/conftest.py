"""A Prefect server for flows that run in the tests themselves."""

from collections.abc import Iterator

import pytest
from prefect.settings import PREFECT_API_URL, PREFECT_HOME, temporary_settings
from prefect.testing.utilities import prefect_test_harness

from tests.support.project import ROOT


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A Prefect server with a database of its own, for flows that run here and for those in other processes."""
    home = tmp_path_factory.mktemp("prefect")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PREFECT_HOME", str(home))
        patch.setenv("PREFECT_SERVER_ANALYTICS_ENABLED", "false")
        patch.setenv("DO_NOT_TRACK", "1")
        patch.setenv("PYTHONPATH", str(ROOT))
        with temporary_settings({PREFECT_HOME: home}), prefect_test_harness(server_startup_timeout=120):
            patch.setenv("PREFECT_API_URL", str(PREFECT_API_URL.value()))
            yield
