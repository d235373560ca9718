"""All pages, lists and exports count the same calls of a queue: those that the demo's history contains."""

import csv
import io
import re
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from sqlalchemy import Engine
from streamlit.testing.v1 import AppTest

from pbx.analytics.sealing import seal_history
from pbx.demo.company import QUEUES, ZONE
from pbx.demo.simulated_history import calls_between
from pbx.demo.write_history import write_history
from pbx.model.history import Visit
from pbx.settings import Connection, Settings
from pbx.store.engine import open_engine, reading, writing
from pbx.store.legs import store_legs
from pbx.store.pbx_connections import save_connection
from pbx.store.snapshots import record_snapshot
from pbx.store.visits import store_visits
from tests.call_counts import assert_all_agree
from tests.pages.page_reader import open_page, page_text, tables, wallboard_html, without_errors
from tests.pages.sample_data import save_pbx, snapshot_of_queues
from tests.unit.sample_history import leg

pytestmark = pytest.mark.usefixtures("no_worker")

COMPANY_ZONE = ZoneInfo(ZONE)
SINCE, UNTIL = (datetime(2026, 11, day, tzinfo=COMPANY_ZONE).astimezone(UTC) for day in (16, 19))
DAYS: dict[str, Any] = {"period": "Custom range", "days": ["2026-11-16", "2026-11-18"]}
Exports = dict[tuple[str, str], Callable[[], bytes]]


@pytest.fixture(scope="module")
def demo_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data directory with three days of the demo's history."""
    folder = tmp_path_factory.mktemp("demo")
    settings = Settings(_env_file=None, pbx_data_dir=folder)  # type: ignore[call-arg]
    engine = open_engine(settings)
    save_connection(engine, settings, Connection(host="127.0.0.1", ami_port=1, ari_port=1, timezone=ZONE))
    write_history(engine, 1, SINCE - timedelta(hours=6), UNTIL + timedelta(hours=6))
    engine.dispose()
    return folder


@pytest.fixture
def engine(demo_cache: Path, no_real_data: Path, settings: Settings) -> Iterator[Engine]:
    shutil.copytree(demo_cache, no_real_data)
    engine = open_engine(settings)
    yield engine
    engine.dispose()


@pytest.fixture
def exports(monkeypatch: pytest.MonkeyPatch) -> Exports:
    """The files that the pages offer, by the key and label of the download button."""
    found: Exports = {}

    def offer(label: str, data: Callable[[], bytes], **more: Any) -> None:
        found[more["key"], label] = data

    monkeypatch.setattr("pbx.ui.exports.st.download_button", offer)
    return found


def planned_outcomes() -> dict[str, Counter[str]]:
    """By queue: how many visits of the simulated history have each outcome."""
    calls = [call for call in calls_between(SINCE, UNTIL) if call.joined_at and SINCE <= call.joined_at < UNTIL]
    assert all(SINCE <= call.started_at < UNTIL for call in calls)
    return {queue.number: Counter(call.outcome for call in calls if call.queue == queue.number) for queue in QUEUES}


def test_all_queries_count_the_calls_of_the_simulated_history(engine: Engine) -> None:
    expected = {}
    for queue, outcomes in planned_outcomes().items():
        answered = outcomes["answered"] + outcomes["transferred"]
        expected[queue] = (
            outcomes.total(),
            answered,
            outcomes.total(),
            answered,
        )  # no simulated call joins a queue twice
        assert outcomes["abandoned"] > 0
    with reading(engine) as session:
        assert assert_all_agree(session, 1, SINCE, UNTIL, COMPANY_ZONE) == expected
    assert seal_history(engine, 1) > 0
    with reading(engine) as session:
        assert assert_all_agree(session, 1, SINCE, UNTIL, COMPANY_ZONE) == expected


def metrics(app: AppTest) -> dict[str, str]:
    return {metric.label: metric.value for metric in app.metric}


@pytest.mark.parametrize("queue", [queue.number for queue in QUEUES])
def test_every_page_shows_the_same_counts(engine: Engine, exports: Exports, queue: str) -> None:
    outcomes = planned_outcomes()[queue]
    offered, answered = f"{outcomes.total():,}", f"{outcomes['answered'] + outcomes['transferred']:,}"
    query = DAYS | {"queue": queue}
    found = metrics(without_errors(open_page("pages/live/queues.py", **query)))
    assert (found["Offered"], found["Answered"]) == (offered, answered)
    assert (found["Abandoned"]) == f"{outcomes['abandoned']:,}"
    explore = without_errors(open_page("pages/calls/explore.py", **query, by="Queue"))
    assert metrics(explore)["Calls"] == offered
    (row,) = tables(explore)["Calls by Queue"]
    assert row[:2] == [queue, offered]
    assert f"{answered} of {offered}" in " ".join(row)
    assert metrics(without_errors(open_page("pages/live/agents.py", **query)))["Calls taken"] == answered
    assert f">{offered} calls, times in" in page_text(without_errors(open_page("pages/calls/interactions.py", **query)))
    for name in ("visits", "selected_calls"):
        assert len(read_export(exports, name)) == outcomes.total()
    without_errors(open_page("pages/live/queues.py", **query, list="Abandoned"))
    assert len(read_export(exports, "abandoned")) == outcomes["abandoned"]


def read_export(exports: Exports, name: str) -> list[dict[str, str]]:
    text = exports[f"{name}_csv", "CSV"]().decode("utf-8-sig")
    return list(csv.DictReader(io.StringIO(text, newline="")))


def test_exports_by_queue_hold_the_same_counts(engine: Engine, exports: Exports) -> None:
    without_errors(open_page("pages/calls/explore.py", **DAYS, by="Queue"))
    rows = read_export(exports, "all")
    found = {row["Queue"]: (int(row["Calls"]), int(row["Answered"])) for row in rows if row["Queue"] != "No queue"}
    without_errors(open_page("pages/live/queues.py", **DAYS, list="By queue"))
    assert found == {row["Queue"]: (int(row["Offered"]), int(row["Answered"])) for row in read_export(exports, "by")}
    assert found == {
        queue: (outcomes.total(), outcomes["answered"] + outcomes["transferred"])
        for queue, outcomes in planned_outcomes().items()
    }


def test_no_page_offers_a_number_as_a_queue(engine: Engine) -> None:
    for page in ("pages/calls/explore.py", "pages/calls/interactions.py", "pages/live/queues.py"):
        (box,) = [box for box in without_errors(open_page(page, **DAYS)).selectbox if box.label == "Queue"]
        assert {one for one in box.options if re.search(r"\d", one)} == {queue.number for queue in QUEUES}, page


def test_wallboard_and_today_count_the_same_calls_as_queues_and_explore(settings: Settings) -> None:
    """Three callers joined a queue in the last minutes: one was answered, one abandoned, one timed out."""
    engine = open_engine(settings)
    pbx = save_pbx(engine, timezone="UTC")
    now = datetime.now(UTC)
    at = max(now - timedelta(minutes=5), now.replace(hour=0, minute=0, second=0, microsecond=0))
    outcomes = {"1.1": "answered", "2.1": "abandoned", "3.1": "timeout"}
    visits = [
        Visit(uniqueid, "601", at, at if outcome == "answered" else None, at, outcome, 9.0, agent=agent)  # type: ignore[arg-type]
        for (uniqueid, outcome), agent in zip(outcomes.items(), ("Ada", "", ""), strict=True)
    ]
    legs = [leg(n, at, "+4930111", "601", "NO ANSWER", 16) for n in (1, 2, 3)]
    with writing(engine) as session:
        store_visits(session, pbx, visits, "live")
        store_legs(session, pbx, [replace(one, dst_channel="", last_app="Queue", dst=one.did) for one in legs], "live")
        record_snapshot(session, pbx, snapshot_of_queues("601"))
    engine.dispose()
    today = {"period": "Today", "queue": "601"}
    found = metrics(without_errors(open_page("pages/live/queues.py", **today)))
    assert (found["Offered"], found["Answered"], found["Abandoned"]) == ("3", "1", "1")
    figures = metrics(without_errors(open_page("pages/calls/explore.py", **today)))
    assert (figures["Calls"], figures["Answer rate"]) == ("3", "33.3%")
    assert metrics(without_errors(open_page()))["Calls today"] == "3"
    board = wallboard_html(without_errors(open_page("pages/live/wallboard.py", queue="601")))
    assert "1 of 3" in board  # answered within target, of those offered
    assert re.search(r'<span class="mid ">1</span><span class="label">[a-z ]+ today<', board)  # abandoned
    assert ">3 calls, times in" in page_text(without_errors(open_page("pages/calls/interactions.py", **today)))
