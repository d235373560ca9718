"""The checks at the end of the soak test. Each returns a list of errors, empty if there are none."""

import hashlib
import statistics
from collections.abc import Iterable, Sequence, Set
from datetime import datetime, timedelta
from pathlib import Path

from sqlalchemy import Engine
from sqlmodel import col, select

from pbx.model.history import Visit
from pbx.store.engine import reading
from pbx.store.models import Job, ListeningSpan, RecordingRow, Transcription, VisitRow

EVENT_DELAY = timedelta(seconds=2.5)  # an event's longest delay without a stall; stored times are integer seconds
_SAMPLES_NEEDED = 30


def check_cache(
    engine: Engine, audio_dir: Path, recorded: dict[str, str], deleted: set[str], too_large: Set[str] = frozenset()
) -> list[str]:
    """Compare the cache with the recordings. `recorded` has the SHA-256 of each that was ever complete, by name."""
    errors = []
    with reading(engine) as session:
        rows = {row.name: row for row in session.exec(select(RecordingRow)).all()}
    for name in sorted(recorded.keys() | rows.keys()):
        row = rows.get(name)
        if row is None:
            errors += [] if name in deleted else [f"{name} was recorded, but is not in the cache"]
        elif name not in recorded:
            errors.append(f"{name} is in the cache, but was never recorded")
        elif row.state == "downloaded" and name not in too_large:
            content = (audio_dir / row.file).read_bytes() if (audio_dir / row.file).exists() else b""
            if row.size_bytes != len(content) or hashlib.sha256(content).hexdigest() != recorded[name]:
                errors.append(f"{name} in the cache ({len(content):,} bytes) is not what was recorded")
        elif name not in deleted and not (name in too_large and row.state == "too_large"):
            errors.append(f"{name} is {row.state}: {row.reason}")
        if row is not None and (row.gone_at is not None) != (name in deleted):
            errors.append(f"{name} {'was deleted, but isn’t' if name in deleted else 'exists, but is'} marked as gone")
    expected_files = {row.file for row in rows.values() if row.state == "downloaded"}
    files = {str(path.relative_to(audio_dir)) for path in audio_dir.rglob("*") if path.is_file()} - {".sync.lock"}
    errors += [f"{path} is in the cache and belongs to no recording" for path in sorted(files - expected_files)]
    return errors


def check_files(data_dir: Path) -> list[str]:
    """Check that no partly written file is left."""
    files = [path for path in data_dir.rglob("*") if path.is_file()]
    partial = [
        path for path in files if path.suffix == ".part" or ".parts" in path.parts or path.name.startswith(".freepbx")
    ]
    return [f"a partial file is left: {path.relative_to(data_dir)}" for path in partial]


def check_jobs(engine: Engine, all_done_at: datetime) -> list[str]:
    """Check, after all processes have ended, that no job is running and no recording is being transcribed.

    No job may be queued either, unless it was requested after `all_done_at`, in the worker's last second.
    """
    with reading(engine) as session:
        unfinished = session.exec(select(Job).where(col(Job.state).in_(("queued", "running")))).all()
        since = all_done_at.replace(microsecond=0)  # the database stores integer seconds
        stuck = [job for job in unfinished if job.state == "running" or job.requested_at < since]
        transcribing = session.exec(select(Transcription).where(Transcription.state == "transcribing")).all()
    return [
        f"job {job.kind} is {job.state} since {job.started_at or job.requested_at} ({job.worker})" for job in stuck
    ] + [f"recording {one.recording_id} is being transcribed by {one.worker}, which has ended" for one in transcribing]


def check_logs(logs: Iterable[Path]) -> list[str]:
    """Check that no log has a traceback."""
    errors = []
    for log in logs:
        text = log.read_text(errors="replace") if log.exists() else ""
        for part in text.split("Traceback (most recent call last)")[1:]:
            errors.append(f"a traceback in {log.name}: {part.strip()[-1500:]}")
    return errors


def check_visits(
    engine: Engine, simulated: Sequence[Visit], until: datetime, late_s: float
) -> tuple[list[str], int, int]:
    """Compare the visits that the listener stored with the simulated ones up to `until`.

    Returns the errors, the number of visits compared, and the number of gaps. An event may arrive `late_s` late.
    Each stored visit that has ended must have ended so in the simulation, and each simulated visit within one listening
    span must be stored with its end.
    """
    with reading(engine) as session:
        rows = session.exec(select(VisitRow)).all()
        spans = [
            (span.started_at, span.listened_until)
            for span in session.exec(select(ListeningSpan).order_by(col(ListeningSpan.started_at)))
        ]
    simulated_visits = {(visit.uniqueid, visit.queue): visit for visit in simulated}
    stored = {(row.uniqueid, row.queue): row for row in rows}
    errors = [
        f"{key} is stored more than once" for key in stored if sum((r.uniqueid, r.queue) == key for r in rows) > 1
    ]
    for key, row in stored.items():
        visit = simulated_visits.get(key)
        if visit is None:
            errors.append(f"{key} is stored, but was not simulated")
        elif row.ended_at is not None:
            errors += [f"{key}: {what}" for what in _differences(row, visit, late_s)]
        elif (
            row.outcome == "in_progress"
            and visit.ended_at is not None
            and visit.ended_at < until - timedelta(seconds=60)
        ):
            errors.append(f"{key} is still in progress in the cache; it ended {visit.ended_at:%H:%M:%S}")
    compared = 0
    late = timedelta(seconds=late_s)
    for key, visit in simulated_visits.items():
        if visit.ended_at is None or not any(
            from_at + EVENT_DELAY <= visit.joined_at and visit.ended_at + late <= to_at for from_at, to_at in spans
        ):
            continue
        compared += 1
        if key not in stored:
            errors.append(
                f"{key} is in a listening span, but is not in the cache ({visit.outcome}, {visit.joined_at:%H:%M:%S})"
            )
        elif stored[key].ended_at is None:
            errors.append(
                f"{key} is in a listening span, but has no end in the cache: {stored[key].outcome}, not {visit.outcome}"
            )
    return errors, compared, max(len(spans) - 1, 0)


def _differences(row: VisitRow, visit: Visit, late_s: float) -> list[str]:
    """How an ended visit in the cache differs from the simulated one. Times may differ by what a stall delays them."""
    differences = []
    if visit.ended_at is None or row.ended_at is None:
        return [f"its end was invented: {row.outcome} {row.ended_at}"]
    for name in ("outcome", "agent", "caller"):
        if getattr(row, name) != getattr(visit, name):
            differences.append(f"{name} is {getattr(row, name)!r}, not {getattr(visit, name)!r}")
    for name in ("joined_at", "connected_at", "ended_at"):
        cached, simulated = getattr(row, name), getattr(visit, name)
        if (cached is None) != (simulated is None) or (
            cached and simulated and not -2 <= (cached - simulated).total_seconds() <= late_s
        ):
            differences.append(f"{name} is {cached}, not {simulated}")
    return differences


def slope_mb_per_min(samples: Sequence[tuple[float, int]]) -> float | None:
    """The typical growth (Theil and Sen: the median slope of all pairs), or None for too few samples."""
    if len(samples) < _SAMPLES_NEEDED:
        return None
    pairs = [
        (later[1] - earlier[1]) / (later[0] - earlier[0])
        for index, earlier in enumerate(samples)
        for later in samples[index + len(samples) // 4 :]
        if later[0] > earlier[0]
    ]
    return statistics.median(pairs) * 60 / 1e6
