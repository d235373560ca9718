"""The figures of the scripted calls, compared with results worked out by hand and with Asterisk's own counters.

Live and imported figures are the same except for these:
- The CDR has integer seconds, no Q.850 causes and no post-dial delay. Live events have both.
- Master.csv has no column for the number dialled from outside, so imports have no DID. FreePBX's table has it.
- In the CDR a call continues with the target of a transfer. Live events have the length of each leg.
"""

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, timedelta
from typing import Any

import pytest
from sqlalchemy import Engine
from sqlmodel import Session, select
from streamlit.testing.v1 import AppTest

from pbx.analytics.agents import agent_figures, pause_reasons
from pbx.analytics.calls import CallQuestion, call_counts, call_totals
from pbx.analytics.formulas.agents import AgentFigures
from pbx.analytics.formulas.queues import QueueFigures
from pbx.analytics.queues import FigureFilter, Selection, queue_targets, queue_totals
from pbx.analytics.trunks import cause_counts, trunk_totals
from pbx.analytics.visit_lists import count_visits
from pbx.store.engine import reading
from pbx.store.models import CallRow
from tests.call_counts import assert_all_agree
from tests.lab.live_and_imported import IMPORTED, LIVE, SOURCES, LiveAndImported, desk_resets_since, fill_both_caches
from tests.lab.scripted_calls import ADDED_AGENT_NAME, DESK
from tests.lab.servers import SERVERS
from tests.pages.page_reader import open_page, tables, without_errors

pytestmark = [pytest.mark.lab, pytest.mark.timeout(180)]
TARGET_S = 4.0  # the desk's service level target
UNANSWERED = ("abandoned", "timeout", "exit_empty", "withdrawn")  # the outcomes that app_queue counts as abandoned


@pytest.fixture(scope="module", params=SERVERS.values(), ids=lambda server: server.name)
def caches(lab: None, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> LiveAndImported:
    return fill_both_caches(request.param, tmp_path_factory.mktemp("caches"))


@pytest.fixture(params=SOURCES)
def source(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def engine(caches: LiveAndImported, source: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Engine]:
    """The cache of this source, which the app also uses."""
    monkeypatch.setattr("pbx.ui.sidebar.ensure_worker", lambda settings: None)
    with caches.open_cache(source) as engine:
        yield engine


def desk(caches: LiveAndImported) -> FigureFilter:
    return FigureFilter(1, caches.scripted.since - timedelta(hours=1), caches.scripted.until + timedelta(hours=1), DESK)


def call_question(caches: LiveAndImported) -> CallQuestion:
    period = desk(caches)
    return CallQuestion(1, period.since, period.until)


def desk_figures(session: Session, caches: LiveAndImported) -> QueueFigures:
    return queue_totals(session, desk(caches), queue_targets(session, 1))


def test_the_desks_figures_match_those_worked_out_by_hand(caches: LiveAndImported, engine: Engine) -> None:
    with reading(engine) as session:
        assert queue_targets(session, 1).of(DESK) == TARGET_S
        figures = desk_figures(session, caches)
    assert (figures.offered, figures.answered, figures.abandoned, figures.other) == (8, 5, 2, 1)
    assert figures.outcomes == {"answered": 3, "transferred": 2, "abandoned": 2, "timeout": 1}
    assert (figures.sl_answered.parts_text(), figures.sl_inclusive.parts_text()) == ("4 of 5", "5 of 7")
    assert figures.sl_offered.parts_text() == "4 of 7"  # one of the eight hung up within 5 s
    assert (figures.answer_waits, figures.talks) == (5, 5)
    assert figures.answer_wait_s == pytest.approx(1 + 7, abs=4)  # of five calls, in integer seconds
    assert figures.talk_s == pytest.approx(3 + 3 + 5 + 1.5 + 3, abs=5)
    assert figures.max_wait_s == pytest.approx(8, abs=1)


def test_the_desks_live_and_imported_figures_are_the_same(caches: LiveAndImported) -> None:
    """They agree to the second, because both come from app_queue."""
    by_source: dict[str, tuple[QueueFigures, list[AgentFigures]]] = {}
    for source in SOURCES:
        with caches.open_cache(source) as engine, reading(engine) as session:
            by_source[source] = desk_figures(session, caches), agent_figures(session, desk(caches))
    (live, live_agents), (imported, imported_agents) = by_source[LIVE], by_source[IMPORTED]
    assert live == replace(imported, talk_s=pytest.approx(imported.talk_s, abs=2))
    assert [agent.agent for agent in live_agents] == [agent.agent for agent in imported_agents]
    for one, other in zip(live_agents, imported_agents, strict=True):
        assert (one.calls, one.talks, one.non_response) == (other.calls, other.talks, other.non_response)
        assert (one.sessions, list(one.pauses)) == (other.sessions, list(other.pauses))
        assert one.talk_s == pytest.approx(other.talk_s, abs=1)
        assert one.logged_in_s == pytest.approx(other.logged_in_s, abs=1)


def test_figures_match_asterisks_own_counters(caches: LiveAndImported, engine: Engine) -> None:
    """pbx.analytics.formulas.queues explains the counters of QueueStatus. All calls have ended."""
    with reading(engine) as session:
        figures = desk_figures(session, caches)
        unanswered = Selection(outcomes=UNANSWERED, wait_up_to_s=TARGET_S)
        unanswered_within_target = count_visits(session, desk(caches), unanswered, UTC)
    completed, abandoned = figures.answered, sum(figures.outcomes.get(name, 0) for name in UNANSWERED)
    counters = caches.scripted.counters
    assert (counters["Completed"], counters["Abandoned"]) == (str(completed), str(abandoned)) == ("5", "3")
    assert counters["ServicelevelPerf"] == f"{figures.sl_answered.percent:.1f}" == "80.0"
    within_target = figures.answered_within_t + unanswered_within_target
    assert counters["ServicelevelPerf2"] == f"{100 * within_target / (completed + abandoned):.1f}" == "75.0"


def test_a_reset_of_the_counters_is_stored(caches: LiveAndImported) -> None:
    with caches.open_cache(LIVE) as engine:
        (reset,) = desk_resets_since(engine, caches.scripted.until)
    assert (reset.queue, reset.description) == (DESK, "The counters of desk were reset")


def test_trunk_figures_match_those_worked_out_by_hand(caches: LiveAndImported, engine: Engine, source: str) -> None:
    period = desk(caches)
    with reading(engine) as session:
        totals = trunk_totals(session, 1, "carrier", period.since, period.until)
        assert trunk_totals(session, 1, None, period.since, period.until) == totals
        causes = cause_counts(session, 1, "carrier", period.since, period.until)
    assert (totals.seizures, totals.open, totals.outbound) == (4, 0, 3)
    assert (totals.asr.parts_text(), totals.ner.parts_text()) == ("2 of 4", "4 of 4")
    assert totals.billed == 2
    assert totals.billsec_s == pytest.approx(3 + 5, abs=2)
    assert totals.busy_s == pytest.approx(3 + 5 + 3, abs=3)
    assert totals.concurrency_peak in (3, 4)  # depends on whether the busy call ended before the others started
    assert totals.pdds == (1 if source == LIVE else 0)  # only one of the called numbers rings
    reported = {(item.cause, item.disposition): item.count for item in causes}
    unanswered = {(None, "NO ANSWER"): 1}  # Asterisk ended the call itself
    if source == LIVE:
        assert reported == {(16, "ANSWERED"): 2, (17, "BUSY"): 1} | unanswered
    else:
        assert reported == {(None, "ANSWERED"): 2, (None, "BUSY"): 1} | unanswered


def test_call_figures_match_those_worked_out_by_hand(caches: LiveAndImported, engine: Engine, source: str) -> None:
    question = call_question(caches)
    with reading(engine) as session:
        total = call_totals(session, question)
        by_queue = {one.label: one for one in call_counts(session, question, UTC, "queue")}
        dids = {one.label: one.calls for one in call_counts(session, question, UTC, "did") if one.label}
        ended = {one.label: one.calls for one in call_counts(session, question, UTC, "disposition")}
    assert total.by_direction == {"inbound": 1, "outbound": 3, "internal": 8}
    assert (total.calls, total.decided, total.answered, total.talks) == (12, 12, 7, 7)
    assert ended == {"ANSWERED": 7, "NO ANSWER": 4, "BUSY": 1}
    assert {name: (one.calls, one.answered) for name, one in by_queue.items()} == {DESK: (8, 5), "": (4, 2)}
    after_transfer_s = 0 if source == LIVE else 3  # the CDR also counts the talk with the transfer target
    assert total.talk_s == pytest.approx(3 + 3 + 5 + 1.5 + 3 + 3 + 3 + after_transfer_s, abs=6)
    assert total.wait_s == pytest.approx(1 + 7, abs=5)
    assert dids == ({"5550103": 1} if source == LIVE else {})


def test_all_counts_of_the_desks_calls_agree(caches: LiveAndImported, engine: Engine) -> None:
    """There are eight visits of eight calls, five answered, in both caches."""
    period = desk(caches)
    with reading(engine) as session:
        counts = assert_all_agree(session, 1, period.since, period.until, UTC)
    assert counts == {DESK: (8, 5, 8, 5)}


def test_agent_figures_use_the_agents_names(caches: LiveAndImported, engine: Engine) -> None:
    """queue_log has only the interface of the agent who was added and removed. Live events have her name."""
    with reading(engine) as session:
        agents = {one.agent: one for one in agent_figures(session, desk(caches))}
        (pause,) = pause_reasons(session, desk(caches)).items()
    assert sum(one.calls for one in agents.values()) == 5
    assert sum(one.non_response for one in agents.values()) == 1
    assert {one.calls for one in agents.values()} == {0, 1}  # the strategy rrmemory rotates
    added = agents[ADDED_AGENT_NAME]
    assert (added.sessions, added.calls) == (1, 0)
    assert added.logged_in_s is not None
    assert 8 <= added.logged_in_s <= 40
    assert (pause[0], pause[1].count) == ("Coffee", 1)
    assert not any("/" in name for name in agents)


def shown(app: AppTest, *names: str) -> dict[str, str]:
    """The values of some of a page's metrics, by label."""
    values = {metric.label.replace("\\", ""): metric.value for metric in app.metric}
    return {name: values[name] for name in names}


def test_the_queues_page_shows_the_figures(engine: Engine) -> None:
    app = without_errors(open_page("pages/live/queues.py", queue=DESK))
    assert shown(app, "Offered", "Answered", "Abandoned") == {"Offered": "8", "Answered": "5", "Abandoned": "2"}
    levels = {
        "Service level (answered calls)": "80.0%",
        "Service level (answered + abandoned)": "71.4%",
        "Service level (offered calls)": "57.1%",
    }
    assert shown(app, *levels) == levels
    rows = tables(app)["Calls"]
    ended = sorted(row[3] for row in rows)
    assert ended == ["Abandoned"] * 2 + ["Answered"] * 3 + [
        "Timed out",
        "Transferred",
        "Transferred | to 100",
    ]


def test_the_trunks_page_shows_the_figures(engine: Engine, source: str) -> None:
    app = without_errors(open_page("pages/live/trunks.py", trunk_view="Calls"))
    asr, ner = "Answer-seizure ratio (ASR)", "Network effectiveness ratio (NER)"
    assert shown(app, "Call attempts (seizures)", asr, ner) == {
        "Call attempts (seizures)": "4",
        asr: "50.0%",
        ner: "100.0%",
    }
    assert (shown(app, "Post-dial delay (PDD)")["Post-dial delay (PDD)"] == "n/a") == (source == IMPORTED)
    (row,) = tables(app)["Trunk figures"]
    assert row[:4] == ["carrier", "4 | 3 outbound", "50.0% | 2 of 4", "100.0% | 4 of 4"]


def test_the_agents_page_shows_the_figures(engine: Engine) -> None:
    app = without_errors(open_page("pages/live/agents.py", queue=DESK))
    assert shown(app, "Calls taken", "Missed ring rate") == {
        "Calls taken": "5",
        "Missed ring rate": "16.7%",  # 1 of 6 rings
    }
    rows = {row[0]: row for row in tables(app)["Agents"]}
    assert rows[ADDED_AGENT_NAME][4].endswith("1 session")
    assert sum(int(row[1].partition(" ")[0]) for row in rows.values()) == 5


def test_the_explore_page_shows_the_figures(engine: Engine) -> None:
    app = without_errors(open_page("pages/calls/explore.py"))
    expected = {"Calls": "12", "Inbound": "1", "Outbound": "3", "Answer rate": "58.3%"}
    assert shown(app, *expected) == expected
    rows = {row[0].split()[-1]: row[1:3] for row in tables(app)["Calls by Direction"]}
    assert rows == {
        "Internal": ["8", "62.5% | 5 of 8"],
        "Outbound": ["3", "33.3% | 1 of 3"],
        "Inbound": ["1", "100.0% | 1 of 1"],
    }


def test_the_interactions_page_lists_calls_and_their_legs(caches: LiveAndImported, engine: Engine, source: str) -> None:
    assert len(tables(without_errors(open_page("pages/calls/interactions.py")))["Calls"]) == 12
    with reading(engine) as session:
        ids = {linkedid: call for call, linkedid in session.exec(select(CallRow.id, CallRow.linkedid))}
    legs: dict[str, list[Any]] = {}
    for name in ("busy", "inbound"):
        app = without_errors(
            open_page("pages/calls/interactions.py", call=str(ids[caches.scripted.calls[name].uniqueid]))
        )
        legs[name] = tables(app)["Legs"]
    (busy,) = [leg for leg in legs["busy"] if leg[2].startswith("carrier")]
    assert busy[1].startswith("5552001")
    assert busy[6] == ("Busy | User busy (17)" if source == LIVE else "Busy")
    (agent,) = [leg for leg in legs["inbound"] if leg[2].startswith("carrier")]
    assert "Local/50" in agent[1]
    assert agent[6].startswith("Answered")
