"""The figures of one shift at real Asterisk: worked by hand, alike live and by import, beside Asterisk's own counters.

Where the two ways can't know the same:
- the CDR counts whole seconds, and tells neither Q.850 causes nor the post-dial delay; live events tell both;
- Master.csv has no column for the number that was called from outside (FreePBX's table has): no DID by import;
- in the CDR a call goes on with whoever its caller was passed on to; live events tell the length of each leg.
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
from pbx.analytics.formulas.queues import OUTCOMES, QueueFigures
from pbx.analytics.queues import FigureFilter, load_visits, queue_targets, queue_totals
from pbx.analytics.trunks import cause_counts, trunk_totals
from pbx.store.engine import reading
from pbx.store.models import CallRow
from tests.call_counts import assert_all_agree
from tests.lab.live_and_imported import IMPORTED, LIVE, SOURCES, LiveAndImported, desk_resets_since, fill_both_caches
from tests.lab.scripted_calls import DESK, TEMP_NAME
from tests.lab.servers import SERVERS
from tests.pages.page_reader import open_page, tables, without_errors

pytestmark = [pytest.mark.lab, pytest.mark.timeout(180)]
T_S = 4.0  # the desk's servicelevel
LEFT = ("abandoned", "timeout", "exit_empty", "withdrawn")  # what app_queue counts as Abandoned


@pytest.fixture(scope="module", params=SERVERS.values(), ids=lambda server: server.name)
def calls(lab: None, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> LiveAndImported:
    return fill_both_caches(request.param, tmp_path_factory.mktemp("calls"))


@pytest.fixture(params=SOURCES)
def source(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def engine(calls: LiveAndImported, source: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Engine]:
    """The cache of this source, which is the app's too."""
    monkeypatch.setattr("pbx.ui.sidebar.ensure_worker", lambda settings: None)
    with calls.open_cache(source) as engine:
        yield engine


def desk(calls: LiveAndImported) -> FigureFilter:
    return FigureFilter(1, calls.scripted.since - timedelta(hours=1), calls.scripted.until + timedelta(hours=1), DESK)


def questioned(calls: LiveAndImported) -> CallQuestion:
    wanted = desk(calls)
    return CallQuestion(1, wanted.since, wanted.until)


def desk_figures(session: Session, calls: LiveAndImported) -> QueueFigures:
    return queue_totals(session, desk(calls), queue_targets(session, 1))


def test_the_desks_figures_are_those_worked_by_hand(calls: LiveAndImported, engine: Engine) -> None:
    with reading(engine) as session:
        assert queue_targets(session, 1).of(DESK) == T_S
        found = desk_figures(session, calls)
    assert (found.offered, found.answered, found.abandoned, found.other) == (8, 5, 2, 1)
    assert found.outcomes == {"answered": 3, "transferred": 2, "abandoned": 2, "timeout": 1}
    assert (found.sl_answered.parts_text(), found.sl_inclusive.parts_text()) == ("4 of 5", "5 of 7")
    assert found.sl_offered.parts_text() == "4 of 7"  # one of the eight hung up within 5 s
    assert (found.answer_waits, found.talks) == (5, 5)
    assert found.answer_wait_s == pytest.approx(1 + 7, abs=4)  # whole seconds, of five calls
    assert found.talk_s == pytest.approx(3 + 3 + 5 + 1.5 + 3, abs=5)
    assert found.max_wait_s == pytest.approx(8, abs=1)


def test_the_desks_figures_are_the_same_live_and_by_import(calls: LiveAndImported) -> None:
    """To the second: both are app_queue's own."""
    found: dict[str, tuple[QueueFigures, list[AgentFigures]]] = {}
    for source in SOURCES:
        with calls.open_cache(source) as engine, reading(engine) as session:
            found[source] = desk_figures(session, calls), agent_figures(session, desk(calls))
    (live, live_agents), (imported, imported_agents) = found[LIVE], found[IMPORTED]
    assert live == replace(imported, talk_s=pytest.approx(imported.talk_s, abs=2))
    assert [agent.agent for agent in live_agents] == [agent.agent for agent in imported_agents]
    for one, other in zip(live_agents, imported_agents, strict=True):
        assert (one.calls, one.talks, one.non_response) == (other.calls, other.talks, other.non_response)
        assert (one.sessions, list(one.pauses)) == (other.sessions, list(other.pauses))
        assert one.talk_s == pytest.approx(other.talk_s, abs=1)
        assert one.logged_in_s == pytest.approx(other.logged_in_s, abs=1)


def test_asterisks_own_counters_follow(calls: LiveAndImported, engine: Engine) -> None:
    """As pbx.analytics.formulas.queues explains QueueStatus: over the same calls, none of which still goes on."""
    with reading(engine) as session:
        figures, visits = desk_figures(session, calls), load_visits(session, desk(calls))
    left_in_time = sum(
        OUTCOMES[outcome] in LEFT and wait_s <= T_S
        for outcome, wait_s in zip(visits.outcome, visits.wait_s, strict=True)
    )
    completed, abandoned = figures.answered, sum(figures.outcomes.get(name, 0) for name in LEFT)
    counters = calls.scripted.counters
    assert (counters["Completed"], counters["Abandoned"]) == (str(completed), str(abandoned)) == ("5", "3")
    assert counters["ServicelevelPerf"] == f"{figures.sl_answered.percent:.1f}" == "80.0"
    in_time = figures.answered_within_t + left_in_time
    assert counters["ServicelevelPerf2"] == f"{100 * in_time / (completed + abandoned):.1f}" == "75.0"


def test_a_reset_of_those_counters_is_noted(calls: LiveAndImported) -> None:
    with calls.open_cache(LIVE) as engine:
        (reset,) = desk_resets_since(engine, calls.scripted.until)
    assert (reset.queue, reset.description) == (DESK, "The counters of desk were reset")


def test_trunk_figures(calls: LiveAndImported, engine: Engine, source: str) -> None:
    wanted = desk(calls)
    with reading(engine) as session:
        found = trunk_totals(session, 1, "carrier", wanted.since, wanted.until)
        assert trunk_totals(session, 1, None, wanted.since, wanted.until) == found
        causes = cause_counts(session, 1, "carrier", wanted.since, wanted.until)
    assert (found.seizures, found.open, found.outbound) == (4, 0, 3)
    assert (found.asr.parts_text(), found.ner.parts_text()) == ("2 of 4", "4 of 4")
    assert found.billed == 2
    assert found.billsec_s == pytest.approx(3 + 5, abs=2)
    assert found.busy_s == pytest.approx(3 + 5 + 3, abs=3)
    assert found.concurrency_peak in (3, 4)  # whether the busy one was gone when the others came
    assert found.pdds == (1 if source == LIVE else 0)  # the far end answers or is busy without ringing, but for one
    reported = {(item.cause, item.disposition): item.count for item in causes}
    unheard = {(None, "NO ANSWER"): 1}  # Asterisk ended the call itself
    if source == LIVE:
        assert reported == {(16, "ANSWERED"): 2, (17, "BUSY"): 1} | unheard
    else:
        assert reported == {(None, "ANSWERED"): 2, (None, "BUSY"): 1} | unheard


def test_call_figures(calls: LiveAndImported, engine: Engine, source: str) -> None:
    wanted = questioned(calls)
    with reading(engine) as session:
        total = call_totals(session, wanted)
        by_queue = {one.label: one for one in call_counts(session, wanted, UTC, "queue")}
        dids = {one.label: one.calls for one in call_counts(session, wanted, UTC, "did") if one.label}
        ended = {one.label: one.calls for one in call_counts(session, wanted, UTC, "disposition")}
    assert total.by_direction == {"inbound": 1, "outbound": 3, "internal": 8}
    assert (total.calls, total.decided, total.answered, total.talks) == (12, 12, 7, 7)
    assert ended == {"ANSWERED": 7, "NO ANSWER": 4, "BUSY": 1}
    assert {name: (one.calls, one.answered) for name, one in by_queue.items()} == {DESK: (8, 5), "": (4, 2)}
    after = 0 if source == LIVE else 3  # passed on: seconds in which the CDR goes on and the agent is gone
    assert total.talk_s == pytest.approx(3 + 3 + 5 + 1.5 + 3 + 3 + 3 + after, abs=6)
    assert total.wait_s == pytest.approx(1 + 7, abs=5)
    assert dids == ({"5550103": 1} if source == LIVE else {})


def test_all_ways_to_count_the_desks_calls_agree(calls: LiveAndImported, engine: Engine) -> None:
    """Eight visits of eight calls, five answered; live and imported alike."""
    wanted = desk(calls)
    with reading(engine) as session:
        found = assert_all_agree(session, 1, wanted.since, wanted.until, UTC)
    assert found == {DESK: (8, 5, 8, 5)}


def test_agents_figures(calls: LiveAndImported, engine: Engine) -> None:
    """One agent came and went: queue_log names her by her interface, live events by her name."""
    with reading(engine) as session:
        agents = {one.agent: one for one in agent_figures(session, desk(calls))}
        (pause,) = pause_reasons(session, desk(calls)).items()
    assert sum(one.calls for one in agents.values()) == 5
    assert sum(one.non_response for one in agents.values()) == 1
    assert {one.calls for one in agents.values()} == {0, 1}  # rrmemory
    came = agents[TEMP_NAME]
    assert (came.sessions, came.calls) == (1, 0)
    assert came.logged_in_s is not None
    assert 8 <= came.logged_in_s <= 40
    assert (pause[0], pause[1].count) == ("Coffee", 1)
    assert not any("/" in name for name in agents)


def shown(app: AppTest, *names: str) -> dict[str, str]:
    found = {metric.label.replace("\\", ""): metric.value for metric in app.metric}
    return {name: found[name] for name in names}


def test_the_page_queues(engine: Engine) -> None:
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


def test_the_page_trunks(engine: Engine, source: str) -> None:
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


def test_the_page_agents(engine: Engine) -> None:
    app = without_errors(open_page("pages/live/agents.py", queue=DESK))
    assert shown(app, "Calls taken", "Missed ring rate") == {
        "Calls taken": "5",
        "Missed ring rate": "16.7%",  # 1 of 6 rings
    }
    rows = {row[0]: row for row in tables(app)["Agents"]}
    assert rows[TEMP_NAME][4].endswith("1 session")
    assert sum(int(row[1].partition(" ")[0]) for row in rows.values()) == 5


def test_the_page_explore(engine: Engine) -> None:
    app = without_errors(open_page("pages/calls/explore.py"))
    expected = {"Calls": "12", "Inbound": "1", "Outbound": "3", "Answer rate": "58.3%"}
    assert shown(app, *expected) == expected
    rows = {row[0].split()[-1]: row[1:3] for row in tables(app)["Calls by Direction"]}
    assert rows == {
        "Internal": ["8", "62.5% | 5 of 8"],
        "Outbound": ["3", "33.3% | 1 of 3"],
        "Inbound": ["1", "100.0% | 1 of 1"],
    }


def test_interactions_and_a_calls_legs(calls: LiveAndImported, engine: Engine, source: str) -> None:
    assert len(tables(without_errors(open_page("pages/calls/interactions.py")))["Calls"]) == 12
    with reading(engine) as session:
        ids = {linkedid: call for call, linkedid in session.exec(select(CallRow.id, CallRow.linkedid))}
    legs: dict[str, list[Any]] = {}
    for name in ("busy", "inbound"):
        app = without_errors(
            open_page("pages/calls/interactions.py", call=str(ids[calls.scripted.calls[name].uniqueid]))
        )
        legs[name] = tables(app)["Legs"]
    (busy,) = [leg for leg in legs["busy"] if leg[2].startswith("carrier")]
    assert busy[1].startswith("5552001")
    assert busy[6] == ("Busy | User busy (17)" if source == LIVE else "Busy")
    (agent,) = [leg for leg in legs["inbound"] if leg[2].startswith("carrier")]
    assert "Local/50" in agent[1]
    assert agent[6].startswith("Answered")
