"""A PBX with 100,000 recordings: the memory and time of a dry run, a sync, and a page of calls."""

import json
import os
import subprocess
import sys

import pytest

from tests.pages.page_reader import INTERACTIONS, open_page, tables, without_errors
from tests.simulator.simulated_pbx import SimulatedPbx
from tests.simulator.simulated_recordings import SimulatedRecordings

COUNT = 100_000
MEASURE = """
import json, resource, time
from pbx.store.job_queue import required_connection
from pbx.recordings.sync import sync_recordings
from pbx.settings import load_settings
from pbx.store.calls import CallFilter, count_calls, find_calls
from pbx.store.engine import open_engine, reading

settings = load_settings()
engine = open_engine(settings)
active = required_connection(engine, settings)
measurements = {}

def measured(name, act):
    started = time.monotonic()
    found = act()
    measurements[name] = [found, round(time.monotonic() - started, 2), peak_kb() - usual_kb]

def peak_kb():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

def sync(**options):
    result = sync_recordings(engine, active, settings.audio_dir, **options)
    return [result.listed, result.new, result.pending]

def page():
    with reading(engine) as session:
        wanted = CallFilter(active.id)
        return [count_calls(session, wanted), len(find_calls(session, wanted, offset=50_000, limit=50))]

usual_kb = peak_kb()
measured("plan", lambda: sync(dry_run=True))
measured("sync without a download", lambda: sync(limit=0))
measured("page", page)
print(json.dumps(measurements))
"""


def test_100_000_recordings_need_less_than_250_mb(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("pbx.ui.sidebar.ensure_worker", lambda settings: None)
    recordings = SimulatedRecordings()
    recordings.add_bulk(COUNT, b"a sound that nobody requests")
    with SimulatedPbx(recordings=recordings) as pbx:
        monkeypatch.setenv("FREEPBX_HOST", "127.0.0.1")
        for name, value in (("PORT", pbx.ari_port), ("USERNAME", pbx.username), ("PASSWORD", pbx.password)):
            monkeypatch.setenv(f"FREEPBX_ARI_{name}", str(value))
        run = subprocess.run(
            [sys.executable, "-c", MEASURE], env=os.environ, capture_output=True, text=True, check=True
        )
        measurements = json.loads(run.stdout)
        page = open_page(INTERACTIONS)
    with capsys.disabled():
        print("".join(f"\n  {name}: {took_s} s, {kb / 1000:.0f} MB" for name, (_, took_s, kb) in measurements.items()))
    assert measurements["plan"][0] == [COUNT, COUNT, COUNT]
    assert measurements["sync without a download"][0] == [COUNT, COUNT, COUNT]
    assert measurements["page"][0] == [COUNT, 50]
    assert max(kb for _, _, kb in measurements.values()) < 250_000
    (rows,) = tables(without_errors(page)).values()
    assert 10 <= len(rows) <= 100
