"""Import files from Windows, old releases and other programs are imported, or refused with a clear reason."""

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
from pbx.imports import cdr as cdr_module
from pbx.imports import files as files_module
from pbx.imports import run as run_module
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
    "UTF-8 with a BOM": lambda text: text.encode("utf-8-sig"),
    "UTF-16 LE with a BOM": lambda text: text.encode("utf-16"),
    "UTF-16 BE with a BOM": lambda text: b"\xfe\xff" + text.encode("utf-16-be"),
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
def test_a_queue_log_is_read_in_every_encoding_and_line_ending(
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


@pytest.mark.parametrize("encoding", ["UTF-8 with a BOM", "UTF-16 LE with a BOM", "UTF-16 LE"])
def test_the_last_line_of_a_copied_file_needs_no_line_ending(
    engine: Engine, active: ActiveConnection, tmp_path: Path, encoding: str
) -> None:
    log = tmp_path / "queue_log"
    log.write_bytes(ENCODINGS[encoding](LOG.rstrip()))
    for rows in (11, 0):
        (source,) = import_queue_log_files(ImportRun(engine, active), [log])
        assert (source.rows, source.failure) == (rows, "")


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_a_master_csv_is_read_in_every_encoding_and_line_ending(
    engine: Engine, active: ActiveConnection, tmp_path: Path, encoding: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files_module, "BLOCK_BYTES", 333)
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
    file, multi_line = tmp_path / "Master.csv", record(2, clid='"Smith,\nJohn" <1>', userfield="one\ntwo")
    complete = record(1) + multi_line + record(3)
    first = complete.index(b"Smith,\n") + len(b"Smith,\n")
    file.write_bytes(complete[:first])
    assert import_cdr_file(ImportRun(engine, active), file).legs == 1
    file.write_bytes(complete)
    result = import_cdr_file(ImportRun(engine, active), file)
    assert (result.legs, result.unreadable) == (2, 0)
    with reading(engine) as session:
        assert set(session.exec(select(CallRow.from_name))) == {"Eve", "Smith, John"}


def queue_row(at: int, answer: int, queue: str, caller: int, agent: int, half: int, *spans: int) -> dict[str, Any]:
    """The caller's row for one agent whose phone the queue rang."""
    disposition, number = "ANSWERED" if spans[1] else "NO ANSWER", f"5550{queue}"
    channels = f"SIP/carrier-{caller:08x}", f"Local/{agent}@from-queue-{half:08x};1"
    return row_of(at, answer, number, queue, *channels, "Queue", f"{queue},t,,,300", *spans, disposition, caller)


def agent_row(
    at: int, answer: int | None, queue: str, agent: int, half: int, serial: int, *spans: int
) -> dict[str, Any]:
    """The row of that agent's phone."""
    disposition, number = "ANSWERED" if spans[1] else "NO ANSWER", f"5550{queue}"
    channels = f"Local/{agent}@from-queue-{half:08x};2", f"SIP/{agent}-{serial:08x}"
    return row_of(at, answer, number, str(agent), *channels, "Dial", f"SIP/{agent}", *spans, disposition, serial)


def row_of(at: int, answer: int | None, *rest: Any) -> dict[str, Any]:
    names = ("src", "dst", "channel", "dstchannel", "lastapp", "lastdata", "duration", "billsec", "disposition")
    start = at if rest[4] == "Dial" or rest[-1] != 1 else 0  # all rows of a caller have one channel
    values = dict(zip(names, rest, strict=False)) | {"uniqueid": f"{NOON + start}.{rest[-1]}"}
    return {"calldate": at, "answer": answer, "dcontext": "from-queue"} | values


# What Issabel and FreePBX up to 12 write for two queue calls and one internal call: no row has a linkedid.
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
    """The rows as a table of an old FreePBX.

    `linked`: the only linkedid in the new column after an upgrade; without it there is no such column.
    """
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


EXPECTED = [  # the agent's own row contains the talk time and the caller's wait
    (f"{NOON}.1", "ANSWERED", 50, 10, 60, "600", "1001"),
    (f"{NOON + 30}.7", "ANSWERED", 13, 7, 20, "601", "1003"),
    (f"{NOON + 90}.11", "ANSWERED", 7, 2, 9, "", "1002"),
]


@pytest.mark.parametrize("backwards", [False, True])
@pytest.mark.parametrize("source", ["file", "no linkedid", "empty linkedids", "one linkedid"])
def test_rows_without_a_linkedid_give_the_same_calls_from_a_file_and_a_database(
    engine: Engine, active: ActiveConnection, tmp_path: Path, source: str, backwards: bool
) -> None:
    rows = ROWS[::-1] if backwards else ROWS
    for _ in range(2):  # the second import changes nothing
        if source == "file":
            import_cdr_file(ImportRun(engine, active), as_file(tmp_path / "Master.csv", rows))
        else:
            (tmp_path / "cdr.sqlite").unlink(missing_ok=True)
            linked = {"no linkedid": None, "empty linkedids": "", "one linkedid": f"{NOON}.1"}[source]
            import_cdr_database(ImportRun(engine, active), as_database(tmp_path / "cdr.sqlite", rows, linked))
        assert calls(engine) == EXPECTED


def test_a_table_without_linkedids_is_linked_across_transactions_and_days(
    engine: Engine, active: ActiveConnection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cdr_module, "_ROWS_PER_TRANSACTION", 2)
    address = as_database(tmp_path / "cdr.sqlite", ROWS)
    import_cdr_database(ImportRun(engine, active), address)
    later = sqlite3.connect(tmp_path / "cdr.sqlite")
    with later:  # a day and ten seconds later: the rows read again start within the first call
        later.execute(f"INSERT INTO cdr (calldate, uniqueid) VALUES ('2026-11-22 09:00:03', '{NOON + 86403}.1')")
    for _ in range(2):
        import_cdr_database(ImportRun(engine, active), address)
    later.close()
    assert calls(engine)[:3] == EXPECTED
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


GENERAL_LOG = b"[2026-11-21 09:00:00] VERBOSE[1234][C-00000001] pbx.c: Executing [s@macro:1] NoOp\n" * 20
CEL = b'"CHAN_START","2026-11-21 09:00:00","Eve","1001","","","","1002","x","PJSIP/1-1","","","","","1.1","1.1","",""\n'
OTHER_FILES = {
    "sheet.xlsx": (archive("xlsx"), "Excel"),
    "logs.tar": (archive("tar"), "tar archive"),
    "cdr.sql": (b"-- MySQL dump 10.13\n\nDROP TABLE IF EXISTS `cdr`;\nINSERT INTO `cdr` VALUES (1);\n", "SQL"),
    "dump.sql": (b"BEGIN TRANSACTION;\nCREATE TABLE cdr (calldate datetime);\n", "SQL"),
    "full": (GENERAL_LOG, "general logs"),
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
@pytest.mark.parametrize("name", OTHER_FILES)
def test_a_file_of_another_kind_fails_and_its_kind_is_named(
    engine: Engine,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    command: str,
    pack: Callable[[bytes], bytes],
) -> None:
    monkeypatch.setenv("FREEPBX_HOST", "127.0.0.1")
    data, content = OTHER_FILES[name]
    file = tmp_path / name
    file.write_bytes(pack(data))
    for _ in range(2):  # a second attempt fails too
        as_text = run(app, ["import", command, str(file)])
        assert as_text.exit_code == 1
        assert f"Nothing could be read from {name}" in as_text.stderr
        if name != "odd":
            assert content in as_text.stderr
    as_json = run(app, ["import", command, str(file), "--json"])
    assert as_json.exit_code == 1
    assert "Nothing could be read" in as_json.stdout
    assert "Traceback" not in as_text.output + as_json.output


@pytest.mark.parametrize("name", OTHER_FILES)
def test_an_upload_of_another_kind_fails(
    engine: Engine, settings: Settings, active: ActiveConnection, name: str
) -> None:
    data, content = OTHER_FILES[name]
    paths = [str(path) for path in save_uploads(settings, [(name, io.BytesIO(data))])]
    with pytest.raises(DataError, match=f"Nothing could be read from {name}.*{content}"):
        import_history(engine, settings, active, {"files": paths}, None, threading.Event())


def test_an_unreadable_file_does_not_stop_the_others(
    engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FREEPBX_HOST", "127.0.0.1")
    files = {"fake.gz": b"\x1f\x8bno", "bad": b"hello\n", "torn.gz": gzip.compress(record(1))[:40], "folder": b""}
    files |= {"Master.csv": record(2), "empty": b""}
    for name, data in files.items():
        (tmp_path / name).mkdir() if name == "folder" else (tmp_path / name).write_bytes(data)
    as_json = run(app, ["import", "cdr", *(str(tmp_path / name) for name in files), "--json"])
    sources = {source["source"]: source for source in json.loads(as_json.stdout)["sources"]}
    assert as_json.exit_code == 1
    assert [bool(sources[name]["failure"]) for name in files] == [True] * 4 + [False] * 2
    assert sources["Master.csv"]["legs"] == 1
    as_json = run(app, ["import", "queue-log", *(str(tmp_path / name) for name in files), "--json"])
    assert (as_json.exit_code, len(json.loads(as_json.stdout)["sources"])) == (1, 6)


def test_a_file_given_to_the_wrong_command_names_the_right_one(
    engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FREEPBX_HOST", "127.0.0.1")
    log, csv = tmp_path / "a", tmp_path / "b"
    log.write_text(LOG)
    csv.write_bytes(record(1))
    assert "pbx import queue-log" in run(app, ["import", "cdr", str(log)]).stderr
    assert "pbx import cdr" in run(app, ["import", "queue-log", str(csv)]).stderr


def test_a_file_that_an_earlier_version_could_not_read_is_imported(
    engine: Engine, active: ActiveConnection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "Master.csv"
    file.write_bytes(CUSTOM + b"\n")
    with monkeypatch.context() as earlier_version:
        earlier_version.setattr(run_module, "refuse_other", lambda *_: None)
        unreadable = cdr_module.UnreadableRow("no")
        earlier_version.setattr(cdr_module, "parse_master_csv_line", lambda *_: (_ for _ in ()).throw(unreadable))
        with pytest.raises(DataError):
            import_cdr_file(ImportRun(engine, active), file)
    assert import_cdr_file(ImportRun(engine, active), file).legs == 1


def test_an_export_with_a_header_is_imported_and_continued(
    engine: Engine, active: ActiveConnection, tmp_path: Path
) -> None:
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
