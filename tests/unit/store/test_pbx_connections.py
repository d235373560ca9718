"""The app uses the saved PBX, or the environment's if none is saved."""

from pathlib import Path

import pytest
from pydantic import SecretStr
from sqlalchemy import Engine
from sqlmodel import select

from pbx.errors import SettingsError
from pbx.settings import Connection, Settings, load_settings
from pbx.store.engine import reading
from pbx.store.models import PbxConnection
from pbx.store.pbx_connections import active_connection, forget_saved, save_connection

SAVED = Connection(
    host="pbx.example",
    ari_port=8089,
    ari_tls=True,
    ari_prefix="/asterisk",
    ari_username="notebook",
    ari_password=SecretStr("ari-s3cret"),
    ami_port=5039,
    ami_tls=True,
    ami_username="clerk",
    ami_password=SecretStr("ami-s3cret"),
    ca_file=Path("/etc/ssl/pbx.pem"),
    timezone="Europe/Berlin",
)


@pytest.fixture
def with_host(monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setenv("FREEPBX_HOST", "Env.example")
    monkeypatch.setenv("FREEPBX_AMI_PASSWORD", "env-s3cret")
    return load_settings()


def hosts(engine: Engine) -> list[str]:
    with reading(engine) as session:
        return list(session.exec(select(PbxConnection.host).order_by(PbxConnection.host)))


def test_without_settings_no_connection_is_active(engine: Engine, settings: Settings) -> None:
    assert active_connection(engine, settings) is None
    assert hosts(engine) == []


def test_the_environments_pbx_gets_one_row(engine: Engine, with_host: Settings) -> None:
    first, again = active_connection(engine, with_host), active_connection(engine, with_host)
    assert first is not None
    assert first == again
    assert (first.connection, first.saved) == (with_host.connection, False)
    assert hosts(engine) == ["env.example"]


def test_a_saved_connection_is_read_back_unchanged(engine: Engine, settings: Settings) -> None:
    saved_id = save_connection(engine, settings, SAVED)
    active = active_connection(engine, settings)
    assert active is not None
    assert (active.id, active.connection, active.saved) == (saved_id, SAVED, True)


def test_the_saved_pbx_wins_over_the_environments(engine: Engine, with_host: Settings) -> None:
    save_connection(engine, with_host, SAVED)
    active = active_connection(engine, with_host)
    assert active is not None
    assert active.connection.host == "pbx.example"


def test_saving_again_updates_the_same_row(engine: Engine, settings: Settings) -> None:
    first = save_connection(engine, settings, SAVED)
    changed = SAVED.model_copy(update={"host": "PBX.example", "ami_port": 5040, "ca_file": None})
    assert save_connection(engine, settings, changed) == first
    active = active_connection(engine, settings)
    assert active is not None
    assert (active.connection.ami_port, active.connection.ca_file) == (5040, None)


def test_only_the_last_saved_connection_is_active(engine: Engine, settings: Settings) -> None:
    first = save_connection(engine, settings, SAVED)
    second = save_connection(engine, settings, SAVED.model_copy(update={"host": "other"}))
    active = active_connection(engine, settings)
    assert active is not None
    assert active.id == second != first


def test_forgetting_the_saved_pbx_returns_to_the_environments_and_deletes_the_passwords(
    engine: Engine, with_host: Settings
) -> None:
    save_connection(engine, with_host, SAVED)
    forget_saved(engine)
    active = active_connection(engine, with_host)
    assert active is not None
    assert active.connection.host == "Env.example"
    with reading(engine) as session:
        rows = session.exec(select(PbxConnection)).all()
    assert {row.host for row in rows} == {"env.example", "pbx.example"}
    assert {(row.ari_password_encrypted, row.ami_password_encrypted, row.ami_username) for row in rows} == {
        ("", "", "")
    }


def test_no_file_contains_a_password_in_clear_text(engine: Engine, settings: Settings) -> None:
    save_connection(engine, settings, SAVED)
    assert "s3cret" not in repr(active_connection(engine, settings))
    engine.dispose()
    for file in settings.pbx_data_dir.iterdir():
        assert b"s3cret" not in file.read_bytes(), file


def test_a_missing_key_raises_an_error(engine: Engine, settings: Settings) -> None:
    save_connection(engine, settings, SAVED)
    (settings.pbx_data_dir / "secret.key").unlink()
    with pytest.raises(SettingsError, match="is gone"):
        active_connection(engine, settings)


def test_the_environment_allows_plain_login_for_a_saved_pbx_too(
    engine: Engine, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_connection(engine, settings, SAVED)
    saved = active_connection(engine, settings)
    assert saved is not None
    assert not saved.connection.ami_plain_login
    monkeypatch.setenv("FREEPBX_AMI_PLAIN_LOGIN", "true")
    with_plain_login = active_connection(engine, load_settings())
    assert with_plain_login is not None
    assert with_plain_login.connection.ami_plain_login
