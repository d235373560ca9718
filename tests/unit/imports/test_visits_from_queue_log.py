"""Events of queue_log to visits: every way in and out of a queue, by hand."""

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
def test_an_answered_visit(end: str, visit: Visit) -> None:
    assert visit_of(JOINED, CONNECT, end) == visit


@pytest.mark.parametrize(
    ("end", "facts"),
    [
        ("30|9.1|sales|NONE|ABANDON|1|2|30", {"outcome": "abandoned", "position": 1, "ended_by": "caller"}),
        ("30|9.1|sales|NONE|EXITWITHTIMEOUT|1|2|30", {"outcome": "timeout", "position": 1}),
        ("30|9.1|sales|NONE|EXITEMPTY|1|2|30", {"outcome": "exit_empty", "position": 1}),
        ("30|9.1|sales|NONE|WITHDRAW|1|2|30|asked | to", {"outcome": "withdrawn", "position": 1}),
        (
            "30|9.1|sales|NONE|EXITWITHKEY|5|1|2|30",
            {"outcome": "exit_key", "position": 1, "ended_by": "caller", "target": "5"},
        ),
        ("30|9.1|sales|NONE|EXITWITHTIMEOUT|", {"outcome": "timeout"}),  # Asterisk 1.4: how long is what the clock says
    ],
)
def test_a_visit_that_nobody_answered(end: str, facts: dict[str, object]) -> None:
    assert visit_of(JOINED, end) == replace(VISIT, ended_at=after(30), wait_s=30, **facts)


def test_a_visit_that_goes_on_is_told_as_it_stands_and_once() -> None:
    log = QueueLogFold()
    assert fold(JOINED, into=log).visits == [VISIT]
    assert fold(into=log).visits == []
    connected = replace(VISIT, connected_at=after(12), wait_s=12, ring_s=3, agent="Eve")
    assert fold(CONNECT, into=log).visits == [connected]
    ended = fold("72|9.1|sales|Eve|COMPLETEAGENT|12|60|2", into=log).visits
    assert ended == [replace(ANSWERED, ended_by="agent")]


def test_going_on_where_an_earlier_reading_stopped() -> None:
    first = fold(JOINED).visits
    later = fold(CONNECT, "72|9.1|sales|Eve|COMPLETEAGENT|12|60|2", into=QueueLogFold(first)).visits
    assert later == [replace(ANSWERED, ended_by="agent")]
    again = fold(JOINED, into=QueueLogFold(first)).visits  # the file read from its beginning once more
    assert again == first


def test_a_file_that_begins_in_the_middle_tells_what_is_known() -> None:
    assert visit_of(CONNECT, "72|9.1|sales|Eve|COMPLETEAGENT|12|60|2") == replace(ANSWERED, caller="", ended_by="agent")
    only_end = visit_of("72|9.1|sales|Eve|COMPLETEAGENT|12|60|2")
    assert only_end == replace(ANSWERED, caller="", ring_s=None, ended_by="agent")
    assert visit_of("30|9.1|sales|NONE|ABANDON|1|2|30").joined_at == AT


def test_a_url_with_bars_is_no_caller() -> None:
    assert visit_of("0|9.1|sales|NONE|ENTERQUEUE|http://crm/?a=1|b=2|+4930123|2") == VISIT
    assert visit_of("0|9.1|sales|NONE|ENTERQUEUE||+4930123") == replace(VISIT, original_position=None)  # Asterisk 1.4


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_the_number_that_was_dialled_is_noted_before_or_after_joining(order: tuple[int, int]) -> None:
    events = (JOINED, "0|9.1|NONE|NONE|DID|5550100")
    assert visit_of(*(events[at] for at in order)) == replace(VISIT, did="5550100")


def test_one_caller_in_two_queues_and_twice_in_one() -> None:
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


def test_a_reload_ends_nothing_and_a_restart_leaves_what_nobody_saw() -> None:
    log = QueueLogFold()
    assert fold(JOINED, "3|NONE|NONE|NONE|CONFIGRELOAD|", into=log).visits == [VISIT]
    lost = fold("4|NONE|NONE|NONE|QUEUESTART|", into=log).visits
    assert lost == [replace(VISIT, outcome="unknown")]
    assert lost[0].ended_at is None
    assert fold("5|NONE|NONE|NONE|QUEUESTART|", into=log).visits == []


def test_an_older_files_restart_leaves_newer_visits_alone() -> None:
    assert fold("-60|NONE|NONE|NONE|QUEUESTART|", into=QueueLogFold([VISIT])).visits == []


def test_a_visit_without_a_word_for_a_day_is_unknown() -> None:
    told = fold(JOINED, "90000|9.9|sales|NONE|ENTERQUEUE||1|1").visits
    assert [(visit.uniqueid, visit.outcome) for visit in told] == [("9.1", "unknown"), ("9.9", "in_progress")]


def test_a_clock_set_back_makes_no_negative_time() -> None:
    visit = visit_of(JOINED, "-3588|9.1|sales|Eve|CONNECT|12|9.3|3", "-3528|9.1|sales|Eve|COMPLETEAGENT|12|60|2")
    assert visit == replace(ANSWERED, ended_by="agent")
    assert visit_of(JOINED, "-3600|9.1|sales|NONE|ABANDON|1|1|-3600").wait_s == 0


def test_agent_and_caller_without_a_common_codec() -> None:
    assert visit_of(JOINED, "3|9.1|sales|Eve|SYSCOMPAT|") == replace(VISIT, ended_at=after(3), outcome="unknown")


@pytest.mark.parametrize("callid", ["NONE", "REALTIME", "MANAGER", ""])
def test_what_is_no_call_makes_no_visit(callid: str) -> None:
    events = ("ENTERQUEUE||555|1", "CONNECT|1|2|3", "COMPLETEAGENT|1|2|3", "ABANDON|1|1|1", "DID|5")
    assert fold(*(f"0|{callid}|sales|Eve|{event}" for event in events)).visits == []


def test_telephones_that_rang_in_vain() -> None:
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
def test_agents_changes(event: str, change: AgentEvent) -> None:
    assert fold(f"0|{event}").agent_events == [change]


def test_a_member_added_paused_is_both() -> None:
    kinds = [change.kind for change in fold("0|MANAGER|sales|Eve|ADDMEMBER|PAUSED").agent_events]
    assert kinds == ["login", "pause"]


def test_a_pause_of_all_queues_is_told_once() -> None:
    events = ("0|NONE|NONE|SIP/7|PAUSEALL|", "0|NONE|sales|Eve|PAUSE|", "0|NONE|support|Eve|PAUSE|")
    log = QueueLogFold()
    pieces = [fold(event, into=log, at_end=False).agent_events for event in events]
    assert [(change.agent, change.queue) for piece in pieces for change in piece] == [
        ("Eve", "sales"),
        ("Eve", "support"),
    ]


def test_unknown_events_are_counted() -> None:
    log = QueueLogFold()
    assert fold(JOINED, "1|9.1|sales|Eve|HOORAY|x", "2|9.1|sales|Eve|HOORAY|", into=log).visits == [VISIT]
    assert log.unknown == {"HOORAY": 2}


def test_ten_thousand_calls_of_one_number_are_as_many_visits() -> None:
    events = [f"{n}|{T}.{n}|sales|NONE|ENTERQUEUE||5551234|1" for n in range(10_000)]
    events += [f"{n + 20_000}|{T}.{n}|sales|NONE|ABANDON|1|1|20" for n in range(10_000)]
    visits = fold(*events).visits
    assert len({visit.uniqueid for visit in visits}) == len(visits) == 10_000
    assert {visit.caller for visit in visits} == {"5551234"}


def test_the_number_that_was_dialled_holds_for_each_queue_of_the_call() -> None:
    visits = fold(
        "0|9.1|NONE|NONE|DID|5550100", JOINED, "5|9.1|sales|NONE|EXITEMPTY|1|2|5", "5|9.1|support|NONE|ENTERQUEUE||1|1"
    ).visits
    assert [visit.did for visit in visits] == ["5550100", "5550100"]


CALLER, CONSULT, LATER = "1795262825.100", "1795262950.104", "1795262953.105"  # channels: the caller's, the agent's
TALK = [
    f"0|{CALLER}|desk|NONE|DID|5550000",
    f"0|{CALLER}|desk|NONE|ENTERQUEUE||5550177|1",
    f"12|{CALLER}|desk|Eve|CONNECT|12|1795262830.101|11",
    f"121|{CONSULT}|lab|NONE|ENTERQUEUE||7009|1",
]
SENT = f"122|{CONSULT}|desk|Eve|ATTENDEDTRANSFER|APP|Queue|12|110|1"
TAKEN = f"127|{CALLER}|lab|Gus|CONNECT|6|{LATER}|5"
ENDED = f"300|{CALLER}|lab|Gus|COMPLETEAGENT|6|173|1"


def told(visits: list[Visit]) -> list[tuple[object, ...]]:
    """Of each visit, as it was told last, who waited where, and how it went."""
    last = {(visit.uniqueid, visit.queue, visit.joined_at): visit for visit in visits}
    return [(v.uniqueid, v.queue, v.caller, v.outcome, v.agent, v.wait_s, v.talk_s) for v in last.values()]


FIRST = (CALLER, "desk", "5550177", "transferred", "Eve", 12.0, 110.0)
SECOND = (CONSULT, "lab", "5550177", "answered", "Gus", 6.0, 173.0)


@pytest.mark.parametrize(
    "events",
    [
        [*TALK, SENT, TAKEN, ENDED],
        [*TALK, TAKEN, SENT, ENDED],  # written late
        [*TALK, SENT.replace(CONSULT, CALLER), TAKEN, ENDED],  # and early: as seen on 16 and 22
        [
            "1|1795262829.9|lab|NONE|ENTERQUEUE||555|1",
            *TALK,
            SENT,
            TAKEN,
            ENDED,
            "301|1795262829.9|lab|NONE|ABANDON|1|1|300",
        ],
    ],
)
def test_an_attended_transfer_into_a_queue_is_two_visits_although_their_callids_change_sides(events: list[str]) -> None:
    """asterisk/asterisk#759"""
    found = [one for one in told(fold(*events).visits) if one[3] != "abandoned"]
    assert sorted(found) == [FIRST, SECOND]


def test_an_attended_transfer_back_into_the_same_queue() -> None:
    events = [line.replace("|lab|", "|desk|") for line in (*TALK, SENT, TAKEN, ENDED)]
    assert told(fold(*events).visits) == [FIRST, tuple("desk" if one == "lab" else one for one in SECOND)]


@pytest.mark.parametrize("stops", [1, 2, 3, 4, 5, 6])
def test_an_attended_transfer_read_in_two_parts(stops: int) -> None:
    events = [*TALK, SENT, TAKEN, ENDED]
    before = fold(*events[:stops]).visits
    last = {(visit.uniqueid, visit.queue): visit for visit in before}
    after = fold(*events[stops:], into=QueueLogFold(v for v in last.values() if v.outcome == "in_progress")).visits
    assert {one[:2]: one for one in told(before + after)} == {one[:2]: one for one in (FIRST, SECOND)}


def test_who_is_put_into_a_queue_by_an_attended_transfer_may_give_up_there() -> None:
    events = [*TALK, SENT, f"140|{CALLER}|lab|Gus|RINGNOANSWER|9000", f"150|{CALLER}|lab|NONE|ABANDON|1|1|29"]
    found = fold(*events)
    assert told(found.visits) == [FIRST, (CONSULT, "lab", "5550177", "abandoned", "", 29.0, None)]
    assert [ring.uniqueid for ring in found.rings] == [CONSULT]


def test_a_visit_whose_local_channel_was_optimized_away_ends_under_the_callid_behind_it() -> None:
    events = [f"121|{CONSULT}|lab|NONE|ENTERQUEUE||7009|1", f"127|{CONSULT}|lab|Gus|CONNECT|6|{LATER}|5", ENDED]
    assert told(fold(*events).visits) == [(*SECOND[:2], "7009", *SECOND[3:])]


def test_an_agent_s_next_visit_is_not_taken_for_the_one_before() -> None:
    """Of two visits that one agent took, whose ends are written under callids unknown, each has its own times."""
    events = [
        f"{at}|179526283{n}.{n}|lab|Gus|{rest}" for n, at, rest in ((1, 9, "CONNECT|6|x|5"), (2, 99, "CONNECT|6|x|5"))
    ]
    found = told(fold(*events, "109|1795262700.9|lab|Gus|COMPLETEAGENT|6|10|1").visits)
    assert [(one[0], one[3]) for one in found] == [("1795262832.2", "answered"), ("1795262831.1", "in_progress")]
