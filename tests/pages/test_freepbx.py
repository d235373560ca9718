"""A saved password goes only to where it was saved for; anything else asks for it again."""

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
def checked(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The connections that were checked, which is where passwords are sent."""
    found: list[Any] = []
    monkeypatch.setattr("pbx.asterisk.doctor.check_connection", lambda connection: found.append(connection) or iter(()))
    return found


@pytest.fixture
def pems(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("own.pem", "other.pem"):
        (tmp_path / name).write_text("")
    return tmp_path


def enter(app: AppTest, changes: dict[str, Any], folder: Path) -> None:
    fields = {field.label: field for field in (*app.text_input, *app.number_input, *app.toggle)}
    for label, value in changes.items():
        fields[label].set_value(str(folder / value) if str(value).endswith(".pem") else value)


def opened(engine: Engine, pems: Path, **saved: Any) -> AppTest:
    save_pbx(engine, ami_tls=True, ari_tls=True, ca_file=pems / "own.pem", **saved)
    return without_errors(open_page(SETTINGS))


@pytest.mark.parametrize(("changes", "asked"), ELSEWHERE, ids=lambda value: str(value))
@pytest.mark.parametrize("button", ["Check connection", "Save settings"])
def test_another_host_needs_the_password_again(
    engine: Engine, pems: Path, checked: list[Any], changes: dict[str, Any], asked: str, button: str
) -> None:
    app = opened(engine, pems)
    enter(app, changes, pems)
    said = page_text(press(app, button)).replace("\\", "")
    assert f"Enter the {asked} password again." in said
    assert checked == []
    active = active_connection(engine, load_settings())
    assert active is not None
    assert (active.connection.host, active.connection.ca_file) == ("pbx.example.com", pems / "own.pem")
    assert PASSWORD not in said


def test_it_is_used_again_for_the_very_same_place(engine: Engine, pems: Path, checked: list[Any]) -> None:
    app = opened(engine, pems)
    enter(app, {"ARI user": "other", HOST: "PBX.example.com"}, pems)
    press(app, "Check connection")
    (connection,) = checked
    assert connection.ari_password == connection.ami_password == SecretStr(PASSWORD)


def test_a_password_that_is_entered_goes_where_it_is_entered_for(
    engine: Engine, pems: Path, checked: list[Any]
) -> None:
    app = opened(engine, pems)
    enter(app, {"ARI port": 8443, "ARI password": "new-one"}, pems)
    press(app, "Check connection")
    (connection,) = checked
    assert (connection.ari_port, connection.ari_password, connection.ami_password) == (
        8443,
        SecretStr("new-one"),
        SecretStr(PASSWORD),
    )


def test_the_environments_password_stays_with_the_environments_place(
    engine: Engine, pems: Path, checked: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    given = {"HOST": "pbx.example.com", "ARI_PASSWORD": PASSWORD, "AMI_PASSWORD": PASSWORD}
    for name, value in given.items():
        monkeypatch.setenv(f"FREEPBX_{name}", value)
    app = without_errors(open_page(SETTINGS))
    enter(app, {"ARI port": 8443}, pems)
    assert "Enter the ARI password again" in page_text(press(app, "Check connection"))
    assert checked == []


def test_without_tls_the_ca_file_does_not_matter(engine: Engine, pems: Path, checked: list[Any]) -> None:
    save_pbx(engine)
    app = without_errors(open_page(SETTINGS))
    enter(app, {CA_FILE: "own.pem"}, pems)
    press(app, "Check connection")
    assert len(checked) == 1


def test_saved_passwords_are_kept_and_never_sent_back(engine: Engine) -> None:
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


def test_settings_that_cannot_be_used_are_refused_in_words() -> None:
    app = without_errors(open_page(SETTINGS))
    assert "The host is missing" in page_text(press(app, "Save settings"))


def test_forgetting_the_saved_settings_asks_first(engine: Engine) -> None:
    save_pbx(engine)
    app = press(without_errors(open_page(SETTINGS)), "Delete saved settings")
    assert "Delete" in [button.label for button in app.button]
    assert active_connection(engine, load_settings()) is not None
