"""What must hold at the soak's end: each check returns what is wrong, nothing when all is well."""

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

REPORTED = timedelta(seconds=2.5)  # until an event that is not held up was heard; the database knows whole seconds
_SAMPLES_NEEDED = 30


def check_cache(
    engine: Engine, audio_dir: Path, recorded: dict[str, str], deleted: set[str], too_large: Set[str] = frozenset()
) -> list[str]:
    """The cache against the recordings: `recorded` is name → sha256 of all that was ever whole there."""
    wrong = []
    with reading(engine) as session:
        rows = {row.name: row for row in session.exec(select(RecordingRow)).all()}
    for name in sorted(recorded.keys() | rows.keys()):
        row = rows.get(name)
        if row is None:
            wrong += [] if name in deleted else [f"{name} was recorded, and the cache doesn't know it"]
        elif name not in recorded:
            wrong.append(f"{name} is in the cache and was never recorded")
        elif row.state == "downloaded" and name not in too_large:
            content = (audio_dir / row.file).read_bytes() if (audio_dir / row.file).exists() else b""
            if row.size_bytes != len(content) or hashlib.sha256(content).hexdigest() != recorded[name]:
                wrong.append(f"{name} in the cache ({len(content):,} bytes) is not what was recorded")
        elif name not in deleted and not (name in too_large and row.state == "too_large"):
            wrong.append(f"{name} is {row.state}: {row.reason}")
        if row is not None and (row.gone_at is not None) != (name in deleted):
            wrong.append(f"{name} {'was deleted, which' if name in deleted else 'is there, and'} the cache got wrong")
    kept = {row.file for row in rows.values() if row.state == "downloaded"}
    there = {str(path.relative_to(audio_dir)) for path in audio_dir.rglob("*") if path.is_file()} - {".sync.lock"}
    wrong += [f"{path} is in the cache and belongs to no recording" for path in sorted(there - kept)]
    return wrong


def check_files(data_dir: Path) -> list[str]:
    """Nothing half-written anywhere."""
    halves = [path for path in data_dir.rglob("*") if path.is_file()]
    halves = [
        path for path in halves if path.suffix == ".part" or ".parts" in path.parts or path.name.startswith(".freepbx")
    ]
    return [f"half a file is left: {path.relative_to(data_dir)}" for path in halves]


def check_jobs(engine: Engine, all_done_at: datetime) -> list[str]:
    """No job is left running, no recording with a transcriber; for after the end of them all.

    Nor is one left queued, unless it was requested after `all_done_at`, in the last second of the worker.
    """
    with reading(engine) as session:
        unfinished = session.exec(select(Job).where(col(Job.state).in_(("queued", "running")))).all()
        since = all_done_at.replace(microsecond=0)  # the database knows whole seconds
        stuck = [job for job in unfinished if job.state == "running" or job.requested_at < since]
        at_work = session.exec(select(Transcription).where(Transcription.state == "transcribing")).all()
    return [
        f"job {job.kind} is {job.state} since {job.started_at or job.requested_at} ({job.worker})" for job in stuck
    ] + [f"recording {one.recording_id} is being transcribed by {one.worker}, which has ended" for one in at_work]


def check_logs(logs: Iterable[Path]) -> list[str]:
    """No traceback in any."""
    wrong = []
    for log in logs:
        text = log.read_text(errors="replace") if log.exists() else ""
        for part in text.split("Traceback (most recent call last)")[1:]:
            wrong.append(f"a traceback in {log.name}: {part.strip()[-1500:]}")
    return wrong


def check_visits(
    engine: Engine, simulated: Sequence[Visit], until: datetime, late_s: float
) -> tuple[list[str], int, int]:
    """Compare the visits that the listener stored with the simulated ones up to `until`.

    Returns what is wrong, the number of visits compared, and the number of gaps. An event may arrive `late_s` late.
    Each stored visit that has ended must have ended so in the simulation, and each simulated visit within one listening
    span must be stored with its end.
    """
    with reading(engine) as session:
        rows = session.exec(select(VisitRow)).all()
        spans = [
            (span.started_at, span.listened_until)
            for span in session.exec(select(ListeningSpan).order_by(col(ListeningSpan.started_at)))
        ]
    reported = {(visit.uniqueid, visit.queue): visit for visit in simulated}
    seen = {(row.uniqueid, row.queue): row for row in rows}
    wrong = [f"{key} was seen more than once" for key in seen if sum((r.uniqueid, r.queue) == key for r in rows) > 1]
    for key, row in seen.items():
        visit = reported.get(key)
        if visit is None:
            wrong.append(f"{key} was seen and never was")
        elif row.ended_at is not None:
            wrong += [f"{key}: {what}" for what in _differences(row, visit, late_s)]
        elif (
            row.outcome == "in_progress"
            and visit.ended_at is not None
            and visit.ended_at < until - timedelta(seconds=60)
        ):
            wrong.append(f"{key} still goes on for the cache; it ended {visit.ended_at:%H:%M:%S}")
    judged = 0
    late = timedelta(seconds=late_s)
    for key, visit in reported.items():
        if visit.ended_at is None or not any(
            from_at + REPORTED <= visit.joined_at and visit.ended_at + late <= to_at for from_at, to_at in spans
        ):
            continue
        judged += 1
        if key not in seen:
            wrong.append(
                f"{key} was listened to, and is not in the cache ({visit.outcome}, {visit.joined_at:%H:%M:%S})"
            )
        elif seen[key].ended_at is None:
            wrong.append(f"{key} was listened to, and has no end ({seen[key].outcome} for {visit.outcome})")
    return wrong, judged, max(len(spans) - 1, 0)


def _differences(row: VisitRow, visit: Visit, late_s: float) -> list[str]:
    """How an ended visit in the cache differs from the simulated one. Times may differ by what a stall delays them."""
    found = []
    if visit.ended_at is None or row.ended_at is None:
        return [f"it has an end that was invented: {row.outcome} {row.ended_at}"]
    for name in ("outcome", "agent", "caller"):
        if getattr(row, name) != getattr(visit, name):
            found.append(f"{name} is {getattr(row, name)!r}, not {getattr(visit, name)!r}")
    for name in ("joined_at", "connected_at", "ended_at"):
        mine, true = getattr(row, name), getattr(visit, name)
        if (mine is None) != (true is None) or (mine and true and not -2 <= (mine - true).total_seconds() <= late_s):
            found.append(f"{name} is {mine}, not {true}")
    return found


def slope_mb_per_min(samples: Sequence[tuple[float, int]]) -> float | None:
    """The typical growth (Theil and Sen: the median of all pairs' slopes); None for too few samples to tell."""
    if len(samples) < _SAMPLES_NEEDED:
        return None
    pairs = [
        (later[1] - sooner[1]) / (later[0] - sooner[0])
        for place, sooner in enumerate(samples)
        for later in samples[place + len(samples) // 4 :]
        if later[0] > sooner[0]
    ]
    return statistics.median(pairs) * 60 / 1e6
