"""The page Data import: uploading files, saving the database address (never shown), and unreadable lines."""

import sqlite3
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr
from sqlalchemy import Engine
from sqlmodel import select
from streamlit.testing.v1 import AppTest

from pbx.imports import preview
from pbx.jobs.worker import run_worker
from pbx.live.listener import LISTENER_ROLE
from pbx.process_lock import take_process_lock
from pbx.settings import load_settings
from pbx.store.engine import reading, writing
from pbx.store.import_source import history_source, save_history_source
from pbx.store.job_queue import request_job
from pbx.store.listening_spans import begin_span
from pbx.store.models import Job
from tests.pages.page_reader import open_page, opened_url, page_text, press, tables, without_errors
from tests.pages.sample_data import TEXTS_WITH_MARKUP, add_sample_data, save_pbx
from tests.unit.asterisk.formats.sample_queue_logs import lines

pytestmark = pytest.mark.usefixtures("no_worker")

PAGE = "pages/settings/data_import.py"
VISIT = ("0|9.1|sales|NONE|ENTERQUEUE||555|1", "3|9.1|sales|NONE|ABANDON|1|1|3")
LOG = b"\n".join(lines(*VISIT)) + b"\n"
SECRET = "s3cret-of-the-database"
ADDRESS = f"mysql://reader:{SECRET}@127.0.0.1:1/asteriskcdrdb"


@pytest.fixture
def pbx(engine: Engine) -> int:
    return save_pbx(engine, ami_username="", ari_username="")  # so that the worker has nothing to do but imports


def run_worker_once() -> None:
    run_worker(load_settings(), once=True)


def plain_text(app: AppTest) -> str:
    return page_text(app).replace("\\", "").replace("\u2060", "") + "".join(one.value for one in app.success)


def upload(app: AppTest, *files: tuple[str, bytes]) -> AppTest:
    app.file_uploader[0].set_value([(name, text, "application/octet-stream") for name, text in files])
    return press(app, "Import files")


def address_field(app: AppTest) -> Any:
    return next(field for field in app.text_input if field.label == "Database address")


def jobs(engine: Engine) -> list[Job]:
    with reading(engine) as session:
        return list(session.exec(select(Job).where(Job.kind == "import")))


def test_before_the_first_import_the_page_says_so(pbx: int) -> None:
    app = without_errors(open_page(PAGE))
    text = page_text(app)
    assert "No imports yet" in text
    assert "Not received now" in text
    assert "python -m pbx import queue-log" in app.code[0].value
    assert "Choose at least one file" in page_text(press(app, "Import files"))
    assert "Enter a database address" in page_text(press(app, "Test"))


def test_uploaded_files_are_queued_imported_and_reported(engine: Engine, pbx: int) -> None:
    app = upload(without_errors(open_page(PAGE)), ("../../queue_log.1", LOG + b"nonsense\n"), ("odd", b"?"))
    (job,) = jobs(engine)
    assert (job.state, job.requested_by, len(job.options["files"])) == ("queued", "page", 2)
    assert all(Path(path).is_relative_to(load_settings().imports_dir.resolve()) for path in job.options["files"])
    assert "2 files queued." in "".join(toast.value for toast in app.toast)
    run_worker_once()
    app = without_errors(open_page(PAGE))
    shown = tables(app)
    (row,) = shown["Imports"]
    assert row[1:6] == ["queue_log.1, odd", "3", "1", "0", "1"]
    assert row[6].startswith("Partly imported | Nothing could be read from odd: it is neither")
    assert shown["Import progress"][0][:4] == ["queue_log.1 | queue_log", "3", "1", f"byte {len(LOG) + 9:,}"]
    app.session_state["import"] = job.id
    app = without_errors(app.run())
    assert tables(app)["Sources"][0] == ["queue_log.1 | queue_log", "3", "1", "0", "0", "–", "–", "1"]
    assert tables(app)["Unreadable lines"] == [["3", "nonsense | 1 fields where queue_log has 5 or more"]]
    upload(app, ("again", LOG + b"nonsense\n"))
    run_worker_once()
    again = next(row for row in tables(without_errors(open_page(PAGE)))["Imports"] if row[1] == "again")
    assert again[2:] == ["0", "0", "0", "–", "Nothing new"]


def test_progress_of_an_import_is_shown(engine: Engine, pbx: int) -> None:
    request_job(
        engine, load_settings(), "import", requested_by="page", options={"files": ["/data/imports/x/0/queue_log"]}
    )
    with writing(engine) as session:
        session.add(session.exec(select(Job)).one().sqlmodel_update({"state": "running", "done": 25, "total": 100}))
    app = without_errors(open_page(PAGE))
    (bar,) = [element.proto for element in app.get("progress") if "Importing" in element.proto.text]
    assert (bar.value, bar.text.replace("\\", "")) == (25, "Importing queue_log: 25 B of 100 B")


def test_the_database_address_is_saved_and_never_shown(engine: Engine, pbx: int) -> None:
    app = without_errors(open_page(PAGE))
    address_field(app).set_value(ADDRESS)
    next(box for box in app.selectbox if box.label == "Schedule").set_value("night")
    press(app, "Save")
    with reading(engine) as session:
        saved = history_source(session, load_settings(), pbx)
    assert (saved.address.get_secret_value(), saved.every) == (ADDRESS, "night")
    app = without_errors(open_page(PAGE))
    assert "In use: mysql://127.0.0.1:1/asteriskcdrdb" in plain_text(app)
    assert address_field(app).value == ""
    assert address_field(app).placeholder == "Saved; leave empty to keep it"
    for shown in (repr(app), *(repr(element.proto) for element in app.main), repr(app.session_state)):
        assert SECRET not in shown
    press(app, "Save")  # an empty field keeps the saved address
    press(app, "Import now")
    assert [job.options for job in jobs(engine)] == [{}]
    press(without_errors(open_page(PAGE)), "Delete address")
    with reading(engine) as session:
        assert not history_source(session, load_settings(), pbx)


def test_the_address_test_reports_the_number_of_rows_or_the_error(engine: Engine, pbx: int, tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "site.sqlite") as site:
        site.execute("create table cdr (calldate, uniqueid)")
        site.executemany("insert into cdr values ('2026-03-02 12:00:00', ?)", [("1.1",), ("1.2",)])
    site.close()
    app = without_errors(open_page(PAGE))
    address_field(app).set_value(f"sqlite:///{tmp_path}/site.sqlite")
    assert "would read 2 rows of cdr (newest call: 2 Mar 2026 12:00)." in plain_text(press(app, "Test"))
    for wrong in (ADDRESS, f"nosql://u:{SECRET}@h/x"):
        app = without_errors(open_page(PAGE))
        address_field(app).set_value(wrong)
        app = press(app, "Test")
        assert app.error
        assert SECRET not in plain_text(app)
    assert jobs(engine) == []


def test_the_address_test_reports_a_table_too_large_to_count(
    engine: Engine, pbx: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(preview, "STATEMENT_TIMEOUT_S", 0.1)
    with sqlite3.connect(tmp_path / "endless.sqlite") as site:
        numbers = "with recursive n (uniqueid) as (select 1 union all select uniqueid + 1 from n)"
        site.execute(f"create view cdr as {numbers} select '2026-03-02 12:00:00' as calldate, uniqueid from n")
    site.close()
    app = without_errors(open_page(PAGE))
    address_field(app).set_value(f"sqlite:///{tmp_path}/endless.sqlite")
    assert "the new rows of cdr (too many rows to count)." in plain_text(press(app, "Test"))


def test_an_address_in_the_environment_is_used(engine: Engine, pbx: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PBX_IMPORT_URL", ADDRESS)
    app = without_errors(open_page(PAGE))
    assert "In use: mysql://127.0.0.1:1/asteriskcdrdb (set in the environment, PBX_IMPORT_URL)" in plain_text(app)
    assert "Delete address" not in [button.label for button in app.button]
    press(app, "Import now")
    run_worker_once()
    (row,) = tables(without_errors(open_page(PAGE)))["Imports"]
    assert row[1] == "The PBX’s database"
    assert row[6].startswith("Failed | The database mysql://127.0.0.1:1/asteriskcdrdb")
    assert SECRET not in row[6]


def test_the_page_shows_whether_live_events_are_received(engine: Engine, pbx: int) -> None:
    with writing(engine) as session:
        begin_span(session, pbx, datetime.now(UTC))
    with take_process_lock(load_settings().pbx_data_dir, LISTENER_ROLE):
        assert "without interruption" in page_text(without_errors(open_page(PAGE)))
    assert "Not received now" in page_text(without_errors(open_page(PAGE)))


@pytest.mark.parametrize("name", TEXTS_WITH_MARKUP)
def test_names_with_markup_are_shown_as_text(engine: Engine, pbx: int, name: str) -> None:
    upload(without_errors(open_page(PAGE)), (name, LOG + name.encode() + b"\n"))
    text = page_text(without_errors(open_page(PAGE)))
    run_worker_once()
    app = without_errors(open_page(PAGE))
    app.session_state["import"] = jobs(engine)[0].id
    text += page_text(without_errors(app.run()))
    assert "<script>" not in text
    assert "*bold*" not in text.replace("\\*bold\\*", "")


@pytest.mark.parametrize("page", ["pages/live/queues.py", "pages/live/agents.py", "pages/calls/explore.py"])
def test_pages_without_history_link_to_data_import(engine: Engine, page: str) -> None:
    if "live" in page:  # without a snapshot, a live page shows no reports
        add_sample_data(engine)
    else:
        save_pbx(engine)
    app = without_errors(open_page(page))
    (button,) = [button for button in app.main.button if button.label == "Import data"]
    assert opened_url(without_errors(button.click().run())) == "data-import"


def test_an_invalid_encryption_key_is_reported(engine: Engine, pbx: int) -> None:
    settings = load_settings()
    with writing(engine) as session:
        save_history_source(session, settings, pbx, address=SecretStr(ADDRESS), every="")
    (settings.pbx_data_dir / "secret.key").write_text("nonsense")
    assert "malformed" in page_text(without_errors(open_page(PAGE)))
