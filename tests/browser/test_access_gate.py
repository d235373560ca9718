"""Another website can't reach the app through a browser; it can only link to it."""

import http.server
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page

from tests.browser.chromium import CHROMIUM, SLOW_MS
from tests.browser.demo import Demo
from tests.unit.ui.test_access_gate import ROOT, running_app
from tests.web_servers import serve

# What a page can try to reach another server: a WebSocket, a request, and a frame.
ATTEMPTS = """async (app) => {
  const socket = await new Promise((done) => {
    const tried = new WebSocket(app.replace("http", "ws") + "/_stcore/stream", ["streamlit"]);
    tried.onopen = () => done("opened");
    tried.onerror = () => done("refused");
  });
  const frame = document.createElement("iframe");
  frame.src = app;
  const shown = await new Promise((done) => { frame.onload = () => done(true); document.body.append(frame); });
  const request = await fetch(app + "/_stcore/host-config").then(() => "answered", () => "refused");
  return { socket, request, shown };
}"""


@pytest.fixture
def foreign_page(chromium: Browser) -> Iterator[Page]:
    """A browser page for which evil.example resolves to this machine, as after DNS rebinding."""
    arguments = ["--no-sandbox", "--host-resolver-rules=MAP evil.example 127.0.0.1"]
    browser = chromium.browser_type.launch(executable_path=CHROMIUM, args=arguments)
    page = browser.new_page()
    page.set_default_timeout(SLOW_MS)
    yield page
    browser.close()


@pytest.fixture
def other_port() -> Iterator[str]:
    """The address of another local server, with a page that has a link."""

    class Empty(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(b"<body><a href=''>To the app</a></body>")

        def log_message(self, *_: object) -> None: ...

    with serve(http.server.ThreadingHTTPServer(("127.0.0.1", 0), Empty)) as server:
        yield f"http://127.0.0.1:{server.server_port}"


def test_a_rebound_host_name_shows_nothing_of_the_app(demo: Demo, foreign_page: Page) -> None:
    response = foreign_page.goto(demo.address.replace("127.0.0.1", "evil.example"))
    assert response is not None
    assert response.status == 403
    foreign_page.get_by_role("heading", name="PBX Notebook can’t be opened at this address.").wait_for()
    attempts = foreign_page.evaluate(ATTEMPTS, demo.address.replace("127.0.0.1", "evil.example"))
    assert attempts["socket"] == "refused"


def test_a_page_of_another_local_server_is_refused(demo: Demo, foreign_page: Page, other_port: str) -> None:
    foreign_page.goto(other_port)
    attempts = foreign_page.evaluate(ATTEMPTS, demo.address)
    assert (attempts["socket"], attempts["request"]) == ("refused", "refused")
    (frame,) = foreign_page.frames[1:]
    frame.get_by_role("heading", name="Another website made this request.").wait_for()


def test_a_link_on_another_page_opens_the_app(demo: Demo, foreign_page: Page, other_port: str) -> None:
    foreign_page.goto(other_port)
    foreign_page.evaluate("(app) => { document.querySelector('a').href = app + '/queues'; }", demo.address)
    foreign_page.get_by_role("link").click()
    foreign_page.get_by_role("heading", name="Queues", level=1).wait_for()


def test_all_files_are_readable_by_their_owner_only(demo: Demo) -> None:
    data = Path(str(demo.engine.url.database)).parents[1]
    files = [data, *data.rglob("*")]
    assert len(files) > 20
    assert [str(path) for path in files if path.exists() and path.stat().st_mode & 0o077] == []


def test_a_page_script_started_alone_shows_nothing(
    demo: Demo, foreign_page: Page, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    data = Path(str(demo.engine.url.database)).parents[1]
    with running_app("pages/live/queues.py", PBX_DATA_DIR=str(data)) as port:
        foreign_page.goto(f"http://127.0.0.1:{port}")
        foreign_page.get_by_text("This page was started without the app").wait_for()
        assert foreign_page.get_by_role("heading").count() == 1  # only its title
