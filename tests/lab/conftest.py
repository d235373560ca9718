"""Fixtures for the lab's servers, and the markers of its tests."""

from typing import cast

import pytest

from tests.lab.servers import CARRIER, PHONES, SERVERS, LabServer
from tests.unit.speech.synthetic_speech import CHECKPOINT

# These place no calls on the lab's servers, so they may run beside tests that do.
WITHOUT_CALLS = ("test_cel", "test_demo_ari", "test_figures_browser", "test_player", "test_postgres")
ALONE = ("test_doctor",)  # it checks the newest recording, which must not be growing


@pytest.hookimpl(tryfirst=True)  # before markers are evaluated
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests that share the phones of an Asterisk, so that they run one after the other."""
    for item in items:
        if item.path.parent.name == "lab" and item.path.stem not in WITHOUT_CALLS:
            item.add_marker(pytest.mark.phones)
            if item.path.stem in ALONE:
                item.add_marker(pytest.mark.alone)


@pytest.fixture(scope="session")
def lab() -> None:
    """Fail unless both PBXes, their carrier and their phones are up."""
    down = [process.name for process in (*SERVERS.values(), CARRIER, PHONES) if not process.running]
    if down:
        pytest.fail(f"The lab is not up ({', '.join(down)}): run `make lab-up` as root.", pytrace=False)


@pytest.fixture(params=SERVERS.values(), ids=lambda server: server.name)
def server(lab: None, request: pytest.FixtureRequest) -> LabServer:
    """One PBX; the test runs once for each version."""
    return cast(LabServer, request.param)


@pytest.fixture(autouse=True)
def small_model(no_real_data: object, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the tests' workers transcribe with a tiny model from the fixtures, so that none is downloaded."""
    monkeypatch.setenv("WHISPER_MODEL", str(CHECKPOINT))
    monkeypatch.setenv("WHISPER_LANGUAGE", "en")
    monkeypatch.setenv("WHISPER_MAX_SPANS", "1")
