"""The time ranges whose history is known, from listening or from imports, and the gaps."""

from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import Engine

from pbx.analytics.coverage import call_coverage, queue_coverage
from pbx.model.history import Visit
from pbx.store.engine import reading, writing
from pbx.store.legs import store_legs
from pbx.store.listening_spans import begin_span, prolong_span
from pbx.store.visits import store_visits
from tests.pages.sample_data import add_call, save_pbx
from tests.unit.sample_history import leg

AT = datetime(2026, 7, 1, 6, tzinfo=UTC)
HOUR = timedelta(hours=1)


@pytest.fixture
def pbx(engine: Engine) -> int:
    return save_pbx(engine)


def start_and_gaps(engine: Engine, pbx: int, since: datetime = AT, until: datetime = AT + HOUR * 6):
    with reading(engine) as session:
        found = queue_coverage(session, pbx, since, until)
    return found.begins_at, list(found.gaps)


def listen(engine: Engine, pbx: int, since: datetime, until: datetime) -> None:
    with writing(engine) as session:
        prolong_span(session, begin_span(session, pbx, since), until)


def visits_at(engine: Engine, pbx: int, source: str, *moments: datetime) -> None:
    visits = [Visit(f"{n}.{n}", "600", at, None, at, "abandoned", 1.0, None, None) for n, at in enumerate(moments)]
    with writing(engine) as session:
        store_visits(session, pbx, visits, source)  # type: ignore[arg-type]


def test_without_data_the_complete_period_is_a_gap(engine: Engine, pbx: int) -> None:
    assert start_and_gaps(engine, pbx) == (None, [(AT, AT + HOUR * 6)])


def test_time_between_two_listening_spans_is_a_gap_unless_it_is_short(engine: Engine, pbx: int) -> None:
    listen(engine, pbx, AT - HOUR, AT + HOUR)
    listen(engine, pbx, AT + HOUR + timedelta(seconds=90), AT + HOUR * 2)
    listen(engine, pbx, AT + HOUR * 4, AT + HOUR * 9)
    visits_at(engine, pbx, "live", AT)
    assert start_and_gaps(engine, pbx) == (AT, [(AT + HOUR * 2, AT + HOUR * 4)])


def test_an_import_covers_the_time_from_its_first_to_its_last_call(engine: Engine, pbx: int) -> None:
    visits_at(engine, pbx, "queue_log", AT + HOUR, AT + HOUR * 4)
    listen(engine, pbx, AT + HOUR * 3, AT + HOUR * 5)
    assert start_and_gaps(engine, pbx) == (AT + HOUR, [(AT, AT + HOUR), (AT + HOUR * 5, AT + HOUR * 6)])
    assert start_and_gaps(engine, pbx, AT + HOUR * 7, AT + HOUR * 8)[1] == [(AT + HOUR * 7, AT + HOUR * 8)]


def test_live_visits_after_an_import_do_not_extend_its_coverage(engine: Engine, pbx: int) -> None:
    visits_at(engine, pbx, "queue_log", AT, AT + HOUR)
    listen(engine, pbx, AT + HOUR * 4, AT + HOUR * 6)
    with writing(engine) as session:
        later = Visit("9.9", "600", AT + HOUR * 5, None, AT + HOUR * 5, "abandoned", 1.0, None, None)
        store_visits(session, pbx, [later], "live")
    assert start_and_gaps(engine, pbx)[1] == [(AT + timedelta(hours=1, seconds=1), AT + HOUR * 4)]


def test_listening_and_the_cdr_cover_calls_but_recordings_do_not(engine: Engine, pbx: int) -> None:
    add_call(engine, pbx, "+4930123", AT - HOUR)
    listen(engine, pbx, AT + HOUR * 5, AT + HOUR * 6)
    with writing(engine) as session:
        legs = [leg(n, AT + HOUR * n, "+4930111", "1001", "ANSWERED", 16, billsec_s=60.0) for n in (1, 2)]
        store_legs(session, pbx, legs, "cdr")
    with reading(engine) as session:
        found = call_coverage(session, pbx, AT, AT + HOUR * 6)
    assert found.begins_at == AT - HOUR
    assert found.gaps == ((AT, AT + HOUR), (AT + timedelta(hours=2, seconds=1), AT + HOUR * 5))
