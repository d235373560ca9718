"""Neither the lab nor its users take an incomplete root file system for a complete one. Needs no lab."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.lab import provision
from tests.lab.provision import LabError, is_made, make_root, root_dir
from tests.lab.servers import SERVERS
from tests.lab.spare_asterisk import spare_asterisk
from tests.paths import ROOT


@pytest.fixture(autouse=True)
def empty_lab_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A lab folder that doesn't exist yet."""
    monkeypatch.setenv("PBX_LAB_DIR", str(tmp_path / "lab"))
    return tmp_path / "lab"


def test_an_incomplete_root_is_built_again(monkeypatch: pytest.MonkeyPatch) -> None:
    (root_dir(16) / "etc/asterisk-ami-bench-16").mkdir(parents=True)
    root_dir(16).with_suffix(".part").mkdir()
    commands: list[list[str]] = []

    def debootstrap(command: list[str], name: str) -> None:
        commands.append(command)
        program = Path(command[-1]) / "usr/sbin/asterisk"
        program.parent.mkdir(parents=True)
        program.touch()

    monkeypatch.setattr(provision, "run_logged", debootstrap)
    for _ in range(2):
        make_root(16)
    assert len(commands) == 1
    assert is_made(16)
    assert not (root_dir(16) / "etc/asterisk-ami-bench-16").exists()


def test_servers_fail_without_the_lab_and_create_no_files(empty_lab_dir: Path) -> None:
    with pytest.raises(LabError, match="make lab-up"), spare_asterisk(16, "test"):
        pass
    with pytest.raises(LabError, match="make lab-up"):
        SERVERS[16].configure()
    assert not empty_lab_dir.exists()


SHORT_AMI = "from benchmarks import ami; ami.compare = lambda *_: {'pbx.asterisk.ami': 1.0, 'other': 1.0}; ami.main()"


@pytest.mark.parametrize("arguments", [["benchmarks/sync.py"], ["-c", SHORT_AMI]])
def test_benchmarks_fail_without_the_lab_and_create_no_files(arguments: list[str], empty_lab_dir: Path) -> None:
    """The comparison in benchmarks/ami.py is skipped: it takes long and needs no lab."""
    command = [sys.executable, *arguments]
    done = subprocess.run(command, cwd=ROOT, env=os.environ, capture_output=True, text=True, timeout=100)
    assert done.returncode == 1
    assert "run `make lab-up` first" in done.stderr
    assert "Traceback" not in done.stderr
    assert not empty_lab_dir.exists()
