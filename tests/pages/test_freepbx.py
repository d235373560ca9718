"""The page FreePBX integration: a saved password is sent only to the server and port it was saved for."""

from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr
from sqlalchemy import Engine
from streamlit.testing.v1 import AppTest

from pbx.settings import load_settings
from pbx.store.pbx_connections import active_connection
from tests.pages.page_reader import SETTINGS, open_page, page_text, press, without_errors
from tests.pages.sample_data import PASSWORD, save_pbx

pytestmark = pytest.mark.usefixtures("no_worker")
HOST, CA_FILE = "Host name or address", "CA certificate (path of a PEM file on this machine)"
ELSEWHERE: list[tuple[dict[str, Any], str]] = [
    ({HOST: "elsewhere.example.com"}, "AMI"),
    ({HOST: "pbx.example.com.evil.example"}, "AMI"),
    ({"AMI port": 5039}, "AMI"),
    ({"AMI over TLS": False}, "AMI"),
    ({"ARI port": 8089}, "ARI"),
    ({"ARI over TLS": False}, "ARI"),
    ({"ARI port": 80, "ARI over TLS": False}, "ARI"),
    ({CA_FILE: ""}, "AMI"),
    ({CA_FILE: "other.pem"}, "AMI"),
]


@pytest.fixture
def tested(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The connections that were tested. Passwords are sent only to these."""
    found: list[Any] = []
    monkeypatch.setattr("pbx.asterisk.doctor.check_connection", lambda connection: found.append(connection) or iter(()))
    return found


@pytest.fixture
def pems(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("own.pem", "other.pem"):
        (tmp_path / name).write_text("")
    return tmp_path


def fill_form(app: AppTest, changes: dict[str, Any], folder: Path) -> None:
    fields = {field.label: field for field in (*app.text_input, *app.number_input, *app.toggle)}
    for label, value in changes.items():
        fields[label].set_value(str(folder / value) if str(value).endswith(".pem") else value)


def open_settings(engine: Engine, pems: Path, **saved: Any) -> AppTest:
    save_pbx(engine, ami_tls=True, ari_tls=True, ca_file=pems / "own.pem", **saved)
    return without_errors(open_page(SETTINGS))


@pytest.mark.parametrize(("changes", "interface"), ELSEWHERE, ids=lambda value: str(value))
@pytest.mark.parametrize("button", ["Check connection", "Save settings"])
def test_another_server_needs_the_password_again(
    engine: Engine, pems: Path, tested: list[Any], changes: dict[str, Any], interface: str, button: str
) -> None:
    app = open_settings(engine, pems)
    fill_form(app, changes, pems)
    text = page_text(press(app, button)).replace("\\", "")
    assert f"Enter the {interface} password again." in text
    assert tested == []
    active = active_connection(engine, load_settings())
    assert active is not None
    assert (active.connection.host, active.connection.ca_file) == ("pbx.example.com", pems / "own.pem")
    assert PASSWORD not in text


def test_the_saved_password_is_used_for_the_same_server(engine: Engine, pems: Path, tested: list[Any]) -> None:
    app = open_settings(engine, pems)
    fill_form(app, {"ARI user": "other", HOST: "PBX.example.com"}, pems)
    press(app, "Check connection")
    (connection,) = tested
    assert connection.ari_password == connection.ami_password == SecretStr(PASSWORD)


def test_an_entered_password_is_used_for_its_interface_only(engine: Engine, pems: Path, tested: list[Any]) -> None:
    app = open_settings(engine, pems)
    fill_form(app, {"ARI port": 8443, "ARI password": "new-one"}, pems)
    press(app, "Check connection")
    (connection,) = tested
    assert (connection.ari_port, connection.ari_password, connection.ami_password) == (
        8443,
        SecretStr("new-one"),
        SecretStr(PASSWORD),
    )


def test_the_password_from_the_environment_is_sent_only_to_the_server_from_the_environment(
    engine: Engine, pems: Path, tested: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    environment = {"HOST": "pbx.example.com", "ARI_PASSWORD": PASSWORD, "AMI_PASSWORD": PASSWORD}
    for name, value in environment.items():
        monkeypatch.setenv(f"FREEPBX_{name}", value)
    app = without_errors(open_page(SETTINGS))
    fill_form(app, {"ARI port": 8443}, pems)
    assert "Enter the ARI password again" in page_text(press(app, "Check connection"))
    assert tested == []


def test_without_tls_another_ca_file_needs_no_password(engine: Engine, pems: Path, tested: list[Any]) -> None:
    save_pbx(engine)
    app = without_errors(open_page(SETTINGS))
    fill_form(app, {CA_FILE: "own.pem"}, pems)
    press(app, "Check connection")
    assert len(tested) == 1


def test_saved_passwords_are_kept_and_never_sent_to_the_browser(engine: Engine) -> None:
    save_pbx(engine)
    app = without_errors(open_page(SETTINGS))
    fields = {field.label: field for field in app.text_input}
    assert [fields[f"{name} password"].value for name in ("AMI", "ARI")] == ["", ""]
    assert PASSWORD not in repr(app.main)
    fields["AMI user"].set_value("other")
    fields["ARI prefix"].set_value("asterisk/")
    press(app, "Save settings")
    active = active_connection(engine, load_settings())
    assert active is not None
    assert (active.connection.ami_username, active.connection.ari_prefix) == ("other", "/asterisk")
    assert active.connection.ami_password.get_secret_value() == PASSWORD


def test_invalid_settings_are_refused_with_a_reason() -> None:
    app = without_errors(open_page(SETTINGS))
    assert "The host is missing" in page_text(press(app, "Save settings"))


def test_deleting_the_saved_settings_needs_confirmation(engine: Engine) -> None:
    save_pbx(engine)
    app = press(without_errors(open_page(SETTINGS)), "Delete saved settings")
    assert "Delete" in [button.label for button in app.button]
    assert active_connection(engine, load_settings()) is not None
