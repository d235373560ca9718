"""The sync with a PBX on loopback: states of recordings, errors, interruptions and repeated runs."""

import threading
from datetime import timedelta

import pytest
from sqlmodel import Session, select

from pbx.errors import AriLoginError, AriServerError, DataError, StorageFull, Unreachable
from pbx.recordings.sync import SyncResult, sync_recordings
from pbx.store.engine import reading, writing
from pbx.store.models import PbxConnection, RecordingRow
from tests.operating_systems import file_size_limit
from tests.unit.asterisk.ari.replay_server import STORED, ReplayPbx, captured, replay, send_half, wav
from tests.unit.recordings.sync_bench import NOW, Bench, name


def add_recordings(pbx: ReplayPbx, count: int, sound: bytes = b"\x01\x02" * 2000) -> list[str]:
    names = [name(at=NOW - timedelta(minutes=n), leg=n) for n in range(count)]
    pbx.recordings |= {recording_name: wav(sound + recording_name.encode()) for recording_name in names}
    return names


def test_recordings_become_files_rows_and_calls(bench: Bench) -> None:
    bench.pbx.recordings = {name("q-sales-+4930", leg=3): wav(), name("out-5551-1001", leg=7): wav()}
    progress: list[tuple[int, int | None]] = []
    result = bench.sync(progress=lambda done, total: progress.append((done, total)))
    assert result == SyncResult(listed=2, new=2, downloaded=2)
    assert (progress[0], progress[-1]) == ((0, 2), (2, 2))
    queued = bench.calls()[f"{int(NOW.timestamp())}.3"]
    assert (queued.source, queued.direction, queued.queue) == ("freepbx", "inbound", "sales")
    assert (queued.from_number, queued.to_number) == ("+4930", "sales")
    assert (queued.started_at, queued.duration_s, queued.state) == (NOW, 0.1, "downloaded")
    row = bench.rows()[name("q-sales-+4930", leg=3)]
    assert (row.type, row.format, row.call_id, row.duration_s) == ("q", "wav", queued.id, 0.1)
    assert row.file == f"1/{row.name}.wav"


def test_a_second_sync_downloads_nothing(bench: Bench) -> None:
    add_recordings(bench.pbx, 5)
    bench.sync()
    assert bench.sync() == SyncResult(listed=5)
    assert set(bench.pbx.downloads().values()) == {1}


def test_recordings_with_one_uniqueid_are_one_call_in_any_order(bench: Bench) -> None:
    bench.pbx.recordings = {name("madeup-1-", leg=1): wav(b"ab" * 4000), name("exten-1002-+4930", leg=2): wav()}
    bench.sync()
    bench.pbx.recordings |= {name("q-sales-+4930", leg=1): wav(), name("q-sales-+4930", leg=2): wav()}
    bench.sync()
    first, second = bench.calls().values()
    assert (first.direction, first.queue, first.from_number, first.duration_s) == ("inbound", "sales", "+4930", 0.5)
    assert (second.direction, second.queue, second.to_number) == ("inbound", "sales", "1002")


def test_a_recording_with_an_unknown_name_is_a_separate_call(bench: Bench) -> None:
    unusual_name = 'Zoë\'s "call" <b>\n🎧'
    bench.pbx.recordings = {unusual_name: wav(), "2": wav()}
    assert bench.sync().downloaded == 2
    call = bench.calls()[unusual_name]
    assert (call.direction, call.uniqueid, call.started_at) == ("unknown", "", None)


@pytest.mark.parametrize(
    ("file", "state", "reason"),
    [
        (b"", "empty", "no sound (0 bytes)"),
        (wav(b""), "empty", "no sound (44 bytes)"),
        (wav(riff=0, announced=0), "waiting", "still being written"),
        (wav()[:500], "unreadable", "cut short: 456 of 1600"),
        (b"These are words, not sound. " * 9, "unreadable", "named WAV"),
    ],
)
def test_an_unusable_recording_is_not_kept_and_is_downloaded_later(
    bench: Bench, file: bytes, state: str, reason: str
) -> None:
    bench.pbx.recordings = {name(): file, name(leg=1): wav()}
    result = bench.sync()
    assert result.model_dump(include={"downloaded", state}) == {"downloaded": 1, state: 1}
    row = bench.rows()[name()]
    assert (row.state, row.file) == (state, "")
    assert reason in row.reason
    assert bench.calls()[row.uniqueid].state == state
    bench.pbx.recordings[name()] = wav()  # the call has ended, or the copy is complete
    assert bench.sync().downloaded == 1
    assert bench.calls()[row.uniqueid].state == "downloaded"


def test_a_recording_that_stays_unusable_for_a_day_is_not_downloaded_again(bench: Bench) -> None:
    old = NOW - timedelta(days=2)
    bench.pbx.recordings = {
        name(at=old, leg=0): b"",
        name(at=old, leg=1): b"words" * 20,
        name(at=old, leg=2): wav(riff=0, announced=0),
    }
    bench.sync()
    assert list(bench.states().values()) == ["empty", "unreadable", "unreadable"]
    assert "never finished" in bench.rows()[name(at=old, leg=2)].reason
    bench.sync()
    assert set(bench.pbx.downloads().values()) == {1}


def test_a_recording_of_a_call_in_progress_is_not_downloaded(bench: Bench) -> None:
    bench.pbx.recordings = {name(leg=1): wav(), name(leg=2): wav()}
    bench.pbx.live = {f"{int(NOW.timestamp())}.1", "other"}
    assert bench.sync(dry_run=True) == SyncResult(listed=2, new=2, waiting=1, pending=1)
    assert bench.sync() == SyncResult(listed=2, new=2, downloaded=1, waiting=1)
    assert bench.pbx.downloads() == {name(leg=2): 1}
    assert bench.sync(dry_run=True) == SyncResult(listed=2, waiting=1)
    bench.pbx.live.clear()
    assert bench.sync() == SyncResult(listed=2, downloaded=1)


def test_a_failed_download_is_reported_and_retried(bench: Bench) -> None:
    bench.pbx.recordings = {name(leg=1): wav(), name(leg=2): wav(), name(leg=3): wav()}
    paths = [f"{STORED}/{name(leg=leg).replace('/', '%2F')}/file" for leg in (1, 2)]
    bench.pbx.answers[paths[0]] = captured("404-recording")
    bench.pbx.faults[paths[1]] = [send_half] * 3
    result = bench.sync()
    assert result.downloaded == 1
    reasons = {failure.name: failure.reason for failure in result.failed}
    assert set(reasons) == {name(leg=1), name(leg=2)}
    assert "Make `recording` itself the link" in reasons[name(leg=1)]
    assert "broke off" in reasons[name(leg=2)]
    assert bench.rows()[name(leg=1)].reason == reasons[name(leg=1)]
    bench.pbx.answers.clear()
    assert bench.sync() == SyncResult(listed=3, downloaded=2)


def test_a_recording_deleted_on_the_pbx_stays_in_the_cache_and_is_marked(bench: Bench) -> None:
    downloaded, not_downloaded = name(leg=1), name(leg=2)
    bench.pbx.recordings = {downloaded: wav(), not_downloaded: wav(riff=0, announced=0)}
    bench.sync()
    bench.pbx.recordings.clear()
    assert bench.sync(dry_run=True) == SyncResult(gone=2)
    assert bench.sync() == SyncResult(gone=2, missing=1)
    assert bench.states() == {downloaded: "downloaded", not_downloaded: "missing"}
    assert all(row.gone_at is not None for row in bench.rows().values())
    assert bench.calls()[bench.rows()[not_downloaded].uniqueid].state == "missing"
    assert bench.sync() == SyncResult()
    bench.pbx.recordings = {downloaded: wav(), not_downloaded: wav()}
    assert bench.sync() == SyncResult(listed=2, downloaded=1)
    assert all(row.gone_at is None for row in bench.rows().values())
    assert bench.pbx.downloads()[downloaded] == 1


def test_since_until_and_limit_select_the_downloads(bench: Bench) -> None:
    names = add_recordings(bench.pbx, 6)  # newest first, a minute apart
    bench.pbx.recordings["undated"] = wav()
    window = {"since": NOW - timedelta(minutes=3), "until": NOW}
    assert bench.sync(**window, dry_run=True) == SyncResult(listed=7, new=7, pending=3)
    assert bench.rows() == {}
    assert bench.sync(**window, limit=2) == SyncResult(listed=7, new=7, downloaded=2, pending=1)
    assert [recording_name for recording_name, state in bench.states().items() if state == "downloaded"] == names[1:3]
    assert bench.sync(**window) == SyncResult(listed=7, downloaded=1)
    assert bench.sync(limit=1, dry_run=True) == SyncResult(listed=7, pending=1)
    assert bench.sync() == SyncResult(listed=7, downloaded=4 - 1 + 1)


def test_unsafe_and_clashing_names_get_separate_safe_paths(bench: Bench) -> None:
    names = ["../../../evil", "/etc/evil", "..", "x" * 400, "Same/Name", "same/name", "SAME/NAME", "a\u0001b", "a\\b"]
    bench.pbx.recordings = {recording_name: wav(recording_name.encode()) for recording_name in names}
    assert bench.sync().downloaded == len(names)
    assert len({file.casefold() for file in bench.files()}) == len(names)
    outside = [file for file in bench.settings.pbx_data_dir.parent.rglob("*evil*") if "audio" not in file.parts]
    assert outside == []


def test_the_learned_utc_offset_dates_names_without_an_epoch(bench: Bench) -> None:
    ahead = NOW + timedelta(hours=5, minutes=30)
    undated = f"in-1-2-{ahead:%Y%m%d-%H%M%S}-unknown"
    bench.pbx.recordings = {f"in-1-2-{ahead:%Y%m%d-%H%M%S}-{int(NOW.timestamp())}.1": wav(), undated: wav()}
    bench.sync()
    assert bench.rows()[undated].started_at == NOW
    with reading(bench.engine) as session:
        assert session.exec(select(PbxConnection)).one().utc_offset_s == 19800
    later = f"in-1-2-{ahead:%Y%m%d-%H%M%S}-unknown-2"
    bench.pbx.recordings[later] = wav()
    bench.sync()
    assert bench.rows()[later].started_at == NOW


def test_a_stopped_sync_ends_soon_and_the_next_continues(bench: Bench) -> None:
    add_recordings(bench.pbx, 250)
    stop = threading.Event()
    result = bench.sync(stop=stop, progress=lambda done, total: stop.set() if done else None)
    assert 0 < result.downloaded < 250
    assert result.pending == 250 - result.downloaded
    assert result.failed == []
    assert bench.sync().downloaded == result.pending
    assert max(bench.pbx.downloads().values()) <= 2


def test_two_syncs_never_overlap(bench: Bench) -> None:
    add_recordings(bench.pbx, 1)
    raised: list[DataError] = []

    def start_another(done: int, total: int | None) -> None:
        with pytest.raises(DataError, match="Another sync") as error:
            bench.sync()
        raised.append(error.value)

    bench.sync(progress=start_another)
    assert raised
    assert bench.sync() == SyncResult(listed=1)


def test_a_full_disk_ends_the_sync_and_keeps_its_downloads(bench: Bench) -> None:
    large = name(at=NOW - timedelta(minutes=5))
    add_recordings(bench.pbx, 3)
    bench.pbx.recordings[large] = wav(bytes(3_000_000))
    with file_size_limit(2_000_000), pytest.raises(StorageFull, match="Not enough disk space") as raised:
        bench.sync(parallel=1)
    assert "already downloaded are kept" in raised.value.fix
    bench.check()
    assert sorted(bench.states().values()) == ["downloaded"] * 3 + ["listed"]
    assert bench.sync() == SyncResult(listed=4, downloaded=1)


def test_an_unwritable_data_directory_is_an_error(bench: Bench) -> None:
    bench.settings.audio_dir.write_text("not a directory")
    with pytest.raises(DataError, match="Can't write to"):
        sync_recordings(bench.engine, bench.active, bench.settings.audio_dir)


def test_a_lost_pbx_ends_the_sync_and_the_next_completes_it(bench: Bench) -> None:
    add_recordings(bench.pbx, 150)
    path = f"{STORED}/{name(at=NOW - timedelta(minutes=60), leg=60).replace('/', '%2F')}/file"
    bench.pbx.faults[path] = [lambda pbx, sock, complete: pbx.stop_abruptly()]
    with pytest.raises(Unreachable):
        bench.sync(parallel=2)
    bench.check()
    states = list(bench.states().values())
    assert len(states) == 150
    assert 0 < states.count("downloaded") < 150
    assert 0 < states.count("failed") <= 4
    with replay() as restarted:
        restarted.recordings = bench.pbx.recordings
        again = Bench(restarted, bench.settings.pbx_data_dir)
        assert again.sync().downloaded == 150 - states.count("downloaded")
        again.engine.dispose()


def test_failed_downloads_do_not_prevent_the_others(bench: Bench) -> None:
    names = add_recordings(bench.pbx, 20)
    for recording_name in names[:12]:
        bench.pbx.faults[f"{STORED}/{recording_name.replace('/', '%2F')}/file"] = [send_half] * 3
    result = bench.sync(parallel=1)
    assert (len(result.failed), result.downloaded) == (12, 8)


def test_a_login_that_stops_working_ends_the_sync(bench: Bench) -> None:
    add_recordings(bench.pbx, 30)
    path = f"{STORED}/{name().replace('/', '%2F')}/file"
    bench.pbx.answers[path] = captured("401")
    with pytest.raises(AriLoginError):
        bench.sync(parallel=1)
    bench.check()


def test_a_failed_listing_changes_nothing(bench: Bench) -> None:
    add_recordings(bench.pbx, 2)
    bench.sync()
    bench.pbx.answers[STORED] = captured("list-500")
    with pytest.raises(AriServerError, match="can't list"):
        bench.sync()
    assert all(row.gone_at is None for row in bench.rows().values())
    bench.check()


def test_partial_files_of_a_killed_sync_are_deleted(bench: Bench) -> None:
    names = add_recordings(bench.pbx, 3)
    bench.sync(limit=1)
    parts = bench.settings.audio_dir / "1" / ".parts"
    (parts / "99.part").write_bytes(b"half")
    (parts / "98").write_bytes(b"whole, but not yet moved")
    target = bench.settings.audio_dir / f"1/{names[1]}.wav"
    target.write_bytes(bench.pbx.recordings[names[1]])  # moved, but not yet in the database
    with writing(bench.engine) as session:
        _set_state(session, names[1], "downloading")
    assert bench.sync() == SyncResult(listed=3, downloaded=2)


def _set_state(session: Session, name_: str, state: str) -> None:
    row = session.exec(select(RecordingRow).where(RecordingRow.name == name_)).one()
    row.state = state
    session.add(row)
