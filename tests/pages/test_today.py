"""The page Today: figures, what needs attention, the latest calls and the sync button."""

import pytest
from sqlalchemy import Engine

from pbx.store.engine import reading, writing
from pbx.store.job_rows import end_job, last_job, start_job
from tests.pages.page_reader import open_page, press, tables, without_errors
from tests.pages.sample_data import add_sample_data, save_pbx

pytestmark = pytest.mark.usefixtures("no_worker")


def test_today_shows_live_figures_problems_and_latest_calls(engine: Engine) -> None:
    add_sample_data(engine)
    app = without_errors(open_page())
    figures = {metric.label: metric.value for metric in app.metric}
    assert figures["Calls today"] == "1"
    assert figures["Agents free"] == "1 of 2"
    assert "1 min 23 s" in figures["Longest wait now"]
    assert "1 of 2" in figures["Trunks down"]
    assert tables(app)["Needs attention"] == [["Trunk", "support is rejected | support"]]
    called_number = "600 | Queue support · Agent support (1002)"
    assert tables(app)["Latest calls"][0][1:4] == ["support", called_number, "1 min 23 s"]


def test_the_sync_button_queues_one_sync(engine: Engine) -> None:
    pbx = save_pbx(engine)
    app = press(without_errors(open_page()), "Sync FreePBX")
    assert [toast.value for toast in app.toast] == ["Sync queued. It runs in the background; you can keep working."]
    with reading(engine) as session:
        job = last_job(session, "sync", connection_id=pbx)
        assert job is not None
        assert job.requested_by == "page"
    with writing(engine) as session:
        start_job(session, job.id, "worker-0")
        end_job(session, "worker-0", job.id, {"listed": 5, "new": 2, "downloaded": 2, "failed": []})
    assert (
        next(toast.value for toast in without_errors(app.run()).toast).replace("\\", "")
        == "Sync done: 2 new recordings (5 on the PBX)."
    )
