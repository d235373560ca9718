"""The access gate serves the app's own pages and refuses other hosts and origins: its rules, and a running app."""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from starlette.datastructures import Headers
from streamlit.testing.v1 import AppTest

from pbx.errors import SettingsError
from pbx.settings import load_settings
from pbx.ui.access_gate import Rules
from tests.browser.app import stop_process
from tests.lab.process import wait_until
from tests.paths import ROOT

START_TIMEOUT_S = 120
LOOPBACK = ("127.0.0.1", 8501)
LAN = ("192.0.2.7", 8501)
OWN_HOSTS = ("localhost:8501", "127.0.0.1:8501", "[::1]:8501", "LOCALHOST:8501")
FOREIGN_HOSTS = (
    "evil.example", "evil.example:8501", "localhost", "127.0.0.1", "localhost:9999", "127.0.0.1:9999", "0.0.0.0:8501",
    "192.0.2.7:8501", "localhost.evil.example:8501", "127.0.0.1.evil.example:8501", "evil@localhost:8501",
    "localhost:8501@evil.example", "localhost:8501:8501", "localhost:", "", "[::1", "localhost:8501 ",
    "2130706433:8501", "xn--lcalhost-x2a:8501", "localhost:99999999", "localhost:\xb28501", "localhost.:8501",
)  # fmt: skip
OWN_ORIGINS = {"127.0.0.1:8501": "http://127.0.0.1:8501", "localhost:8501": "http://localhost:8501"}
FOREIGN_ORIGINS = (
    "http://127.0.0.1:9999", "http://0.0.0.0:1", "http://localhost:8501", "http://127.0.0.1", "https://evil.example",
    "http://evil.example:8501", "null", "", "file://", "chrome-extension://abc", "http://127.0.0.1:x", "127.0.0.1:8501",
    "http://127.0.0.1:8501.evil.example", "http://[::1", "http://127.0.0.1:80",
)  # fmt: skip


def refused(
    rules: Rules, server: tuple[str, int] = LOOPBACK, kind: str = "http", method: str = "GET", **headers: str
) -> bool:
    sent_headers = {
        name.replace("_", "-"): value for name, value in {"host": f"{server[0]}:{server[1]}", **headers}.items()
    }
    return rules.refusal(server, kind, method, Headers(sent_headers)) is not None


@pytest.mark.parametrize("kind", ["http", "websocket"])
def test_only_the_apps_own_addresses_and_port_are_allowed_as_host(kind: str) -> None:
    rules = Rules("127.0.0.1")
    assert [host for host in OWN_HOSTS if refused(rules, kind=kind, host=host)] == []
    assert [host for host in FOREIGN_HOSTS if not refused(rules, kind=kind, host=host)] == []
    two_hosts = Headers(raw=[(b"host", b"127.0.0.1:8501"), (b"host", b"evil.example")])
    assert rules.refusal(LOOPBACK, kind, "GET", two_hosts)
    assert rules.refusal(LOOPBACK, kind, "GET", Headers({}))
    assert not refused(rules, ("127.0.0.1", 80), host="localhost")  # browsers omit port 80


@pytest.mark.parametrize("kind", ["http", "websocket"])
def test_only_the_apps_own_pages_are_allowed_as_origin(kind: str) -> None:
    rules = Rules("127.0.0.1")
    for host, origin in OWN_ORIGINS.items():
        assert not refused(rules, kind=kind, host=host, origin=origin)
    assert [origin for origin in FOREIGN_ORIGINS if not refused(rules, kind=kind, origin=origin)] == []


def test_pages_of_other_sites_may_only_link_to_the_app() -> None:
    rules = Rules("127.0.0.1")
    for site in ("cross-site", "same-site"):  # same-site includes other ports of this machine
        link = {"sec_fetch_site": site, "sec_fetch_mode": "navigate"}
        assert not refused(rules, **link, sec_fetch_dest="document")
        assert refused(rules, **link, sec_fetch_dest="iframe")
        assert refused(rules, method="POST", **link, sec_fetch_dest="document")
        assert refused(rules, sec_fetch_site=site, sec_fetch_mode="no-cors", sec_fetch_dest="audio")
        assert refused(rules, kind="websocket", sec_fetch_site=site, sec_fetch_mode="websocket")
    for site in ("none", "same-origin"):
        assert not refused(rules, sec_fetch_site=site, sec_fetch_mode="cors", sec_fetch_dest="audio")


@pytest.mark.parametrize("bound_to", ["", "0.0.0.0", "::", "192.0.2.7", "notebook.example.com", "0", "[::]"])
def test_an_app_that_listens_on_the_network_refuses_everything_unless_allowed(bound_to: str) -> None:
    assert refused(Rules(bound_to))
    assert refused(Rules(bound_to), LAN)
    assert not refused(Rules(bound_to, allow_network=True))
    assert not refused(Rules(bound_to, allow_network=True), LAN)


def test_a_request_from_the_network_is_refused_even_if_the_app_should_listen_on_loopback() -> None:
    assert refused(Rules("127.0.0.1"), LAN)
    assert not any(refused(Rules(bound_to)) for bound_to in ("localhost", "127.0.0.1", "127.0.0.2", "::1", "[::1]"))
    assert not refused(Rules("::1"), ("::1", 8501), host="[::1]:8501")
    assert not refused(Rules("::", allow_network=True), ("::ffff:192.0.2.7", 8501), host="192.0.2.7:8501")


def test_other_hosts_are_refused_on_an_allowed_network_too() -> None:
    rules = Rules("0.0.0.0", allow_network=True)
    assert [host for host in FOREIGN_HOSTS if host != "192.0.2.7:8501" and not refused(rules, LAN, host=host)] == []


def test_allowed_hosts_are_served(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PBX_ALLOWED_HOSTS", "Notebook.example.com, localhost:9000,[::1]:9001")
    rules = Rules("127.0.0.1", allowed_hosts=load_settings().allowed_hosts)
    for host in ("notebook.example.com", "NOTEBOOK.example.com:8501", "localhost:9000", "[::1]:9001", "localhost:8501"):
        assert not refused(rules, host=host)
    for host in ("notebook.example.com:9000", "localhost:9001", "x.notebook.example.com", "[::1]:9000", "localhost"):
        assert refused(rules, host=host)
    assert not refused(rules, host="notebook.example.com", origin="https://notebook.example.com")
    assert refused(rules, host="notebook.example.com", origin="https://evil.example")


@pytest.mark.parametrize("hosts", ["*", "http://notebook.example.com", "a b/c", "*.example.com", "a:port"])
def test_the_error_of_an_invalid_host_names_the_setting(monkeypatch: pytest.MonkeyPatch, hosts: str) -> None:
    monkeypatch.setenv("PBX_ALLOWED_HOSTS", hosts)
    with pytest.raises(SettingsError, match="PBX_ALLOWED_HOSTS"):
        load_settings()


@contextmanager
def running_app(script: str = "streamlit_app.py", **environment: str) -> Iterator[int]:
    """Run only the app's server, as `make run` starts it; yield its port when it responds."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port: int = unused.getsockname()[1]
    with (Path(environment["PBX_DATA_DIR"]).parent / "app.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "streamlit", "run", script, "--server.port", str(port)],
            cwd=ROOT,
            env=os.environ | {"PBX_ENV_FILE": "", **environment},
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    try:
        wait_until("the app answers", lambda: bool(send_request(port, "/_stcore/health")), START_TIMEOUT_S)
        yield port
    finally:
        stop_process(process)


def send_request(port: int, path: str = "/", address: str = "127.0.0.1", method: str = "GET", **headers: str) -> str:
    """The complete response to a raw HTTP request; empty if nothing listens on the port."""
    sent_headers = {"Host": f"{address}:{port}", "Connection": "close", **headers}
    head = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in sent_headers.items())
    try:
        with socket.create_connection((address, port), 20) as connection:
            connection.sendall(f"{method} {path} HTTP/1.1\r\n{head}\r\n".encode())
            response = b""
            while b"\r\n\r\n" not in response or "Upgrade" not in headers:
                if not (received := connection.recv(65536)):
                    break
                response += received
            return response.decode(errors="replace")
    except ConnectionRefusedError:
        return ""


def websocket_status(port: int, **headers: str) -> str:
    """The status line of the response to a WebSocket handshake."""
    handshake = {"Upgrade": "websocket", "Connection": "Upgrade", "Sec_WebSocket_Version": "13"}
    key = {"Sec_WebSocket_Key": "dGhlIHNhbXBsZSBub25jZQ=="}
    return send_request(port, "/_stcore/stream", **handshake, **key, **headers).partition("\r\n")[0]


@pytest.fixture(scope="module")
def own_port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    with running_app(PBX_DATA_DIR=str(tmp_path_factory.mktemp("app") / "data")) as port:
        yield port


PATHS = ("/", "/queues", "/_stcore/health", "/_stcore/script-health-check", "/media/0.wav", "/static/", "/nowhere")


@pytest.mark.timeout(180)
def test_requests_for_another_host_get_a_page_that_says_why(own_port: int) -> None:
    for path in PATHS:
        response = send_request(own_port, path, Host="evil.example")
        assert response.startswith("HTTP/1.1 403")
        assert "PBX_ALLOWED_HOSTS" in response
        assert "evil.example" in response
        assert send_request(own_port, path, Origin="http://127.0.0.1:9999").startswith("HTTP/1.1 403")
        assert not send_request(own_port, path).startswith("HTTP/1.1 403")
    assert send_request(own_port).startswith("HTTP/1.1 200")
    assert "x-frame-options: DENY" in send_request(own_port)
    assert "<script>" not in send_request(own_port, Host="<script>alert(1)</script>")


@pytest.mark.timeout(180)
def test_uploads_from_other_pages_are_refused(own_port: int) -> None:
    for headers in ({"Host": "evil.example"}, {"Origin": "http://127.0.0.1:9999"}, {"Sec_Fetch_Site": "same-site"}):
        for method in ("PUT", "DELETE", "OPTIONS"):
            response = send_request(own_port, "/_stcore/upload_file/a/b", method=method, **headers)
            assert response.startswith("HTTP/1.1 403")


@pytest.mark.timeout(180)
def test_the_websocket_opens_for_the_apps_own_page_only(own_port: int) -> None:
    origin = f"http://127.0.0.1:{own_port}"
    assert "101" in websocket_status(own_port, Origin=origin)
    assert "101" in websocket_status(own_port)  # not a browser: those always send Origin
    assert "101" in websocket_status(own_port, Host=f"localhost:{own_port}", Origin=f"http://localhost:{own_port}")
    for foreign in ("http://127.0.0.1:9999", "http://0.0.0.0:1", "http://evil.example", "null"):
        assert "403" in websocket_status(own_port, Origin=foreign)
    assert "403" in websocket_status(own_port, Host="evil.example", Origin="http://evil.example")
    assert "403" in websocket_status(
        own_port, Host=f"evil.example:{own_port}", Origin=f"http://evil.example:{own_port}"
    )
    assert "403" in websocket_status(own_port, Host="evil.example", Origin=origin)


@pytest.mark.timeout(180)
def test_an_app_on_all_addresses_refuses_everything(tmp_path: Path) -> None:
    with running_app(STREAMLIT_SERVER_ADDRESS="0.0.0.0", PBX_DATA_DIR=str(tmp_path / "data")) as port:
        for path in PATHS:
            response = send_request(port, path)
            assert response.startswith("HTTP/1.1 403")
            assert "PBX_ALLOW_NETWORK=yes" in response
        assert "403" in websocket_status(port)
        assert send_request(port, "/_stcore/upload_file/a/b", method="PUT").startswith("HTTP/1.1 403")
    assert not (tmp_path / "data").exists()
    # Streamlit didn't look up its external address.
    assert "external IP" not in (tmp_path / "app.log").read_text()


@pytest.mark.timeout(180)
def test_an_allowed_network_is_served_under_the_right_host(tmp_path: Path) -> None:
    network_settings = {"STREAMLIT_SERVER_ADDRESS": "0.0.0.0", "PBX_ALLOW_NETWORK": "yes"}
    with running_app(PBX_DATA_DIR=str(tmp_path / "data"), **network_settings) as port:
        assert send_request(port).startswith("HTTP/1.1 200")
        assert send_request(port, Host=f"evil.example:{port}").startswith("HTTP/1.1 403")
        if address := lan_address():
            assert send_request(port, address=address).startswith("HTTP/1.1 200")
            assert send_request(port, address=address, Host=f"evil.example:{port}").startswith("HTTP/1.1 403")


def lan_address() -> str:
    """An address of this machine other than loopback, or an empty text."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # nothing is sent
        except OSError:
            return ""
        return str(probe.getsockname()[0])


def test_each_page_warns_that_the_network_can_open_it(monkeypatch: pytest.MonkeyPatch) -> None:
    warning = "Open to the network without a sign-in"
    page = AppTest.from_file(str(ROOT / "streamlit_app.py"), default_timeout=60)
    assert [shown for shown in page.run().warning if warning in shown.value] == []
    monkeypatch.setenv("PBX_ALLOW_NETWORK", "yes")
    for path in sorted((ROOT / "pages").rglob("*.py")):
        page.switch_page(str(path.relative_to(ROOT))).run()
        assert page.warning[0].value.startswith(warning), path
