"""The command line as a separate process with real Asterisk 16 and 22."""

import json
import os
import pty
import subprocess
import sys
from functools import partial
from pathlib import Path
from threading import Thread

import pytest

from pbx.settings import Connection
from tests.lab.calls import place_queue_call
from tests.lab.servers import LabServer
from tests.paths import ROOT

pytestmark = pytest.mark.lab


def environment(connection: Connection, **changes: str) -> dict[str, str]:
    """Environment variables with the settings of a PBX. The data directory is that of the test."""
    settings = {
        "FREEPBX_HOST": connection.host,
        "FREEPBX_ARI_PORT": str(connection.ari_port),
        "FREEPBX_ARI_TLS": str(connection.ari_tls),
        "FREEPBX_ARI_USERNAME": connection.ari_username,
        "FREEPBX_ARI_PASSWORD": connection.ari_password.get_secret_value(),
        "FREEPBX_AMI_PORT": str(connection.ami_port),
        "FREEPBX_AMI_TLS": str(connection.ami_tls),
        "FREEPBX_AMI_USERNAME": connection.ami_username,
        "FREEPBX_AMI_PASSWORD": connection.ami_password.get_secret_value(),
        "FREEPBX_CA_FILE": str(connection.ca_file or ""),
    }
    return os.environ | settings | changes


def run(connection: Connection, *command: str, **changes: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "pbx", *command],
        cwd=ROOT,
        env=environment(connection, **changes),
        capture_output=True,
        text=True,
        timeout=100,
    )


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
def test_check_passes_on_a_prepared_pbx(server: LabServer, tls: bool) -> None:
    place_queue_call(server, "answered", seconds=2)
    done = run(server.connection(tls=tls), "check")
    assert done.returncode == 0, done.stdout
    assert f"The connection to {server.host} works." in done.stdout
    assert "✗" not in done.stdout
    reported = json.loads(run(server.connection(tls=tls), "check", "--json").stdout)
    assert (reported["ok"], reported["host"]) == (True, server.host)


def test_check_lists_missing_rights(server: LabServer) -> None:
    done = run(server.connection(), "check", FREEPBX_AMI_USERNAME="clerk")
    assert done.returncode == 1
    assert "✗" in done.stdout
    assert "read" in done.stdout
    assert server.ami_secret not in done.stdout + done.stderr


@pytest.mark.parametrize("command", ["check", "collect", "sync"])
def test_a_wrong_password_fails_and_is_not_printed(server: LabServer, command: str) -> None:
    wrong = "certainly-not-this"
    done = run(server.connection(), command, FREEPBX_ARI_PASSWORD=wrong, FREEPBX_AMI_PASSWORD=wrong)
    assert done.returncode == 1
    assert done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    assert wrong not in done.stdout + done.stderr


def test_collect_writes_the_snapshot_to_a_file(server: LabServer, no_real_data: Path, tmp_path: Path) -> None:
    done = run(server.connection(), "collect", "--json")
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    document = json.loads((no_real_data / "freepbx.json").read_text())
    assert document.keys() >= {"collected_at", "system_info", "extensions", "trunks", "queues", "active_calls"}
    assert {extension["extension"] for extension in document["extensions"]} >= {"1001", "1002", "1003", "1004"}
    assert (result["extensions"], result["trunks"]) == (len(document["extensions"]), len(document["trunks"]))
    elsewhere = run(server.connection(), "collect", "--output", str(tmp_path / "pbx.json"))
    assert elsewhere.returncode == 0
    assert json.loads((tmp_path / "pbx.json").read_text())["system_info"]["version"].startswith(str(server.version))


def test_sync_downloads_new_recordings_and_status_reports_it(server: LabServer) -> None:
    place_queue_call(server, "answered", seconds=2)
    planned = json.loads(run(server.connection(), "sync", "--dry-run", "--json").stdout)
    assert (planned["new"], planned["downloaded"]) == (planned["listed"], 0)
    first = run(server.connection(), "sync", "--json")
    assert first.returncode == 0, first.stdout
    result = json.loads(first.stdout)
    assert result.keys() >= {"listed", "new", "downloaded", "waiting", "empty", "failed"}
    assert result["new"] == result["listed"] >= planned["listed"]
    assert result["downloaded"] > 0
    again = json.loads(run(server.connection(), "sync", "--json").stdout)
    assert again["new"] == again["listed"] - result["listed"]  # other tests may have placed calls meanwhile
    status = json.loads(run(server.connection(), "status", "--json").stdout)
    assert status["last"]["sync"]["result"]["listed"] == again["listed"]
    assert status["recordings"]["downloaded"] == result["downloaded"] + again["downloaded"]
    assert (status["pbx"], status["worker_alive"]) == ({"host": server.host, "saved": False}, False)


def test_sync_downloads_no_more_than_the_limit(server: LabServer) -> None:
    for _ in range(2):
        place_queue_call(server, "answered", seconds=1)
    result = json.loads(run(server.connection(), "sync", "--limit", "1", "--json").stdout)
    assert result["downloaded"] + result["empty"] == 1
    assert result["pending"] > 0


def test_sync_shows_its_progress_on_a_terminal(server: LabServer) -> None:
    place_queue_call(server, "answered", seconds=1)
    screen, terminal = pty.openpty()
    shown: list[bytes] = []
    # Read while it runs: a process that writes to a full terminal is blocked.
    reader = Thread(target=lambda: shown.extend(iter(partial(read_some, screen), b"")), daemon=True)
    reader.start()
    done = subprocess.run(
        [sys.executable, "-m", "pbx", "sync", "--json"],
        cwd=ROOT,
        env=environment(server.connection(), TERM="xterm-256color"),
        stdout=subprocess.PIPE,
        stderr=terminal,
        timeout=100,
    )
    os.close(terminal)
    reader.join()
    os.close(screen)
    assert json.loads(done.stdout)["downloaded"] > 0
    assert "━" in b"".join(shown).decode(errors="replace")


def read_some(screen: int) -> bytes:
    """The next output on a terminal, empty when the writing process has closed it."""
    try:
        return os.read(screen, 65_536)
    except OSError:
        return b""
