"""Measures the listener at a high rate of events: `python benchmarks/watch.py [events per second] [seconds]`.

A manager interface in a separate process repeats the events of real Asterisk 16 and 22 that pass the filter, with new
call IDs, at an even rate; the listener stores them in a SQLite cache. Prints the events sent, received and stored, the
reader's delay, the longest queues, and memory over time. It has no target.
"""

import multiprocessing
import multiprocessing.connection
import os
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from sqlalchemy import Engine  # noqa: E402 - a script: the project's path is set above
from sqlmodel import func, select  # noqa: E402

from pbx.asterisk.ami.protocol import Message  # noqa: E402
from pbx.live.events import USED_EVENTS, LiveUpdates  # noqa: E402
from pbx.live.listener import Listener  # noqa: E402
from pbx.live.writer import EventWriter  # noqa: E402
from pbx.settings import load_settings  # noqa: E402
from pbx.store.engine import open_engine, reading  # noqa: E402
from pbx.store.job_queue import required_connection  # noqa: E402
from pbx.store.models import LegRow, ListeningSpan, RingRow, VisitRow  # noqa: E402
from tests.unit.asterisk.ami.replay_server import ReplayServer, Session  # noqa: E402
from tests.unit.live.fake_pbx import FakePbx  # noqa: E402

SLICE_S = 0.02
EPOCHS = {16: 1795251009, 22: 1795251046}  # in the uniqueids of the captured calls


def captured_events() -> list[tuple[bytes, list[bytes]]]:
    """Return each version's epoch of its uniqueids, and its events that pass the filter."""
    found = []
    for version, epoch in EPOCHS.items():
        frames = (ROOT / f"tests/fixtures/asterisk-{version}/events.bin").read_bytes().split(b"\r\n\r\n")
        used = [frame + b"\r\n\r\n" for frame in frames if Message(frame).event in USED_EVENTS]
        found.append((str(epoch).encode(), used))
    return found


def endless_events() -> Iterator[bytes]:
    """Yield the events endlessly, each time with new calls."""
    number = 1_700_000_000
    while True:
        for epoch, frames in captured_events():
            number += 1
            for frame in frames:
                yield frame.replace(epoch, str(number).encode())


def serve(pipe: "multiprocessing.connection.Connection[int, int]", rate: int, seconds: int) -> None:
    """Answer one listener. On the start message, send at the rate, with the time in a pause's reason once a second."""
    pbx = FakePbx()

    def script(session: Session) -> None:
        pbx.serve(session)

    server = ReplayServer(script, prefix="bare-")
    pipe.send(server.port)
    pipe.recv()
    events, started, sent = endless_events(), time.monotonic(), 0
    while time.monotonic() - started < seconds:
        due = int((time.monotonic() - started) * rate) - sent
        data = [next(events) for _ in range(due)]
        if sent // rate != (sent + due) // rate:
            stamp = f"Queue: mark\r\nMemberName: mark\r\nPaused: 1\r\nPausedReason: {time.time()}"
            data.append(f"Event: QueueMemberPause\r\n{stamp}\r\n\r\n".encode())
        pbx.send_events(b"".join(data), 1 << 20)
        sent += due
        time.sleep(SLICE_S)
    pipe.send(sent)
    pipe.recv()


def rss_mb() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def expected(sent: int) -> Counter[str]:
    """Return what must be stored of `sent` events: visits, dial attempts and missed rings."""
    events, counts = endless_events(), Counter[str]()
    legs: set[tuple[str, str]] = set()
    for message in (Message(next(events)) for _ in range(sent)):
        if message.event == "DialBegin" and message.get("Uniqueid"):
            legs.add((message.get("Uniqueid"), message.get("DestUniqueid")))
        counts[message.event] += 1
    return Counter(
        {"visits": counts["QueueCallerJoin"], "dialled legs": len(legs), "missed rings": counts["AgentRingNoAnswer"]}
    )


def stored(engine: Engine) -> Counter[str]:
    with reading(engine) as session:
        counts = {
            "visits": session.exec(select(func.count()).select_from(VisitRow)).one(),
            "dialled legs": session.exec(
                select(func.count()).select_from(LegRow).where(LegRow.dst_channel != "")
            ).one(),
            "missed rings": session.exec(select(func.count()).select_from(RingRow)).one(),
            "spans": session.exec(select(func.count()).select_from(ListeningSpan)).one(),
        }
    return Counter(counts)


class ListenerSampler:
    """Samples the queues, delay and memory of a working listener."""

    def __init__(self, watch: Listener) -> None:
        self.watch = watch
        self.lags: list[float] = []
        self.memory: list[float] = []
        self.queued = self.waiting = 0
        self.over = threading.Event()
        take: EventWriter = watch.writer
        plain = take.add

        def add(facts: LiveUpdates, complete_until: object) -> bool:
            self.lags += [
                one.happened_at.timestamp() - float(one.reason) for one in facts.agent_events if one.queue == "mark"
            ]
            return plain(facts, complete_until)  # type: ignore[arg-type]

        take.add = add  # type: ignore[method-assign]
        self.thread = threading.Thread(target=self.sample, daemon=True)
        self.thread.start()

    def sample(self) -> None:
        started = time.monotonic()
        while not self.over.wait(0.02):
            self.queued = max(self.queued, self.watch.queued.waiting)
            self.waiting = max(self.waiting, self.watch.writer.waiting)
            if time.monotonic() - started >= 5 * len(self.memory):
                self.memory.append(rss_mb())


def main() -> None:
    rate, seconds = (
        (int(text) for text in [*sys.argv[1:], "2000", "60"][:2]) if len(sys.argv) != 2 else (int(sys.argv[1]), 60)
    )
    our_end, server_end = multiprocessing.get_context("spawn").Pipe()
    server = multiprocessing.get_context("spawn").Process(target=serve, args=(server_end, rate, seconds), daemon=True)
    server.start()
    with tempfile.TemporaryDirectory() as folder:
        facts = {"HOST": "127.0.0.1", "AMI_PORT": str(our_end.recv()), "AMI_USERNAME": "notebook", "AMI_PASSWORD": "x"}
        os.environ |= {f"FREEPBX_{name}": value for name, value in facts.items()}
        os.environ |= {"PBX_DATA_DIR": folder, "PBX_ENV_FILE": "", "FREEPBX_ARI_USERNAME": ""}
        settings = load_settings()
        engine = open_engine(settings)
        watch, stop, started = (
            Listener(engine, settings, required_connection(engine, settings)),
            threading.Event(),
            threading.Event(),
        )
        thread = threading.Thread(target=watch.run, args=(stop, lambda _: started.set()))
        thread.start()
        started.wait(30)
        meter, cpu_s = ListenerSampler(watch), time.process_time()
        our_end.send(0)
        sent = our_end.recv()
        cpu_s = time.process_time() - cpu_s
        last = time.monotonic()
        while (watch.queued.waiting or watch.writer.waiting) and time.monotonic() - last < 60:
            time.sleep(0.1)
        print(f"all stored {time.monotonic() - last:.1f} s after the last event was sent")
        time.sleep(2)
        meter.over.set()
        stop.set()
        thread.join()
        our_end.send(0)
        report(meter, sent, seconds, cpu_s, engine)
        engine.dispose()


def report(meter: ListenerSampler, sent: int, seconds: int, cpu_s: float, engine: Engine) -> None:
    watch = meter.watch
    marks = len(meter.lags)
    print(f"{sent:,} events sent in {seconds} s ({sent / seconds:,.0f}/s), received {watch.events - marks:,}")
    print(f"dropped by the reader {watch.queued.dropped}, refused by the writer {watch.writer.dropped}")
    should, has = expected(sent), stored(engine)
    for name in ("visits", "dialled legs", "missed rings"):
        print(f"{name}: {has[name]:,} stored of {should[name]:,}")
    print(f"spans: {has['spans']} (1: no gap)")
    lags = sorted(meter.lags)
    print(f"reader's delay: median {lags[len(lags) // 2] * 1000:.0f} ms, maximum {lags[-1] * 1000:.0f} ms")
    print(f"longest queues: {meter.queued:,} events for the reader, {meter.waiting:,} rows for the database")
    print(f"snapshots stored meanwhile: {watch.poller.taken}; use of one core {cpu_s / seconds:.0%}")
    print("memory every 5 s, MB: " + " ".join(f"{mb:.0f}" for mb in meter.memory))


if __name__ == "__main__":
    main()
