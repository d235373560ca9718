"""Sync the PBX's recordings into the cache and data/audio. A sync can be stopped any time; the next one continues."""

import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone, tzinfo
from pathlib import Path
from zoneinfo import ZoneInfo

from filelock import Timeout
from pydantic import BaseModel
from sqlalchemy import Engine

from pbx.asterisk.ari.client import AriClient, storage_error
from pbx.asterisk.formats.recording_names import parse_name
from pbx.errors import DataError
from pbx.process_lock import file_lock
from pbx.progress import Progress
from pbx.recordings.download import DEFAULT_ROOM, Download, Room
from pbx.settings import Connection
from pbx.store import recordings
from pbx.store.engine import reading, writing
from pbx.store.pbx_connections import ActiveConnection
from pbx.store.recordings import DownloadResult, ListedRecording, PendingDownload

_ROWS_PER_COMMIT = 1000  # rows per transaction, so that other writers don't wait long
_LEARN_FROM = 50  # the newest names, because they have the PBX's current UTC offset


class Failure(BaseModel):
    """A recording that could not be downloaded, with the reason and what to do."""

    name: str
    reason: str


class SyncResult(BaseModel):
    """What a sync found and did, as numbers of recordings.

    `new` were not known before. `gone` are no longer on the PBX; `missing` counts those of them that were never
    downloaded. `pending` are left for another sync because of the limit, a stop, or a dry run.
    """

    listed: int = 0
    new: int = 0
    downloaded: int = 0
    waiting: int = 0
    empty: int = 0
    unreadable: int = 0
    too_large: int = 0
    missing: int = 0
    gone: int = 0
    pending: int = 0
    failed: list[Failure] = []


def sync_recordings(
    engine: Engine,
    active: ActiveConnection,
    audio_dir: Path,
    *,
    since: datetime | None = None,
    until: datetime | None = None,
    limit: int | None = None,
    dry_run: bool = False,
    parallel: int = 4,
    progress: Progress | None = None,
    stop: threading.Event | None = None,
    room: Room = DEFAULT_ROOM,
) -> SyncResult:
    """Store every recording that the PBX lists, and download those that are not in the cache, newest first.

    It downloads at most `limit` recordings, and only those with `since` <= start < `until`. A dry run changes nothing;
    its result counts what would be `new` and `pending`. A recording whose call is in progress is `waiting` and is not
    downloaded. A recording larger than `room` allows is `too_large`, and is tried again only after the limit is raised.
    The sync calls `progress(done, total)`. Setting `stop` ends it soon, with all complete downloads stored.

    Raises DataError if another sync of this directory is running, StorageFull, and the errors of AriClient if the PBX
    can't be reached or refuses a request. Errors of a single recording are in the result's `failed` instead.
    """
    with AriClient(active.connection, parallel=parallel, stop=stop) as client:
        if dry_run:
            return _plan(engine, active, client, since, until, limit, room)
        with _only_sync(audio_dir):
            listed = {item.name: item.format for item in client.list_recordings()}
            live = client.channels()
            result = _note_listing(engine, active, listed)
            with reading(engine) as session:
                found = recordings.open_recordings(session, active.id, since, until, room.largest_bytes)
            growing, wanted = _split_by_live_call(found, live)
            with writing(engine) as session:
                recordings.unmark_downloading(session, active.id)
                reason = "The call is still going on."
                recordings.store_outcomes(session, [DownloadResult(item.id, "waiting", reason) for item in growing])
            download = Download(engine, client, active.id, audio_dir, parallel, progress, stop, room)
            try:
                download.run(wanted[:limit])
            finally:
                with writing(engine) as session:
                    recordings.unmark_downloading(session, active.id)
            return _with_download_counts(
                result, download.states, download.failed, waiting=len(growing), wanted=len(wanted)
            )


@contextmanager
def _only_sync(audio_dir: Path) -> Iterator[None]:
    """Hold the directory's lock, which the system releases if this process dies. Raises DataError or StorageFull."""
    try:
        audio_dir.mkdir(parents=True, exist_ok=True)
        lock = file_lock(audio_dir / ".sync.lock", 0).acquire()
    except Timeout:
        raise DataError(
            "Another sync of this data directory is running.", "Wait until it is done; it fetches the same recordings."
        ) from None
    except OSError as error:
        raise storage_error(error, audio_dir / ".sync.lock") from error
    with lock:
        yield


def _note_listing(engine: Engine, active: ActiveConnection, listed: dict[str, str]) -> SyncResult:
    """Update the cache from the PBX's list: new recordings, deleted ones, and deleted ones that are listed again."""
    with reading(engine) as session:
        known = recordings.known_names(session, active.id)
        offset_s = recordings.utc_offset_s(session, active.id)
    new = [(name, fmt) for name, fmt in listed.items() if name not in known]
    gone = [name for name, was_gone in known.items() if not was_gone and name not in listed]
    back = [name for name, was_gone in known.items() if was_gone and name in listed]
    found, learned_s = _parse_names(new, active.connection, offset_s)
    if learned_s != offset_s and learned_s is not None:
        with writing(engine) as session:
            recordings.learn_utc_offset(session, active.id, learned_s)
    for start in range(0, len(found), _ROWS_PER_COMMIT):
        with writing(engine) as session:
            recordings.add_recordings(session, active.id, found[start : start + _ROWS_PER_COMMIT])
    missing = 0
    if gone or back:
        with writing(engine) as session:
            recordings.mark_listed_again(session, active.id, back)
            missing = recordings.mark_gone(session, active.id, gone)
    return SyncResult(listed=len(listed), new=len(new), gone=len(gone), missing=missing)


def _parse_names(
    new: Sequence[tuple[str, str]], connection: Connection, offset_s: int | None
) -> tuple[list[ListedRecording], int | None]:
    """Parse names of recordings, and return them with the PBX's UTC offset, learned from names that contain an epoch.

    Names with only a local time are dated by the connection's time zone, otherwise by this offset.
    """
    found = [ListedRecording(name, fmt, parse_name(name)) for name, fmt in new]
    dated = [item.facts for item in found if item.facts.utc_offset_s is not None]
    newest = sorted(dated, key=lambda facts: facts.uniqueid.rpartition("-")[2])[-_LEARN_FROM:]
    if newest:
        offset_s = Counter(facts.utc_offset_s for facts in newest).most_common(1)[0][0]
    zone: tzinfo | None = None
    if connection.timezone:
        zone = ZoneInfo(connection.timezone)
    elif offset_s is not None:
        zone = timezone(timedelta(seconds=offset_s))
    for at, item in enumerate(found):
        if item.facts.started_at is None and item.facts.local_time is not None:
            found[at] = item._replace(facts=parse_name(item.name, zone))
    return found, offset_s


def _split_by_live_call(
    found: Sequence[PendingDownload], live: set[str]
) -> tuple[list[PendingDownload], list[PendingDownload]]:
    """Split recordings into those whose call is in progress and those to download."""
    growing = [item for item in found if item.uniqueid in live]
    return growing, [item for item in found if item.uniqueid not in live]


def _plan(
    engine: Engine,
    active: ActiveConnection,
    client: AriClient,
    since: datetime | None,
    until: datetime | None,
    limit: int | None,
    room: Room,
) -> SyncResult:
    """Return what a sync would do now, without changing anything."""
    listed = {item.name: item.format for item in client.list_recordings()}
    live = client.channels()
    with reading(engine) as session:
        known = recordings.known_names(session, active.id)
        offset_s = recordings.utc_offset_s(session, active.id)
        open_ones = recordings.open_recordings(session, active.id, since, until, room.largest_bytes)
        found = [item for item in open_ones if item.name in listed]
    new, _ = _parse_names([(n, f) for n, f in listed.items() if n not in known], active.connection, offset_s)
    growing, wanted = _split_by_live_call(found, live)
    in_range = [item.facts for item in new if _within(item.facts.started_at, since, until)]
    waiting = len(growing) + sum(facts.uniqueid in live for facts in in_range)
    pending = len(wanted) + len(in_range) + len(growing) - waiting
    return SyncResult(
        listed=len(listed),
        new=len(new),
        waiting=waiting,
        pending=pending if limit is None else min(limit, pending),
        gone=sum(not was_gone and name not in listed for name, was_gone in known.items()),
    )


def _within(started_at: datetime | None, since: datetime | None, until: datetime | None) -> bool:
    if started_at is None:
        return since is None and until is None
    return (since is None or since <= started_at) and (until is None or started_at < until)


def _with_download_counts(
    result: SyncResult, states: Counter[str], failed: dict[str, str], *, waiting: int, wanted: int
) -> SyncResult:
    return result.model_copy(
        update={
            "downloaded": states["downloaded"],
            "waiting": waiting + states["waiting"],
            "empty": states["empty"],
            "unreadable": states["unreadable"],
            "too_large": states["too_large"],
            "pending": wanted - states.total(),
            "failed": [Failure(name=name, reason=reason) for name, reason in failed.items()],
        }
    )
