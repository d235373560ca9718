"""What every test stands on: no test can reach real data or a real PBX's settings."""

import os
from pathlib import Path

import pytest


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
