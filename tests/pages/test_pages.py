"""Every page from the entry: without a PBX, with data, with hostile names, with a cache that can't be used."""

import json
import re
import subprocess
import sys
import wave
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from pydantic import SecretStr
from sqlalchemy import Engine, text
from streamlit.testing.v1 import AppTest

from pbx.errors import DataError
from pbx.model.snapshot import (
    ActiveCall,
    Extension,
    Queue,
    QueueCaller,
    QueueMember,
    Snapshot,
    SnapshotPart,
    System,
    Trunk,
)
from pbx.settings import Connection, load_settings
from pbx.store.engine import reading, writing
from pbx.store.job_rows import add_job, end_job, last_job, start_job
from pbx.store.models import CallRow, RecordingRow
from pbx.store.pbx_connections import active_connection, save_connection
from pbx.store.snapshots import record_snapshot
from pbx.ui.page_elements import FROM_THE_TOP
from tests.paths import ROOT

pytestmark = pytest.mark.usefixtures("no_worker")

TODAY = "pages/today/overview.py"
INTERACTIONS = "pages/calls/interactions.py"
QUEUES = "pages/live/queues.py"
TRUNKS = "pages/live/trunks.py"
EXTENSIONS = "pages/live/extensions.py"
SETTINGS = "pages/settings/freepbx.py"
PAGES = [TODAY, INTERACTIONS, QUEUES, TRUNKS, EXTENSIONS, SETTINGS]
PASSWORD = "s3cret-of-the-pbx"
HOSTILE = [
    '"; DROP TABLE calls; --',
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "📞 Zoë *bold* `code` $x$ [a](http://x.example)",
    "two\nlines\tand :red[colour] ~~gone~~",
]


def led_to(app: AppTest) -> str:
    """The address that the page just asked the browser to open."""
    (address,) = {
        found[1] for html in app.get("html") if (found := re.search(r"goToPage\((\".*?\")\)", html.proto.body))
    }
    return str(json.loads(address))


def open_page(page: str = TODAY, **query: str | list[str]) -> AppTest:
    app = AppTest.from_file(str(ROOT / "streamlit_app.py"), default_timeout=60)
    if page != TODAY:
        app.run()
        app.switch_page(page)
    for name, value in query.items():
        app.query_params[name] = value
    return app.run()


def tables(app: AppTest) -> dict[str, list[list[str]]]:
    """What tables show: label → rows of texts."""
    found = {}
    for element in app.get("bidi_component"):
        data = json.loads(element.proto.json)
        if "rows" not in data:
            continue
        found[data["label"]] = [[cell_text(cell) for cell in row["cells"]] for row in data["rows"]]
    return found


def cell_text(cell: Any) -> str:
    return cell if isinstance(cell, str) else " | ".join(filter(None, (cell["text"], cell.get("sub"))))


def words(app: AppTest) -> str:
    """All else that a page says, but for the scripts that each has."""
    said = [element.value for kind in ("markdown", "caption", "error", "warning", "info") for element in app.get(kind)]
    said += [element.value for element in (*app.title, *app.subheader, *app.metric)]
    html = [element.proto.body.replace(FROM_THE_TOP, "") for element in app.get("html")]
    return "\n".join([*said, *html])


def well(app: AppTest) -> AppTest:
    """A page without an uncaught error."""
    assert [error.message for error in app.exception] == []
    return app


def save_pbx(engine: Engine, **changes: Any) -> int:
    known: dict[str, Any] = {
        "host": "pbx.example.com",
        "ari_port": 8088,
        "ami_port": 5038,
        "ami_username": "notebook",
        "ari_username": "notebook",
        "ami_password": SecretStr(PASSWORD),
        "ari_password": SecretStr(PASSWORD),
        "timezone": "Europe/Berlin",
    }
    return save_connection(engine, load_settings(), Connection(**(known | changes)))


def snapshot(at: datetime, name: str = "support") -> Snapshot:
    members = (
        QueueMember(name="Ada", interface="PJSIP/1001", status=1),
        QueueMember(name=name, interface="PJSIP/1002", status=2, paused=True, pause_reason=name),
    )
    callers = (QueueCaller(position=1, caller_id="+4930123", caller_name=name, wait_s=83, uniqueid="7.7"),)
    return Snapshot(
        taken_at=at,
        system=System(version="16.28.0", utc_offset_s=3600),
        queues=(Queue(name=name, calls=1, longest_wait_s=83, completed=4, members=members, callers=callers),),
        trunks=(
            Trunk(name=name, tech="PJSIP", state="rejected", server=name, registers=True),
            Trunk(name="carrier", tech="PJSIP", state="registered", registers=True, channels=2),
        ),
        extensions=(Extension(extension=name, tech="PJSIP", status="Not in use", contact=name),),
        active_calls=(
            ActiveCall(linkedid="7.7", channel="PJSIP/1", caller_id="+4930123", caller_name=name, state="Up"),
        ),
        parts={part: SnapshotPart() for part in ("system", "extensions", "trunks", "queues", "active_calls")},
    )


def add_call(engine: Engine, pbx: int, number: str, started_at: datetime, **changes: Any) -> int:
    """A call with one recording."""
    with writing(engine) as session:
        call = CallRow(connection_id=pbx, linkedid=f"{started_at.timestamp()}.{number}", started_at=started_at)
        call.sqlmodel_update({"from_number": number, "to_number": "600", "state": "downloaded"} | changes)
        session.add(call)
        session.flush()
        assert call.id is not None
        recording = RecordingRow(connection_id=pbx, call_id=call.id, name=f"2026/07/01/{call.id}", state=call.state)
        recording.file = f"{call.id}.wav" if call.state == "downloaded" else ""
        session.add(recording)
        return call.id


def fill(engine: Engine, name: str = "support") -> int:
    pbx = save_pbx(engine)
    now = datetime.now(UTC)
    with writing(engine) as session:
        for minutes in (20, 15, 10, 0):
            record_snapshot(session, pbx, snapshot(now - timedelta(minutes=minutes), name))
        add_job(session, "sync-1", "sync", connection_id=pbx, requested_by="page")
        start_job(session, "sync-1", "worker-0")
        end_job(session, "worker-0", "sync-1", {"listed": 31, "new": 3, "downloaded": 3, "waiting": 1, "failed": []})
    add_call(engine, pbx, name, now, direction="inbound", queue=name, agent="1002", duration_s=83.0)
    return pbx


@pytest.mark.parametrize("page", PAGES)
def test_without_a_pbx_every_page_says_what_to_do_and_leads_there(page: str) -> None:
    app = well(open_page(page))
    if page == SETTINGS:
        assert "No PBX is set up yet" in words(app)
        return
    assert "No PBX is connected yet" in words(app)
    (lead,) = [button for button in app.main.button if button.label == "Connect your FreePBX"]
    assert led_to(well(lead.click().run())) == "freepbx"


@pytest.mark.parametrize("page", PAGES)
def test_before_the_first_sync_and_snapshot_every_page_says_what_comes(engine: Engine, page: str) -> None:
    save_pbx(engine)
    expected = {
        TODAY: "Click Sync FreePBX",
        INTERACTIONS: "No calls yet",
        SETTINGS: "the settings saved here",
    }
    assert expected.get(page, "The first snapshot of the PBX is being taken") in words(well(open_page(page)))


def test_a_live_page_asks_for_a_snapshot_once(engine: Engine) -> None:
    pbx = save_pbx(engine)
    well(open_page(QUEUES)).run()
    with reading(engine) as session:
        job = last_job(session, "collect", connection_id=pbx)
        assert job is not None
        assert (job.requested_by, job.state) == ("page", "queued")


def test_today_shows_how_things_stand(engine: Engine) -> None:
    fill(engine)
    app = well(open_page())
    shown = {metric.label: metric.value for metric in app.metric}
    assert shown["Calls today"] == "1"
    assert shown["Agents free"] == "1 of 2"
    assert "1 min 23 s" in shown["Longest wait now"]
    assert "1 of 2" in shown["Trunks down"]
    assert tables(app)["Needs attention"] == [["Trunk", "support is rejected | support"]]
    called = "600 | Queue support · Agent support (1002)"
    assert tables(app)["Latest calls"][0][1:4] == ["support", called, "1 min 23 s"]


def test_queues_show_members_callers_and_history(engine: Engine) -> None:
    fill(engine)
    app = well(open_page(QUEUES))
    shown = tables(app)
    assert shown["Queues"][0][:4] == ["support", "1", "1 min 23 s", "1 of 2"]
    assert [row[1] for row in shown["Members"]] == ["Free", "Paused | support"]
    assert shown["Callers waiting"] == [["1", "support | +4930123", "1 min 23 s"]]
    assert len(app.get("plotly_chart")) == 3


def test_trunks_show_state_now_and_over_time(engine: Engine) -> None:
    fill(engine)
    app = well(open_page(TRUNKS))
    assert [row[:2] for row in tables(app)["Trunks"]] == [
        ["support | PJSIP", "Rejected"],
        ["carrier | PJSIP", "Registered"],
    ]
    assert len(app.get("plotly_chart")) == 2


def test_extensions_show_devices_and_active_calls(engine: Engine) -> None:
    fill(engine)
    shown = tables(well(open_page(EXTENSIONS)))
    assert shown["Extensions"][0][:2] == ["support | PJSIP", "Free"]
    assert shown["Active calls"][0][0] == "support | +4930123"


def test_what_the_pbx_forbids_is_reported_and_the_rest_is_shown(engine: Engine) -> None:
    pbx = save_pbx(engine)
    seen = snapshot(datetime.now(UTC))
    denied = seen.model_copy(
        update={
            "queues": (),
            "parts": seen.parts | {"queues": SnapshotPart(state="denied", reason="The user lacks: agent")},
        }
    )
    with writing(engine) as session:
        record_snapshot(session, pbx, denied)
    assert "The user lacks" in words(well(open_page(QUEUES)))
    assert len(tables(well(open_page(TRUNKS)))["Trunks"]) == 2


def test_filters_stand_in_the_address(engine: Engine) -> None:
    pbx = fill(engine)
    long_ago = datetime.now(UTC) - timedelta(days=90)
    add_call(engine, pbx, "+49301111", long_ago, direction="outbound", state="empty")
    assert len(tables(well(open_page(INTERACTIONS)))["Calls"]) == 2
    for query in ({"number": "30 1111"}, {"direction": "Outbound"}, {"state": "Empty recording"}):
        rows = tables(well(open_page(INTERACTIONS, **query)))["Calls"]
        assert [row[1] for row in rows] == ["+49301111"], query
    assert [row[1] for row in tables(well(open_page(INTERACTIONS, period="Today")))["Calls"]] == ["support"]
    assert [row[1] for row in tables(well(open_page(INTERACTIONS, queue="support")))["Calls"]] == ["support"]
    assert "No calls match" in words(well(open_page(INTERACTIONS, number="999999")))


def test_a_long_list_comes_in_pages(engine: Engine) -> None:
    pbx = save_pbx(engine)
    now = datetime.now(UTC)
    for minutes in range(20):
        add_call(engine, pbx, f"10{minutes:02}", now - timedelta(minutes=minutes))
    app = well(open_page(INTERACTIONS))
    assert [len(tables(app)["Calls"]), tables(app)["Calls"][0][1]] == [15, "1000"]
    assert "20 calls, times in" in words(app)
    assert "1–15 of 20" in words(app)


def test_a_call_in_the_address_is_shown_and_can_be_heard(engine: Engine) -> None:
    pbx = fill(engine)
    call = add_call(engine, pbx, "+4930777", datetime.now(UTC))
    audio = load_settings().audio_dir
    audio.mkdir(parents=True)
    with wave.open(str(audio / f"{call}.wav"), "wb") as file:
        file.setparams((1, 2, 8000, 0, "NONE", ""))
        file.writeframes(bytes(16_000))
    app = well(open_page(INTERACTIONS, call=str(call)))
    assert "+4930777" in words(app)
    assert len(app.get("audio")) == 1
    assert "8 kHz, mono, 1 s" in words(app)


@pytest.mark.parametrize("call", ["", "x", "-1", "999999", "9" * 40])
def test_a_call_that_is_not_there_leaves_the_list(engine: Engine, call: str) -> None:
    fill(engine)
    assert len(tables(well(open_page(INTERACTIONS, call=call)))["Calls"]) == 1


def test_a_recording_that_was_not_fetched_says_why(engine: Engine) -> None:
    pbx = save_pbx(engine)
    call = add_call(engine, pbx, "1001", datetime.now(UTC), state="waiting")
    assert "Still being recorded" in words(well(open_page(INTERACTIONS, call=str(call))))
    lost = add_call(engine, pbx, "1002", datetime.now(UTC))
    assert "no longer in data/audio" in words(well(open_page(INTERACTIONS, call=str(lost))))


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_names_are_text_on_every_page(engine: Engine, name: str) -> None:
    fill(engine, name)
    for page in PAGES:
        app = well(open_page(page, call="1"))
        said = words(app)
        assert not re.search(r"(?<!\\)<(script|img)", said)
        assert "*bold*" not in "\n".join(element.value for element in (*app.caption, *app.subheader, *app.metric))
    assert tables(well(open_page(INTERACTIONS)))["Calls"][0][1] == name


def test_saved_passwords_are_kept_and_never_sent_back(engine: Engine) -> None:
    save_pbx(engine)
    app = well(open_page(SETTINGS))
    fields = {field.label: field for field in app.text_input}
    assert [fields[f"{name} password"].value for name in ("AMI", "ARI")] == ["", ""]
    assert PASSWORD not in repr(app.main)
    fields["AMI user"].set_value("other")
    fields["ARI prefix"].set_value("asterisk/")
    press(app, "Save settings")
    active = active_connection(engine, load_settings())
    assert active is not None
    assert (active.connection.ami_username, active.connection.ari_prefix) == ("other", "/asterisk")
    assert active.connection.ami_password.get_secret_value() == PASSWORD


def test_settings_that_cannot_be_used_are_refused_in_words() -> None:
    app = well(open_page(SETTINGS))
    assert "The host is missing" in words(press(app, "Save settings"))


def test_forgetting_the_saved_settings_asks_first(engine: Engine) -> None:
    save_pbx(engine)
    app = press(well(open_page(SETTINGS)), "Delete saved settings")
    assert "Delete" in [button.label for button in app.button]
    assert active_connection(engine, load_settings()) is not None


def test_the_sync_button_queues_one_sync(engine: Engine) -> None:
    pbx = save_pbx(engine)
    app = press(well(open_page()), "Sync FreePBX")
    assert [toast.value for toast in app.toast] == ["Sync queued. It runs in the background; you can keep working."]
    with reading(engine) as session:
        job = last_job(session, "sync", connection_id=pbx)
        assert job is not None
        assert job.requested_by == "page"
    with writing(engine) as session:
        start_job(session, job.id, "worker-0")
        end_job(session, "worker-0", job.id, {"listed": 5, "new": 2, "downloaded": 2, "failed": []})
    assert (
        next(toast.value for toast in well(app.run()).toast).replace("\\", "")
        == "Sync done: 2 new recordings (5 on the PBX)."
    )


@pytest.mark.parametrize("page", PAGES)
def test_a_newer_database_is_a_page_of_its_own(engine: Engine, page: str) -> None:
    with writing(engine) as session:
        session.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    app = well(open_page(page))
    assert "written by a newer version" in words(app)
    assert "Update the app" in words(app)


@pytest.mark.parametrize("page", PAGES)
def test_a_data_directory_that_cannot_be_used_is_said(page: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(settings: object) -> Engine:
        raise DataError("The cache can't be written to.", "Give this user the right to write to data.")

    monkeypatch.setattr("pbx.ui.active_pbx.open_engine", refuse)
    assert "Give this user the right to write" in words(well(open_page(page)))


def test_a_malformed_setting_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FREEPBX_AMI_PORT", "many")
    assert "FREEPBX\\_AMI\\_PORT" in words(well(open_page()))


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


def press(app: AppTest, label: str) -> AppTest:
    return well(next(button for button in app.button if button.label == label).click().run())
