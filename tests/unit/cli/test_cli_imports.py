"""The commands `import queue-log` and `import cdr`: exit status, text and JSON."""

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
from pbx.store.models import Job, SealedDay
from tests.unit.asterisk.formats.sample_queue_logs import T, lines

run = CliRunner().invoke
QUEUE_LOG = ("0|9.1|sales|NONE|ENTERQUEUE||555|1", "3|9.1|sales|NONE|ABANDON|1|1|3", "4|NONE|sales|Eve|PAUSE|Lunch")


@pytest.fixture
def pbx(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FREEPBX_HOST", "127.0.0.1")


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "queue_log"
    path.write_bytes(b"\n".join([*lines(*QUEUE_LOG), b"nonsense", *lines("5|9.1|sales|Eve|HOORAY|")]) + b"\n")
    return path


def test_an_import_prints_counts_and_unreadable_lines(pbx: None, log: Path) -> None:
    result = run(app, ["import", "queue-log", str(log)])
    assert (result.exit_code, result.stdout) == (
        0,
        "queue_log: 5 lines, 1 visit, 0 missed rings, 1 agent event new or completed\n",
    )
    assert "HOORAY (1)" in result.stderr
    assert "line 4: 1 fields where queue_log has 5 or more" in result.stderr
    again = run(app, ["import", "queue-log", str(log)])
    assert (again.exit_code, again.stdout) == (0, "queue_log: nothing new\n")


def test_json_contains_the_counts_of_each_source(pbx: None, log: Path) -> None:
    result = run(app, ["import", "queue-log", str(log), "--json"])
    (source,) = json.loads(result.stdout)["sources"]
    assert (source["rows"], source["unreadable"], source["visits"], source["errors"][0][0]) == (5, 1, 1, 4)
    assert result.stderr == ""


def test_a_damaged_file_exits_with_1(pbx: None, tmp_path: Path) -> None:
    damaged = tmp_path / "queue_log.gz"
    damaged.write_bytes(b"\x1f\x8bnot gzip at all")
    result = run(app, ["import", "queue-log", str(damaged)])
    assert result.exit_code == 1
    assert "queue_log.gz is damaged" in result.stderr


def test_missing_arguments_and_files_exit_with_2(pbx: None, tmp_path: Path) -> None:
    no_source = run(app, ["import", "queue-log"])
    assert no_source.exit_code == 2
    assert "/var/log/asterisk/queue_log" in no_source.stderr
    missing = run(app, ["import", "queue-log", str(tmp_path / "nowhere")])
    assert (missing.exit_code, missing.stdout) == (2, "")
    assert "There is no file" in missing.stderr


def test_without_a_pbx_the_error_says_what_to_do(log: Path) -> None:
    result = run(app, ["import", "queue-log", str(log)])
    assert result.exit_code == 2
    assert "No PBX is set up yet." in result.stderr


def test_errors_about_the_database_contain_no_password(
    pbx: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = create_engine(f"sqlite:///{tmp_path}/site.sqlite")
    with database.begin() as connection:
        names = "time, callid, queuename, agent, event, data"
        connection.execute(text(f"create table queuelog ({names})"))
        connection.execute(text(f"insert into queuelog values ('{T}', '9.1', 'sales', 'NONE', 'ENTERQUEUE', '|555|1')"))
    monkeypatch.setenv("PBX_IMPORT_URL", str(database.url))
    assert "queuelog: 1 line, 1 visit" in run(app, ["import", "queue-log"]).stdout
    database.dispose()
    for invalid_url in ("mysql://me:geheim@127.0.0.1:1/x", "nosql://me:geheim@h/x"):
        monkeypatch.setenv("PBX_IMPORT_URL", invalid_url)
        result = run(app, ["import", "queue-log"])
        assert result.exit_code in (1, 2)
        assert "geheim" not in result.output


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
    result = run(app, ["import", kind, "--url", address, "--json"])
    assert result.exit_code == 2
    assert set(json.loads(result.stdout)) == {"error", "fix"}
    assert "geheim" not in result.output
    if address.startswith(("mysql", "postgresql")):
        assert "PBX_IMPORT_URL" in json.loads(result.stdout)["fix"]


def test_a_terminal_prompts_for_the_password(pbx: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pbx.cli.imports._at_terminal", lambda: True)
    urls: list[str] = []

    def record_url(import_run: object, url: str, **_: object) -> None:
        urls.append(url)
        raise DataError("Enough.")

    monkeypatch.setattr("pbx.imports.job.import_cdr_database", record_url)
    result = run(app, ["import", "cdr", "--url", "mysql://reader@h/asteriskcdrdb"], input="ge:h@im\n")
    assert urls == ["mysql+pymysql://reader:ge%3Ah%40im@h/asteriskcdrdb"]
    assert "Password of reader for mysql://h/asteriskcdrdb" in result.stderr
    assert "h@im" not in result.output
    run(app, ["import", "cdr", "--url", "mysql://reader@h/asteriskcdrdb"], input="\n")
    assert urls[1] == "mysql+pymysql://reader@h/asteriskcdrdb"
    monkeypatch.setattr("pbx.cli.imports._at_terminal", lambda: False)  # cron can't answer a prompt
    run(app, ["import", "cdr", "--url", "mysql://reader@h/asteriskcdrdb"])
    assert urls[2] == "mysql://reader@h/asteriskcdrdb"


def test_the_url_may_be_set_in_the_env_file(pbx: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my.env").write_text(f"PBX_IMPORT_URL={create_database(tmp_path / 'site.sqlite')}\n")
    monkeypatch.setenv("PBX_ENV_FILE", str(tmp_path / "my.env"))
    assert rows_by_source("queue-log") == {"queuelog": 1}


def create_database(path: Path) -> str:
    """Create a database with one queue_log entry and one CDR row; return its URL."""
    database = create_engine(f"sqlite:///{path}")
    with database.begin() as connection:
        connection.execute(text("create table queuelog (time, callid, queuename, agent, event, data)"))
        connection.execute(text(f"insert into queuelog values ('{T}', '8.1', 'sales', 'NONE', 'ENTERQUEUE', '|555|1')"))
        columns = "calldate, src, dst, channel, dstchannel, duration, billsec, uniqueid"
        connection.execute(text(f"create table cdr ({columns})"))
        connection.execute(
            text("insert into cdr values ('2026-03-02 12:00:00', '1', '2', 'SIP/1', 'SIP/2', 9, 5, '1772452800.1')")
        )
    database.dispose()
    return str(database.url)


def rows_by_source(*arguments: str) -> dict[str, int]:
    result = run(app, ["import", *arguments, "--json"])
    assert result.exit_code == 0, result.output
    return {source["source"].rpartition(" ")[2]: source["rows"] for source in json.loads(result.stdout)["sources"]}


def test_one_command_imports_files_and_a_database(
    pbx: None, log: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = create_database(tmp_path / "site.sqlite")
    assert rows_by_source("queue-log", str(log), "--url", address) == {"queue_log": 5, "queuelog": 1}
    master_csv = tmp_path / "Master.csv"
    master_csv.write_text("")
    assert rows_by_source("cdr", str(master_csv), "--url", address) == {"Master.csv": 0, "cdr": 1}
    monkeypatch.setenv("PBX_IMPORT_URL", address)  # used only if no other source is given
    assert rows_by_source("queue-log", str(log)) == {"queue_log": 0}


def test_importing_a_period_of_a_file_leaves_the_rest_for_later(pbx: None, tmp_path: Path) -> None:
    log = tmp_path / "queue_log"
    log.write_bytes(b"\n".join(lines(*(f"{n * 60}|{n}.1|sales|NONE|ENTERQUEUE||555|1" for n in range(10)))) + b"\n")
    bounds = ["--since", iso_time(T + 120), "--until", iso_time(T + 300)]
    for _ in range(2):  # all of the period, whether imported already or not
        assert rows_by_source("queue-log", str(log), *bounds) == {"queue_log": 3}
    assert rows_by_source("queue-log", str(log)) == {"queue_log": 10}
    assert rows_by_source("queue-log", str(log)) == {"queue_log": 0}
    assert rows_by_source("queue-log", str(log), *bounds) == {"queue_log": 3}
    assert rows_by_source("queue-log", str(log)) == {"queue_log": 0}


def test_importing_a_period_of_the_cdr(pbx: None, tmp_path: Path) -> None:
    address = create_database(tmp_path / "site.sqlite")
    noon = 1772452800
    for since, until, rows in ((-60, 0, 0), (0, 60, 1), (1, 60, 0)):
        bounds = ["--since", iso_time(noon + since), "--until", iso_time(noon + until)]
        assert rows_by_source("cdr", "--url", address, *bounds) == {"cdr": rows}
    master_csv = tmp_path / "Master.csv"
    master_csv.write_text(
        '"","1","2","c","","SIP/1-00000001","SIP/2-00000001","Dial","","2026-03-02 12:00:00","","2026-03-02 12:00:09",'
        '9,0,"NO ANSWER","","1772452800.1",""\n'
    )
    assert rows_by_source("cdr", str(master_csv), "--since", iso_time(noon + 1)) == {"Master.csv": 0}
    assert rows_by_source("cdr", str(master_csv), "--since", iso_time(noon)) == {"Master.csv": 1}
    assert rows_by_source("cdr", "--url", address) == {"cdr": 1}  # none of the above counts as imported


def test_an_invalid_period_exits_with_2(pbx: None, log: Path) -> None:
    assert run(app, ["import", "queue-log", str(log), "--since", "yesterday"]).exit_code == 2
    assert run(app, ["import", "cdr", str(log), "--since", "2026-03-02", "--until", "2026-03-01"]).exit_code == 2


def test_an_import_seals_the_imported_days(pbx: None, tmp_path: Path) -> None:
    log, at = tmp_path / "queue_log", 1_772_452_800
    log.write_text(f"{at}|{at}.1|sales|NONE|ENTERQUEUE||555|1\n{at + 9}|{at}.1|sales|NONE|ABANDON|1|1|9\n")
    run(app, ["import", "queue-log", str(log)])
    engine = open_engine(load_settings())
    with reading(engine) as session:
        sealed = {one.day for one in session.exec(select(SealedDay).where(SealedDay.dataset == "queue_visits"))}
    engine.dispose()
    assert at // 86_400 in sealed


def iso_time(at_s: int) -> str:
    return datetime.fromtimestamp(at_s, UTC).isoformat()


def test_status_shows_imports_and_the_listener(pbx: None, log: Path, tmp_path: Path) -> None:
    before = run(app, ["status"])
    assert "Live events  not received" in before.stdout
    assert "Imported" not in before.stdout
    run(app, ["import", "queue-log", str(log), "--url", create_database(tmp_path / "site.sqlite")])
    text_output = run(app, ["status"]).stdout
    assert f"queue_log (queue_log): 5 rows, 1 unreadable, up to byte {log.stat().st_size:,}" in text_output
    status = json.loads(run(app, ["status", "--json"]).stdout)
    table, file = status["imports"]
    assert (table["source"].rpartition(" ")[2], table["rows"], table["bytes"]) == ("queuelog", 1, None)
    assert datetime.fromisoformat(table["until"]).replace(tzinfo=UTC).timestamp() == T
    assert (file["rows"], file["unreadable"], file["until"]) == (5, 1, None)
    with take_process_lock(load_settings().pbx_data_dir, "watch"):
        assert json.loads(run(app, ["status", "--json"]).stdout)["listening"] == {"alive": True, "since": None}


def test_the_job_of_an_import_contains_no_password(pbx: None, log: Path, tmp_path: Path) -> None:
    run(app, ["import", "queue-log", str(log), "--url", create_database(tmp_path / "site.sqlite")])
    engine = open_engine(load_settings())
    with reading(engine) as session:
        (job,) = session.exec(select(Job).where(Job.kind == "import"))
    engine.dispose()
    assert (job.state, job.result["rows"]) == ("done", 6)
    assert job.options == {"kind": "queue_log", "files": [str(log)], "database": f"sqlite:///{tmp_path}/site.sqlite"}
