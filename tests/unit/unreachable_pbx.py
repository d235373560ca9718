"""Settings with a PBX that never answers, for tests of what the worker does."""

from pathlib import Path

import pytest

from pbx.settings import Settings, load_settings


@pytest.fixture
def settings(no_real_data: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setenv("FREEPBX_HOST", "127.0.0.1")
    monkeypatch.setenv("FREEPBX_AMI_PORT", "1")  # a closed port
    return load_settings()
