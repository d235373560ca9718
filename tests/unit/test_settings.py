"""Settings have defaults, errors name the variable, and passwords are masked."""

from pathlib import Path

import pytest

from pbx.errors import SettingsError
from pbx.settings import load_settings
from tests.paths import ROOT


def test_settings_have_defaults(no_real_data: Path) -> None:
    settings = load_settings()
    assert settings.connection is None
    assert (settings.freepbx_ari_port, settings.freepbx_ami_port) == (8088, 5038)
    assert (settings.freepbx_sync_interval_minutes, settings.freepbx_collect_interval_minutes) == (10, 5)
    assert str(settings.database_url) == f"sqlite:///{no_real_data / 'pbx.sqlite'}"


def test_a_host_is_enough_for_a_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FREEPBX_HOST", "pbx.example")
    monkeypatch.setenv("FREEPBX_ARI_TLS", "true")
    monkeypatch.setenv("FREEPBX_ARI_PORT", "8089")
    connection = load_settings().connection
    assert connection is not None
    assert connection.ari_url == "https://pbx.example:8089/ari"


def test_an_ipv6_host_has_brackets_in_the_url(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FREEPBX_HOST", "::1")
    connection = load_settings().connection
    assert connection is not None
    assert connection.ari_url == "http://[::1]:8088/ari"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("FREEPBX_AMI_PORT", "fifty"),
        ("FREEPBX_ARI_PORT", "70000"),
        ("FREEPBX_TIMEZONE", "Mars/Olympus"),
        ("FREEPBX_SYNC_INTERVAL_MINUTES", "0"),
        ("FREEPBX_AMI_TLS", "perhaps"),
    ],
)
def test_the_error_of_an_invalid_value_names_the_variable(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError, match=name) as caught:
        load_settings()
    assert caught.value.fix


def test_empty_values_mean_the_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FREEPBX_AMI_PORT", "")
    monkeypatch.setenv("FREEPBX_TIMEZONE", "")
    settings = load_settings()
    assert settings.freepbx_ami_port == 5038
    assert settings.freepbx_timezone is None


def test_env_file_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "my.env"
    file.write_text("FREEPBX_HOST=from-file\nFREEPBX_UNKNOWN=ignored\n")
    monkeypatch.setenv("PBX_ENV_FILE", str(file))
    assert load_settings().freepbx_host == "from-file"


def test_passwords_are_masked(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("FREEPBX_ARI_PASSWORD", "FREEPBX_AMI_PASSWORD", "PBX_SECRET_KEY"):
        monkeypatch.setenv(name, "s3cret-value")
    monkeypatch.setenv("PBX_DATABASE_URL", "postgresql://u:s3cret-value@localhost/x")
    monkeypatch.setenv("ANALYSIS_URL", "http://me:s3cret-value@localhost:11434/v1?key=s3cret-value")
    monkeypatch.setenv("PBX_IMPORT_URL", "mysql://u:s3cret-value@localhost/x")
    monkeypatch.setenv("FREEPBX_HOST", "pbx")
    settings = load_settings()
    assert settings.analysis_server == "http://localhost:11434"
    for shown in (repr(settings), str(settings), repr(settings.connection), settings.model_dump_json()):
        assert "s3cret-value" not in shown


def test_every_setting_is_in_the_example() -> None:
    from pbx.settings import Settings

    example = (ROOT / ".env.example").read_text()
    for name in Settings.model_fields:
        assert f"{name.upper()}=" in example


@pytest.mark.parametrize("content", [b"FREEPBX_HOST=\xe4\xf6", b"\xff\xfeF\x00"])
def test_a_binary_env_file_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes) -> None:
    (tmp_path / "my.env").write_bytes(content)
    monkeypatch.setenv("PBX_ENV_FILE", str(tmp_path / "my.env"))
    with pytest.raises(SettingsError, match=r"my\.env can't be read") as caught:
        load_settings()
    assert caught.value.fix


@pytest.mark.parametrize("content", [b"\xff", b"[1]", b"1", b"{", b'{"ami_port": 1'])
def test_a_damaged_file_of_the_demo_is_ignored(no_real_data: Path, content: bytes) -> None:
    demo = no_real_data / "demo"
    demo.mkdir(parents=True)
    (demo / "pbx.json").write_bytes(content)
    assert load_settings().demo_id == ""
    (demo / "on").write_text("word")
    assert load_settings().demo_id == "word"
    (demo / "on").write_bytes(b"\xff")
    assert load_settings().demo_id == ""
