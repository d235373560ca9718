"""queue_log events become visits: handwritten logs with every way into and out of a queue."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from pbx.imports.visits_from_queue_log import QueueLogFold
from pbx.model.history import AgentEvent, Ring, Visit
from tests.unit.asterisk.formats.sample_queue_logs import T, fold

AT = datetime.fromtimestamp(T, UTC)
JOINED = "0|9.1|sales|NONE|ENTERQUEUE||+4930123|2"
VISIT = Visit("9.1", "sales", AT, caller="+4930123", original_position=2)


def after(seconds: float) -> datetime:
    return AT + timedelta(seconds=seconds)


def visit_of(*events: str) -> Visit:
    (visit,) = fold(*events).visits
    return visit


ANSWERED = replace(
    VISIT, connected_at=after(12), ended_at=after(72), outcome="answered", wait_s=12, ring_s=3, talk_s=60, agent="Eve"
)
CONNECT = "12|9.1|sales|Eve|CONNECT|12|9.3|3"


@pytest.mark.parametrize(
    ("end", "visit"),
    [
        ("72|9.1|sales|Eve|COMPLETECALLER|12|60|2", replace(ANSWERED, ended_by="caller")),
        ("72|9.1|sales|Eve|COMPLETEAGENT|12|60|2", replace(ANSWERED, ended_by="agent")),
        (
            "72|9.1|sales|Eve|BLINDTRANSFER|6002|from-internal|12|60|2",
            replace(ANSWERED, outcome="transferred", ended_by="transfer", target="6002@from-internal"),
        ),
        (
            "72|9.1|sales|Eve|TRANSFER|6002|from-internal|12|60|2",
            replace(ANSWERED, outcome="transferred", ended_by="transfer", target="6002@from-internal"),
        ),
        (
            "72|9.1|sales|Eve|TRANSFER|6002|from-internal",  # Asterisk 1.4
            replace(ANSWERED, outcome="transferred", ended_by="transfer", target="6002@from-internal"),
        ),
        (
            "72|9.1|sales|Eve|ATTENDEDTRANSFER|BRIDGE|7f1c|12|60|2",
            replace(ANSWERED, outcome="transferred", ended_by="transfer"),
        ),
        (
            "72|9.1|sales|Eve|ATTENDEDTRANSFER|APP|VoiceMail|12|60|2",
            replace(ANSWERED, outcome="transferred", ended_by="transfer", target="VoiceMail"),
        ),
        (
            "72|9.1|sales|Eve|ATTENDEDTRANSFER|LINK|PJSIP/1001-1|PJSIP/1002-2|12|60|2",
            replace(ANSWERED, outcome="transferred", ended_by="transfer", target="PJSIP/1001-1 PJSIP/1002-2"),
        ),
    ],
)
def test_an_answered_visit_has_its_end_and_durations(end: str, visit: Visit) -> None:
    assert visit_of(JOINED, CONNECT, end) == visit


@pytest.mark.parametrize(
    ("end", "facts"),
    [
        ("30|9.1|sales|NONE|ABANDON|1|2|30", {"outcome": "abandoned", "position": 1, "ended_by": "caller"}),
        ("30|9.1|sales|NONE|EXITWITHTIMEOUT|1|2|30", {"outcome": "timeout", "position": 1}),
        ("30|9.1|sales|NONE|EXITEMPTY|1|2|30", {"outcome": "exit_empty", "position": 1}),
        ("30|9.1|sales|NONE|WITHDRAW|1|2|30|sent | to", {"outcome": "withdrawn", "position": 1}),
        (
            "30|9.1|sales|NONE|EXITWITHKEY|5|1|2|30",
            {"outcome": "exit_key", "position": 1, "ended_by": "caller", "target": "5"},
        ),
        ("30|9.1|sales|NONE|EXITWITHTIMEOUT|", {"outcome": "timeout"}),  # Asterisk 1.4: the wait comes from the times
    ],
)
def test_an_unanswered_visit_has_its_outcome_and_wait(end: str, facts: dict[str, object]) -> None:
    assert visit_of(JOINED, end) == replace(VISIT, ended_at=after(30), wait_s=30, **facts)


def test_a_visit_in_progress_is_returned_after_each_change_only() -> None:
    log = QueueLogFold()
    assert fold(JOINED, into=log).visits == [VISIT]
    assert fold(into=log).visits == []
    connected = replace(VISIT, connected_at=after(12), wait_s=12, ring_s=3, agent="Eve")
    assert fold(CONNECT, into=log).visits == [connected]
    ended = fold("72|9.1|sales|Eve|COMPLETEAGENT|12|60|2", into=log).visits
    assert ended == [replace(ANSWERED, ended_by="agent")]


def test_reading_continues_where_the_previous_one_stopped() -> None:
    first = fold(JOINED).visits
    later = fold(CONNECT, "72|9.1|sales|Eve|COMPLETEAGENT|12|60|2", into=QueueLogFold(first)).visits
    assert later == [replace(ANSWERED, ended_by="agent")]
    again = fold(JOINED, into=QueueLogFold(first)).visits  # the file is read from its beginning again
    assert again == first


def test_a_file_that_starts_within_a_visit_gives_what_it_contains() -> None:
    assert visit_of(CONNECT, "72|9.1|sales|Eve|COMPLETEAGENT|12|60|2") == replace(ANSWERED, caller="", ended_by="agent")
    only_end = visit_of("72|9.1|sales|Eve|COMPLETEAGENT|12|60|2")
    assert only_end == replace(ANSWERED, caller="", ring_s=None, ended_by="agent")
    assert visit_of("30|9.1|sales|NONE|ABANDON|1|2|30").joined_at == AT


def test_a_url_with_bars_does_not_change_the_caller() -> None:
    assert visit_of("0|9.1|sales|NONE|ENTERQUEUE|http://crm/?a=1|b=2|+4930123|2") == VISIT
    assert visit_of("0|9.1|sales|NONE|ENTERQUEUE||+4930123") == replace(VISIT, original_position=None)  # Asterisk 1.4


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_a_did_is_recorded_before_or_after_joining(order: tuple[int, int]) -> None:
    events = (JOINED, "0|9.1|NONE|NONE|DID|5550100")
    assert visit_of(*(events[at] for at in order)) == replace(VISIT, did="5550100")


def test_each_joining_of_a_queue_is_a_separate_visit() -> None:
    visits = fold(
        JOINED,
        "5|9.1|sales|NONE|EXITWITHTIMEOUT|1|2|5",
        "5|9.1|support|NONE|ENTERQUEUE||+4930123|1",
        "9|9.1|support|NONE|EXITWITHTIMEOUT|1|1|4",
        "9|9.1|sales|NONE|ENTERQUEUE||+4930123|1",
        "11|9.1|sales|NONE|ABANDON|1|1|2",
    ).visits
    assert [(visit.queue, visit.outcome, visit.wait_s) for visit in visits] == [
        ("sales", "timeout", 5), ("support", "timeout", 4), ("sales", "abandoned", 2),
    ]  # fmt: skip


def test_a_reload_ends_no_visit_and_a_restart_makes_visits_unknown() -> None:
    log = QueueLogFold()
    assert fold(JOINED, "3|NONE|NONE|NONE|CONFIGRELOAD|", into=log).visits == [VISIT]
    lost = fold("4|NONE|NONE|NONE|QUEUESTART|", into=log).visits
    assert lost == [replace(VISIT, outcome="unknown")]
    assert lost[0].ended_at is None
    assert fold("5|NONE|NONE|NONE|QUEUESTART|", into=log).visits == []


def test_a_restart_in_an_older_file_does_not_end_newer_visits() -> None:
    assert fold("-60|NONE|NONE|NONE|QUEUESTART|", into=QueueLogFold([VISIT])).visits == []


def test_a_visit_without_events_for_a_day_is_unknown() -> None:
    found = fold(JOINED, "90000|9.9|sales|NONE|ENTERQUEUE||1|1").visits
    assert [(visit.uniqueid, visit.outcome) for visit in found] == [("9.1", "unknown"), ("9.9", "in_progress")]


def test_a_clock_set_back_causes_no_negative_times() -> None:
    visit = visit_of(JOINED, "-3588|9.1|sales|Eve|CONNECT|12|9.3|3", "-3528|9.1|sales|Eve|COMPLETEAGENT|12|60|2")
    assert visit == replace(ANSWERED, ended_by="agent")
    assert visit_of(JOINED, "-3600|9.1|sales|NONE|ABANDON|1|1|-3600").wait_s == 0


def test_a_missing_common_codec_ends_a_visit_as_unknown() -> None:
    assert visit_of(JOINED, "3|9.1|sales|Eve|SYSCOMPAT|") == replace(VISIT, ended_at=after(3), outcome="unknown")


@pytest.mark.parametrize("callid", ["NONE", "REALTIME", "MANAGER", ""])
def test_events_without_a_call_make_no_visit(callid: str) -> None:
    events = ("ENTERQUEUE||555|1", "CONNECT|1|2|3", "COMPLETEAGENT|1|2|3", "ABANDON|1|1|1", "DID|5")
    assert fold(*(f"0|{callid}|sales|Eve|{event}" for event in events)).visits == []


def test_a_ring_without_an_answer_is_recorded() -> None:
    rings = fold(JOINED, "5|9.1|sales|Eve|RINGNOANSWER|4830", "6|9.1|sales|Eve|RINGCANCELED|79").rings
    assert rings == [Ring(after(5), "Eve", "sales", "9.1", 4.83)]


@pytest.mark.parametrize(
    ("event", "change"),
    [
        ("CLI|sales|Eve|ADDMEMBER|", AgentEvent(AT, "Eve", "sales", "login")),
        ("CLI|sales|Eve|REMOVEMEMBER|", AgentEvent(AT, "Eve", "sales", "logout")),
        ("NONE|sales|Eve|PAUSE|Lunch | at 3", AgentEvent(AT, "Eve", "sales", "pause", "Lunch | at 3")),
        ("NONE|sales|Eve|UNPAUSE|", AgentEvent(AT, "Eve", "sales", "unpause")),
        ("9.1|NONE|Agent/7|AGENTLOGIN|SIP/7-1", AgentEvent(AT, "Agent/7", "", "login")),
        ("9.1|NONE|Agent/7|AGENTLOGOFF|SIP/7-1|300", AgentEvent(AT, "Agent/7", "", "logout")),
        ("9.1|NONE|Agent/7|AGENTCALLBACKLOGIN|7@x", AgentEvent(AT, "Agent/7", "", "login")),
        ("9.1|NONE|Agent/7|AGENTCALLBACKLOGOFF|7@x|300|", AgentEvent(AT, "Agent/7", "", "logout")),
        ("NONE|NONE|SIP/7|PAUSEALL|", AgentEvent(AT, "SIP/7", "", "pause")),
        ("NONE|NONE|SIP/7|UNPAUSEALL|", AgentEvent(AT, "SIP/7", "", "unpause")),
    ],
)
def test_agent_events_are_recorded(event: str, change: AgentEvent) -> None:
    assert fold(f"0|{event}").agent_events == [change]


def test_a_member_added_as_paused_logs_in_and_pauses() -> None:
    kinds = [change.kind for change in fold("0|MANAGER|sales|Eve|ADDMEMBER|PAUSED").agent_events]
    assert kinds == ["login", "pause"]


def test_a_pause_of_all_queues_is_recorded_once() -> None:
    events = ("0|NONE|NONE|SIP/7|PAUSEALL|", "0|NONE|sales|Eve|PAUSE|", "0|NONE|support|Eve|PAUSE|")
    log = QueueLogFold()
    results = [fold(event, into=log, at_end=False).agent_events for event in events]
    assert [(change.agent, change.queue) for result in results for change in result] == [
        ("Eve", "sales"),
        ("Eve", "support"),
    ]


def test_unknown_events_are_counted() -> None:
    log = QueueLogFold()
    assert fold(JOINED, "1|9.1|sales|Eve|HOORAY|x", "2|9.1|sales|Eve|HOORAY|", into=log).visits == [VISIT]
    assert log.unknown == {"HOORAY": 2}


def test_10_000_calls_from_one_number_are_10_000_visits() -> None:
    events = [f"{n}|{T}.{n}|sales|NONE|ENTERQUEUE||5551234|1" for n in range(10_000)]
    events += [f"{n + 20_000}|{T}.{n}|sales|NONE|ABANDON|1|1|20" for n in range(10_000)]
    visits = fold(*events).visits
    assert len({visit.uniqueid for visit in visits}) == len(visits) == 10_000
    assert {visit.caller for visit in visits} == {"5551234"}


def test_a_did_applies_to_each_queue_of_the_call() -> None:
    visits = fold(
        "0|9.1|NONE|NONE|DID|5550100", JOINED, "5|9.1|sales|NONE|EXITEMPTY|1|2|5", "5|9.1|support|NONE|ENTERQUEUE||1|1"
    ).visits
    assert [visit.did for visit in visits] == ["5550100", "5550100"]


CALLER, CONSULT, LATER = "1795262825.100", "1795262950.104", "1795262953.105"  # the caller's channel, then the agent's
FIRST_PART = [
    f"0|{CALLER}|desk|NONE|DID|5550000",
    f"0|{CALLER}|desk|NONE|ENTERQUEUE||5550177|1",
    f"12|{CALLER}|desk|Eve|CONNECT|12|1795262830.101|11",
    f"121|{CONSULT}|lab|NONE|ENTERQUEUE||7009|1",
]
TRANSFERRED = f"122|{CONSULT}|desk|Eve|ATTENDEDTRANSFER|APP|Queue|12|110|1"
CONNECTED = f"127|{CALLER}|lab|Gus|CONNECT|6|{LATER}|5"
ENDED = f"300|{CALLER}|lab|Gus|COMPLETEAGENT|6|173|1"


def summaries(visits: list[Visit]) -> list[tuple[object, ...]]:
    """For each visit in its latest state: the caller, the queue and the result."""
    last = {(visit.uniqueid, visit.queue, visit.joined_at): visit for visit in visits}
    return [(v.uniqueid, v.queue, v.caller, v.outcome, v.agent, v.wait_s, v.talk_s) for v in last.values()]


FIRST = (CALLER, "desk", "5550177", "transferred", "Eve", 12.0, 110.0)
SECOND = (CONSULT, "lab", "5550177", "answered", "Gus", 6.0, 173.0)


@pytest.mark.parametrize(
    "events",
    [
        [*FIRST_PART, TRANSFERRED, CONNECTED, ENDED],
        [*FIRST_PART, CONNECTED, TRANSFERRED, ENDED],  # the transfer is logged late
        [
            *FIRST_PART,
            TRANSFERRED.replace(CONSULT, CALLER),
            CONNECTED,
            ENDED,
        ],  # the transfer is logged under the caller, as Asterisk 16 and 22 do
        [
            "1|1795262829.9|lab|NONE|ENTERQUEUE||555|1",
            *FIRST_PART,
            TRANSFERRED,
            CONNECTED,
            ENDED,
            "301|1795262829.9|lab|NONE|ABANDON|1|1|300",
        ],
    ],
)
def test_an_attended_transfer_into_a_queue_is_two_visits_although_their_callids_change(events: list[str]) -> None:
    """The log swaps the callids: https://github.com/asterisk/asterisk/issues/759"""
    found = [one for one in summaries(fold(*events).visits) if one[3] != "abandoned"]
    assert sorted(found) == [FIRST, SECOND]


def test_an_attended_transfer_into_the_same_queue_is_two_visits() -> None:
    events = [line.replace("|lab|", "|desk|") for line in (*FIRST_PART, TRANSFERRED, CONNECTED, ENDED)]
    assert summaries(fold(*events).visits) == [FIRST, tuple("desk" if one == "lab" else one for one in SECOND)]


@pytest.mark.parametrize("events_before", [1, 2, 3, 4, 5, 6])
def test_an_attended_transfer_can_be_read_in_two_parts(events_before: int) -> None:
    events = [*FIRST_PART, TRANSFERRED, CONNECTED, ENDED]
    before = fold(*events[:events_before]).visits
    last = {(visit.uniqueid, visit.queue): visit for visit in before}
    after = fold(
        *events[events_before:], into=QueueLogFold(v for v in last.values() if v.outcome == "in_progress")
    ).visits
    assert {one[:2]: one for one in summaries(before + after)} == {one[:2]: one for one in (FIRST, SECOND)}


def test_a_caller_transferred_into_a_queue_can_abandon_there() -> None:
    events = [
        *FIRST_PART,
        TRANSFERRED,
        f"140|{CALLER}|lab|Gus|RINGNOANSWER|9000",
        f"150|{CALLER}|lab|NONE|ABANDON|1|1|29",
    ]
    found = fold(*events)
    assert summaries(found.visits) == [FIRST, (CONSULT, "lab", "5550177", "abandoned", "", 29.0, None)]
    assert [ring.uniqueid for ring in found.rings] == [CONSULT]


def test_a_visit_whose_local_channel_was_optimized_away_ends_under_another_callid() -> None:
    events = [f"121|{CONSULT}|lab|NONE|ENTERQUEUE||7009|1", f"127|{CONSULT}|lab|Gus|CONNECT|6|{LATER}|5", ENDED]
    assert summaries(fold(*events).visits) == [(*SECOND[:2], "7009", *SECOND[3:])]


def test_an_agents_next_visit_is_not_confused_with_the_previous_one() -> None:
    """One agent takes two visits whose ends are logged under unknown callids. Each visit keeps its own times."""
    events = [
        f"{at}|179526283{n}.{n}|lab|Gus|{rest}" for n, at, rest in ((1, 9, "CONNECT|6|x|5"), (2, 99, "CONNECT|6|x|5"))
    ]
    found = summaries(fold(*events, "109|1795262700.9|lab|Gus|COMPLETEAGENT|6|10|1").visits)
    assert [(one[0], one[3]) for one in found] == [("1795262832.2", "answered"), ("1795262831.1", "in_progress")]
