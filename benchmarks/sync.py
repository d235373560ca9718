"""Compares syncing with curl, on a separate real Asterisk (needs the lab: run make lab-up once).

    python benchmarks/sync.py [16|22]

1. 2,000 recordings of 160 KB: `curl --parallel --parallel-max 4` on the same URLs with kept connections, and a sync
   into an empty cache, in turn; files per second. Target: at least 0.7 times curl, and every file stored.
2. A sync without new recordings among 20,000 known ones, and curl's time for the listing. Target: at most 5 times.
3. Peak memory of the process that synced the 20,000. Target: below 250 MB.
"""

import json
import os
import platform
import resource
import shutil
import statistics
import struct
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from urllib.parse import quote

sys.path.insert(0, str(Path(__file__).parent.parent))

from sqlalchemy import text

from pbx.recordings.sync import sync_recordings
from pbx.settings import Settings
from pbx.store.engine import open_engine, reading
from pbx.store.pbx_connections import active_connection
from tests.lab.provision import LabError
from tests.lab.servers import ARI_SECRET
from tests.lab.spare_asterisk import SpareAsterisk, spare_asterisk

MANY, LARGE_BYTES = 2000, 160_000
KNOWN, SMALL_BYTES = 20_000, 344
ROUNDS = 5
LOGIN = ["--silent", "--user", f"notebook:{ARI_SECRET}"]


def main() -> None:
    version = int(sys.argv[1]) if len(sys.argv) > 1 else 16
    print(machine())
    with spare_asterisk(version, "bench") as server, tempfile.TemporaryDirectory(dir="/var/tmp") as work:
        downloads(server, Path(work))
        nothing_new(server, Path(work))


def machine() -> str:
    facts = Path("/proc/cpuinfo").read_text().splitlines()
    model = next((line.split(":")[1].strip() for line in facts if line.startswith("model name")), "")
    cores = os.cpu_count()
    return f"{platform.system()} {platform.release()}, {cores} cores {model}, Python {platform.python_version()}"


def downloads(server: SpareAsterisk, work: Path) -> None:
    names = fill(server, MANY, LARGE_BYTES)
    config = work / "curl.conf"
    url = server.connection().ari_url
    config.write_text(
        "".join(
            f'url = "{url}/recordings/stored/{quote(name, safe="")}/file"\noutput = "{work}/curl/{at}.wav"\n'
            for at, name in enumerate(names)
        )
    )
    by_curl, by_sync = [], []
    for _ in range(ROUNDS):
        (work / "curl").mkdir()
        started = time.perf_counter()
        subprocess.run(
            ["curl", *LOGIN, "--parallel", "--parallel-max", "4", "-K", str(config)],
            check=True,
            stderr=subprocess.DEVNULL,
        )
        by_curl.append(MANY / (time.perf_counter() - started))
        assert sum(file.stat().st_size for file in (work / "curl").iterdir()) == MANY * LARGE_BYTES
        shutil.rmtree(work / "curl")
        synced = sync_in_process(server, work / "data", 1)
        assert synced["stored"] == MANY, synced
        by_sync.append(MANY / synced["took_s"][0])
        shutil.rmtree(work / "data")
    print(f"{MANY} recordings of {LARGE_BYTES // 1000} KB, files per second in {ROUNDS} rounds:")
    print(f"  curl {[round(figure) for figure in by_curl]}")
    print(f"  sync {[round(figure) for figure in by_sync]}, all in the database")
    median = statistics.median(by_sync) / statistics.median(by_curl)
    print(f"  sync / curl = {median:.2f} by medians, {max(by_sync) / max(by_curl):.2f} by best rounds (target 0.70)")


def nothing_new(server: SpareAsterisk, work: Path) -> None:
    fill(server, KNOWN, SMALL_BYTES)
    synced = sync_in_process(server, work / "data", 6)
    assert synced["stored"] == KNOWN, synced
    listing = []
    for _ in range(5):
        started = time.perf_counter()
        url = f"{server.connection().ari_url}/recordings/stored"
        subprocess.run(["curl", *LOGIN, "-o", "/dev/null", url], check=True)
        listing.append(time.perf_counter() - started)
    curl_s, sync_s = statistics.median(listing), statistics.median(synced["took_s"][1:])
    print(f"No new recording among {KNOWN} known recordings, seconds, median of 5:")
    print(f"  curl's listing {curl_s:.3f}  sync {sync_s:.3f}  sync / curl = {sync_s / curl_s:.1f} (target 5.0)")
    print(f"Peak memory of the process that synced them: {synced['peak_mb']:.0f} MB (target 250)")


def fill(server: SpareAsterisk, count: int, size_bytes: int) -> list[str]:
    """Replace the PBX's recordings by `count` new ones of a size; return their names."""
    shutil.rmtree(server.monitor)
    day = server.monitor / "2026/11/20"
    day.mkdir(parents=True)
    sound_bytes = size_bytes - 44
    head = struct.pack("<4sI8sIHHIIHH4sI", b"RIFF", size_bytes - 8, b"WAVEfmt ", 16, 1, 1, 8000, 16000, 2, 16,
                       b"data", sound_bytes)  # fmt: skip
    sound = bytes(range(256)) * (sound_bytes // 256 + 1)
    names = [f"out-5551234-1001-20261120-080000-{1795161600 + n}.{n}" for n in range(count)]
    for name in names:
        (day / f"{name}.wav").write_bytes(head + sound[:sound_bytes])
    return [f"2026/11/20/{name}" for name in names]


def sync_in_process(server: SpareAsterisk, data: Path, times: int) -> dict[str, object]:
    """Sync in a separate process, to measure the memory of the sync alone."""
    command = [sys.executable, __file__, "sync-here", str(server.http_port), str(data), str(times)]
    return json.loads(subprocess.run(command, check=True, capture_output=True).stdout)


def sync_here(port: int, data: Path, times: int) -> None:
    settings = Settings(
        _env_file=None,
        freepbx_host="127.0.0.1",
        freepbx_ari_port=port,
        freepbx_ari_username="notebook",
        freepbx_ari_password=ARI_SECRET,
        pbx_data_dir=data,
    )
    engine = open_engine(settings)
    active = active_connection(engine, settings)
    took_s = []
    for _ in range(times):
        started = time.perf_counter()
        sync_recordings(engine, active, settings.audio_dir)
        took_s.append(time.perf_counter() - started)
    with reading(engine) as session:
        stored = session.connection().scalar(text("SELECT count(*) FROM recordings WHERE state = 'downloaded'"))
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"took_s": took_s, "stored": stored, "peak_mb": peak_mb}))


if __name__ == "__main__":
    if sys.argv[1:2] == ["sync-here"]:
        sync_here(int(sys.argv[2]), Path(sys.argv[3]), int(sys.argv[4]))
    else:
        try:
            main()
        except LabError as error:
            sys.exit(str(error))
