"""The app's client and sync against the demo PBX, sound and misbehaving: nothing half, nothing twice, nothing lost."""

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


class Bench(SyncedCache):
    """A demo PBX, a cache, and the app's sync between them."""

    def __init__(self, pbx: SimulatedPbx, data: Path) -> None:
        super().__init__(pbx.connection(), data)
        self.pbx = pbx

    def sync(self) -> SyncResult:
        return sync_recordings(self.engine, self.active, self.settings.audio_dir)

    def is_whole(self) -> bool:
        """Whether the cache holds exactly what the demo PBX says was recorded."""
        rows, audio = self.rows(), self.settings.audio_dir
        assert {row.state for row in rows.values()} <= {"downloaded"}
        return set(rows) == set(self.pbx.recordings.names()) and all(
            (audio / str(row.file)).read_bytes() == self.pbx.recordings.content(name) for name, row in rows.items()
        )


impatient = partial(AriClient, idle_timeout_s=0.4, backoff_s=0.001)


@pytest.fixture
def pbx() -> Iterator[SimulatedPbx]:
    with SimulatedPbx(recordings=SimulatedRecordings()) as made:
        yield made


@pytest.fixture
def client(pbx: SimulatedPbx) -> Iterator[AriClient]:
    with impatient(pbx.connection()) as made:
        yield made


@pytest.fixture
def bench(pbx: SimulatedPbx, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    monkeypatch.setattr(sync, "AriClient", impatient)
    made = Bench(pbx, tmp_path / "data")
    yield made
    made.engine.dispose()


def name(number: int = 0, at: datetime = NOW) -> str:
    at -= timedelta(minutes=number)
    return f"{at:%Y/%m/%d}/q-600-02079460{number:03}-{at:%Y%m%d-%H%M%S}-{int(at.timestamp())}.{number}"


def put(pbx: SimulatedPbx, count: int) -> None:
    for number in range(count):
        pbx.recordings.add(name(number), wav(b"%04d" % number * 4000))


def test_the_twelve_calls_arrive_with_what_their_names_tell(tmp_path: Path) -> None:
    with SimulatedPbx(recordings=recordings_of_ended_calls(NOW)) as pbx:
        bench = Bench(pbx, tmp_path / "data")
        assert bench.sync() == SyncResult(listed=12, new=12, downloaded=12)
        assert bench.is_whole()
        calls, rows = bench.calls(), bench.rows()
        for planned in recorded_calls(NOW):
            call, row = calls[planned.linkedid], rows[recording_name(planned)]
            assert (call.direction, call.queue, call.from_number) == ("inbound", planned.queue, planned.from_number)
            assert call.started_at == planned.started_at.replace(microsecond=0)
            duration_s = SAMPLE_RECORDINGS[planned.recording].duration_s
            assert (row.type, row.format, row.duration_s) == ("q", "wav", duration_s)
        assert bench.sync() == SyncResult(listed=12)
        bench.engine.dispose()


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
def test_one_sync_outlives_a_trouble_that_passes(bench: Bench, fault: Fault, times: int) -> None:
    put(bench.pbx, 6)
    bench.pbx.faults.arm(fault, times)
    assert bench.sync() == SyncResult(listed=6, new=6, downloaded=6)
    assert bench.is_whole()
    assert bench.pbx.faults.taken == {fault.kind: times}


def test_a_length_that_says_too_little_is_found_out_by_the_sounds_header(bench: Bench) -> None:
    put(bench.pbx, 1)
    bench.pbx.faults.arm(Fault("wrong_length", FILES, extra_bytes=-1000))
    result = bench.sync()
    assert (result.downloaded, result.unreadable) == (0, 1)
    assert "cut short" in bench.rows()[name()].reason


@pytest.mark.parametrize(("status", "words"), [(500, "can't list"), (503, "still starting"), (502, "502")])
def test_a_lasting_failure_is_reported_as_asterisk_s(
    pbx: SimulatedPbx, client: AriClient, status: int, words: str
) -> None:
    pbx.faults.arm(Fault("server_error", LIST, status=status), None)
    with pytest.raises(AriServerError, match=words):
        client.list_recordings()
    pbx.faults.clear()
    assert client.list_recordings() == []


def test_503_is_what_an_asterisk_that_starts_says(pbx: SimulatedPbx) -> None:
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
def test_a_trouble_that_lasts_has_a_name(pbx: SimulatedPbx, fault: Fault, error: type[Exception]) -> None:
    pbx.faults.arm(fault, None)
    with AriClient(pbx.connection(), idle_timeout_s=0.1, backoff_s=0.001) as client, pytest.raises(error):
        client.list_recordings()


def test_a_fault_is_for_the_path_it_names(pbx: SimulatedPbx, client: AriClient) -> None:
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


def test_headers_that_drip_end_at_the_time_limit(pbx: SimulatedPbx) -> None:
    pbx.faults.arm(Fault("trickle", LIST, seconds=0.05), None)
    with AriClient(pbx.connection(), deadline_s=0.5) as client, pytest.raises(Deadline, match="took longer"):
        client.list_recordings()


def test_an_endless_recording_is_too_large_and_the_others_come(bench: Bench) -> None:
    put(bench.pbx, 3)
    bench.pbx.faults.arm(Fault("endless", FILES))
    assert bench.sync() == SyncResult(listed=3, new=3, downloaded=2, too_large=1)
    assert bench.sync() == SyncResult(listed=3)


def test_a_call_that_goes_on_waits_and_then_arrives(bench: Bench) -> None:
    recordings = bench.pbx.recordings
    recordings.grow(name(), wav(SOUND, announced=0, riff=0))
    assert bench.sync() == SyncResult(listed=1, new=1, waiting=1)
    recordings.grow(name(), SOUND)
    assert bench.sync() == SyncResult(listed=1, waiting=1)
    recordings.finish(name(), wav(SOUND + SOUND))
    assert bench.sync() == SyncResult(listed=1, downloaded=1)
    assert bench.is_whole()


def test_a_recording_that_grows_while_it_is_sent_overflows_its_length_as_asterisks_do(
    pbx: SimulatedPbx, tmp_path: Path
) -> None:
    """More bytes come than announced: the client takes those announced, and no other answer begins with the rest."""
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
    """Fetch in another thread, and act as soon as the armed stall is taken."""
    found: list[Found] = []
    before = pbx.faults.taken.get("stall", 0)
    thread = threading.Thread(target=lambda: found.append(fetch()))
    thread.start()
    while pbx.faults.taken.get("stall", 0) == before:
        time.sleep(0.005)
    act()
    thread.join()
    return found[0]


def test_recordings_that_go_while_a_sync_runs(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    put(bench.pbx, 4)
    listing = AriClient.list_recordings

    def list_and_delete(client: AriClient) -> object:
        found = listing(client)
        bench.pbx.recordings.delete(name(2))
        return found

    monkeypatch.setattr(AriClient, "list_recordings", list_and_delete)
    result = bench.sync()
    assert (result.listed, result.downloaded) == (4, 3)
    assert [failure.name for failure in result.failed] == [name(2)]
    monkeypatch.undo()
    monkeypatch.setattr(sync, "AriClient", impatient)
    assert bench.sync() == SyncResult(listed=3, gone=1, missing=1)


def test_a_name_that_is_listed_twice_is_kept_once(bench: Bench) -> None:
    put(bench.pbx, 3)
    bench.pbx.recordings.list_twice(name(1))
    assert bench.sync().downloaded == 3
    assert bench.is_whole()


def test_a_reset_is_a_reset(pbx: SimulatedPbx) -> None:
    pbx.faults.arm(Fault("cut", LIST, after_bytes=5))
    login = authorization(pbx.connection())
    with socket.create_connection(("127.0.0.1", pbx.ari_port), timeout=10) as line:
        line.sendall(f"GET /{LIST} HTTP/1.1\r\n{login}\r\n\r\n".encode())
        with pytest.raises(ConnectionResetError):
            b"".join(iter(partial(line.recv, 100), b""))
