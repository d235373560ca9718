"""All pages, opened through streamlit_app.py: without a PBX, before the first sync, with unusual data, with errors."""

import re
import subprocess
import sys
from datetime import UTC, datetime

import pytest
from sqlalchemy import Engine, text

from pbx.errors import DataError
from pbx.model.snapshot import SnapshotPart
from pbx.store.engine import reading, writing
from pbx.store.job_rows import last_job
from pbx.store.snapshots import record_snapshot
from tests.pages.page_reader import (
    INTERACTIONS,
    PAGES,
    QUEUES,
    SETTINGS,
    TODAY,
    TRUNKS,
    open_page,
    opened_url,
    page_text,
    tables,
    without_errors,
)
from tests.pages.sample_data import TEXTS_WITH_MARKUP, add_sample_data, save_pbx, snapshot
from tests.paths import ROOT

pytestmark = pytest.mark.usefixtures("no_worker")


@pytest.mark.parametrize("page", PAGES)
def test_without_a_pbx_every_page_links_to_the_connection_settings(page: str) -> None:
    app = without_errors(open_page(page))
    if page == SETTINGS:
        assert "No PBX is set up yet" in page_text(app)
        return
    assert "No PBX is connected yet" in page_text(app)
    (button,) = [button for button in app.main.button if button.label == "Connect your FreePBX"]
    assert opened_url(without_errors(button.click().run())) == "freepbx"


@pytest.mark.parametrize("page", PAGES)
def test_before_the_first_sync_and_snapshot_every_page_says_what_to_expect(engine: Engine, page: str) -> None:
    save_pbx(engine)
    texts = {
        TODAY: "Click Sync FreePBX",
        INTERACTIONS: "No calls yet",
        SETTINGS: "the settings saved here",
    }
    expected = texts.get(page, "The first snapshot of the PBX is being taken")
    assert expected in page_text(without_errors(open_page(page)))


def test_a_live_page_requests_one_snapshot(engine: Engine) -> None:
    pbx = save_pbx(engine)
    without_errors(open_page(QUEUES)).run()
    with reading(engine) as session:
        job = last_job(session, "collect", connection_id=pbx)
        assert job is not None
        assert (job.requested_by, job.state) == ("page", "queued")


def test_data_that_the_pbx_denies_is_reported_and_the_rest_is_shown(engine: Engine) -> None:
    pbx = save_pbx(engine)
    complete = snapshot(datetime.now(UTC))
    denied = complete.model_copy(
        update={
            "queues": (),
            "parts": complete.parts | {"queues": SnapshotPart(state="denied", reason="The user lacks: agent")},
        }
    )
    with writing(engine) as session:
        record_snapshot(session, pbx, denied)
    assert "The user lacks" in page_text(without_errors(open_page(QUEUES)))
    assert len(tables(without_errors(open_page(TRUNKS)))["Trunks"]) == 2


@pytest.mark.parametrize("name", TEXTS_WITH_MARKUP)
def test_names_with_markup_are_shown_as_text_on_every_page(engine: Engine, name: str) -> None:
    add_sample_data(engine, name)
    for page in PAGES:
        app = without_errors(open_page(page, call="1"))
        text = page_text(app)
        assert not re.search(r"(?<!\\)<(script|img)", text)
        assert "*bold*" not in "\n".join(element.value for element in (*app.caption, *app.subheader, *app.metric))
    assert tables(without_errors(open_page(INTERACTIONS)))["Calls"][0][1] == name


@pytest.mark.parametrize("page", PAGES)
def test_every_page_reports_a_database_of_a_newer_version(engine: Engine, page: str) -> None:
    with writing(engine) as session:
        session.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    app = without_errors(open_page(page))
    assert "written by a newer version" in page_text(app)
    assert "Update the app" in page_text(app)


@pytest.mark.parametrize("page", PAGES)
def test_every_page_reports_an_unwritable_data_directory(page: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(settings: object) -> Engine:
        raise DataError("The cache can't be written to.", "Give this user the right to write to data.")

    monkeypatch.setattr("pbx.ui.active_pbx.open_engine", refuse)
    assert "Give this user the right to write" in page_text(without_errors(open_page(page)))


def test_an_invalid_setting_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FREEPBX_AMI_PORT", "many")
    assert "FREEPBX\\_AMI\\_PORT" in page_text(without_errors(open_page()))


def test_no_page_imports_torch() -> None:
    code = """if True:
        import sys
        from streamlit.testing.v1 import AppTest
        app = AppTest.from_file("streamlit_app.py", default_timeout=60).run()
        for page in sys.argv[1:]:
            app.switch_page(page).run()
            assert not app.exception, page
        print([name for name in ("torch", "whisper") if name in sys.modules])
    """
    run = subprocess.run([sys.executable, "-c", code, *PAGES], cwd=ROOT, capture_output=True, text=True, check=False)
    assert run.stdout.strip() == "[]", run.stderr
