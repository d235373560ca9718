"""`python -m pbx demo`: when it begins by itself and when it doesn't; what it tells; what is refused in the demo."""

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

PATIENCE_S = 90.0
run = CliRunner().invoke


@pytest.fixture
def real(no_real_data: Path) -> Settings:
    no_real_data.mkdir(parents=True, exist_ok=True)
    return load_folder_settings()


@pytest.fixture
def begun() -> Iterator[StartProcess]:
    with processes() as start:
        yield lambda *arguments: start([sys.executable, "-m", "pbx", "demo", *arguments], cwd=ROOT)


def until(true: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@needs_posix
def test_where_nothing_is_set_up_it_is_there_until_it_is_stopped(real: Settings, begun: StartProcess) -> None:
    demo = begun("--if-unconfigured", "--json")
    assert demo.stdout is not None
    told = json.loads(demo.stdout.readline())
    assert (told["ready"], told["host"]) == (True, "127.0.0.1")
    assert told.keys() == {"ready", "host", "ami_port", "ari_port"}  # no password
    settings = load_settings()
    assert settings.connection is not None
    assert (settings.connection.ami_port, settings.connection.ari_port) == (told["ami_port"], told["ari_port"])
    with AmiClient.connect(settings.connection) as client:
        assert not client.submit("Ping").result().failed
    assert run(app, ["demo", "--if-unconfigured"]).output == ""  # one is enough
    until(lambda: worker_alive(settings))
    demo.send_signal(signal.SIGINT)
    assert demo.wait(PATIENCE_S) == 130
    assert not demo_alive(real)
    assert not worker_alive(settings)
    assert load_settings().demo_id == settings.demo_id  # it is taken up again next time

    removed = run(app, ["demo", "--remove", "--json"])
    assert json.loads(removed.output) == {"removed": True}
    assert not demo_dir(real).exists()
    assert run(app, ["demo", "--if-unconfigured"]).output == ""  # removed is removed
    assert not demo_dir(real).exists()


def test_where_a_pbx_is_set_up_it_leaves_that_alone(real: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = open_engine(real)
    save_connection(
        engine, real, Connection(host="pbx.example.com", ami_port=1, ari_port=1, ami_password=SecretStr("x"))
    )
    engine.dispose()
    quiet = run(app, ["demo", "--if-unconfigured"])
    assert (quiet.exit_code, quiet.output) == (0, "")
    asked = run(app, ["demo", "--json"])
    assert asked.exit_code == 2
    assert "A PBX is set up" in json.loads(asked.output)["error"]
    monkeypatch.setenv("FREEPBX_HOST", "pbx.example.com")
    assert run(app, ["demo", "--if-unconfigured"]).exit_code == 0
    assert not demo_dir(real).exists()


def test_only_one_runs(real: Settings) -> None:
    slot = try_process_lock(real.home_dir, "demo-0")
    assert slot is not None
    with slot:
        refused = run(app, ["demo", "--json"])
    assert refused.exit_code == 1
    assert "already running" in json.loads(refused.output)["error"]


def test_what_really_happened_is_not_imported_into_the_demo(real: Settings) -> None:
    folder = demo_dir(real)
    folder.mkdir()
    (folder / DEMO_MARK).write_text("1-abc")
    log = real.home_dir / "queue_log"
    log.write_text("1795168901|1.1|600|NONE|ENTERQUEUE||0305551|1\n")
    for command in (["import", "queue-log", str(log)], ["import", "cdr", str(log)]):
        refused = run(app, [*command, "--json"])
        assert refused.exit_code == 2
        assert "This is the demo" in json.loads(refused.output)["error"]
    facts = json.loads(run(app, ["status", "--json"]).output)
    assert (facts["data_label"], facts["data_dir"]) == ("Demo", str(folder.resolve()))
    assert "made-up calls" in run(app, ["status"]).output
    remove_demo(real)


def test_a_worker_with_a_parent_ends_with_it(real: Settings) -> None:
    command = [sys.executable, "-m", "pbx", "worker", "--quiet", "--with-parent"]
    read, write = os.pipe()
    worker = subprocess.Popen(command, cwd=ROOT, stdin=read)
    os.close(read)
    until(lambda: worker_alive(real))
    os.close(write)
    assert worker.wait(PATIENCE_S) == 0
