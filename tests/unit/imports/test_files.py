"""Files as people have them: of Windows, of old releases, of something else; read, or named in a sentence."""

import gzip
import io
import json
import sqlite3
import tarfile
import threading
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine
from sqlmodel import select
from typer.testing import CliRunner

from pbx.__main__ import app
from pbx.errors import DataError
from pbx.imports import cdr as import_cdr
from pbx.imports import files as history_files
from pbx.imports import run as import_run
from pbx.imports.cdr import import_cdr_database, import_cdr_file
from pbx.imports.job import import_history
from pbx.imports.queue_log_files import import_queue_log_files
from pbx.imports.run import ImportRun
from pbx.imports.uploads import save_uploads
from pbx.settings import Settings
from pbx.store.engine import reading
from pbx.store.models import AgentEventRow, CallRow, LegRow, RingRow, VisitRow
from pbx.store.pbx_connections import ActiveConnection, active_connection
from tests.unit.asterisk.formats.test_cdr_files import CUSTOM, record

NOON = 1_795_251_600  # 21 November 2026 09:00 UTC
LOG = """\
1795250400|1795250390.1|2600|NONE|ENTERQUEUE||5550177|1
1795250405|1795250390.1|2600|Eve Adams | ACME|CONNECT|5|1795250400.2|3
1795250465|1795250390.1|2600|Eve Adams | ACME|COMPLETEAGENT|5|60|1
1795250500|1795250490.1|2600|NONE|ENTERQUEUE||5550178|1
1795250505|1795250490.1|2600|Jörg | Sales|CONNECT|5|1795250500.2|3
1795250565|1795250490.1|2600|Jörg | Sales|COMPLETECALLER|5|60|1
1795250600|MANAGER|2600|Eve Adams | ACME|PAUSE|Lunch
1795250700|MANAGER|2600|Eve Adams | ACME|UNPAUSE|
1795250710|1795250701.1|2600|NONE|ENTERQUEUE||5550179|1
1795250720|1795250701.1|2600|Eve Adams | ACME|RINGNOANSWER|10000
1795250730|1795250701.1|2600|NONE|ABANDON|1|1|20
"""
ENCODINGS: dict[str, Callable[[str], bytes]] = {
    "UTF-8": str.encode,
    "UTF-8 with a mark": lambda text: text.encode("utf-8-sig"),
    "UTF-16 LE with a mark": lambda text: text.encode("utf-16"),
    "UTF-16 BE with a mark": lambda text: b"\xfe\xff" + text.encode("utf-16-be"),
    "UTF-16 LE": lambda text: text.encode("utf-16-le"),
    "UTF-16 BE": lambda text: text.encode("utf-16-be"),
    "cp1252": lambda text: text.encode("cp1252"),
}
run = CliRunner().invoke


@pytest.fixture
def active(engine: Engine, settings: Settings) -> ActiveConnection:
    found = active_connection(engine, settings)
    assert found is not None
    return found


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_a_queue_log_of_windows_is_read(
    engine: Engine, active: ActiveConnection, tmp_path: Path, encoding: str, end: str, pack: Callable[[bytes], bytes]
) -> None:
    log = tmp_path / "queue_log"
    log.write_bytes(pack(ENCODINGS[encoding](LOG.replace("\n", end))))
    (source,) = import_queue_log_files(ImportRun(engine, active), [log])
    assert (source.rows, source.unreadable, source.visits, source.rings, source.agent_events) == (11, 0, 3, 1, 2)
    with reading(engine) as session:
        visits = session.exec(select(VisitRow).order_by(VisitRow.uniqueid)).all()
        assert [(visit.agent, visit.outcome) for visit in visits] == [
            ("Eve Adams | ACME", "answered"), ("Jörg | Sales", "answered"), ("", "abandoned"),
        ]  # fmt: skip
        assert [ring.agent for ring in session.exec(select(RingRow))] == ["Eve Adams | ACME"]
        assert [event.kind for event in session.exec(select(AgentEventRow))] == ["pause", "unpause"]
    (again,) = import_queue_log_files(ImportRun(engine, active), [log])
    assert (again.rows, again.failure) == (0, "")


@pytest.mark.parametrize("encoding", ["UTF-8 with a mark", "UTF-16 LE with a mark", "UTF-16 LE"])
def test_the_last_line_of_a_copy_needs_no_line_end(
    engine: Engine, active: ActiveConnection, tmp_path: Path, encoding: str
) -> None:
    log = tmp_path / "queue_log"
    log.write_bytes(ENCODINGS[encoding](LOG.rstrip()))
    for rows in (11, 0):
        (source,) = import_queue_log_files(ImportRun(engine, active), [log])
        assert (source.rows, source.failure) == (rows, "")


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_a_master_csv_of_windows_is_read(
    engine: Engine, active: ActiveConnection, tmp_path: Path, encoding: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(history_files, "BLOCK_BYTES", 333)
    file = tmp_path / "Master.csv"
    text = "".join(record(n, clid='"Jörg\nMüller" <1001>').decode() for n in range(1, 30))
    file.write_bytes(ENCODINGS[encoding](text.replace("\n", "\r\n")))
    result = import_cdr_file(ImportRun(engine, active), file)
    assert (result.rows, result.legs, result.calls, result.unreadable) == (29, 29, 29, 0)
    with reading(engine) as session:
        assert set(session.exec(select(CallRow.from_name))) == {"Jörg Müller"}
    assert import_cdr_file(ImportRun(engine, active), file).rows == 0


def test_a_row_of_several_lines_is_read_once_it_is_complete(
    engine: Engine, active: ActiveConnection, tmp_path: Path
) -> None:
    file, odd = tmp_path / "Master.csv", record(2, clid='"Smith,\nJohn" <1>', userfield="one\ntwo")
    whole = record(1) + odd + record(3)
    first = whole.index(b"Smith,\n") + len(b"Smith,\n")
    file.write_bytes(whole[:first])
    assert import_cdr_file(ImportRun(engine, active), file).legs == 1
    file.write_bytes(whole)
    result = import_cdr_file(ImportRun(engine, active), file)
    assert (result.legs, result.unreadable) == (2, 0)
    with reading(engine) as session:
        assert set(session.exec(select(CallRow.from_name))) == {"Eve", "Smith, John"}


def queue_row(at: int, answer: int, queue: str, caller: int, agent: int, half: int, *spans: int) -> dict[str, Any]:
    """The caller's row for one agent whose telephone the queue rang."""
    disposition, number = "ANSWERED" if spans[1] else "NO ANSWER", f"5550{queue}"
    channels = f"SIP/carrier-{caller:08x}", f"Local/{agent}@from-queue-{half:08x};1"
    return row_of(at, answer, number, queue, *channels, "Queue", f"{queue},t,,,300", *spans, disposition, caller)


def agent_row(
    at: int, answer: int | None, queue: str, agent: int, half: int, serial: int, *spans: int
) -> dict[str, Any]:
    """The row of that agent's telephone."""
    disposition, number = "ANSWERED" if spans[1] else "NO ANSWER", f"5550{queue}"
    channels = f"Local/{agent}@from-queue-{half:08x};2", f"SIP/{agent}-{serial:08x}"
    return row_of(at, answer, number, str(agent), *channels, "Dial", f"SIP/{agent}", *spans, disposition, serial)


def row_of(at: int, answer: int | None, *rest: Any) -> dict[str, Any]:
    names = ("src", "dst", "channel", "dstchannel", "lastapp", "lastdata", "duration", "billsec", "disposition")
    began = at if rest[4] == "Dial" or rest[-1] != 1 else 0  # the caller's channel is the same in all of their rows
    values = dict(zip(names, rest, strict=False)) | {"uniqueid": f"{NOON + began}.{rest[-1]}"}
    return {"calldate": at, "answer": answer, "dcontext": "from-queue"} | values


# What Issabel and FreePBX up to 12 write of two calls to queues and one between telephones: no row has a linkedid.
ROWS = [
    queue_row(0, 2, "600", 1, 1001, 1, 60, 58),
    agent_row(5, 10, "600", 1001, 1, 3, 55, 50),
    agent_row(5, None, "600", 1002, 2, 5, 5, 0),
    queue_row(5, 2, "600", 1, 1002, 2, 5, 0),
    queue_row(30, 31, "601", 7, 1003, 8, 20, 19),
    agent_row(35, 37, "601", 1003, 8, 9, 15, 13),
    row_of(90, 92, "1001", "1002", "SIP/1001-0000000a", "SIP/1002-0000000b", "Dial", "SIP/1002", 9, 7, "ANSWERED", 11),
]


def local(second: int | None) -> str:
    return "" if second is None else f"2026-11-21 09:{second // 60:02}:{second % 60:02}"


def as_file(path: Path, rows: list[dict[str, Any]]) -> Path:
    """The rows as Master.csv."""
    with path.open("w") as file:
        for row in rows:
            texts = ["", row["src"], row["dst"], row["dcontext"], f'""{row["src"]}"" <{row["src"]}>', row["channel"]]
            texts += [row["dstchannel"], row["lastapp"], row["lastdata"], local(row["calldate"]), local(row["answer"])]
            texts += [local(row["calldate"] + row["duration"])]
            quoted = ",".join(f'"{text}"' for text in texts)
            end = f'{row["duration"]},{row["billsec"]},"{row["disposition"]}","DOCUMENTATION","{row["uniqueid"]}",""'
            file.write(f"{quoted},{end}\n")
    return path


def as_database(path: Path, rows: list[dict[str, Any]], linked: str | None = None) -> str:
    """The rows as an old FreePBX's table; `linked`: after an upgrade, the new column is empty but for this one."""
    names = [name for name in rows[0] if name != "answer"] + ["clid"] + ["linkedid"] * (linked is not None)
    connection = sqlite3.connect(path)
    with connection:
        connection.execute(f"CREATE TABLE cdr ({', '.join(names)})")
        for row in rows:
            uid = row["uniqueid"]
            values = row | {"calldate": local(row["calldate"]), "clid": f'"{row["src"]}" <{row["src"]}>'}
            values |= {"linkedid": uid if uid == linked else ""}
            connection.execute(f"INSERT INTO cdr VALUES ({', '.join('?' * len(names))})", [values[n] for n in names])
    connection.close()
    return f"sqlite:///{path}"


def calls(engine: Engine) -> list[tuple[Any, ...]]:
    with reading(engine) as session:
        rows = session.exec(select(CallRow).order_by(CallRow.linkedid)).all()
        return [
            (call.linkedid, call.disposition, call.talk_s, call.wait_s, call.duration_s, call.queue, call.agent)
            for call in rows
        ]


RIGHT = [  # by hand: an agent's own row tells how long they talked and how long the caller had waited
    (f"{NOON}.1", "ANSWERED", 50, 10, 60, "600", "1001"),
    (f"{NOON + 30}.7", "ANSWERED", 13, 7, 20, "601", "1003"),
    (f"{NOON + 90}.11", "ANSWERED", 7, 2, 9, "", "1002"),
]


@pytest.mark.parametrize("backwards", [False, True])
@pytest.mark.parametrize("source", ["file", "no linkedid", "empty linkedids", "one linkedid"])
def test_rows_without_a_linkedid_are_the_same_calls_from_file_and_database(
    engine: Engine, active: ActiveConnection, tmp_path: Path, source: str, backwards: bool
) -> None:
    rows = ROWS[::-1] if backwards else ROWS
    for _ in range(2):  # the second time nothing changes
        if source == "file":
            import_cdr_file(ImportRun(engine, active), as_file(tmp_path / "Master.csv", rows))
        else:
            (tmp_path / "cdr.sqlite").unlink(missing_ok=True)
            linked = {"no linkedid": None, "empty linkedids": "", "one linkedid": f"{NOON}.1"}[source]
            import_cdr_database(ImportRun(engine, active), as_database(tmp_path / "cdr.sqlite", rows, linked))
        assert calls(engine) == RIGHT


def test_a_table_without_linkedid_is_linked_across_transactions_and_days(
    engine: Engine, active: ActiveConnection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(import_cdr, "_ROWS_PER_TRANSACTION", 2)
    address = as_database(tmp_path / "cdr.sqlite", ROWS)
    import_cdr_database(ImportRun(engine, active), address)
    later = sqlite3.connect(tmp_path / "cdr.sqlite")
    with later:  # a day and ten seconds later: what is read again begins in the midst of the first call
        later.execute(f"INSERT INTO cdr (calldate, uniqueid) VALUES ('2026-11-22 09:00:03', '{NOON + 86403}.1')")
    for _ in range(2):
        import_cdr_database(ImportRun(engine, active), address)
    later.close()
    assert calls(engine)[:3] == RIGHT
    with reading(engine) as session:
        assert len(session.exec(select(LegRow)).all()) == 8


def archive(make: str) -> bytes:
    out = io.BytesIO()
    if make == "xlsx":
        with zipfile.ZipFile(out, "w") as workbook:
            workbook.writestr("xl/workbook.xml", "<workbook/>")
    else:
        with tarfile.open(fileobj=out, mode="w") as tar:
            tar.addfile(tarfile.TarInfo("queue_log"), io.BytesIO())
    return out.getvalue()


FULL = b"[2026-11-21 09:00:00] VERBOSE[1234][C-00000001] pbx.c: Executing [s@macro:1] NoOp\n" * 20
CEL = b'"CHAN_START","2026-11-21 09:00:00","Eve","1001","","","","1002","x","PJSIP/1-1","","","","","1.1","1.1","",""\n'
FOREIGN = {
    "sheet.xlsx": (archive("xlsx"), "Excel"),
    "logs.tar": (archive("tar"), "tar archive"),
    "cdr.sql": (b"-- MySQL dump 10.13\n\nDROP TABLE IF EXISTS `cdr`;\nINSERT INTO `cdr` VALUES (1);\n", "SQL"),
    "dump.sql": (b"BEGIN TRANSACTION;\nCREATE TABLE cdr (calldate datetime);\n", "SQL"),
    "full": (FULL, "general logs"),
    "messages": (b"[Nov 21 09:00:00] NOTICE[1234] chan_sip.c: Registration from x failed\n", "general logs"),
    "cel.csv": (CEL, "CEL"),
    "report.csv": (
        b'"calldate","src","dst","channel","duration"\n"2026-11-21 09:00:00","1","2","SIP/1","9"\n',
        "uniqueid",
    ),
    "page.html": (b"<!DOCTYPE html>\n<html>Log in</html>\n", "web page"),
    "history.db": (b"SQLite format 3\0" + b"\0" * 99, "SQLite"),
    "call.wav": (b"RIFF\x24\0\0\0WAVEfmt ", "sound"),
    "empty": (b"", "empty"),
    "blank": (b"\n\n\r\n", "empty"),
    "odd": (b"hello\nworld\n", "queue_log"),
    "gaps": (b"hello\n\n\r\nworld\n\n", "queue_log"),
}


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
@pytest.mark.parametrize("command", ["queue-log", "cdr"])
@pytest.mark.parametrize("name", FOREIGN)
def test_a_file_of_which_nothing_could_be_read_is_a_failure_that_says_what_it_is(
    engine: Engine,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    command: str,
    pack: Callable[[bytes], bytes],
) -> None:
    monkeypatch.setenv("FREEPBX_HOST", "127.0.0.1")
    data, says = FOREIGN[name]
    file = tmp_path / name
    file.write_bytes(pack(data))
    for _ in range(2):  # what was tried before is no success either
        said = run(app, ["import", command, str(file)])
        assert said.exit_code == 1
        assert f"Nothing could be read from {name}" in said.stderr
        if name != "odd":
            assert says in said.stderr
    told = run(app, ["import", command, str(file), "--json"])
    assert told.exit_code == 1
    assert "Nothing could be read" in told.stdout
    assert "Traceback" not in said.output + told.output


@pytest.mark.parametrize("name", FOREIGN)
def test_on_the_page_such_an_upload_failed(
    engine: Engine, settings: Settings, active: ActiveConnection, name: str
) -> None:
    data, says = FOREIGN[name]
    paths = [str(path) for path in save_uploads(settings, [(name, io.BytesIO(data))])]
    with pytest.raises(DataError, match=f"Nothing could be read from {name}.*{says}"):
        import_history(engine, settings, active, {"files": paths}, None, threading.Event())


def test_one_bad_file_stops_no_other(engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FREEPBX_HOST", "127.0.0.1")
    files = {"fake.gz": b"\x1f\x8bno", "bad": b"hello\n", "torn.gz": gzip.compress(record(1))[:40], "folder": b""}
    files |= {"Master.csv": record(2), "empty": b""}
    for name, data in files.items():
        (tmp_path / name).mkdir() if name == "folder" else (tmp_path / name).write_bytes(data)
    told = run(app, ["import", "cdr", *(str(tmp_path / name) for name in files), "--json"])
    sources = {source["source"]: source for source in json.loads(told.stdout)["sources"]}
    assert told.exit_code == 1
    assert [bool(sources[name]["failure"]) for name in files] == [True] * 4 + [False] * 2
    assert sources["Master.csv"]["legs"] == 1
    told = run(app, ["import", "queue-log", *(str(tmp_path / name) for name in files), "--json"])
    assert (told.exit_code, len(json.loads(told.stdout)["sources"])) == (1, 6)


def test_each_file_given_to_the_others_command_is_told_which_is_right(
    engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FREEPBX_HOST", "127.0.0.1")
    log, csv = tmp_path / "a", tmp_path / "b"
    log.write_text(LOG)
    csv.write_bytes(record(1))
    assert "pbx import queue-log" in run(app, ["import", "cdr", str(log)]).stderr
    assert "pbx import cdr" in run(app, ["import", "queue-log", str(csv)]).stderr


def test_a_file_that_an_earlier_version_could_not_read_is_read_now(
    engine: Engine, active: ActiveConnection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "Master.csv"
    file.write_bytes(CUSTOM + b"\n")
    with monkeypatch.context() as before:
        before.setattr(import_run, "refuse_other", lambda *_: None)
        unreadable = import_cdr.UnreadableRow("no")
        before.setattr(import_cdr, "parse_master_csv_line", lambda *_: (_ for _ in ()).throw(unreadable))
        with pytest.raises(DataError):
            import_cdr_file(ImportRun(engine, active), file)
    assert import_cdr_file(ImportRun(engine, active), file).legs == 1


def test_an_export_with_a_header_is_read_and_goes_on(engine: Engine, active: ActiveConnection, tmp_path: Path) -> None:
    header = "calldate,clid,src,dst,channel,dstchannel,duration,billsec,disposition,uniqueid,linkedid\n"
    rows = [
        f'"2026-11-21 09:{n:02}:00","""Eve"" <1001>","1001","1002","PJSIP/1-{n}","PJSIP/2-{n}","60","55","ANSWERED",'
        f'"{NOON + 60 * n}.{n}","{NOON + 60 * n}.{n}"\n'
        for n in range(3)
    ]
    file = tmp_path / "cdr.csv"
    file.write_text(header + "".join(rows[:2]))
    result = import_cdr_file(ImportRun(engine, active), file)
    assert (result.rows, result.legs, result.unreadable) == (2, 2, 0)
    file.write_text(header + "".join(rows))
    result = import_cdr_file(ImportRun(engine, active), file)
    assert (result.rows, result.legs, result.unreadable) == (1, 1, 0)
