"""A call is derived from its legs: parties, direction, disposition and durations.

Also tested: how one leg is merged from two sources.
"""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from pbx.model.call_from_legs import fold_legs, merge_legs
from pbx.model.history import Leg

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
PHONE, OTHER, TRUNK = "PJSIP/1001-00000001", "PJSIP/1002-00000002", "PJSIP/carrier-00000003"


def leg(channel: str, dst_channel: str = "", at_s: int = 0, ring_s: int = 5, talk_s: int = 20, **facts: object) -> Leg:
    """A leg that began after `at_s`, rang for `ring_s`, and had a conversation of `talk_s` (0: nobody answered)."""
    started_at = NOON + timedelta(seconds=at_s)
    answered_at = started_at + timedelta(seconds=ring_s) if talk_s else None
    default = Leg(
        linkedid="1.1",
        uniqueid="1.1",
        channel=channel,
        dst_channel=dst_channel,
        trunk="carrier" if TRUNK in (channel, dst_channel) else "",
        src="1001" if channel == PHONE else "",
        dst="1002",
        context="from-internal",
        last_app="Dial",
        started_at=started_at,
        answered_at=answered_at,
        ended_at=started_at + timedelta(seconds=ring_s + talk_s),
        duration_s=float(ring_s + talk_s),
        billsec_s=float(talk_s),
        disposition="ANSWERED" if talk_s else "NO ANSWER",
    )
    return replace(default, **facts)  # type: ignore[arg-type]


def test_a_call_between_two_phones_is_internal() -> None:
    call = fold_legs([leg(PHONE, OTHER, from_name="Ana")])
    assert (call.direction, call.from_number, call.from_name, call.to_number) == ("internal", "1001", "Ana", "1002")
    assert (call.agent, call.disposition, call.talk_s, call.wait_s) == ("1002", "ANSWERED", 20, 5)
    assert (call.started_at, call.duration_s) == (NOON, 25)


def test_a_call_dialled_through_a_trunk_is_outbound() -> None:
    call = fold_legs([leg(PHONE, TRUNK, dst="5551001")])
    assert (call.direction, call.to_number, call.agent) == ("outbound", "5551001", "1001")


@pytest.mark.parametrize(
    "inbound",
    [
        leg(TRUNK, OTHER),
        leg("SIP/unseen-00000001", OTHER, did="5550100"),
        leg("SIP/unseen-00000001", OTHER, context="from-pstn"),
        leg(TRUNK, "PJSIP/carrier-00000009"),  # and forwarded to a trunk
    ],
)
def test_a_call_from_a_trunk_a_did_or_an_outside_context_is_inbound(inbound: Leg) -> None:
    assert fold_legs([inbound]).direction == "inbound"


def test_an_inbound_call_forwarded_to_a_mobile_phone_has_no_agent() -> None:
    call = fold_legs([leg(TRUNK, "PJSIP/carrier-00000009", src="+49301234", dst="0170555")])
    assert (call.direction, call.from_number, call.agent) == ("inbound", "+49301234", "")


def test_a_queue_call_is_answered_by_the_second_agent_tried() -> None:
    """The order of rows doesn't matter; the agent's own row is another leg of the same conversation."""
    facts = {"src": "+49301234", "last_app": "Queue", "dst": "600", "did": "5550100"}
    first = leg(TRUNK, "Local/1001@from-queue-00000001;1", 0, 15, 0, **facts)
    second = leg(TRUNK, "Local/1002@from-queue-00000002;1", 15, 5, 60, **facts)
    agents_own = leg("Local/1002@from-queue-00000002;2", OTHER, 15, 5, 60, uniqueid="1.4", src="+49301234")
    call = fold_legs([agents_own, second, first])
    assert (call.direction, call.did, call.queue, call.to_number) == ("inbound", "5550100", "600", "600")
    assert (call.agent, call.disposition, call.wait_s, call.talk_s) == ("1002", "ANSWERED", 20, 60)
    assert call.duration_s == 80


def test_a_call_to_a_local_channel_is_answered_when_the_agent_answers() -> None:
    """Rows as Asterisk 16 and 22 wrote them: the dialplan answered the caller before the queue did."""
    facts = {"src": "+49301234", "last_app": "Queue", "dst": "desk"}
    caller = leg("Local/s@caller-00000001;1", "Local/5001@agents-00000002;1", 0, 0, 10, **facts)
    agent = leg("Local/5001@agents-00000002;2", "", 0, 7, 3, uniqueid="1.4", last_app="Playback")
    call = fold_legs([agent, caller])
    assert (call.agent, call.disposition, call.wait_s, call.talk_s) == ("5001", "ANSWERED", 7, 3)
    assert call.duration_s == 10
    assert fold_legs([caller]).wait_s == 0  # without the agent's row nothing shows the wait
    unanswered = replace(agent, answered_at=None, disposition="FAILED")
    assert fold_legs([replace(caller, disposition="NO ANSWER"), unanswered]).talk_s is None


@pytest.mark.parametrize("dialled", ["1001", "s", "agent-eve", "FMPR-1001", "RG-600-1001", "7#"])
def test_the_agent_is_the_phone_that_answered_through_local_channels(dialled: str) -> None:
    """A queue's member may be any Local channel, which may dial another Local channel (follow-me)."""
    member, follow = f"Local/{dialled}@agents-00000001", "Local/FMPR-1001@from-internal-00000002"
    legs = [
        leg(TRUNK, f"{member};1", 0, 15, 60, src="+49301234", last_app="Queue", dst="600"),
        leg(f"{member};2", f"{follow};1", 5, 10, 60, uniqueid="1.4"),
        leg(f"{follow};2", "SIP/1009-00000008", 5, 10, 0, uniqueid="1.6"),
        leg(f"{follow};2", OTHER, 5, 10, 60, uniqueid="1.6"),
    ]
    assert [fold_legs(legs[:count]).agent for count in (4, 3)] == ["1002", "1009"]
    assert fold_legs(legs[::-1]).agent == "1002"


def test_an_external_agent_is_named_by_the_number_dialled() -> None:
    member = "Local/0170555@from-internal-00000001"
    first = leg(TRUNK, f"{member};1", src="+49301234", last_app="Queue", dst="600")
    outbound = leg(f"{member};2", "PJSIP/carrier-00000009", uniqueid="1.4", trunk="carrier")
    assert fold_legs([first, outbound]).agent == "0170555"


def test_local_channels_that_dial_each_other_cause_no_endless_loop() -> None:
    one, two = "Local/1@a-00000001", "Local/2@a-00000002"
    legs = [leg(PHONE, f"{one};1"), leg(f"{one};2", f"{two};1"), leg(f"{two};2", f"{one};1")]
    assert fold_legs(legs).agent


def test_a_click_to_call_belongs_to_the_phone_that_rang_first() -> None:
    """A Local channel rings the phone first, then dials."""
    click = "Local/s@click-00000001"
    legs = [leg(f"{click};1", TRUNK, dst="5551001"), leg(f"{click};2", PHONE, uniqueid="1.2")]
    assert fold_legs(legs).agent == "1001"


def test_an_answered_hangup_row_after_a_failed_dial_is_no_answer() -> None:
    """Rows as Asterisk 16 and 22 wrote them for a caller whose channel was answered before it dialled."""
    busy = leg(PHONE, TRUNK, 0, 0, 0, disposition="BUSY")
    hangup = leg(PHONE, "", 0, 0, 0, disposition="ANSWERED", answered_at=NOON, last_app="Hangup")
    call = fold_legs([busy, hangup])
    assert (call.disposition, call.talk_s, call.wait_s, call.agent) == ("BUSY", None, None, "1001")


def test_an_unanswered_outbound_call_belongs_to_its_caller() -> None:
    call = fold_legs([leg(PHONE, TRUNK, 0, 20, 0)])
    assert (call.direction, call.agent, call.disposition) == ("outbound", "1001", "NO ANSWER")


@pytest.mark.parametrize(
    "outbound",
    [
        leg(PHONE, "DAHDI/i1/5550101-1a", trunk="i1", outbound_number="5550000"),
        leg(PHONE, "", 0, 3, 0, outbound_number="5550000", last_app="Congestion"),  # no line was free
        leg(PHONE, "Local/5550101@gsm-box-00000004;1", outbound_number="5550000"),  # a Custom trunk
        leg(PHONE, "Quectel/quectel0-0100000000", context="macro-dialout-trunk", trunk="quectel0"),  # live
    ],
)
def test_a_call_is_outbound_even_if_ami_does_not_list_its_trunk(outbound: Leg) -> None:
    assert (call := fold_legs([outbound])).direction == "outbound"
    assert call.agent == "1001"


def test_an_inbound_call_forwarded_to_an_unlisted_trunk_has_no_agent() -> None:
    call = fold_legs([leg("DAHDI/i1/555-1", "Khomp/B0C3-0.0", did="5550100", trunk="i1", onward_trunk="B0C3")])
    assert (call.direction, call.agent) == ("inbound", "")
    call = fold_legs([leg("DAHDI/i1/555-1", "Local/0170@box-00000001;1", did="5550100", outbound_number="5550100")])
    assert (call.direction, call.agent) == ("inbound", "")


def test_an_analog_phone_is_internal_and_named_by_its_number() -> None:
    for line in ("DAHDI/4-1", "Zap/4-1", "Khomp/B0C3-0.0"):
        call = fold_legs([leg(PHONE, line, dst="1004")])
        assert (call.direction, call.agent) == ("internal", "1004")
        call = fold_legs([leg(line, TRUNK, src="1004")])
        assert (call.direction, call.agent) == ("outbound", "1004")


def test_voicemail_answers_but_is_no_agent() -> None:
    call = fold_legs([leg(PHONE, OTHER, 0, 20, 0), leg(PHONE, "", 20, 0, 30, last_app="VoiceMail")])
    assert (call.disposition, call.agent, call.wait_s, call.talk_s) == ("ANSWERED", "", 20, 30)


def test_a_call_that_only_played_an_announcement_is_answered_without_an_agent() -> None:
    call = fold_legs([leg(TRUNK, "", 0, 0, 12, last_app="Playback")])
    assert (call.disposition, call.talk_s, call.agent) == ("ANSWERED", 12, "")


def test_a_queue_call_is_not_answered_if_no_phone_rang() -> None:
    call = fold_legs([leg(TRUNK, "", 0, 0, 40, last_app="Queue", dst="600")])
    assert (call.disposition, call.talk_s, call.wait_s) == ("NO ANSWER", None, None)


def test_a_transferred_calls_talk_time_includes_both_legs() -> None:
    """The agent is the first who answered. Time in which both legs ran counts once."""
    call = fold_legs([leg(PHONE, OTHER, 0, 5, 20), leg(PHONE, "PJSIP/1003-00000007", 20, 0, 30)])
    assert (call.agent, call.talk_s, call.duration_s) == ("1002", 45, 50)


def test_the_highest_ranked_disposition_of_several_legs_wins() -> None:
    failed, unanswered = leg(PHONE, TRUNK, talk_s=0, disposition="CONGESTION"), leg(PHONE, OTHER, talk_s=0)
    assert fold_legs([failed, unanswered]).disposition == "NO ANSWER"
    in_progress = replace(unanswered, disposition="", ended_at=None, channel=TRUNK)
    call = fold_legs([failed, in_progress])
    assert (call.disposition, call.duration_s) == ("", None)


@pytest.mark.parametrize("dst", ["s", "h", "~~s~~", "s-BUSY", ""])
def test_the_dialplans_special_extensions_are_never_the_called_number(dst: str) -> None:
    assert fold_legs([leg(TRUNK, OTHER, dst=dst, did="5550100")]).to_number == "5550100"


def test_the_cdr_overrides_live_events_but_keeps_their_additional_fields() -> None:
    live = leg(PHONE, OTHER, talk_s=19, cause=16, pdd_s=0.4, src="anonymous", trunk="seen")
    row = leg(PHONE, OTHER, talk_s=20, sequence=3, recording_file="x.wav")
    for merged in (merge_legs(live, "live", row, "cdr"), merge_legs(row, "cdr", live, "live")):
        assert merged == replace(row, cause=16, pdd_s=0.4, trunk="seen")


def test_a_later_live_event_completes_an_earlier_one() -> None:
    started = leg(PHONE, OTHER, disposition="", answered_at=None, ended_at=None, duration_s=None, billsec_s=None)
    ended = leg(PHONE, OTHER, src="", cause=16)
    assert merge_legs(started, "live", ended, "live") == replace(ended, src="1001")


def test_two_rows_with_the_same_channels_are_merged_into_one_leg() -> None:
    first = leg(PHONE, "", 0, 0, 10, sequence=1)
    second = leg(PHONE, "", 60, 0, 30, sequence=4, recording_file="later.wav")
    for merged in (merge_legs(first, "cdr", second, "cdr"), merge_legs(second, "cdr", first, "cdr")):
        assert (merged.started_at, merged.ended_at) == (NOON, NOON + timedelta(seconds=90))
        assert (merged.billsec_s, merged.sequence, merged.recording_file) == (30, 1, "later.wav")
        assert merge_legs(merged, "cdr", second, "cdr") == merged  # read again


def test_a_row_that_is_read_again_replaces_its_old_version() -> None:
    row = leg(PHONE, OTHER, sequence=3)
    corrected = replace(row, started_at=NOON - timedelta(hours=1))  # the PBX's time zone was corrected
    assert merge_legs(row, "cdr", corrected, "cdr") == corrected


def test_a_real_linkedid_replaces_a_uniqueid_used_in_its_place() -> None:
    weak = leg(PHONE, OTHER, linkedid="2.2", uniqueid="2.2")
    linked = replace(weak, linkedid="1.1")
    assert merge_legs(weak, "cdr", linked, "cdr").linkedid == "1.1"
    assert merge_legs(linked, "cdr", weak, "cdr").linkedid == "1.1"
