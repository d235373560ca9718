"""Passwords are stored encrypted, only the same key decrypts them, and only its owner can read the key file."""

import json
import stat

import pytest
from cryptography.fernet import Fernet
from pydantic import SecretStr
from typer.testing import CliRunner

from pbx.__main__ import app
from pbx.errors import DataError, SettingsError
from pbx.settings import Connection, Settings, load_settings
from pbx.store.engine import open_engine
from pbx.store.pbx_connections import save_connection
from pbx.store.vault import Vault
from tests.operating_systems import needs_posix

PASSWORD = SecretStr("pä$$ 'word")


@pytest.fixture
def settings() -> Settings:
    """Settings for SQLite: these tests need no server."""
    return load_settings()


def test_an_encrypted_password_can_be_decrypted(settings: Settings) -> None:
    sealed = Vault(settings).seal(PASSWORD)
    assert "word" not in sealed
    assert Vault(settings).unseal(sealed) == PASSWORD


def test_an_empty_password_needs_no_key(settings: Settings) -> None:
    assert Vault(settings).unseal(Vault(settings).seal(SecretStr(""))) == SecretStr("")
    assert not settings.pbx_data_dir.exists()


@needs_posix
def test_only_its_owner_can_read_the_key_file(settings: Settings) -> None:
    Vault(settings).seal(PASSWORD)
    assert stat.S_IMODE((settings.pbx_data_dir / "secret.key").stat().st_mode) == 0o600
    assert sorted(file.name for file in settings.pbx_data_dir.iterdir()) == [".secret.key.lock", "secret.key"]


def test_a_key_from_the_environment_creates_no_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PBX_SECRET_KEY", Fernet.generate_key().decode())
    settings = load_settings()
    assert Vault(settings).unseal(Vault(settings).seal(PASSWORD)) == PASSWORD
    assert not settings.pbx_data_dir.exists()


def test_several_keys_decrypt_and_the_first_one_encrypts(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    with_file_key = Vault(settings).seal(PASSWORD)
    old, new = Fernet.generate_key().decode(), Fernet.generate_key().decode()
    monkeypatch.setenv("PBX_SECRET_KEY", old)
    with_old_key = Vault(load_settings()).seal(PASSWORD)
    monkeypatch.setenv("PBX_SECRET_KEY", f"{new}, {old}")
    vault = Vault(load_settings())
    assert [vault.unseal(sealed) for sealed in (with_file_key, with_old_key)] == [PASSWORD] * 2
    assert Fernet(new).decrypt(vault.seal(PASSWORD)).decode() == PASSWORD.get_secret_value()


def test_a_wrong_key_raises_an_error_with_its_fix(settings: Settings) -> None:
    sealed = Vault(settings).seal(PASSWORD)
    (settings.pbx_data_dir / "secret.key").write_bytes(Fernet.generate_key())
    with pytest.raises(SettingsError, match="key is not the one") as caught:
        Vault(settings).unseal(sealed)
    assert "enter the passwords again" in caught.value.fix
    assert sealed not in caught.value.advice


def test_a_lost_key_raises_an_error_and_is_not_replaced(settings: Settings) -> None:
    sealed = Vault(settings).seal(PASSWORD)
    (settings.pbx_data_dir / "secret.key").unlink()
    with pytest.raises(SettingsError, match="is gone"):
        Vault(settings).unseal(sealed)
    assert not (settings.pbx_data_dir / "secret.key").exists()


def test_the_error_of_a_malformed_key_does_not_show_the_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PBX_SECRET_KEY", "my-dog-rex")
    with pytest.raises(SettingsError, match="PBX_SECRET_KEY is malformed") as caught:
        Vault(load_settings()).seal(PASSWORD)
    assert "generate_key" in caught.value.fix
    assert "my-dog-rex" not in caught.value.advice


def test_a_directory_in_place_of_the_key_file_raises_an_error(settings: Settings) -> None:
    (settings.pbx_data_dir / "secret.key").mkdir(parents=True)
    with pytest.raises(DataError, match=r"secret\.key can't be used"):
        Vault(settings).seal(PASSWORD)


@pytest.mark.parametrize("content", [b"\xff\xfe\x00k\x00e\x00y", b"", b"\x00" * 44, b"x" * 10_000, b"schl\xfcssel"])
def test_a_malformed_key_file_raises_an_error_and_is_unchanged(settings: Settings, content: bytes) -> None:
    sealed = Vault(settings).seal(PASSWORD)
    file = settings.pbx_data_dir / "secret.key"
    file.write_bytes(content)
    for use in (lambda: Vault(settings).unseal(sealed), lambda: Vault(settings).seal(PASSWORD)):
        with pytest.raises(SettingsError, match=r"secret\.key is malformed"):
            use()
    assert file.read_bytes() == content


def test_commands_report_a_malformed_key_file(settings: Settings) -> None:
    engine = open_engine(settings)
    connection = Connection(host="pbx.example.com", ari_port=8088, ami_port=5038, ami_password=PASSWORD)
    save_connection(engine, settings, connection)
    engine.dispose()
    (settings.pbx_data_dir / "secret.key").write_bytes(b"\xff\xfe")
    for command in (["check"], ["collect"], ["sync"], ["status"], ["import", "cdr", __file__]):
        result = CliRunner().invoke(app, [*command, "--json"])
        assert result.exit_code == 2
        assert isinstance(result.exception, SystemExit)
        assert "secret.key is malformed" in json.loads(result.stdout)["error"]
