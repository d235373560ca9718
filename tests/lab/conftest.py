"""The lab's servers as fixtures."""

import pytest

from tests.lab.server import CARRIER, PHONES, SERVERS, LabServer


@pytest.fixture(scope="session")
def lab() -> None:
    """Both PBXes, their carrier and their phones, which must be up."""
    down = [process.name for process in (*SERVERS.values(), CARRIER, PHONES) if not process.running]
    if down:
        pytest.fail(f"The lab is not up ({', '.join(down)}): run `make lab-up` as root.", pytrace=False)


@pytest.fixture(params=SERVERS.values(), ids=lambda server: server.name)
def server(lab: None, request: pytest.FixtureRequest) -> LabServer:
    """One PBX; the test runs once for each version."""
    return request.param
