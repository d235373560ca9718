"""The legs of an open call show the facts that CEL adds to the CDR."""

from dataclasses import replace
from datetime import timedelta

import pytest
from sqlalchemy import Engine
from sqlmodel import select

from pbx.store.engine import reading, writing
from pbx.store.legs import store_legs
from pbx.store.models import CallRow
from tests.pages.page_reader import INTERACTIONS, open_page, tables, without_errors
from tests.pages.sample_data import save_pbx
from tests.unit.sample_history import clock, leg

pytestmark = pytest.mark.usefixtures("no_worker")


def test_legs_show_who_hung_up_transfers_and_connection_time(engine: Engine) -> None:
    pbx, at = save_pbx(engine), clock(9)
    answered_leg = leg(1, at, "+4930111", "1001", "ANSWERED", 16, billsec_s=60.0)
    legs = [
        replace(answered_leg, bridged_at=at + timedelta(seconds=20), ended_by="caller"),
        replace(answered_leg, dst_channel="PJSIP/1002-1", ended_by="called"),
        replace(answered_leg, dst_channel="PJSIP/1003-1", transferred_to="100"),
    ]
    with writing(engine) as session:
        store_legs(session, pbx, legs, "cdr")
    with reading(engine) as session:
        call_id = session.exec(select(CallRow.id)).one()
    shown = tables(without_errors(open_page(INTERACTIONS, call=str(call_id))))["Legs"]
    assert {row[1].partition("-")[0]: (row[4], row[5]) for row in shown} == {
        "1001 | PJSIP/1001": ("09:00:00 | connected at 09:00:20", "09:01:00 | the caller hung up"),
        "1001 | PJSIP/1002": ("09:00:00 | talked 1 min", "09:01:00 | the called party hung up"),
        "1001 | PJSIP/1003": ("09:00:00 | talked 1 min", "09:01:00 | transferred to 100"),
    }
