"""A root that isn't whole never passes for one: neither for the lab nor for what needs it. Needs no lab."""

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
def other_lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PBX_LAB_DIR", str(tmp_path / "lab"))
    return tmp_path / "lab"


def test_a_half_made_root_is_made_again(monkeypatch: pytest.MonkeyPatch) -> None:
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


def test_without_the_lab_nothing_is_left_in_its_place(other_lab: Path) -> None:
    with pytest.raises(LabError, match="make lab-up"), spare_asterisk(16, "test"):
        pass
    with pytest.raises(LabError, match="make lab-up"):
        SERVERS[16].configure()
    assert not other_lab.exists()


SHORT_AMI = "from benchmarks import ami; ami.compare = lambda *_: {'pbx.asterisk.ami': 1.0, 'other': 1.0}; ami.main()"


@pytest.mark.parametrize("arguments", [["benchmarks/sync.py"], ["-c", SHORT_AMI]])
def test_a_benchmark_that_needs_the_lab_says_so_and_leaves_nothing(arguments: list[str], other_lab: Path) -> None:
    """The comparison of benchmarks/ami.py, which needs no lab and takes long, is left out."""
    command = [sys.executable, *arguments]
    done = subprocess.run(command, cwd=ROOT, env=os.environ, capture_output=True, text=True, timeout=100)
    assert done.returncode == 1
    assert "run `make lab-up` first" in done.stderr
    assert "Traceback" not in done.stderr
    assert not other_lab.exists()
