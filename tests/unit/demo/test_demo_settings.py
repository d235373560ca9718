"""load_settings returns the demo's settings while the demo's mark file exists, otherwise the real ones."""

import json
from pathlib import Path

import pytest

from pbx.settings import DEMO_DIR, DEMO_MARK, DEMO_PBX, load_folder_settings, load_settings

PASSWORD = "made-up-but-secret"


@pytest.fixture
def folder(no_real_data: Path) -> Path:
    folder = no_real_data / DEMO_DIR
    folder.mkdir(parents=True)
    (folder / DEMO_MARK).write_text("1-abc")
    connection_json = {"ami_port": 20001, "ari_port": 20002, "username": "demo", "password": PASSWORD}
    (folder / DEMO_PBX).write_text(json.dumps(connection_json))
    return folder


def test_with_the_mark_file_all_settings_are_the_demos(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PBX_DATABASE_URL", "postgresql://user:word@db.example.com/real")
    monkeypatch.setenv("PBX_SECRET_KEY", "of-the-real-cache")
    monkeypatch.setenv("ANALYSIS_URL", "http://127.0.0.1:1/v1")
    settings = load_settings()
    assert settings.demo_id == "1-abc"
    assert str(settings.database_url) == f"sqlite:///{folder / 'pbx.sqlite'}"
    assert (settings.audio_dir.parent, settings.playable_dir.parent) == (folder, folder)
    assert (settings.pbx_secret_key, settings.analysis_url.get_secret_value()) == (None, "")
    assert (settings.home_dir, settings.models_dir) == (folder.parent, folder.parent / "models")
    connection = settings.connection
    assert connection is not None
    assert (connection.host, connection.ami_port, connection.ari_port) == ("127.0.0.1", 20001, 20002)
    assert connection.ami_password.get_secret_value() == connection.ari_password.get_secret_value() == PASSWORD
    assert connection.timezone == "Europe/London"
    assert PASSWORD not in repr(settings)


def test_without_the_mark_file_there_is_no_demo(folder: Path) -> None:
    (folder / DEMO_MARK).unlink()
    settings = load_settings()
    assert (settings.demo_id, settings.connection, settings.home_dir) == ("", None, folder.parent)


def test_a_pbx_in_the_environment_takes_precedence_over_the_demo(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FREEPBX_HOST", "pbx.example.com")
    settings = load_settings()
    assert settings.demo_id == ""
    assert settings.connection is not None
    assert settings.connection.host == "pbx.example.com"
    assert settings.pbx_data_dir == folder.parent


def test_folder_settings_stay_with_their_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker of the real folder stays real when the demo starts; a worker of the demo's folder is the demo's."""
    assert load_folder_settings().demo_id == ""
    monkeypatch.setenv("PBX_DATA_DIR", str(folder))
    monkeypatch.setenv("FREEPBX_HOST", "pbx.example.com")
    settings = load_folder_settings()
    assert settings.demo_id == "1-abc"
    assert settings.pbx_data_dir == folder
    assert settings.connection is not None
    assert settings.connection.host == "127.0.0.1"
    assert load_settings().demo_id == "1-abc"


@pytest.mark.parametrize("connection_json", ["", "not json", '{"ami_port": 20001', None])
def test_without_a_running_demo_pbx_the_ports_are_unused_ones(folder: Path, connection_json: str | None) -> None:
    if connection_json is None:
        (folder / DEMO_PBX).unlink()
    else:
        (folder / DEMO_PBX).write_text(connection_json)
    connection = load_settings().connection
    assert connection is not None
    assert (connection.ami_port, connection.ari_port, connection.ami_username) == (1, 1, "demo")
