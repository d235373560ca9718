"""The sync with real Asterisk 16 and 22, on spare servers that the tests restart, fill and break."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from pbx.asterisk.ari.client import AriClient
from pbx.errors import AriServerError, StorageFull, Unreachable
from pbx.recordings.download import Room
from pbx.recordings.sync import SyncResult, sync_recordings
from tests.lab.process import wait_until
from tests.lab.servers import ARI_SECRET, SERVERS
from tests.lab.spare_asterisk import SpareAsterisk, spare_asterisk
from tests.paths import ROOT
from tests.unit.asterisk.ari.replay_server import wav
from tests.unit.recordings.synced_cache import SyncedCache

pytestmark = pytest.mark.lab


@pytest.fixture(scope="module", params=[16, 22])
def server(request: pytest.FixtureRequest) -> Iterator[SpareAsterisk]:
    with spare_asterisk(request.param, "sync") as running:
        yield running


@pytest.fixture
def pbx(server: SpareAsterisk) -> SpareAsterisk:
    """The spare server, running and without recordings."""
    server.start()
    server.empty()
    return server


def add_recordings(pbx: SpareAsterisk, count: int, size_bytes: int = 160_000) -> None:
    for n in range(count):
        at = datetime(2026, 11, 20, 8, tzinfo=UTC) + timedelta(seconds=n)
        file = pbx.monitor / f"{at:%Y/%m/%d}/out-5551234-1001-{at:%Y%m%d-%H%M%S}-{int(at.timestamp())}.{n}.wav"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(wav(bytes(size_bytes - 48) + b"%4d" % n))


def on_disk(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


class Cache(SyncedCache):
    """A cache in a directory, with methods that sync it and compare it with the PBX."""

    def __init__(self, pbx: SpareAsterisk, data: Path) -> None:
        super().__init__(pbx.connection(), data)
        self.pbx = pbx

    def sync(self, **options: object) -> SyncResult:
        return sync_recordings(self.engine, self.active, self.settings.audio_dir, **options)

    def files(self) -> dict[str, bytes]:
        folder = self.settings.audio_dir / "1"
        return on_disk(folder) if folder.exists() else {}

    def is_complete(self) -> bool:
        """Whether every recording of the PBX is downloaded and identical."""
        states = {row.state for row in self.rows().values()}
        return states == {"downloaded"} and self.files() == on_disk(self.pbx.monitor)


@pytest.fixture
def cache(pbx: SpareAsterisk, tmp_path: Path) -> Iterator[Cache]:
    cache = Cache(pbx, tmp_path / "data")
    yield cache
    cache.engine.dispose()


def test_recordings_are_downloaded_when_their_calls_have_ended(pbx: SpareAsterisk, cache: Cache) -> None:
    formats = ["wav", "WAV", "gsm", "ulaw", "alaw", "sln"]
    for fmt in formats:
        pbx.cli(f"channel originate Local/{fmt}@recorded application Wait 60")
    # Asterisk buffers raw formats, so their files are listed with 0 bytes at first.
    wait_until("all calls are recorded", lambda: len(list(pbx.monitor.rglob("out-*"))) == len(formats))
    time.sleep(2)
    assert cache.sync() == SyncResult(listed=len(formats), new=len(formats), waiting=len(formats))
    assert cache.files() == {}
    pbx.cli("channel request hangup all")
    with AriClient(pbx.connection()) as ari:
        wait_until("the calls end", lambda: not ari.channels())
    wait_until("WAV headers are finished", lambda: all(file.read_bytes()[4:8] != bytes(4) for file in wavs(pbx)))
    assert cache.sync() == SyncResult(listed=len(formats), downloaded=len(formats))
    assert cache.is_complete()
    assert sorted(row.format for row in cache.rows().values()) == sorted(formats)
    for row in cache.rows().values():
        assert row.duration_s is not None
        assert 1 < row.duration_s < 10
        assert row.started_at is not None
        assert abs(row.started_at - datetime.now(UTC)) < timedelta(minutes=1)


def wavs(pbx: SpareAsterisk) -> list[Path]:
    return [file for file in pbx.monitor.rglob("out-*") if file.suffix.lower() == ".wav"]


def test_recordings_with_unusual_names_are_downloaded(pbx: SpareAsterisk, cache: Cache) -> None:
    names = [
        "plain",
        "with space",
        "plus+and-dash",
        "é 日本 🎧",
        'quote"and\\',
        "<b>&amp;</b>",
        "100%25",
        "Case",
        "case",
    ]
    for name in names:
        (pbx.monitor / f"{name}.wav").parent.mkdir(exist_ok=True)
        (pbx.monitor / f"{name}.wav").write_bytes(wav(name.encode()))
    (pbx.monitor / "line\nbreak.wav").write_bytes(wav())
    assert cache.sync().downloaded == len(names) + 1
    assert len({file.casefold() for file in cache.files()}) == len(names) + 1
    assert set(cache.rows()) == {*names, "line\nbreak"}


def test_a_sync_is_completed_after_a_restart_of_asterisk(pbx: SpareAsterisk, cache: Cache) -> None:
    add_recordings(pbx, 400)

    def restart(done: int, total: int | None) -> None:
        if done and not restarted:
            restarted.append(True)
            pbx.restart()

    restarted: list[bool] = []
    with contextlib.suppress(Unreachable):  # not raised if Asterisk is up again before the sync fails
        cache.sync(progress=restart)
    assert restarted
    assert cache.files().items() <= on_disk(pbx.monitor).items()
    assert cache.sync().failed == []
    assert cache.is_complete()


def test_a_sync_is_completed_after_asterisk_was_stopped(pbx: SpareAsterisk, cache: Cache) -> None:
    add_recordings(pbx, 400)
    with pytest.raises(Unreachable):
        cache.sync(progress=lambda done, total: pbx.stop() if done else None)
    states = Counter(row.state for row in cache.rows().values())
    assert states.total() == 400
    assert states["downloaded"] == len(cache.files()) > 0
    assert states["downloading"] == 0
    pbx.start()
    assert cache.sync().failed == []
    assert cache.is_complete()


def test_a_sync_is_completed_after_its_process_was_killed(pbx: SpareAsterisk, cache: Cache) -> None:
    add_recordings(pbx, 400)
    module = "tests.unit.recordings.sync_in_subprocess"
    command = [sys.executable, "-m", module, pbx.host, str(pbx.http_port), ARI_SECRET]
    folder = cache.settings.audio_dir / "1"
    for files in (1, 60, 200):
        running = subprocess.Popen([*command, str(cache.settings.pbx_data_dir)], cwd=ROOT)
        wait_until(f"{files} files are there", lambda enough=files: len(list(folder.rglob("*.wav"))) >= enough)
        os.kill(running.pid, signal.SIGKILL)
        assert running.wait() == -signal.SIGKILL
        final = {name: data for name, data in cache.files().items() if not name.startswith(".parts/")}
        assert final.items() <= on_disk(pbx.monitor).items()
    assert cache.sync().failed == []
    assert cache.is_complete()


NO_RESERVE = Room(least_free_bytes=0)  # the sync keeps no space free, so the disk fills up


def test_a_full_disk_ends_the_sync_and_the_next_one_completes_it(pbx: SpareAsterisk, tmp_path: Path) -> None:
    add_recordings(pbx, 100)
    data = tmp_path / "small"
    data.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(data)], check=True)
    try:
        cache = Cache(pbx, data)
        with pytest.raises(StorageFull, match="Not enough disk space"):
            cache.sync(room=NO_RESERVE)
        downloaded = {row.file for row in cache.rows().values() if row.state == "downloaded"}
        assert downloaded <= {f"1/{name}" for name in cache.files()}
        assert cache.files().items() <= on_disk(pbx.monitor).items()
        subprocess.run(["mount", "-o", "remount,size=64m", str(data)], check=True)
        assert cache.sync(room=NO_RESERVE).failed == []
        assert cache.is_complete()
        cache.engine.dispose()
    finally:
        subprocess.run(["umount", str(data)], check=True)


def test_each_file_in_a_linked_folder_is_reported(pbx: SpareAsterisk, cache: Cache, tmp_path: Path) -> None:
    add_recordings(pbx, 1)
    elsewhere = pbx.spool / "elsewhere"
    elsewhere.mkdir(exist_ok=True)
    (elsewhere / "a.wav").write_bytes(wav())
    (pbx.monitor / "linked").symlink_to("../elsewhere")
    result = cache.sync()
    assert (result.listed, result.downloaded) == (2, 1)
    assert [failure.name for failure in result.failed] == ["linked/a"]
    assert "ln -s monitor" in result.failed[0].reason


@pytest.mark.parametrize("fault", ["broken link", "no directory", "not UTF-8"])
def test_a_failed_listing_explains_the_fix(pbx: SpareAsterisk, cache: Cache, fault: str) -> None:
    add_recordings(pbx, 2, 1000)
    cache.sync()
    if fault == "broken link":
        (pbx.monitor / "broken").symlink_to("/nowhere")
    elif fault == "no directory":
        pbx.recording.unlink()
    else:
        Path(os.fsdecode(os.fsencode(pbx.monitor) + b"/bad\xff.wav")).write_bytes(wav())
    with pytest.raises(AriServerError, match="can't list") as caught:
        cache.sync()
    assert "find -L" in caught.value.fix
    assert {row.gone_at for row in cache.rows().values()} == {None}
    assert cache.is_complete() or fault == "not UTF-8"


@pytest.mark.parametrize("version", [16, 22])
def test_ari_over_tls_needs_the_labs_ca(version: int) -> None:
    connection = SERVERS[version].connection(tls=True)
    with AriClient(connection) as ari:
        assert ari.info().version.startswith(f"{version}.")
        ari.list_recordings()
    without_ca = connection.model_copy(update={"ca_file": None})
    with AriClient(without_ca) as ari, pytest.raises(Unreachable, match="unknown CA"):
        ari.info()
