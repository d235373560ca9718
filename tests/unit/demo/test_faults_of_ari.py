"""ARI client and sync against the simulated PBX, with and without faults: each recording arrives complete, once."""

import socket
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import TypeVar

import pytest

from pbx.asterisk.ari.client import AriClient
from pbx.demo.recording_dir import recording_name
from pbx.demo.sample_recordings import SAMPLE_RECORDINGS
from pbx.demo.simulated_history import recorded_calls
from pbx.errors import AriProtocolError, AriServerError, Deadline, Unreachable
from pbx.recordings import sync
from pbx.recordings.sync import SyncResult, sync_recordings
from tests.simulator.faults import Fault
from tests.simulator.http_client import Answer, ask, ask_raw, authorization
from tests.simulator.simulated_pbx import SimulatedPbx
from tests.simulator.simulated_recordings import SimulatedRecordings, recordings_of_ended_calls
from tests.unit.asterisk.ari.replay_server import wav
from tests.unit.recordings.synced_cache import SyncedCache

NOW = datetime.now(UTC).replace(microsecond=0)
LIST = "ari/recordings/stored"
FILES = "ari/recordings/stored/*/file"
Found = TypeVar("Found")
SOUND = wav(b"\x01\x02" * 20_000)


class SyncedPbx(SyncedCache):
    """A simulated PBX, a cache, and the app's sync between them."""

    def __init__(self, pbx: SimulatedPbx, data: Path) -> None:
        super().__init__(pbx.connection(), data)
        self.pbx = pbx

    def sync(self) -> SyncResult:
        return sync_recordings(self.engine, self.active, self.settings.audio_dir)

    def is_complete(self) -> bool:
        """Whether the cache contains exactly the recordings of the simulated PBX."""
        rows, audio = self.rows(), self.settings.audio_dir
        assert {row.state for row in rows.values()} <= {"downloaded"}
        return set(rows) == set(self.pbx.recordings.names()) and all(
            (audio / str(row.file)).read_bytes() == self.pbx.recordings.content(name) for name, row in rows.items()
        )


impatient_client = partial(AriClient, idle_timeout_s=0.4, backoff_s=0.001)


@pytest.fixture
def pbx() -> Iterator[SimulatedPbx]:
    with SimulatedPbx(recordings=SimulatedRecordings()) as simulated_pbx:
        yield simulated_pbx


@pytest.fixture
def client(pbx: SimulatedPbx) -> Iterator[AriClient]:
    with impatient_client(pbx.connection()) as ari_client:
        yield ari_client


@pytest.fixture
def synced(pbx: SimulatedPbx, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SyncedPbx]:
    monkeypatch.setattr(sync, "AriClient", impatient_client)
    synced_pbx = SyncedPbx(pbx, tmp_path / "data")
    yield synced_pbx
    synced_pbx.engine.dispose()


def name(number: int = 0, at: datetime = NOW) -> str:
    at -= timedelta(minutes=number)
    return f"{at:%Y/%m/%d}/q-600-02079460{number:03}-{at:%Y%m%d-%H%M%S}-{int(at.timestamp())}.{number}"


def put(pbx: SimulatedPbx, count: int) -> None:
    for number in range(count):
        pbx.recordings.add(name(number), wav(b"%04d" % number * 4000))


def test_the_twelve_recordings_arrive_with_the_data_from_their_names(tmp_path: Path) -> None:
    with SimulatedPbx(recordings=recordings_of_ended_calls(NOW)) as pbx:
        synced = SyncedPbx(pbx, tmp_path / "data")
        assert synced.sync() == SyncResult(listed=12, new=12, downloaded=12)
        assert synced.is_complete()
        calls, rows = synced.calls(), synced.rows()
        for planned in recorded_calls(NOW):
            call, row = calls[planned.linkedid], rows[recording_name(planned)]
            assert (call.direction, call.queue, call.from_number) == ("inbound", planned.queue, planned.from_number)
            assert call.started_at == planned.started_at.replace(microsecond=0)
            duration_s = SAMPLE_RECORDINGS[planned.recording].duration_s
            assert (row.type, row.format, row.duration_s) == ("q", "wav", duration_s)
        assert synced.sync() == SyncResult(listed=12)
        synced.engine.dispose()


@pytest.mark.parametrize(
    ("fault", "times"),
    [
        (Fault("refuse", "ari"), 2),
        (Fault("server_error", LIST), 2),
        (Fault("server_error", LIST, status=503), 1),
        (Fault("server_error", "ari/channels"), 1),
        (Fault("server_error", FILES), 2),
        (Fault("wrong_length", LIST), 1),
        (Fault("wrong_length", FILES), 5),
        (Fault("cut", LIST, after_bytes=0), 1),
        (Fault("cut", LIST, after_bytes=400), 1),
        (Fault("cut", FILES, after_bytes=0), 2),
        (Fault("cut", FILES, after_bytes=8000), 2),
        (Fault("stall", FILES, after_bytes=5000, seconds=0.1), 3),
        (Fault("stall", FILES, after_bytes=5000, seconds=2), 1),
        (Fault("trickle", LIST), 1),
        (Fault("slow_list", LIST, seconds=0.1), 1),
        (Fault("slow_list", LIST, seconds=2), 1),
        (Fault("mute", LIST), 1),
        (Fault("mute", FILES), 1),
    ],
    ids=lambda value: f"{value.kind}:{value.where[15:]}" if isinstance(value, Fault) else str(value),
)
def test_one_sync_survives_a_temporary_fault(synced: SyncedPbx, fault: Fault, times: int) -> None:
    put(synced.pbx, 6)
    synced.pbx.faults.arm(fault, times)
    assert synced.sync() == SyncResult(listed=6, new=6, downloaded=6)
    assert synced.is_complete()
    assert synced.pbx.faults.taken == {fault.kind: times}


def test_a_content_length_that_is_too_small_is_detected_by_the_wav_header(synced: SyncedPbx) -> None:
    put(synced.pbx, 1)
    synced.pbx.faults.arm(Fault("wrong_length", FILES, extra_bytes=-1000))
    result = synced.sync()
    assert (result.downloaded, result.unreadable) == (0, 1)
    assert "cut short" in synced.rows()[name()].reason


@pytest.mark.parametrize(("status", "words"), [(500, "can't list"), (503, "still starting"), (502, "502")])
def test_a_lasting_server_error_is_reported_with_its_cause(
    pbx: SimulatedPbx, client: AriClient, status: int, words: str
) -> None:
    pbx.faults.arm(Fault("server_error", LIST, status=status), None)
    with pytest.raises(AriServerError, match=words):
        client.list_recordings()
    pbx.faults.clear()
    assert client.list_recordings() == []


def test_the_503_reply_is_that_of_a_starting_asterisk(pbx: SimulatedPbx) -> None:
    pbx.faults.arm(Fault("server_error", LIST, status=503))
    found = ask(pbx.connection(), "/ari/recordings/stored")
    assert found.status == "503 Service Unavailable"
    assert found.header("Connection") == "close"
    assert found.body == b'{"message":"Asterisk not booted"}'


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        (Fault("mute", LIST), Deadline),
        (Fault("slow_list", LIST, seconds=30), Deadline),
        (Fault("stall", LIST, after_bytes=10, seconds=30), Deadline),
        (Fault("refuse", "ari"), Unreachable),
        (Fault("cut", LIST, after_bytes=10), Unreachable),
        (Fault("wrong_length", LIST, extra_bytes=10), Unreachable),
        (Fault("nested", LIST), AriProtocolError),
        (Fault("endless", LIST), AriProtocolError),
    ],
    ids=lambda value: value.kind if isinstance(value, Fault) else "",
)
def test_a_lasting_fault_raises_its_error(pbx: SimulatedPbx, fault: Fault, error: type[Exception]) -> None:
    pbx.faults.arm(fault, None)
    with AriClient(pbx.connection(), idle_timeout_s=0.1, backoff_s=0.001) as client, pytest.raises(error):
        client.list_recordings()


def test_a_fault_affects_only_its_path(pbx: SimulatedPbx, client: AriClient) -> None:
    pbx.recordings.add("a/b", SOUND)
    pbx.faults.arm(Fault("server_error", "ari/recordings/stored/a%2Fb/file", status=404), None)
    assert ask(pbx.connection(), "/ari/recordings/stored/a%2Fb").status == "200 OK"
    assert ask(pbx.connection(), "/ari/recordings/stored/a%2Fb/file").status == "404 Not Found"
    assert len(client.list_recordings()) == 1


def test_a_wrong_length_closes_the_connection(pbx: SimulatedPbx) -> None:
    pbx.recordings.add("call", SOUND)
    for extra_bytes, announced in ((7, len(SOUND) + 7), (-7, len(SOUND) - 7), (-(10**9), 0)):
        pbx.faults.arm(Fault("wrong_length", FILES, extra_bytes=extra_bytes))
        found = ask(pbx.connection(), "/ari/recordings/stored/call/file")
        assert (found.header("Content-Length"), found.body) == (str(announced), SOUND)


def test_headers_that_arrive_slowly_end_at_the_time_limit(pbx: SimulatedPbx) -> None:
    pbx.faults.arm(Fault("trickle", LIST, seconds=0.05), None)
    with AriClient(pbx.connection(), deadline_s=0.5) as client, pytest.raises(Deadline, match="took longer"):
        client.list_recordings()


def test_an_endless_recording_is_too_large_and_the_others_arrive(synced: SyncedPbx) -> None:
    put(synced.pbx, 3)
    synced.pbx.faults.arm(Fault("endless", FILES))
    assert synced.sync() == SyncResult(listed=3, new=3, downloaded=2, too_large=1)
    assert synced.sync() == SyncResult(listed=3)


def test_a_recording_in_progress_waits_until_it_is_finished(synced: SyncedPbx) -> None:
    recordings = synced.pbx.recordings
    recordings.grow(name(), wav(SOUND, announced=0, riff=0))
    assert synced.sync() == SyncResult(listed=1, new=1, waiting=1)
    recordings.grow(name(), SOUND)
    assert synced.sync() == SyncResult(listed=1, waiting=1)
    recordings.finish(name(), wav(SOUND + SOUND))
    assert synced.sync() == SyncResult(listed=1, downloaded=1)
    assert synced.is_complete()


def test_a_recording_that_grows_while_it_is_sent_exceeds_its_content_length_as_on_asterisk(
    pbx: SimulatedPbx, tmp_path: Path
) -> None:
    """More bytes arrive than announced. The client takes those announced, and the rest doesn't start the next reply."""
    pbx.recordings.grow("call", SOUND)
    pbx.faults.arm(Fault("stall", FILES, after_bytes=1000, seconds=1), 2)
    head = f"GET /ari/recordings/stored/call/file HTTP/1.1\r\n{authorization(pbx.connection())}\r\n\r\n"
    raw = while_it_stalls(
        pbx, lambda: ask_raw(pbx.connection(), head.encode()), lambda: pbx.recordings.grow("call", b"more")
    )
    found = Answer(raw)
    assert (found.header("Content-Length"), found.body) == (str(len(SOUND)), SOUND + b"more")

    with AriClient(pbx.connection()) as client:
        fetch = partial(client.download, "call", tmp_path / "file")
        size_bytes = while_it_stalls(pbx, fetch, lambda: pbx.recordings.grow("call", b"still more"))
        assert size_bytes == len(SOUND) + 4
        assert (tmp_path / "file").read_bytes() == SOUND + b"more"
        assert [item.name for item in client.list_recordings()] == ["call"]


def while_it_stalls(pbx: SimulatedPbx, fetch: Callable[[], Found], act: Callable[[], None]) -> Found:
    """Fetch in another thread, and act as soon as the armed stall happens."""
    found: list[Found] = []
    before = pbx.faults.taken.get("stall", 0)
    thread = threading.Thread(target=lambda: found.append(fetch()))
    thread.start()
    while pbx.faults.taken.get("stall", 0) == before:
        time.sleep(0.005)
    act()
    thread.join()
    return found[0]


def test_a_recording_deleted_during_a_sync_is_reported_as_missing(
    synced: SyncedPbx, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(synced.pbx, 4)
    list_recordings = AriClient.list_recordings

    def list_and_delete(client: AriClient) -> object:
        found = list_recordings(client)
        synced.pbx.recordings.delete(name(2))
        return found

    monkeypatch.setattr(AriClient, "list_recordings", list_and_delete)
    result = synced.sync()
    assert (result.listed, result.downloaded) == (4, 3)
    assert [failure.name for failure in result.failed] == [name(2)]
    monkeypatch.undo()
    monkeypatch.setattr(sync, "AriClient", impatient_client)
    assert synced.sync() == SyncResult(listed=3, gone=1, missing=1)


def test_a_recording_that_is_listed_twice_is_stored_once(synced: SyncedPbx) -> None:
    put(synced.pbx, 3)
    synced.pbx.recordings.list_twice(name(1))
    assert synced.sync().downloaded == 3
    assert synced.is_complete()


def test_the_cut_fault_resets_the_connection(pbx: SimulatedPbx) -> None:
    pbx.faults.arm(Fault("cut", LIST, after_bytes=5))
    login = authorization(pbx.connection())
    with socket.create_connection(("127.0.0.1", pbx.ari_port), timeout=10) as connection:
        connection.sendall(f"GET /{LIST} HTTP/1.1\r\n{login}\r\n\r\n".encode())
        with pytest.raises(ConnectionResetError):
            b"".join(iter(partial(connection.recv, 100), b""))
