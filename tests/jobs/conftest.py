"""A cache with a PBX that nobody answers for, for the tests of the queue and the worker."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine

from pbx.settings import Settings, load_settings
from pbx.store.engine import open_engine


@pytest.fixture
def settings(no_real_data: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setenv("FREEPBX_HOST", "127.0.0.1")
    monkeypatch.setenv("FREEPBX_AMI_PORT", "1")  # nobody listens there
    return load_settings()


@pytest.fixture
def engine(settings: Settings) -> Iterator[Engine]:
    engine = open_engine(settings)
    yield engine
    engine.dispose()
