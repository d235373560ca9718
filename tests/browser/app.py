"""Runs the app and its worker as processes, which need no PBX and no root."""

import ast
import os
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tests.lab.process import wait_until
from tests.paths import ROOT

START_S = 120  # on a busy machine


@contextmanager
def running_app(data_dir: Path, **environment: str) -> Iterator[str]:
    """Run a worker and the app on a data directory within the block, and yield the app's address."""
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
            stack.callback(stop_process, process)
        address = f"http://127.0.0.1:{port}"
        wait_until("the app answers", lambda: answers(f"{address}/_stcore/script-health-check"), START_S)
        yield address


def stop_process(process: "subprocess.Popen[bytes]") -> None:
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


def navigation() -> dict[str, str]:
    """The title of each page by its path, as listed in streamlit_app.py; the home page's path is ""."""
    entry = ast.parse((ROOT / "streamlit_app.py").read_text())
    source = next(ast.unparse(line) for line in entry.body if ast.unparse(line).startswith("PAGES = "))
    listed = ast.literal_eval(source.removeprefix("PAGES = "))
    addresses = {
        script.rpartition("/")[2].replace("_", "-"): title for group in listed.values() for script, title, _ in group
    }
    home, *others = addresses
    return {"": addresses[home]} | {address: addresses[address] for address in others}
