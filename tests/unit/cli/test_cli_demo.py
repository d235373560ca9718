"""The command `demo`: when it starts, what it prints, and what the demo refuses."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from pydantic import SecretStr
from typer.testing import CliRunner

from pbx.__main__ import app
from pbx.asterisk.ami.client import AmiClient
from pbx.demo.lifecycle import demo_alive, demo_dir, remove_demo
from pbx.process_lock import try_process_lock
from pbx.settings import DEMO_MARK, Connection, Settings, load_folder_settings, load_settings
from pbx.store.engine import open_engine
from pbx.store.job_queue import worker_alive
from pbx.store.pbx_connections import save_connection
from tests.operating_systems import needs_posix
from tests.paths import ROOT
from tests.processes import StartProcess, processes

TIMEOUT_S = 90.0
run = CliRunner().invoke


@pytest.fixture
def real_settings(no_real_data: Path) -> Settings:
    no_real_data.mkdir(parents=True, exist_ok=True)
    return load_folder_settings()


@pytest.fixture
def start_demo() -> Iterator[StartProcess]:
    with processes() as start:
        yield lambda *arguments: start([sys.executable, "-m", "pbx", "demo", *arguments], cwd=ROOT)


def wait_until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + TIMEOUT_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@needs_posix
def test_without_a_pbx_the_demo_runs_until_it_is_stopped(real_settings: Settings, start_demo: StartProcess) -> None:
    demo = start_demo("--if-unconfigured", "--json")
    assert demo.stdout is not None
    printed = json.loads(demo.stdout.readline())
    assert (printed["ready"], printed["host"]) == (True, "127.0.0.1")
    assert printed.keys() == {"ready", "host", "ami_port", "ari_port"}  # no password
    settings = load_settings()
    assert settings.connection is not None
    assert (settings.connection.ami_port, settings.connection.ari_port) == (printed["ami_port"], printed["ari_port"])
    with AmiClient.connect(settings.connection) as client:
        assert not client.submit("Ping").result().failed
    assert run(app, ["demo", "--if-unconfigured"]).output == ""  # a second one doesn't start
    wait_until(lambda: worker_alive(settings))
    demo.send_signal(signal.SIGINT)
    assert demo.wait(TIMEOUT_S) == 130
    assert not demo_alive(real_settings)
    assert not worker_alive(settings)
    assert load_settings().demo_id == settings.demo_id  # the next start continues the same demo

    removed = run(app, ["demo", "--remove", "--json"])
    assert json.loads(removed.output) == {"removed": True}
    assert not demo_dir(real_settings).exists()
    assert run(app, ["demo", "--if-unconfigured"]).output == ""  # a removed demo doesn't start again
    assert not demo_dir(real_settings).exists()


def test_with_a_pbx_the_demo_does_not_start(real_settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = open_engine(real_settings)
    save_connection(
        engine, real_settings, Connection(host="pbx.example.com", ami_port=1, ari_port=1, ami_password=SecretStr("x"))
    )
    engine.dispose()
    automatic = run(app, ["demo", "--if-unconfigured"])
    assert (automatic.exit_code, automatic.output) == (0, "")
    explicit = run(app, ["demo", "--json"])
    assert explicit.exit_code == 2
    assert "A PBX is set up" in json.loads(explicit.output)["error"]
    monkeypatch.setenv("FREEPBX_HOST", "pbx.example.com")
    assert run(app, ["demo", "--if-unconfigured"]).exit_code == 0
    assert not demo_dir(real_settings).exists()


def test_only_one_demo_runs(real_settings: Settings) -> None:
    lock = try_process_lock(real_settings.home_dir, "demo-0")
    assert lock is not None
    with lock:
        refused = run(app, ["demo", "--json"])
    assert refused.exit_code == 1
    assert "already running" in json.loads(refused.output)["error"]


def test_the_demo_refuses_imports_of_real_data(real_settings: Settings) -> None:
    folder = demo_dir(real_settings)
    folder.mkdir()
    (folder / DEMO_MARK).write_text("1-abc")
    log = real_settings.home_dir / "queue_log"
    log.write_text("1795168901|1.1|600|NONE|ENTERQUEUE||0305551|1\n")
    for command in (["import", "queue-log", str(log)], ["import", "cdr", str(log)]):
        refused = run(app, [*command, "--json"])
        assert refused.exit_code == 2
        assert "This is the demo" in json.loads(refused.output)["error"]
    status = json.loads(run(app, ["status", "--json"]).output)
    assert (status["data_label"], status["data_dir"]) == ("Demo", str(folder.resolve()))
    assert "made-up calls" in run(app, ["status"]).output
    remove_demo(real_settings)


def test_a_worker_with_parent_ends_when_its_parent_ends(real_settings: Settings) -> None:
    command = [sys.executable, "-m", "pbx", "worker", "--quiet", "--with-parent"]
    read, write = os.pipe()
    worker = subprocess.Popen(command, cwd=ROOT, stdin=read)
    os.close(read)
    wait_until(lambda: worker_alive(real_settings))
    os.close(write)
    assert worker.wait(TIMEOUT_S) == 0
