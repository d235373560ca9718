"""`python -m pbx import queue-log`: exit status, words and JSON."""

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text
from sqlmodel import select
from typer.testing import CliRunner

from pbx.__main__ import app
from pbx.errors import DataError
from pbx.process_lock import take_process_lock
from pbx.settings import load_settings
from pbx.store.engine import open_engine, reading
from pbx.store.models import DayPack, Job
from tests.unit.asterisk.formats.sample_queue_logs import T, lines

run = CliRunner().invoke
CALL = ("0|9.1|sales|NONE|ENTERQUEUE||555|1", "3|9.1|sales|NONE|ABANDON|1|1|3", "4|NONE|sales|Eve|PAUSE|Lunch")


@pytest.fixture
def pbx(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FREEPBX_HOST", "127.0.0.1")


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "queue_log"
    path.write_bytes(b"\n".join([*lines(*CALL), b"nonsense", *lines("5|9.1|sales|Eve|HOORAY|")]) + b"\n")
    return path


def test_it_says_what_it_read_and_what_it_could_not(pbx: None, log: Path) -> None:
    said = run(app, ["import", "queue-log", str(log)])
    assert (said.exit_code, said.stdout) == (
        0,
        "queue_log: 5 lines, 1 visit, 0 missed rings, 1 agent event new or completed\n",
    )
    assert "HOORAY (1)" in said.stderr
    assert "line 4: 1 fields where queue_log has 5 or more" in said.stderr
    again = run(app, ["import", "queue-log", str(log)])
    assert (again.exit_code, again.stdout) == (0, "queue_log: nothing new\n")


def test_json_for_machines(pbx: None, log: Path) -> None:
    told = run(app, ["import", "queue-log", str(log), "--json"])
    (source,) = json.loads(told.stdout)["sources"]
    assert (source["rows"], source["unreadable"], source["visits"], source["errors"][0][0]) == (5, 1, 1, 4)
    assert told.stderr == ""


def test_a_damaged_file_is_a_failure(pbx: None, tmp_path: Path) -> None:
    broken = tmp_path / "queue_log.gz"
    broken.write_bytes(b"\x1f\x8bnot gzip at all")
    said = run(app, ["import", "queue-log", str(broken)])
    assert said.exit_code == 1
    assert "queue_log.gz is damaged" in said.stderr


def test_wrong_use(pbx: None, tmp_path: Path) -> None:
    nothing = run(app, ["import", "queue-log"])
    assert nothing.exit_code == 2
    assert "/var/log/asterisk/queue_log" in nothing.stderr
    missing = run(app, ["import", "queue-log", str(tmp_path / "nowhere")])
    assert (missing.exit_code, missing.stdout) == (2, "")
    assert "There is no file" in missing.stderr


def test_without_a_pbx_it_says_what_to_do(log: Path) -> None:
    said = run(app, ["import", "queue-log", str(log)])
    assert said.exit_code == 2
    assert "No PBX is set up yet." in said.stderr


def test_a_database_of_which_no_password_is_told(pbx: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    site = create_engine(f"sqlite:///{tmp_path}/site.sqlite")
    with site.begin() as connection:
        names = "time, callid, queuename, agent, event, data"
        connection.execute(text(f"create table queuelog ({names})"))
        connection.execute(text(f"insert into queuelog values ('{T}', '9.1', 'sales', 'NONE', 'ENTERQUEUE', '|555|1')"))
    monkeypatch.setenv("PBX_IMPORT_URL", str(site.url))
    assert "queuelog: 1 line, 1 visit" in run(app, ["import", "queue-log"]).stdout
    site.dispose()
    for wrong in ("mysql://me:geheim@127.0.0.1:1/x", "nosql://me:geheim@h/x"):
        monkeypatch.setenv("PBX_IMPORT_URL", wrong)
        said = run(app, ["import", "queue-log"])
        assert said.exit_code in (1, 2)
        assert "geheim" not in said.output


@pytest.mark.parametrize(
    "address",
    [
        "mysql://me:geheim@127.0.0.1:1/x",
        "mysql://me:p%40geheim@h/x",
        "mysql://:geheim@h/x",
        "mysql://h/x?password=geheim",
        "mysql://me@h/x?passwd=geheim",
        "postgresql://h/x?sslpassword=geheim",
        "nosql://me:geheim@h/x",
        "me:geheim@h",
    ],
)
@pytest.mark.parametrize("kind", ["cdr", "queue-log"])
def test_a_password_on_the_command_line_is_refused(pbx: None, kind: str, address: str) -> None:
    said = run(app, ["import", kind, "--url", address, "--json"])
    assert said.exit_code == 2
    assert set(json.loads(said.stdout)) == {"error", "fix"}
    assert "geheim" not in said.output
    if address.startswith(("mysql", "postgresql")):
        assert "PBX_IMPORT_URL" in json.loads(said.stdout)["fix"]


def test_the_password_is_asked_for_at_the_terminal(pbx: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pbx.cli.imports._at_terminal", lambda: True)
    read: list[str] = []

    def note(run: object, url: str, **_: object) -> None:
        read.append(url)
        raise DataError("Enough.")

    monkeypatch.setattr("pbx.imports.job.import_cdr_database", note)
    said = run(app, ["import", "cdr", "--url", "mysql://reader@h/asteriskcdrdb"], input="ge:h@im\n")
    assert read == ["mysql+pymysql://reader:ge%3Ah%40im@h/asteriskcdrdb"]
    assert "Password of reader for mysql://h/asteriskcdrdb" in said.stderr
    assert "h@im" not in said.output
    run(app, ["import", "cdr", "--url", "mysql://reader@h/asteriskcdrdb"], input="\n")
    assert read[1] == "mysql+pymysql://reader@h/asteriskcdrdb"
    monkeypatch.setattr("pbx.cli.imports._at_terminal", lambda: False)  # by cron nobody is there to be asked
    run(app, ["import", "cdr", "--url", "mysql://reader@h/asteriskcdrdb"])
    assert read[2] == "mysql://reader@h/asteriskcdrdb"


def test_the_address_may_stand_in_the_env_file(pbx: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my.env").write_text(f"PBX_IMPORT_URL={make_site(tmp_path / 'site.sqlite')}\n")
    monkeypatch.setenv("PBX_ENV_FILE", str(tmp_path / "my.env"))
    assert sources_of("queue-log") == {"queuelog": 1}


def make_site(path: Path) -> str:
    """A database with a visit that was joined; its address."""
    site = create_engine(f"sqlite:///{path}")
    with site.begin() as connection:
        connection.execute(text("create table queuelog (time, callid, queuename, agent, event, data)"))
        connection.execute(text(f"insert into queuelog values ('{T}', '8.1', 'sales', 'NONE', 'ENTERQUEUE', '|555|1')"))
        columns = "calldate, src, dst, channel, dstchannel, duration, billsec, uniqueid"
        connection.execute(text(f"create table cdr ({columns})"))
        connection.execute(
            text("insert into cdr values ('2026-03-02 12:00:00', '1', '2', 'SIP/1', 'SIP/2', 9, 5, '1772452800.1')")
        )
    site.dispose()
    return str(site.url)


def sources_of(*arguments: str) -> dict[str, int]:
    told = run(app, ["import", *arguments, "--json"])
    assert told.exit_code == 0, told.output
    return {source["source"].rpartition(" ")[2]: source["rows"] for source in json.loads(told.stdout)["sources"]}


def test_files_and_a_database_in_one_call_are_both_read(
    pbx: None, log: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = make_site(tmp_path / "site.sqlite")
    assert sources_of("queue-log", str(log), "--url", address) == {"queue_log": 5, "queuelog": 1}
    record = tmp_path / "Master.csv"
    record.write_text("")
    assert sources_of("cdr", str(record), "--url", address) == {"Master.csv": 0, "cdr": 1}
    monkeypatch.setenv("PBX_IMPORT_URL", address)  # is there for when nothing else is named
    assert sources_of("queue-log", str(log)) == {"queue_log": 0}


def test_a_stretch_of_a_file_leaves_the_rest_to_be_read(pbx: None, tmp_path: Path) -> None:
    log = tmp_path / "queue_log"
    log.write_bytes(b"\n".join(lines(*(f"{n * 60}|{n}.1|sales|NONE|ENTERQUEUE||555|1" for n in range(10)))) + b"\n")
    bounds = ["--since", moment(T + 120), "--until", moment(T + 300)]
    for _ in range(2):  # whole, known or not
        assert sources_of("queue-log", str(log), *bounds) == {"queue_log": 3}
    assert sources_of("queue-log", str(log)) == {"queue_log": 10}
    assert sources_of("queue-log", str(log)) == {"queue_log": 0}
    assert sources_of("queue-log", str(log), *bounds) == {"queue_log": 3}
    assert sources_of("queue-log", str(log)) == {"queue_log": 0}


def test_a_stretch_of_the_cdr(pbx: None, tmp_path: Path) -> None:
    address = make_site(tmp_path / "site.sqlite")
    noon = 1772452800
    for since, until, rows in ((-60, 0, 0), (0, 60, 1), (1, 60, 0)):
        bounds = ["--since", moment(noon + since), "--until", moment(noon + until)]
        assert sources_of("cdr", "--url", address, *bounds) == {"cdr": rows}
    record = tmp_path / "Master.csv"
    record.write_text(
        '"","1","2","c","","SIP/1-00000001","SIP/2-00000001","Dial","","2026-03-02 12:00:00","","2026-03-02 12:00:09",'
        '9,0,"NO ANSWER","","1772452800.1",""\n'
    )
    assert sources_of("cdr", str(record), "--since", moment(noon + 1)) == {"Master.csv": 0}
    assert sources_of("cdr", str(record), "--since", moment(noon)) == {"Master.csv": 1}
    assert sources_of("cdr", "--url", address) == {"cdr": 1}  # not taken for read by any of these


def test_a_stretch_that_is_none(pbx: None, log: Path) -> None:
    assert run(app, ["import", "queue-log", str(log), "--since", "yesterday"]).exit_code == 2
    assert run(app, ["import", "cdr", str(log), "--since", "2026-03-02", "--until", "2026-03-01"]).exit_code == 2


def test_an_import_packs_its_days(pbx: None, tmp_path: Path) -> None:
    log, at = tmp_path / "queue_log", 1_772_452_800
    log.write_text(f"{at}|{at}.1|sales|NONE|ENTERQUEUE||555|1\n{at + 9}|{at}.1|sales|NONE|ABANDON|1|1|9\n")
    run(app, ["import", "queue-log", str(log)])
    engine = open_engine(load_settings())
    with reading(engine) as session:
        packed = {pack.day for pack in session.exec(select(DayPack).where(DayPack.kind == "visits"))}
    engine.dispose()
    assert at // 86_400 in packed


def moment(at_s: int) -> str:
    return datetime.fromtimestamp(at_s, UTC).isoformat()


def test_status_says_how_far_the_imports_are_and_who_listens(pbx: None, log: Path, tmp_path: Path) -> None:
    before = run(app, ["status"])
    assert "Live events  not received" in before.stdout
    assert "Imported" not in before.stdout
    run(app, ["import", "queue-log", str(log), "--url", make_site(tmp_path / "site.sqlite")])
    said = run(app, ["status"]).stdout
    assert f"queue_log (queue_log): 5 rows, 1 unreadable, up to byte {log.stat().st_size:,}" in said
    facts = json.loads(run(app, ["status", "--json"]).stdout)
    table, file = facts["imports"]
    assert (table["source"].rpartition(" ")[2], table["rows"], table["bytes"]) == ("queuelog", 1, None)
    assert datetime.fromisoformat(table["until"]).replace(tzinfo=UTC).timestamp() == T
    assert (file["rows"], file["unreadable"], file["until"]) == (5, 1, None)
    with take_process_lock(load_settings().pbx_data_dir, "watch"):
        assert json.loads(run(app, ["status", "--json"]).stdout)["listening"] == {"alive": True, "since": None}


def test_an_import_is_a_job_that_holds_no_password(pbx: None, log: Path, tmp_path: Path) -> None:
    run(app, ["import", "queue-log", str(log), "--url", make_site(tmp_path / "site.sqlite")])
    engine = open_engine(load_settings())
    with reading(engine) as session:
        (job,) = session.exec(select(Job).where(Job.kind == "import"))
    engine.dispose()
    assert (job.state, job.result["rows"]) == ("done", 6)
    assert job.options == {"kind": "queue_log", "files": [str(log)], "database": f"sqlite:///{tmp_path}/site.sqlite"}
