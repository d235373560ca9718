"""What every test stands on: no test can reach real data or a real PBX's settings."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine

from pbx.settings import load_settings
from pbx.store.engine import open_engine


@pytest.fixture(autouse=True)
def no_real_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Point the data directory at a temporary one and forget every setting of the environment and of `.env`."""
    for name in os.environ:
        if name.startswith(("FREEPBX_", "PBX_", "WHISPER_", "ANALYSIS_")) and not name.startswith("PBX_LAB"):
            monkeypatch.delenv(name)
    data = tmp_path / "data"
    monkeypatch.setenv("PBX_DATA_DIR", str(data))
    monkeypatch.setenv("PBX_ENV_FILE", "")
    return data


@pytest.fixture
def engine(no_real_data: Path) -> Iterator[Engine]:
    """An empty cache, where the app looks for it."""
    engine = open_engine(load_settings())
    yield engine
    engine.dispose()


@pytest.fixture
def no_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    """A page under test starts no worker beside it."""
    monkeypatch.setattr("pbx.ui.panel.ensure_worker", lambda settings: None)
