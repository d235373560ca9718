"""CDR rows become legs: FreePBX's rows, older ones, damaged ones, and their times."""

from datetime import UTC, datetime, timedelta, timezone
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from pbx.asterisk.formats.cdr import Clock, UnreadableRow, learn_clock, parse_cdr_row
from pbx.model.channels import peer_of, trunks_of

BERLIN = ZoneInfo("Europe/Berlin")
NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
NOON_EPOCH = int(NOON.timestamp())
# A call from outside through the trunk, answered by an agent of queue 600, as FreePBX writes it.
ROW: dict[str, Any] = {
    "calldate": datetime(2026, 3, 2, 13, 0, 0),  # noqa: DTZ001 - as a database gives it
    "clid": '"Zoë \\"Z\\" Čapek" <+49301234>',
    "src": "+49301234",
    "dst": "600",
    "dcontext": "ext-queues",
    "channel": "PJSIP/my-carrier-0000001a",
    "dstchannel": "Local/1001@from-queue-00000003;1",
    "lastapp": "Queue",
    "duration": 75,
    "billsec": 60,
    "disposition": "ANSWERED",
    "uniqueid": f"{NOON_EPOCH}.42",
    "did": "5550100",
    "recordingfile": "q-600-+49301234-20260302-130000-1772452800.42.wav",
    "cnum": "+49301234",
    "cnam": "",
    "linkedid": f"{NOON_EPOCH}.41",
    "sequence": 17,
}


def test_a_freepbx_row_becomes_a_leg() -> None:
    leg = parse_cdr_row(ROW, Clock(BERLIN), {"my-carrier"})
    assert (leg.linkedid, leg.uniqueid, leg.sequence) == (f"{NOON_EPOCH}.41", f"{NOON_EPOCH}.42", 17)
    assert (leg.started_at, leg.answered_at, leg.ended_at) == (
        NOON,
        NOON + timedelta(seconds=15),
        NOON + timedelta(seconds=75),
    )
    assert (leg.duration_s, leg.billsec_s, leg.disposition) == (75.0, 60.0, "ANSWERED")
    assert (leg.trunk, leg.src, leg.dst, leg.did, leg.context) == (
        "my-carrier",
        "+49301234",
        "600",
        "5550100",
        "ext-queues",
    )
    assert leg.from_name == 'Zoë "Z" Čapek'
    assert leg.recording_file == ROW["recordingfile"]
    assert (leg.cause, leg.pdd_s) == (None, None)


def test_a_queue_row_keeps_the_queue_as_destination_after_a_transfer() -> None:
    transferred = ROW | {
        "dst": "100",
        "dcontext": "elsewhere",
        "lastdata": "600,tR,,,300",
    }  # as 16 and 22 wrote it
    assert parse_cdr_row(transferred, Clock(BERLIN)).dst == "600"
    assert parse_cdr_row(transferred | {"lastapp": "Dial", "lastdata": "PJSIP/1001,20"}, Clock(BERLIN)).dst == "100"


def test_a_row_of_an_older_table_may_lack_columns() -> None:
    names = ("calldate", "clid", "src", "dst", "dcontext", "channel", "dstchannel", "duration", "billsec", "uniqueid")
    leg = parse_cdr_row({name: ROW[name] for name in names} | {"disposition": None}, Clock(BERLIN))
    assert (leg.linkedid, leg.did, leg.recording_file, leg.sequence) == (leg.uniqueid, "", "", None)
    assert (leg.disposition, leg.trunk) == ("", "")


def test_every_column_except_the_uniqueid_may_be_null() -> None:
    leg = parse_cdr_row(dict.fromkeys(ROW) | {"uniqueid": f"pbx1-{NOON_EPOCH}.7"}, Clock(BERLIN))
    assert leg.started_at == NOON  # from the uniqueid
    assert (leg.answered_at, leg.ended_at, leg.duration_s, leg.billsec_s) == (None, None, None, None)
    with pytest.raises(UnreadableRow, match="uniqueid"):
        parse_cdr_row(ROW | {"uniqueid": None}, Clock(BERLIN))


@pytest.mark.parametrize("zero", ["0000-00-00 00:00:00", "", None, "1970-01-01 01:00:00"])
def test_an_empty_calldate_is_replaced_by_the_uniqueids_time(zero: str | None) -> None:
    assert parse_cdr_row(ROW | {"calldate": zero}, Clock(BERLIN)).started_at == NOON
    with pytest.raises(UnreadableRow, match="time"):
        parse_cdr_row(ROW | {"calldate": zero, "uniqueid": "asterisk.42"}, Clock(BERLIN))


def test_an_invalid_number_is_an_error_and_a_negative_one_is_replaced() -> None:
    with pytest.raises(UnreadableRow, match="billsec is 'x'"):
        parse_cdr_row(ROW | {"billsec": "x"}, Clock(BERLIN))
    assert parse_cdr_row(ROW | {"duration": -3, "billsec": 0}, Clock(BERLIN)).duration_s == 0


@pytest.mark.parametrize(
    ("written", "meant"), [("ANSWERED", "ANSWERED"), ("NO ANSWER", "NO ANSWER"), (8, "ANSWERED"), ("busy", "BUSY")]
)
def test_dispositions_are_normalized(written: object, meant: str) -> None:
    assert parse_cdr_row(ROW | {"disposition": written}, Clock(BERLIN)).disposition == meant


def test_an_unanswered_call_to_a_trunk_has_no_answer_time() -> None:
    """Its billsec is that of the caller's channel, which a queue or Originate answered before the dial."""
    facts = {"channel": "PJSIP/1001-00000001", "dstchannel": "PJSIP/carrier-00000002", "disposition": "NO ANSWER"}
    assert parse_cdr_row(ROW | facts, Clock(BERLIN), {"carrier"}).answered_at is None
    assert parse_cdr_row(ROW | facts | {"disposition": "ANSWERED"}, Clock(BERLIN), {"carrier"}).answered_at is not None
    inbound = ROW | {"disposition": "NO ANSWER"}  # no agent answered, but the queue answered the trunk
    assert parse_cdr_row(inbound, Clock(BERLIN), {"my-carrier"}).answered_at == NOON + timedelta(seconds=15)


def test_bytes_that_a_database_cannot_store_are_removed() -> None:
    leg = parse_cdr_row(ROW | {"src": b"caf\xe9", "cnum": None, "dst": "6\x0000", "cnam": "a\ud800b"}, Clock(BERLIN))
    assert (leg.src, leg.dst, leg.from_name) == ("café", "600", "ab")


def test_the_uniqueid_decides_which_repeated_hour_is_meant() -> None:
    # Berlin, 25 October 2026: 02:00 to 03:00 started at 00:00 UTC, and again at 01:00 UTC.
    first, second = datetime(2026, 10, 25, 0, 30, tzinfo=UTC), datetime(2026, 10, 25, 1, 30, tzinfo=UTC)
    row = ROW | {"calldate": "2026-10-25 02:30:00"}
    for at in (first, second):
        assert parse_cdr_row(row | {"uniqueid": f"{int(at.timestamp())}.1"}, Clock(BERLIN)).started_at == at
    # A later leg of an existing channel can't start before its channel.
    channel_epoch_s = int(datetime(2026, 10, 25, 1, 10, tzinfo=UTC).timestamp())
    assert parse_cdr_row(row | {"uniqueid": f"{channel_epoch_s}.1"}, Clock(BERLIN)).started_at == second
    assert parse_cdr_row(row | {"uniqueid": "none"}, Clock(BERLIN)).started_at == first


def test_a_time_in_the_skipped_hour_is_accepted() -> None:
    at = parse_cdr_row(ROW | {"calldate": "2026-03-29 02:30:00", "uniqueid": "x"}, Clock(BERLIN)).started_at
    assert at in (datetime(2026, 3, 29, 0, 30, tzinfo=UTC), datetime(2026, 3, 29, 1, 30, tzinfo=UTC))


def test_a_learned_offset_is_corrected_by_the_uniqueid() -> None:
    summer = Clock(timezone(timedelta(hours=2)), certain=False)
    assert parse_cdr_row(ROW, summer).started_at == NOON  # although Berlin is one hour ahead of UTC in March
    later = ROW | {"calldate": "2026-03-02 14:20:05"}  # a later leg: not a multiple of 15 min
    assert parse_cdr_row(later, summer).started_at == NOON + timedelta(minutes=20, seconds=5)
    quarter = ROW | {"calldate": "2026-03-02 14:15:05"}  # a multiple that no daylight saving time uses
    assert parse_cdr_row(quarter, summer).started_at == NOON + timedelta(minutes=15, seconds=5)


def test_a_calls_end_does_not_correct_a_learned_offset() -> None:
    """An end one hour after the channel's start doesn't correct a learned offset. Master.csv contains ends."""
    learned = Clock(timezone(timedelta(hours=1)), certain=False)
    row = ROW | {"calldate": None, "start": "2026-03-02 13:00:00", "end": "2026-03-02 14:00:30", "duration": 3630}
    leg = parse_cdr_row(row | {"uniqueid": f"{int(NOON.timestamp())}.1"}, learned)
    assert (leg.started_at, leg.ended_at) == (NOON, NOON + timedelta(seconds=3630))
    night = {"start": "2026-10-25 01:30:00", "end": "2026-10-25 02:10:00", "calldate": None, "duration": 6000}
    started = datetime(2026, 10, 24, 23, 30, tzinfo=UTC)
    summer = Clock(timezone(timedelta(hours=2)), certain=False)
    leg = parse_cdr_row(ROW | night | {"uniqueid": f"{int(started.timestamp())}.1"}, summer)
    assert (leg.started_at, leg.ended_at) == (started, started + timedelta(seconds=6000))


def test_the_clock_is_learned_from_the_uniqueids() -> None:
    rows = [ROW | {"calldate": f"2026-03-02 13:{m:02}:00", "uniqueid": f"{NOON_EPOCH + 60 * m}.1"} for m in range(5)]
    assert learn_clock(rows, BERLIN, certain=True) == Clock(BERLIN, certain=True)
    assert learn_clock(rows, None, certain=False) == Clock(timezone(timedelta(hours=1)), certain=False)
    assert learn_clock(rows, ZoneInfo("America/Lima"), certain=True).zone == timezone(timedelta(hours=1))
    assert learn_clock([], None, certain=False) == Clock(UTC, certain=False)
    in_utc = [row | {"calldate": datetime.fromtimestamp(NOON_EPOCH + 60 * m, UTC)} for m, row in enumerate(rows)]
    assert parse_cdr_row(in_utc[2], learn_clock(in_utc, BERLIN, certain=True)).started_at == NOON + timedelta(minutes=2)


@pytest.mark.parametrize(
    ("channel", "peer"),
    [
        ("PJSIP/carrier-0000001a", "carrier"),
        ("PJSIP/my-carrier-0000001a", "my-carrier"),
        ("SIP/1001-000003f2", "1001"),
        ("IAX2/branch-4211", "branch"),
        ("DAHDI/i1/5551234-1", "i1"),
        ("Local/1001@from-queue-000000d1;2", "1001"),
        ("Local/FMPR-1001@from-internal-000000d1;1", "1001"),
        ("Local/RG-600-1002@from-internal-000000d1;1", "1002"),
        ("Local/FMGL-015551234#@from-internal-000000d1;1", "015551234"),
        ("", ""),
        ("odd", ""),
    ],
)
def test_a_channel_name_contains_its_peer(channel: str, peer: str) -> None:
    assert peer_of(channel) == peer


def test_trunks_are_found_in_channel_names_and_contexts() -> None:
    outbound, phone = "PJSIP/carrier-00000001", "PJSIP/1001-00000002"
    assert trunks_of(phone, outbound, "from-internal", {"carrier"}) == ("carrier", "")
    assert trunks_of(phone, outbound, "from-internal", ()) == ("", "")
    assert trunks_of("PJSIP/unseen-00000001", phone, "from-pstn", ()) == ("unseen", "")
    assert trunks_of("PJSIP/unseen-00000001", outbound, "from-pstn", {"carrier"}) == ("unseen", "carrier")
    assert trunks_of(outbound, "PJSIP/carrier-00000003", "outbound", {"carrier"}) == ("carrier", "carrier")
    assert trunks_of(outbound, "Local/carrier@from-internal-00000001;1", "outbound", {"carrier"}) == ("carrier", "")
    assert trunks_of("Local/carrier@from-pstn-00000001;2", phone, "from-pstn", {"carrier"}) == ("", "")


@pytest.mark.parametrize(
    ("userfield", "file"),
    [
        ("audio:20260302-120000-1772452800.42.wav", "20260302-120000-1772452800.42.wav"),
        (
            "audio:/var/spool/asterisk/monitor/OUT1001-20260302-120000-1772452800.42.gsm",
            "OUT1001-20260302-120000-1772452800.42.gsm",
        ),
        ("audio:meeting.wav", "meeting.wav"),
        ("20260302-120000-1772452800.42", "20260302-120000-1772452800.42"),
        ("OUT-5551001-1001-20260302-120000-1772452800.42.WAV", "OUT-5551001-1001-20260302-120000-1772452800.42.WAV"),
        ("order 4711", ""),
        ("audio:", ""),
    ],
)
def test_userfield_gives_the_recording_file_if_recordingfile_is_empty(userfield: str, file: str) -> None:
    row = ROW | {"recordingfile": "", "userfield": userfield}
    assert parse_cdr_row(row, Clock(BERLIN)).recording_file == file


FROM_1001 = {"channel": "PJSIP/1001-00000001", "cnum": "1001", "src": "5550000", "did": "", "dcontext": "from-internal"}


@pytest.mark.parametrize(
    ("channel", "trunk"),
    [
        ("DAHDI/i1/5550101-1a", "i1"),
        ("DAHDI/4-1", "4"),
        ("Dongle/dongle0-0100000000", "dongle0"),
        ("Khomp/B0C3-0.0", "B0C3"),
        ("mISDN/2-u7", "2"),
        ("OOH323/gateway-4711", "gateway"),
        ("PJSIP/carrier-00000006", "carrier"),
    ],
)
def test_freepbx_fields_identify_trunks_of_every_driver(channel: str, trunk: str) -> None:
    """macro-outbound-callerid sets CDR(outbound_cnum), the inbound routes set CDR(did)."""
    outbound = ROW | FROM_1001 | {"dstchannel": channel, "outbound_cnum": "5550000"}
    leg = parse_cdr_row(outbound, Clock(BERLIN))
    assert (leg.trunk, leg.onward_trunk, leg.outbound_number, leg.src) == (trunk, "", "5550000", "1001")
    internal = parse_cdr_row(outbound | {"outbound_cnum": ""}, Clock(BERLIN))
    only_trunks = channel.startswith(("DAHDI/i", "Dongle/"))
    assert (internal.trunk, internal.outbound_number) == (trunk if only_trunks else "", "")
    inbound = ROW | {"channel": channel, "dstchannel": "PJSIP/1001-00000007", "dcontext": "ext-local"}
    assert parse_cdr_row(inbound, Clock(BERLIN)).trunk == trunk
    forwarded = inbound | {"dstchannel": "Khomp/B1C0-1.0", "outbound_cnum": "5550100"}
    assert (parse_cdr_row(forwarded, Clock(BERLIN)).trunk, parse_cdr_row(forwarded, Clock(BERLIN)).onward_trunk) == (
        trunk,
        "B1C0",
    )


@pytest.mark.parametrize(
    ("channel", "data", "trunk"),
    [
        ("DAHDI/i1/5550101-1a", "DAHDI/g0/5550101,300,Tb(func-apply-sipheaders^s^1,(1))", "i1"),
        ("DAHDI/4-1", "DAHDI/4/5550101,300,T", "4"),
        ("DAHDI/4-1", "DAHDI/R2/ww5550101", "4"),
        ("Khomp/B0C3-0.0", "Khomp/b0/5550101:orig=5550000,300,T", "B0C3"),
        ("Dongle/dongle0-0100000000", "Dongle/g1/holdother:+495550101", "dongle0"),
        ("IAX2/branch-4211", "IAX2/branch/5550101,300,T", "branch"),
        ("SIP/gateway-00000002", "SIP/gateway/5550101,300,T", "gateway"),
        ("DAHDI/4-1", "DAHDI/4,20,HhtT", ""),
        ("Khomp/B0C3-0.0", "Khomp/b0c3,20", ""),
        ("PJSIP/1004-00000002", "PJSIP/1004/sip:1004@192.0.2.4:5060,20", ""),
        ("PJSIP/1004-00000002", "DAHDI/4&PJSIP/1004/sip:1004@192.0.2.4,20", ""),
        ("Local/1004@from-internal-00000001;1", "Local/1004@from-internal/n,20", ""),
    ],
)
def test_without_outbound_cnum_a_dialled_number_makes_the_channel_a_trunk(channel: str, data: str, trunk: str) -> None:
    """Master.csv and the tables of old releases have no outbound_cnum."""
    row = ROW | FROM_1001 | {"dstchannel": channel, "lastapp": "Dial", "lastdata": data}
    assert parse_cdr_row(row, Clock(BERLIN)).trunk == trunk


@pytest.mark.parametrize(
    ("channel", "trunk"),
    [("DAHDI/i1/5550200-1b", "i1"), ("Dongle/dongle0-01", "dongle0"), ("DAHDI/4-1", ""), ("Khomp/B0C3-0.0", "")],
)
def test_a_channel_that_is_never_a_phone_is_a_trunk_even_without_a_did(channel: str, trunk: str) -> None:
    row = ROW | {"channel": channel, "dstchannel": "PJSIP/1001-00000007", "dcontext": "ext-local", "did": ""}
    assert parse_cdr_row(row, Clock(BERLIN)).trunk == trunk


def test_an_extension_that_calls_a_did_is_not_a_trunk() -> None:
    assert parse_cdr_row(ROW | FROM_1001 | {"did": "5550100"}, Clock(BERLIN)).trunk == ""


def test_a_local_channel_is_not_a_trunk() -> None:
    leg = parse_cdr_row(ROW | FROM_1001 | {"outbound_cnum": "5550000"}, Clock(BERLIN))
    assert (leg.trunk, leg.outbound_number) == ("", "5550000")
