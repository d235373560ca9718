"""Measures importing a queue_log: lines per second and memory, and the speed of reading alone.

    python benchmarks/history.py [--calls 700000] [--big 2000]

`--calls`: generated calls, about four lines each. `--big`: megabytes of the file for the memory figure; 0 skips it.
Each figure comes from a separate process, with the peak memory that Linux reports.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from pbx.asterisk.formats.queue_log import parse_queue_log_line
from pbx.imports.files import open_history, read_lines
from pbx.imports.queue_log_files import import_queue_log_files
from pbx.imports.visits_from_queue_log import QueueLogFold
from pbx.settings import Settings
from pbx.store.engine import open_engine, writing
from pbx.store.models import PbxConnection
from tests.unit.asterisk.formats.sample_queue_logs import write_days
from tests.unit.imports.import_runs import import_run

MEMORY_TARGET_MB = 300


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--calls", type=int, default=700_000)
    parser.add_argument("--big", type=int, default=2000)
    parser.add_argument("--do", choices=["fold", "import", "again"])
    parser.add_argument("--file", type=Path)
    wanted = parser.parse_args()
    if wanted.do:
        print(json.dumps(measure(wanted.do, wanted.file)))
        return
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "queue_log"
        with file.open("w") as out:
            out.writelines(write_days(wanted.calls))
        lines = sum(1 for _ in file.open("rb"))
        print(f"queue_log of {lines:,} lines, {file.stat().st_size / 1e6:.0f} MB")
        for what, label in (("fold", "read and folded"), ("import", "imported"), ("again", "nothing new")):
            print_result(label, lines, run(what, file))
        if wanted.big:
            grow(file, wanted.big * 1_000_000)
            found = run("fold", file)
            print_result(f"{file.stat().st_size / 1e6:,.0f} MB folded", found["rows"], found)
            assert found["memory_mb"] < MEMORY_TARGET_MB


def run(what: str, file: Path) -> dict[str, float]:
    command = [sys.executable, __file__, "--do", what, "--file", str(file)]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True, env=os.environ | {"PBX_ENV_FILE": ""})
    found: dict[str, float] = json.loads(done.stdout)
    return found


def print_result(what: str, lines: float, found: dict[str, float]) -> None:
    took_s, memory_mb = found["took_s"], found["memory_mb"]
    print(f"{what:24} {took_s:7.1f} s  {lines / took_s:10,.0f} lines/s  peak {memory_mb:5.0f} MB", flush=True)


def measure(what: str, file: Path) -> dict[str, float]:
    """Measure in this process; return rows, seconds and peak memory."""
    started = time.monotonic()
    rows = fold(file) if what == "fold" else store(file)
    return {"rows": rows, "took_s": time.monotonic() - started, "memory_mb": peak_mb()}


def peak_mb() -> float:
    """Return this process's peak memory; getrusage would include that of its parent."""
    status = Path("/proc/self/status").read_text()
    return float(next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM"))) / 1024


def fold(file: Path) -> int:
    log, rows = QueueLogFold(), 0
    with open_history(file) as (stream, _):
        for lines, _ in read_lines(stream, 0, to_the_end=False):
            for line in lines:
                event = parse_queue_log_line(line)
                if event is not None:
                    log.add(event)
            rows += len(lines)
            log.take()
    return rows


def store(file: Path) -> int:
    engine = open_engine(Settings(_env_file=None, pbx_data_dir=file.parent / "data"))
    with writing(engine) as session:
        if session.get(PbxConnection, 1) is None:
            session.add(PbxConnection(id=1, host="pbx"))
    return import_queue_log_files(import_run(engine), [file])[0].rows


def grow(file: Path, size_bytes: int) -> None:
    """Append the file to itself up to a size. Its calls are then repeated, like open visits."""
    text = file.read_bytes()
    with file.open("ab") as out:
        while out.tell() < size_bytes:
            out.write(text)


if __name__ == "__main__":
    main()
