"""The app with its worker as processes of their own, and a real browser that looks at it."""

import os
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from playwright.sync_api import ConsoleMessage, Page, sync_playwright

from tests.lab.server import LabServer, wait_until

ROOT = Path(__file__).parents[2]
CHROMIUM = "/usr/bin/chromium"
# Streamlit asks for these below a page's own path first, before it finds its base.
PROBES = ("_stcore/health", "_stcore/host-config")


@contextmanager
def running_app(data_dir: Path, **environment: str) -> Iterator[str]:
    """Start a worker and the app on a data directory; yields the app's address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    commands = [
        ["-m", "pbx", "worker", "--quiet"],
        ["-m", "streamlit", "run", "streamlit_app.py", "--server.port", str(port), "--server.fileWatcherType", "none"],
    ]
    environment = os.environ | {"PBX_ENV_FILE": "", "PBX_DATA_DIR": str(data_dir)} | environment
    data_dir.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack, (data_dir / "app.log").open("wb") as log:
        for command in commands:
            process = subprocess.Popen(
                [sys.executable, *command], cwd=ROOT, env=environment, stdout=log, stderr=subprocess.STDOUT
            )
            stack.callback(end, process)
        address = f"http://127.0.0.1:{port}"
        wait_until("the app answers", lambda: answers(f"{address}/_stcore/script-health-check"))
        yield address


def end(process: "subprocess.Popen[bytes]") -> None:
    process.terminate()
    try:
        process.wait(20)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=20) as reply:
            return bool(reply.status == 200)
    except OSError:
        return False


@contextmanager
def browser(width: int = 1440, height: int = 900, *, dark: bool = False) -> Iterator[Page]:
    """A page of a fresh browser; what it complains about is kept in `complaints(page)`."""
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        context = chromium.new_context(
            viewport={"width": width, "height": height}, color_scheme="dark" if dark else "light"
        )
        page = context.new_page()
        found: list[str] = []
        page.on("console", lambda message: found.extend(complaint(message)))
        page.on("pageerror", lambda error: found.append(str(error)))
        page.on("request", lambda request: found.extend(outside(request.url)))
        page.complaints = found  # type: ignore[attr-defined]
        yield page
        chromium.close()


def complaint(message: ConsoleMessage) -> list[str]:
    expected = message.location.get("url", "").endswith(PROBES)
    return [message.text] if message.type == "error" and not expected else []


def outside(url: str) -> list[str]:
    """A request that would leave this machine: there must be none."""
    return [] if url.startswith(("http://127.0.0.1:", "ws://127.0.0.1:", "data:", "blob:")) else [f"asked {url}"]


def enter_pbx(page: Page, server: LabServer) -> None:
    """Fill in the settings page."""
    for name, port, user, secret in (
        ("AMI", server.ami_port, server.ami_username, server.ami_secret),
        ("ARI", server.http_port, server.ari_username, server.ari_secret),
    ):
        page.get_by_label(f"{name} user").fill(user)
        page.get_by_label(f"{name} password", exact=True).fill(secret)
        page.get_by_label(f"{name} port").fill(str(port))
    page.get_by_label("Host name or address").fill(server.host)


def go(page: Page, title: str) -> None:
    """Follow the navigation to a page."""
    page.get_by_test_id("stSidebarNav").get_by_role("link", name=title).click()
    page.get_by_role("heading", name=title, level=1).wait_for()
