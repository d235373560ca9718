"""What every test stands on: no test can reach real data or a real PBX's settings."""

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
    """Point the data directory at a temporary one and forget every setting of the environment and of `.env`."""
    for name in os.environ:
        if name.startswith(("FREEPBX_", "PBX_", "WHISPER_", "ANALYSIS_")) and not name.startswith("PBX_LAB"):
            monkeypatch.delenv(name)
    data = tmp_path / "data"
    monkeypatch.setenv("PBX_DATA_DIR", str(data))
    monkeypatch.setenv("PBX_ENV_FILE", "")
    return data


@pytest.fixture(scope="session")
def empty_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of SQLite as the app makes it, to be copied: to make one takes a tenth of a second."""
    settings = Settings(_env_file=None, pbx_data_dir=tmp_path_factory.mktemp("empty"))
    open_engine(settings).dispose()
    return Path(str(make_url(settings.database_url).database))


@pytest.fixture
def settings(no_real_data: Path) -> Settings:
    return load_settings()


@pytest.fixture
def engine(settings: Settings, empty_cache: Path) -> Iterator[Engine]:
    """An empty cache, where the app looks for it."""
    url = make_url(settings.database_url)
    if url.get_backend_name() == "sqlite":
        settings.pbx_data_dir.mkdir(exist_ok=True)
        shutil.copy(empty_cache, str(url.database))
    engine = open_engine(settings)
    yield engine
    engine.dispose()


@pytest.fixture
def no_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    """A page under test starts no worker beside it."""
    monkeypatch.setattr("pbx.ui.sidebar.ensure_worker", lambda settings: None)
