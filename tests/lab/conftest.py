"""The lab's servers as fixtures."""

from typing import cast

import pytest

from tests.lab.servers import CARRIER, PHONES, SERVERS, LabServer
from tests.unit.speech.synthetic_speech import CHECKPOINT

# These place no calls on the lab, and may run beside those that do.
APART = ("test_cel", "test_demo_ari", "test_figures_browser", "test_player", "test_postgres")
ALONE = ("test_doctor",)  # it judges the newest recording, which must not be in the making


@pytest.hookimpl(tryfirst=True)  # before markers are evaluated
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests that place calls on one Asterisk run one after the other: they share its phones."""
    for item in items:
        if item.path.parent.name == "lab" and item.path.stem not in APART:
            item.add_marker(pytest.mark.phones)
            if item.path.stem in ALONE:
                item.add_marker(pytest.mark.alone)


@pytest.fixture(scope="session")
def lab() -> None:
    """Both PBXes, their carrier and their phones, which must be up."""
    down = [process.name for process in (*SERVERS.values(), CARRIER, PHONES) if not process.running]
    if down:
        pytest.fail(f"The lab is not up ({', '.join(down)}): run `make lab-up` as root.", pytrace=False)


@pytest.fixture(params=SERVERS.values(), ids=lambda server: server.name)
def server(lab: None, request: pytest.FixtureRequest) -> LabServer:
    """One PBX; the test runs once for each version."""
    return cast(LabServer, request.param)


@pytest.fixture(autouse=True)
def small_model(no_real_data: object, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a worker of the tests transcribes with: nothing is downloaded for it."""
    monkeypatch.setenv("WHISPER_MODEL", str(CHECKPOINT))
    monkeypatch.setenv("WHISPER_LANGUAGE", "en")
    monkeypatch.setenv("WHISPER_MAX_SPANS", "1")
