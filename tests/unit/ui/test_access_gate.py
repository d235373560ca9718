"""The gate: what is answered and what is refused, by its rules and by the app as it is really started."""

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
from tests.browser.app import end
from tests.lab.process import wait_until
from tests.paths import ROOT

START_S = 120
HERE = ("127.0.0.1", 8501)
LAN = ("192.0.2.7", 8501)
OWN = ("localhost:8501", "127.0.0.1:8501", "[::1]:8501", "LOCALHOST:8501")
FOREIGN = (
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
    rules: Rules, server: tuple[str, int] = HERE, kind: str = "http", method: str = "GET", **headers: str
) -> bool:
    given = {name.replace("_", "-"): value for name, value in {"host": f"{server[0]}:{server[1]}", **headers}.items()}
    return rules.refusal(server, kind, method, Headers(given)) is not None


@pytest.mark.parametrize("kind", ["http", "websocket"])
def test_only_the_own_address_and_port_is_a_host(kind: str) -> None:
    rules = Rules("127.0.0.1")
    assert [host for host in OWN if refused(rules, kind=kind, host=host)] == []
    assert [host for host in FOREIGN if not refused(rules, kind=kind, host=host)] == []
    two = Headers(raw=[(b"host", b"127.0.0.1:8501"), (b"host", b"evil.example")])
    assert rules.refusal(HERE, kind, "GET", two)
    assert rules.refusal(HERE, kind, "GET", Headers({}))
    assert not refused(rules, ("127.0.0.1", 80), host="localhost")  # the port that browsers leave out


@pytest.mark.parametrize("kind", ["http", "websocket"])
def test_only_the_own_pages_are_an_origin(kind: str) -> None:
    rules = Rules("127.0.0.1")
    for host, origin in OWN_ORIGINS.items():
        assert not refused(rules, kind=kind, host=host, origin=origin)
    assert [origin for origin in FOREIGN_ORIGINS if not refused(rules, kind=kind, origin=origin)] == []


def test_another_sites_page_gets_nothing_but_may_link_to_the_app() -> None:
    rules = Rules("127.0.0.1")
    for site in ("cross-site", "same-site"):  # of the same site is each other port of this machine
        link = {"sec_fetch_site": site, "sec_fetch_mode": "navigate"}
        assert not refused(rules, **link, sec_fetch_dest="document")
        assert refused(rules, **link, sec_fetch_dest="iframe")
        assert refused(rules, method="POST", **link, sec_fetch_dest="document")
        assert refused(rules, sec_fetch_site=site, sec_fetch_mode="no-cors", sec_fetch_dest="audio")
        assert refused(rules, kind="websocket", sec_fetch_site=site, sec_fetch_mode="websocket")
    for site in ("none", "same-origin"):
        assert not refused(rules, sec_fetch_site=site, sec_fetch_mode="cors", sec_fetch_dest="audio")


@pytest.mark.parametrize("bound_to", ["", "0.0.0.0", "::", "192.0.2.7", "notebook.example.com", "0", "[::]"])
def test_bound_to_the_network_nobody_is_served(bound_to: str) -> None:
    assert refused(Rules(bound_to))
    assert refused(Rules(bound_to), LAN)
    assert not refused(Rules(bound_to, allow_network=True))
    assert not refused(Rules(bound_to, allow_network=True), LAN)


def test_a_request_that_came_by_the_network_is_refused_wherever_the_settings_say_the_app_listens() -> None:
    assert refused(Rules("127.0.0.1"), LAN)
    assert not any(refused(Rules(bound_to)) for bound_to in ("localhost", "127.0.0.1", "127.0.0.2", "::1", "[::1]"))
    assert not refused(Rules("::1"), ("::1", 8501), host="[::1]:8501")
    assert not refused(Rules("::", allow_network=True), ("::ffff:192.0.2.7", 8501), host="192.0.2.7:8501")


def test_on_the_network_too_other_names_are_refused() -> None:
    rules = Rules("0.0.0.0", allow_network=True)
    assert [host for host in FOREIGN if host != "192.0.2.7:8501" and not refused(rules, LAN, host=host)] == []


def test_further_hosts_are_those_that_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PBX_ALLOWED_HOSTS", "Notebook.example.com, localhost:9000,[::1]:9001")
    rules = Rules("127.0.0.1", allowed_hosts=load_settings().allowed_hosts)
    for host in ("notebook.example.com", "NOTEBOOK.example.com:8501", "localhost:9000", "[::1]:9001", "localhost:8501"):
        assert not refused(rules, host=host)
    for host in ("notebook.example.com:9000", "localhost:9001", "x.notebook.example.com", "[::1]:9000", "localhost"):
        assert refused(rules, host=host)
    assert not refused(rules, host="notebook.example.com", origin="https://notebook.example.com")
    assert refused(rules, host="notebook.example.com", origin="https://evil.example")


@pytest.mark.parametrize("hosts", ["*", "http://notebook.example.com", "a b/c", "*.example.com", "a:port"])
def test_hosts_that_are_none_are_refused_by_name(monkeypatch: pytest.MonkeyPatch, hosts: str) -> None:
    monkeypatch.setenv("PBX_ALLOWED_HOSTS", hosts)
    with pytest.raises(SettingsError, match="PBX_ALLOWED_HOSTS"):
        load_settings()


@contextmanager
def app(script: str = "streamlit_app.py", **environment: str) -> Iterator[int]:
    """The app's server alone, as `make run` starts it; yields its port once it answers anything."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
    with (Path(environment["PBX_DATA_DIR"]).parent / "app.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "streamlit", "run", script, "--server.port", str(port)],
            cwd=ROOT,
            env=os.environ | {"PBX_ENV_FILE": "", **environment},
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    try:
        wait_until("the app answers", lambda: bool(ask(port, "/_stcore/health")), START_S)
        yield port
    finally:
        end(process)


def ask(port: int, path: str = "/", address: str = "127.0.0.1", method: str = "GET", **headers: str) -> str:
    """All that is answered to a request written by hand; empty where nobody listens."""
    given = {"Host": f"{address}:{port}", "Connection": "close", **headers}
    head = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in given.items())
    try:
        with socket.create_connection((address, port), 20) as line:
            line.sendall(f"{method} {path} HTTP/1.1\r\n{head}\r\n".encode())
            answer = b""
            while b"\r\n\r\n" not in answer or "Upgrade" not in headers:
                if not (more := line.recv(65536)):
                    break
                answer += more
            return answer.decode(errors="replace")
    except ConnectionRefusedError:
        return ""


def upgrade(port: int, **headers: str) -> str:
    """The first line of the answer to a browser's or a program's WebSocket handshake."""
    handshake = {"Upgrade": "websocket", "Connection": "Upgrade", "Sec_WebSocket_Version": "13"}
    key = {"Sec_WebSocket_Key": "dGhlIHNhbXBsZSBub25jZQ=="}
    return ask(port, "/_stcore/stream", **handshake, **key, **headers).partition("\r\n")[0]


@pytest.fixture(scope="module")
def own_port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    with app(PBX_DATA_DIR=str(tmp_path_factory.mktemp("app") / "data")) as port:
        yield port


PATHS = ("/", "/queues", "/_stcore/health", "/_stcore/script-health-check", "/media/0.wav", "/static/", "/nowhere")


@pytest.mark.timeout(180)
def test_pages_and_media_under_another_host_are_a_page_that_says_why(own_port: int) -> None:
    for path in PATHS:
        answer = ask(own_port, path, Host="evil.example")
        assert answer.startswith("HTTP/1.1 403")
        assert "PBX_ALLOWED_HOSTS" in answer
        assert "evil.example" in answer
        assert ask(own_port, path, Origin="http://127.0.0.1:9999").startswith("HTTP/1.1 403")
        assert not ask(own_port, path).startswith("HTTP/1.1 403")
    assert ask(own_port).startswith("HTTP/1.1 200")
    assert "x-frame-options: DENY" in ask(own_port)
    assert "<script>" not in ask(own_port, Host="<script>alert(1)</script>")


@pytest.mark.timeout(180)
def test_uploads_of_another_page_are_refused(own_port: int) -> None:
    for headers in ({"Host": "evil.example"}, {"Origin": "http://127.0.0.1:9999"}, {"Sec_Fetch_Site": "same-site"}):
        for method in ("PUT", "DELETE", "OPTIONS"):
            answer = ask(own_port, "/_stcore/upload_file/a/b", method=method, **headers)
            assert answer.startswith("HTTP/1.1 403")


@pytest.mark.timeout(180)
def test_the_websocket_opens_for_the_apps_own_page_only(own_port: int) -> None:
    origin = f"http://127.0.0.1:{own_port}"
    assert "101" in upgrade(own_port, Origin=origin)
    assert "101" in upgrade(own_port)  # a program: a browser always sends Origin
    assert "101" in upgrade(own_port, Host=f"localhost:{own_port}", Origin=f"http://localhost:{own_port}")
    for foreign in ("http://127.0.0.1:9999", "http://0.0.0.0:1", "http://evil.example", "null"):
        assert "403" in upgrade(own_port, Origin=foreign)
    assert "403" in upgrade(own_port, Host="evil.example", Origin="http://evil.example")
    assert "403" in upgrade(own_port, Host=f"evil.example:{own_port}", Origin=f"http://evil.example:{own_port}")
    assert "403" in upgrade(own_port, Host="evil.example", Origin=origin)


@pytest.mark.timeout(180)
def test_bound_to_all_addresses_it_serves_nothing(tmp_path: Path) -> None:
    with app(STREAMLIT_SERVER_ADDRESS="0.0.0.0", PBX_DATA_DIR=str(tmp_path / "data")) as port:
        for path in PATHS:
            answer = ask(port, path)
            assert answer.startswith("HTTP/1.1 403")
            assert "PBX_ALLOW_NETWORK=yes" in answer
        assert "403" in upgrade(port)
        assert ask(port, "/_stcore/upload_file/a/b", method="PUT").startswith("HTTP/1.1 403")
    assert not (tmp_path / "data").exists()
    assert "external IP" not in (tmp_path / "app.log").read_text()  # nobody outside is asked for it


@pytest.mark.timeout(180)
def test_the_network_is_served_where_that_is_allowed_and_by_the_right_name(tmp_path: Path) -> None:
    allowed = {"STREAMLIT_SERVER_ADDRESS": "0.0.0.0", "PBX_ALLOW_NETWORK": "yes"}
    with app(PBX_DATA_DIR=str(tmp_path / "data"), **allowed) as port:
        assert ask(port).startswith("HTTP/1.1 200")
        assert ask(port, Host=f"evil.example:{port}").startswith("HTTP/1.1 403")
        if address := lan_address():
            assert ask(port, address=address).startswith("HTTP/1.1 200")
            assert ask(port, address=address, Host=f"evil.example:{port}").startswith("HTTP/1.1 403")


def lan_address() -> str:
    """An address of this machine that isn't loopback, if it has one."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # nothing is sent
        except OSError:
            return ""
        return str(probe.getsockname()[0])


def test_each_page_says_that_the_network_may_open_it(monkeypatch: pytest.MonkeyPatch) -> None:
    warned = "Open to the network without a sign-in"
    page = AppTest.from_file(str(ROOT / "streamlit_app.py"), default_timeout=60)
    assert [said for said in page.run().warning if warned in said.value] == []
    monkeypatch.setenv("PBX_ALLOW_NETWORK", "yes")
    for path in sorted((ROOT / "pages").rglob("*.py")):
        page.switch_page(str(path.relative_to(ROOT))).run()
        assert page.warning[0].value.startswith(warned), path
