"""queue_log file imports store each new line once, even after rotation, damage, a stop or a kill."""

import gzip
import os
import random
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine
from sqlmodel import Session, select

from pbx.errors import DataError, SettingsError
from pbx.imports import files as files_module
from pbx.imports.queue_log_files import import_queue_log_files
from pbx.imports.queue_log_writer import QueueLogResult
from pbx.settings import load_settings
from pbx.store.engine import open_engine, reading, writing
from pbx.store.models import AgentEventRow, ImportCursorRow, PbxConnection, RingRow, VisitRow
from tests.paths import ROOT
from tests.unit.asterisk.formats.sample_queue_logs import lines, write_days
from tests.unit.imports.import_runs import import_run

CALL = ("0|9.1|sales|NONE|ENTERQUEUE||555|1", "3|9.1|sales|Eve|CONNECT|3|9.2|2", "9|9.1|sales|Eve|COMPLETEAGENT|3|6|1")


@pytest.fixture
def engine() -> Iterator[Engine]:
    engine = make_cache()
    yield engine
    engine.dispose()


def make_cache() -> Engine:
    engine = open_engine(load_settings())
    with writing(engine) as session:
        session.add(PbxConnection(id=1, host="pbx"))
    return engine


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "queue_log"


def append(path: Path, *events: str, end: str = "\n") -> None:
    with path.open("ab") as file:
        file.write(b"\n".join(lines(*events)) + end.encode())


def import_files(engine: Engine, *files: Path, **options: Any) -> list[QueueLogResult]:
    return import_queue_log_files(import_run(engine, **options), files)


def rows_read(engine: Engine, *files: Path) -> list[int]:
    return [source.rows for source in import_files(engine, *files)]


def visits(engine: Engine) -> list[tuple[str, str]]:
    with reading(engine) as session:
        return sorted(session.exec(select(VisitRow.uniqueid, VisitRow.outcome)).all())


def contents(engine: Engine) -> list[list[Any]]:
    """Everything that an import stored, except row ids."""
    with reading(engine) as session:
        return [_rows(session, table) for table in (VisitRow, RingRow, AgentEventRow)]


def _rows(session: Session, table: Any) -> list[str]:
    return sorted(str(row.model_dump(exclude={"id"})) for row in session.exec(select(table)))


def test_only_new_complete_lines_are_imported(engine: Engine, log: Path) -> None:
    append(log, *CALL[:2])
    append(log, CALL[2][:20], end="")
    assert rows_read(engine, log) == [2]
    assert visits(engine) == [("9.1", "in_progress")]
    with log.open("a") as file:
        file.write(CALL[2][20:] + "\n")
    assert rows_read(engine, log) == [1]
    assert visits(engine) == [("9.1", "answered")]
    assert rows_read(engine, log) == [0]


def test_a_rotated_and_compressed_file_is_recognized_as_the_same(engine: Engine, log: Path) -> None:
    append(log, *CALL[:2])
    assert rows_read(engine, log) == [2]
    old = log.with_name("queue_log.1")
    log.rename(old)
    append(old, "4|9.3|sales|NONE|ENTERQUEUE||556|1")
    append(log, "6|9.3|sales|NONE|ABANDON|1|1|2", CALL[2])
    assert rows_read(engine, log, old) == [1, 2]  # in the order in which the files were written
    assert visits(engine) == [("9.1", "answered"), ("9.3", "abandoned")]
    compressed = log.with_name("queue_log.2.gz")
    compressed.write_bytes(gzip.compress(old.read_bytes()))
    assert rows_read(engine, compressed, log) == [0, 0]
    with reading(engine) as session:
        assert sorted(cursor.label for cursor in session.exec(select(ImportCursorRow))) == [
            "queue_log",
            "queue_log.2.gz",
        ]


def test_a_truncated_file_is_read_from_its_beginning(engine: Engine, log: Path) -> None:
    start = "0|NONE|NONE|NONE|QUEUESTART|"
    append(log, start, *CALL)
    import_files(engine, log)
    log.write_bytes(b"")
    append(log, start, *(event.replace("9.1", "9.5") for event in CALL[:2]))
    assert rows_read(engine, log) == [3]
    assert visits(engine) == [("9.1", "answered"), ("9.5", "in_progress")]


def test_the_last_line_of_a_compressed_file_needs_no_line_ending(engine: Engine, log: Path) -> None:
    append(log, *CALL, end="")
    compressed = log.with_suffix(".gz")
    compressed.write_bytes(gzip.compress(log.read_bytes()))
    assert rows_read(engine, compressed) == [3]
    assert rows_read(engine, compressed) == [0]


def test_unreadable_lines_are_counted_and_reported_by_number(engine: Engine, log: Path) -> None:
    append(log, CALL[0])
    with log.open("ab") as file:
        file.write(b"0|NONE|NONE|NONE|QUEUESTART|\n\nnonsense\n" + b"x" * 200 + b"\n")
    append(log, *CALL[1:])
    (source,) = import_files(engine, log)
    assert (source.rows, source.unreadable, source.visits) == (7, 3, 1)
    assert [line for line, _ in source.errors] == [2, 4, 5]
    append(log, "3|9.1|sales|Eve|HOORAY|")
    with log.open("ab") as file:
        file.write(b"bad\n" * 200)
    (source,) = import_files(engine, log)
    assert (source.rows, source.unreadable, source.unknown) == (201, 200, {"HOORAY": 1})
    assert [line for line, _ in source.errors] == list(range(9, 9 + 97))  # with the three before, the first hundred


def test_a_very_long_line_is_one_unreadable_line(engine: Engine, log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files_module, "BLOCK_BYTES", 1000)
    append(log, CALL[0])
    with log.open("ab") as file:
        file.write(b"\xff" * 50_000 + b"\n")
    append(log, *CALL[1:])
    (source,) = import_files(engine, log)
    assert (source.rows, source.unreadable) == (4, 1)
    assert visits(engine) == [("9.1", "answered")]
    assert rows_read(engine, log) == [0]


def test_a_damaged_compressed_file_fails_and_the_others_are_imported(engine: Engine, log: Path) -> None:
    log.write_text("".join(write_days(400)))
    complete = gzip.compress(log.read_bytes())
    compressed, other = log.with_name("broken.gz"), log.with_name("other")
    compressed.write_bytes(complete[: len(complete) // 2])
    append(other, "9000|9.1|sales|NONE|ENTERQUEUE||555|1")
    damaged, intact = import_files(engine, compressed, other)
    assert "broken.gz is damaged" in damaged.failure
    assert (intact.failure, intact.rows) == ("", 1)
    assert 200 < len(visits(engine)) < 401  # about half, up to the damage
    compressed.write_bytes(complete)
    again = import_files(engine, compressed)
    assert not any(source.failure for source in again)
    assert len(visits(engine)) == 401


def test_a_missing_file_is_an_error(engine: Engine, log: Path) -> None:
    with pytest.raises(SettingsError, match=r"There is no file .*queue_log"):
        import_files(engine, log)


def test_a_file_of_random_bytes_stores_nothing(engine: Engine, log: Path) -> None:
    log.write_bytes(random.Random(1).randbytes(100_000))
    (source,) = import_files(engine, log)
    assert source.unreadable > 100
    assert contents(engine) == [[], [], []]


def test_the_order_of_files_does_not_matter(engine: Engine, tmp_path: Path) -> None:
    text = list(write_days(300))
    parts = [tmp_path / f"queue_log.{n}" for n in range(3)]
    for n, part in enumerate(parts):
        part.write_text("".join(text[n * len(text) // 3 : (n + 1) * len(text) // 3]))
    for part in reversed(parts):  # newest first, one import each
        import_files(engine, part)
    one_by_one = visits(engine)
    assert len(one_by_one) == 300
    assert {outcome for _, outcome in one_by_one} == {"answered", "transferred", "abandoned", "timeout", "exit_empty"}


def test_progress_is_reported_and_a_stopped_import_continues(
    engine: Engine, log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files_module, "BLOCK_BYTES", 5000)
    log.write_text("".join(write_days(200)))
    reported: list[tuple[int, int | None]] = []
    stop = threading.Event()

    def progress(done: int, total: int | None) -> None:
        reported.append((done, total))
        if len(reported) == 3:
            stop.set()

    first = import_files(engine, log, progress=progress, stop=stop, bytes_total=log.stat().st_size)[0].rows
    assert reported == [(5000 * n, log.stat().st_size) for n in (1, 2, 3)]
    rest = import_files(engine, log)[0].rows
    assert first + rest == len(log.read_bytes().splitlines())
    assert len(visits(engine)) == 200


def test_an_import_after_a_full_disk_loses_nothing(engine: Engine, log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log.write_text("".join(write_days(50)))

    def fail(*_: object) -> None:
        raise DataError("Not enough disk space.", "")

    with monkeypatch.context() as patched:
        patched.setattr("pbx.imports.run.move_cursor", fail)
        with pytest.raises(DataError, match="Not enough disk space"):
            import_files(engine, log)
    assert contents(engine) == [[], [], []]
    import_files(engine, log)
    assert len(visits(engine)) == 50


def test_an_import_killed_three_times_stores_the_same_as_an_uninterrupted_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = tmp_path / "queue_log"
    log.write_text("".join(write_days(3000)))
    rng = random.Random(20261121)
    monkeypatch.setenv("PBX_DATA_DIR", str(tmp_path / "killed"))
    killed = make_cache()
    for _ in range(3):
        command = [sys.executable, "-m", "tests.unit.imports.import_in_subprocess", str(log)]
        process = subprocess.Popen(command, cwd=ROOT, env={**os.environ, "PBX_DATA_DIR": str(tmp_path / "killed")})
        target = position(killed) + rng.randrange(20_000, 120_000)
        while process.poll() is None and position(killed) < target:
            time.sleep(0.005)
        assert process.poll() is None
        process.kill()
        process.wait()
    assert 0 < position(killed) < log.stat().st_size
    import_files(killed, log)
    monkeypatch.setenv("PBX_DATA_DIR", str(tmp_path / "whole"))
    complete = make_cache()
    import_files(complete, log)
    assert contents(killed) == contents(complete)
    assert len(visits(complete)) == 3000
    with reading(killed) as session:
        assert session.exec(select(ImportCursorRow.rows)).one() == len(log.read_bytes().splitlines())
    killed.dispose()
    complete.dispose()


def position(engine: Engine) -> int:
    with reading(engine) as session:
        return session.exec(select(ImportCursorRow.position)).first() or 0


def test_a_did_read_by_one_import_applies_to_the_next(engine: Engine, log: Path) -> None:
    append(log, "0|9.1|NONE|NONE|DID|5550100")
    import_files(engine, log)
    append(log, *CALL)
    import_files(engine, log)
    with reading(engine) as session:
        assert session.exec(select(VisitRow.did)).one() == "5550100"
