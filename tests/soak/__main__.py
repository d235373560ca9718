"""The soak test: runs app, worker and listener on a faulty demo PBX while it kills them.

`make soak`, or `SOAK_S=30 python -m tests.soak` for half a minute. `SOAK_SEED` repeats the random choices of another
run. The exit status is 1, with the reasons, if anything was lost, invented, left incomplete, stuck or leaking.
"""

import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

from sqlalchemy import Engine
from sqlmodel import col, func, select

import pbx.demo.simulated_day
from pbx.demo.company import ZONE
from pbx.demo.history_from_events import history_of_calls
from pbx.demo.simulated_asterisk import SimulatedAsterisk
from pbx.demo.simulated_history import calls_between
from pbx.model.history import Visit
from pbx.settings import Settings
from pbx.store.engine import open_engine, reading
from pbx.store.job_queue import request_job
from pbx.store.job_rows import get_job
from pbx.store.models import Job, ListeningSpan, Transcription, now
from tests.paths import ROOT
from tests.simulator.simulated_pbx import SimulatedPbx
from tests.simulator.simulated_recordings import recordings_of_ended_calls
from tests.soak import checks, random_faults
from tests.soak.app_processes import AppProcess, MemorySampler, end_processes_using, free_port, is_app_up
from tests.soak.random_faults import RandomFaults, wait_for
from tests.soak.recorder import LARGEST_MB, Recorder

SHORT_S = 300.0  # a shorter run doesn't check memory, and omits faults that take a minute to recover from
KILLING_SHARE = 0.5  # of the time; afterwards the processes keep running, so that their memory can be measured
MEASURED_SHARE = 0.3  # of the time: at the end, when memory must not grow
LEAK_MB_PER_MIN = 2.0
SYNC_EVERY_S = 4.0
QUIET_S = 360.0  # no simulated call begins so long before midnight
GRACE_S = 150.0  # a listener whose password was refused tries again after a minute


@dataclass
class Soak:
    """The options and results of one run. `errors` has one text per failure."""

    lasts_s: float
    seed: int
    data_dir: Path
    boots: list[datetime] = field(default_factory=list)
    syncs: Counter[str] = field(default_factory=Counter)
    errors: list[str] = field(default_factory=list)

    @property
    def gentle(self) -> bool:
        return self.lasts_s < SHORT_S


class SoakPbx(SimulatedPbx):
    """A simulated PBX that stores the times of its restarts in `boots`."""

    boots: list[datetime]

    def restart(self) -> None:
        super().restart()
        self.boots.append(self.asterisk.booted_at)


def simulate_many_calls() -> None:
    """Simulate ten short calls a minute now and in the next two hours."""
    hour = datetime.now(ZoneInfo(ZONE)).hour
    pbx.demo.simulated_day._CALLS_BY_HOUR = tuple(600 if (at - hour) % 24 in (0, 1, 2) else 3 for at in range(24))
    pbx.demo.simulated_day._WEEKEND_SHARE = 1.0
    pbx.demo.simulated_day._TALK_TIMES = dict.fromkeys(pbx.demo.simulated_day._TALK_TIMES, (15, 0.5))


def environment_of(demo: SimulatedPbx, data_dir: Path) -> dict[str, str]:
    """The app's settings. The worker doesn't listen, because the listener is a separate process here."""
    return {
        "PBX_ENV_FILE": "",
        "PBX_DATA_DIR": str(data_dir),
        "FREEPBX_HOST": "127.0.0.1",
        "FREEPBX_AMI_PORT": str(demo.ami_port),
        "FREEPBX_ARI_PORT": str(demo.ari_port),
        **{f"FREEPBX_{side}_USERNAME": demo.username for side in ("AMI", "ARI")},
        **{f"FREEPBX_{side}_PASSWORD": demo.password for side in ("AMI", "ARI")},
        "FREEPBX_SYNC_INTERVAL_MINUTES": "1",
        "FREEPBX_COLLECT_INTERVAL_MINUTES": "1",
        "FREEPBX_WATCH": "false",
        "FREEPBX_LARGEST_RECORDING_MB": str(LARGEST_MB),
        "WHISPER_MODEL": str(ROOT / "tests" / "fixtures" / "speech" / "micro-whisper.pt"),
    }


@contextmanager
def opening_pages(address: str, log: Path) -> Iterator[None]:
    """Open the app's pages in turn for the duration of the block, and log their states."""
    with log.open("wb") as output:
        command = [sys.executable, "-m", "tests.soak.open_pages", address]
        opener = subprocess.Popen(command, cwd=ROOT, stdout=output, stderr=output, start_new_session=True)
        try:
            yield
        finally:
            opener.terminate()  # its browser ends with it
            opener.wait()


def keep_requesting_syncs(soak: Soak, engine: Engine, settings: Settings, until: float) -> None:
    """Request a sync every few seconds, as a user would, until `until` on the monotonic clock."""
    requested: str | None = None
    while (left_s := until - time.monotonic()) > 0:
        time.sleep(min(SYNC_EVERY_S, left_s))
        if requested:
            count_end(soak, engine, requested)
        requested = request_job(engine, settings, "sync", requested_by="soak").id


def count_end(soak: Soak, engine: Engine, job_id: str) -> None:
    with reading(engine) as session:
        job = get_job(session, job_id)
    soak.syncs[job.state if job else "lost"] += 1


def sync_without_faults(engine: Engine, settings: Settings) -> str:
    """Run a sync without faults. Return "" if it succeeds with nothing left to download, otherwise the reason."""
    result: dict[str, object] = {}

    def is_done() -> bool:
        nonlocal result
        job = request_job(engine, settings, "sync", requested_by="soak")
        ended = wait_for(lambda: state_of(engine, job.id) in ("done", "failed"), 60)
        with reading(engine) as session:
            found = get_job(session, job.id)
        result = (found.result or {}) if found else {}
        result |= {"error": found.error if found else "the job is gone"}
        return bool(ended and found and found.state == "done" and not result["failed"] and not result["waiting"])

    for _ in range(2):  # the first may have started before the faults ended
        succeeded = wait_for(is_done, GRACE_S)
    return "" if succeeded else f"the last sync failed: {json.dumps(result)[:800]}"


def state_of(engine: Engine, job_id: str) -> str:
    with reading(engine) as session:
        job = get_job(session, job_id)
    return job.state if job else "lost"


def simulated_visits(boots: list[datetime], until: datetime) -> list[Visit]:
    """The simulated visits. A restart ends those in progress without an event."""
    found: list[Visit] = []
    calls = list(calls_between(boots[0], until))
    for call in calls:
        if call.started_at < boots[0] or call.queue == "":
            continue
        ends = [boot for boot in boots if boot > call.started_at]
        asterisk = SimulatedAsterisk(max(boot for boot in boots if boot <= call.started_at))
        found += history_of_calls([call], min([*ends, until]), asterisk).visits
    return found


def check_memory(soak: Soak, runs: dict[str, list[tuple[float, int]]], since: float) -> list[str]:
    """Return one line for each process. A leak is added to `soak.errors`."""
    lines = []
    for name, samples in runs.items():
        late = [sample for sample in samples if sample[0] >= since]
        slope = checks.slope_mb_per_min(late)
        size = f"{samples[-1][1] / 1e6:.0f} MB" if samples else "not measured"
        lines.append(f"{name} {size}" + (f", {slope:+.2f} MB a minute" if slope is not None else ""))
        if soak.gentle:
            continue
        if slope is None:
            soak.errors.append(f"the memory of {name} could not be checked: {len(late)} samples")
        elif slope > LEAK_MB_PER_MIN:
            soak.errors.append(f"{name} grows by {slope:.1f} MB a minute")
    return lines


def check_pages(soak: Soak, log: Path, first_line: int) -> Counter[str]:
    """Count the states of the pages. From line `first_line` of the log on, every page must have been reachable."""
    states: Counter[str] = Counter()
    for number, line in enumerate(log.read_text().splitlines()):
        if not line.startswith("{"):
            continue
        opened = json.loads(line)
        states[opened["state"]] += 1
        if opened["state"] == "error" or (opened["state"] != "ok" and number > first_line):
            soak.errors.append(f"the page /{opened['path']} was {opened['state']}: {opened['text']}")
    if not states["ok"]:
        soak.errors.append(f"no page was opened: {log.read_text()[-500:]}")
    return states


def run(soak: Soak) -> None:
    logs = soak.data_dir.parent / "logs"
    logs.mkdir()
    simulate_many_calls()
    with ExitStack() as stack:
        demo = stack.enter_context(SoakPbx(recordings=recordings_of_ended_calls(datetime.now(UTC))))
        demo.boots = soak.boots
        demo.restart()
        environment = environment_of(demo, soak.data_dir)
        port = str(free_port())
        app = ["-m", "streamlit", "run", "streamlit_app.py", "--server.port", port, "--server.fileWatcherType", "none"]
        commands = {"worker": ["-m", "pbx", "worker"], "watch": ["-m", "pbx", "watch"], "app": app}
        children = [AppProcess(name, command, environment, logs / f"{name}.log") for name, command in commands.items()]
        stack.callback(end_processes_using, soak.data_dir)
        settings = Settings(_env_file=None, **{name.lower(): value for name, value in environment.items()})  # type: ignore[arg-type]
        engine = open_engine(settings)
        stack.callback(engine.dispose)
        for child in children:
            child.start()
        address = f"http://127.0.0.1:{port}"
        if not wait_for(lambda: is_app_up(address), 90):
            raise SystemExit(f"The app did not start: {(logs / 'app.log').read_text()[-2000:]}")
        run_with_faults(soak, demo, children, engine, settings, logs, address)


def run_with_faults(
    soak: Soak, demo: SoakPbx, children: list[AppProcess], engine: Engine, settings: Settings, logs: Path, address: str
) -> None:
    started = time.monotonic()
    ends, kills_end = started + soak.lasts_s, started + soak.lasts_s * KILLING_SHARE
    every_s = 2.0 if soak.gentle else 3.0
    late_s = random_faults.stall_s(soak.gentle) + checks.EVENT_DELAY.total_seconds()
    spool = soak.data_dir.parent / "spool"
    spool.mkdir()
    recorder = Recorder(demo.recordings, spool, soak.seed, every_s=1.0 if soak.gentle else 2.0)
    sampler = MemorySampler(children)
    with opening_pages(address, logs / "pages.log"):
        faults = RandomFaults(demo, children, soak.data_dir, soak.seed, every_s, gentle=soak.gentle)
        keep_requesting_syncs(soak, engine, settings, kills_end)
        faults.killing = False
        wait_for(lambda: is_app_up(address), 60)
        first_line_without_kills = len((logs / "pages.log").read_text().splitlines()) + 1
        keep_requesting_syncs(soak, engine, settings, ends)
        measured = {child.name: list(child.samples) for child in children} | {"demo": list(sampler.own_samples)}
        faults.close()
        recorder.close()
        soak.errors += [text for text in (sync_without_faults(engine, settings),) if text]
        is_listening = wait_for(lambda: listens(engine, demo.pbx_now()), GRACE_S)
        soak.errors += [] if is_listening else ["no listener is running any more"]
        wait_for(lambda: visits_compared(soak, demo, engine, late_s) > 0, QUIET_S + GRACE_S)
    sampler.close()
    all_done_at = now()
    if not wait_for(lambda: not unfinished(engine), GRACE_S):
        soak.errors.append(f"{unfinished(engine)} is still unfinished after {GRACE_S:.0f} s")
    statuses = {child.name: child.end() for child in children}
    expected_statuses = {"app": (0, -signal.SIGTERM)}  # uvicorn shuts down and then lets the signal end the process
    soak.errors += [
        f"{name} ended with status {status}"
        for name, status in statuses.items()
        if status not in expected_statuses.get(name, (0,))
    ]
    end_processes_using(soak.data_dir)
    until = demo.pbx_now()
    expected = recorder.recorded, recorder.deleted, recorder.too_large
    soak.errors += checks.check_cache(engine, settings.audio_dir, *expected)
    soak.errors += checks.check_files(soak.data_dir)
    soak.errors += checks.check_logs([*logs.glob("*.log"), *soak.data_dir.glob("*.log")])
    soak.errors += checks.check_jobs(engine, all_done_at)
    soak.errors += [] if soak.gentle or "completed" in transcribed(engine) else ["nothing was transcribed"]
    errors, compared, gaps = checks.check_visits(engine, simulated_visits(soak.boots, until), until, late_s)
    soak.errors += errors + ([] if compared else ["no visit was received from join to end"])
    pages = check_pages(soak, logs / "pages.log", first_line_without_kills)
    memory = check_memory(soak, measured, ends - soak.lasts_s * MEASURED_SHARE)
    remaining = len(recorder.recorded.keys() - recorder.deleted)
    print(
        f"Recordings: {len(recorder.recorded)}, of which {len(recorder.deleted)} were deleted and {remaining} remain."
    )
    print(f"Syncs: {counts_text(soak.syncs)}; jobs in all: {jobs_in_all(engine)}.")
    print(f"Transcriptions: {transcribed(engine)}.")
    print(f"Faults: {counts_text(faults.done)}. Faults that took effect: {counts_text(Counter(demo.faults.taken))}.")
    print(f"Visits: {compared} received from join to end, in {gaps + 1} listening spans. Pages: {counts_text(pages)}.")
    print(f"Memory: {'; '.join(memory)}.")


def visits_compared(soak: Soak, demo: SoakPbx, engine: Engine, late_s: float) -> int:
    """How many simulated visits are within a listening span so far."""
    now = demo.pbx_now()
    return checks.check_visits(engine, simulated_visits(soak.boots, now), now, late_s)[1]


def unfinished(engine: Engine) -> str:
    """The unfinished jobs, or "". Recordings may still wait for transcription: it is slow, not stuck."""
    with reading(engine) as session:
        jobs = session.exec(select(Job.kind).where(col(Job.state).in_(("queued", "running")))).all()
    return counts_text(Counter(jobs)) if jobs else ""


def transcribed(engine: Engine) -> str:
    with reading(engine) as session:
        rows = session.exec(select(Transcription.state, func.count()).group_by(Transcription.state)).all()
    return counts_text(Counter(dict(rows)))


def listens(engine: Engine, pbx_now: datetime) -> bool:
    """Whether the newest listening span is open and recent."""
    with reading(engine) as session:
        span = session.exec(select(ListeningSpan).order_by(col(ListeningSpan.id).desc())).first()
    return span is not None and not span.end_reason and span.listened_until > pbx_now - timedelta(seconds=15)


def jobs_in_all(engine: Engine) -> str:
    with reading(engine) as session:
        rows = session.exec(select(Job.kind, Job.state, func.count()).group_by(Job.kind, Job.state)).all()
    return counts_text(Counter({f"{kind} {state}": count for kind, state, count in rows}))


def counts_text(counts: Counter[str]) -> str:
    return ", ".join(f"{count} × {name}" for name, count in sorted(counts.items())) or "none"


def main() -> int:
    lasts_s = float(os.environ.get("SOAK_S", "600"))
    seed = int(os.environ.get("SOAK_SEED", "0")) or secrets.randbelow(10**6) + 1
    folder = Path(tempfile.mkdtemp(prefix="pbx-soak-"))
    soak = Soak(lasts_s, seed, folder / "data")
    soak.data_dir.mkdir()
    print(f"Soaking for {lasts_s:.0f} s, seed {seed}, from {datetime.now(UTC):%H:%M:%S} UTC.", flush=True)
    run(soak)
    for text in soak.errors[:40]:
        print(f"✗ {text}")
    if soak.errors:
        print(f"{len(soak.errors)} errors; the data and the logs are in {folder}.")
    else:
        print("No errors: nothing was lost, invented or left incomplete.")
        shutil.rmtree(folder) if "SOAK_KEEP" not in os.environ else print(f"The data and the logs are in {folder}.")
    return 1 if soak.errors else 0


if __name__ == "__main__":
    sys.exit(main())
