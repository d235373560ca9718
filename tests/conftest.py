"""Fixtures for all tests. No test can reach real data or the settings of a real PBX."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine, make_url

from pbx.settings import Settings, load_settings
from pbx.store.engine import open_engine


@pytest.fixture(autouse=True)
def no_real_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Use a temporary data directory, and ignore all settings of the environment and of `.env`."""
    for name in os.environ:
        if name.startswith(("FREEPBX_", "PBX_", "WHISPER_", "ANALYSIS_")) and not name.startswith("PBX_LAB"):
            monkeypatch.delenv(name)
    data = tmp_path / "data"
    monkeypatch.setenv("PBX_DATA_DIR", str(data))
    monkeypatch.setenv("PBX_ENV_FILE", "")
    return data


@pytest.fixture(scope="session")
def empty_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty SQLite database of the app, for copying. Creating one takes 0.1 s."""
    settings = Settings(_env_file=None, pbx_data_dir=tmp_path_factory.mktemp("empty"))
    open_engine(settings).dispose()
    return Path(str(make_url(settings.database_url).database))


@pytest.fixture
def settings(no_real_data: Path) -> Settings:
    return load_settings()


@pytest.fixture
def engine(settings: Settings, empty_cache: Path) -> Iterator[Engine]:
    """The engine of an empty cache in the app's data directory."""
    url = make_url(settings.database_url)
    if url.get_backend_name() == "sqlite":
        settings.pbx_data_dir.mkdir(exist_ok=True)
        shutil.copy(empty_cache, str(url.database))
    engine = open_engine(settings)
    yield engine
    engine.dispose()


@pytest.fixture
def no_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep pages from starting a worker."""
    monkeypatch.setattr("pbx.ui.sidebar.ensure_worker", lambda settings: None)
