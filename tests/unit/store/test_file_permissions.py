"""Only its owner can read the data directory; each start removes other users' access."""

import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from pbx.settings import load_settings
from pbx.store.engine import open_engine
from tests.operating_systems import needs_posix
from tests.paths import ROOT

pytestmark = needs_posix


@pytest.fixture(autouse=True)
def umask_of_the_app() -> Iterator[None]:
    before = os.umask(0o077)
    yield
    os.umask(before)


def open_modes(folder: Path) -> dict[str, int]:
    """The modes of what other users can access in a folder, the folder itself included."""
    modes = {str(path.relative_to(folder)): stat.S_IMODE(path.lstat().st_mode) for path in (folder, *folder.rglob("*"))}
    return {name: mode for name, mode in modes.items() if mode & 0o077}


def fill(folder: Path) -> None:
    """Create a data directory as earlier versions and the checkout left it: readable by everyone."""
    for name in ("audio/1/a.wav", "playable/1.ogg", "imports/x/0/queue_log", "models/base.pt", "demo/pbx.sqlite"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("")
    for name in (".gitkeep", "pbx.sqlite-wal", "pbx.sqlite-shm", "secret.key", "freepbx.json", "worker.log"):
        (folder / name).write_text("")
    for path in (folder, *folder.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)


def test_a_command_creates_only_private_files(no_real_data: Path) -> None:
    code = "import os; os.umask(0o022)\nimport sys; sys.argv = ['pbx', 'status']\nfrom pbx.__main__ import main; main()"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    assert (no_real_data / "pbx.sqlite").exists()
    assert open_modes(no_real_data) == {}


def test_the_next_start_makes_open_files_private(no_real_data: Path) -> None:
    no_real_data.mkdir()
    fill(no_real_data)
    (no_real_data / "lost+found").mkdir()  # as on a separate disk
    assert len(open_modes(no_real_data)) > 15
    open_engine(load_settings()).dispose()
    assert open_modes(no_real_data) == {}
    for name, mode in (("pbx.sqlite", 0o640), ("secret.key", 0o604), ("demo/pbx.sqlite", 0o644), ("audio", 0o750)):
        (no_real_data / name).chmod(mode)  # in a folder that is private already
    open_engine(load_settings()).dispose()
    assert open_modes(no_real_data) == {}


def test_in_a_shared_folder_only_the_apps_files_are_made_private(no_real_data: Path) -> None:
    no_real_data.mkdir()
    fill(no_real_data)
    (no_real_data / "photos").mkdir()
    (no_real_data / "photos").chmod(0o755)
    (no_real_data / "notes.txt").write_text("")
    (no_real_data / "notes.txt").chmod(0o644)
    open_engine(load_settings()).dispose()
    assert set(open_modes(no_real_data)) == {".", "photos", "notes.txt", ".gitkeep", "models", "models/base.pt"}


def test_symbolic_links_are_not_followed(no_real_data: Path, tmp_path: Path) -> None:
    no_real_data.mkdir()
    outside = tmp_path / "outside.wav"
    outside.write_text("")
    outside.chmod(0o644)
    (no_real_data / "audio").symlink_to(tmp_path)
    (no_real_data / "link.wav").symlink_to(outside)
    open_engine(load_settings()).dispose()
    assert stat.S_IMODE(outside.stat().st_mode) == 0o644
    assert stat.S_IMODE(no_real_data.stat().st_mode) == 0o700


def test_a_database_outside_the_data_directory_is_made_private_too(
    no_real_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = tmp_path / "cache.sqlite"
    database.touch()
    database.chmod(0o644)
    monkeypatch.setenv("PBX_DATABASE_URL", f"sqlite:///{database}")
    open_engine(load_settings()).dispose()
    assert stat.S_IMODE(database.stat().st_mode) == 0o600
