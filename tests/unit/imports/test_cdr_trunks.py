"""CDR imports recognize calls through trunks that AMI doesn't list."""

from datetime import timedelta
from typing import Any

from sqlalchemy import Engine
from sqlmodel import col, select

from pbx.store.engine import reading
from pbx.store.models import CallRow, LegRow
from tests.unit.imports.test_cdr import NOON, Source, active, run_import, source

__all__ = ["active", "run_import", "source"]
OUT = {"src": "5550000", "cnum": "1001", "dcontext": "from-internal", "lastapp": "Dial", "outbound_cnum": "5550000"}
IN = {"src": "5550200", "dst": "1001", "dcontext": "ext-local", "did": "5550000", "dstchannel": "PJSIP/1001-00000007"}


def test_calls_through_trunks_of_any_driver_are_recognized(engine: Engine, source: Source, run_import: Any) -> None:
    """FreePBX with DAHDI, chan_dongle and Khomp, whose trunks AMI doesn't list. DAHDI/4-1 is also an analog phone."""
    channels = (
        "DAHDI/i1/5550101-1a",
        "Dongle/dongle0-0100000000",
        "Khomp/B0C3-0.0",
        "DAHDI/4-1",
        "PJSIP/carrier-00000006",
    )
    for minute, channel in enumerate(channels):
        source.add(NOON + timedelta(minutes=minute), **OUT, dst=f"9555010{minute}", dstchannel=channel)
    source.add(NOON + timedelta(minutes=5), **OUT, dst="95550105", dstchannel="", disposition="FAILED", billsec=0)
    for minute, channel in enumerate(("DAHDI/i1/5550200-1b", "Dongle/dongle0-0100000001"), start=6):
        source.add(NOON + timedelta(minutes=minute), **IN, channel=channel)
    source.add(NOON + timedelta(minutes=8), dst="1004", dstchannel="DAHDI/4-1", dcontext="ext-local")
    assert run_import()[2] == 0
    with reading(engine) as session:
        calls = session.exec(select(CallRow).order_by(col(CallRow.started_at))).all()
        trunks = session.exec(select(LegRow.trunk).order_by(col(LegRow.started_at))).all()
    assert [call.direction for call in calls] == ["outbound"] * 6 + ["inbound"] * 2 + ["internal"]
    assert [call.agent for call in calls] == ["1001"] * 8 + ["1004"]
    assert trunks == ["i1", "dongle0", "B0C3", "4", "carrier", "", "i1", "dongle0", ""]


def test_a_call_imported_without_outbound_cnum_is_corrected_when_read_again(
    engine: Engine, source: Source, run_import: Any
) -> None:
    source.add(NOON, **OUT | {"outbound_cnum": ""}, dst="95550101", dstchannel="DAHDI/4-1")
    run_import()
    with reading(engine) as session:
        assert session.exec(select(CallRow.direction)).one() == "internal"
    source.execute("UPDATE cdr SET outbound_cnum = '5550000'")
    assert run_import() == (0, 0, 0)
    with reading(engine) as session:
        assert session.exec(select(CallRow.direction, CallRow.agent)).one() == ("outbound", "1001")
        assert session.exec(select(LegRow.trunk)).one() == "4"
