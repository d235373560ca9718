"""An answered leg that tests copy and change."""

from datetime import UTC, datetime, timedelta

from pbx.model.history import Leg

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
CALLER, CALLED = "PJSIP/carrier-00000092", "Local/2001@agents-00000105;1"
ANSWERED = Leg(  # answered by a queue agent, whose phone is dialled through a Local channel
    linkedid="1.1",
    uniqueid="1.1",
    channel=CALLER,
    dst_channel=CALLED,
    trunk="carrier",
    src="+4930111",
    dst="sales",
    did="5550100",
    context="from-pstn",
    last_app="Queue",
    started_at=NOON,
    answered_at=NOON,
    ended_at=NOON + timedelta(seconds=60),
    duration_s=60.0,
    billsec_s=60.0,
    disposition="ANSWERED",
    sequence=1,
)
