"""Searches over a few calls find and count the known hits with every filter, in every order and in context."""

import re
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from sqlalchemy import Engine, event
from sqlmodel import Session

import pbx.transcription.search.hits
from pbx.errors import QueryError
from pbx.model.segment import Segment
from pbx.settings import load_settings
from pbx.store.engine import open_engine, reading, writing
from pbx.store.models import RecordingRow
from pbx.store.notes import set_tags
from pbx.transcription.search.hits import Hit, SearchFilter, TrendPoint, count_hits, find_hits, trend
from tests.unit.transcription.search.transcribed_calls import NOON, add_call, add_transcript

DAY = timedelta(days=1)
BERLIN = ZoneInfo("Europe/Berlin")


@pytest.fixture
def session(engine: Engine) -> Iterator[Session]:
    """Calls 1 to 5 of PBX 1 on four days; 4 has two recordings, 5 no time, 6 is another PBX's, 7 has no transcript."""
    phantom = Segment(2.0, 2.9, 0, "Thanks for your refund", flags=("phantom", "no_voice"))
    music = Segment(3.0, 9.0, 0, "", flags=("music",))
    sales = {"queue": "sales", "agent": "PJSIP/1001", "from_number": "+493012345"}
    with writing(engine) as session:
        add_call(session, 1, **sales)
        add_transcript(session, 1, ["I want a refund", "Which refund do you mean?", phantom, music, "The late one"])
        add_call(session, 2, started_at=NOON + DAY, direction="outbound", agent="PJSIP/1002", to_number="0301")
        add_transcript(session, 2, ["Your refund is on its way", "Größe und Kosten"], "outbound")
        add_call(session, 3, started_at=NOON + 3 * DAY, **sales)
        add_transcript(session, 3, ["No money back, no refund at all, never a refund", "東京都の天気"])
        add_call(session, 4, started_at=NOON + 3 * DAY + timedelta(hours=11, minutes=30), queue="support")
        add_transcript(session, 4, ["hello from the first"])
        session.add(RecordingRow(id=40, connection_id=1, call_id=4, name="second", started_at=NOON))
        session.flush()
        add_transcript(session, 40, ["hello from the second"])
        add_call(session, 5, started_at=None)
        add_transcript(session, 5, ["refund at an unknown time"])
        add_call(session, 6, connection_id=2)
        add_transcript(session, 6, ["refund elsewhere"])
        add_call(session, 7, started_at=NOON + 3 * DAY, **sales)
        set_tags(session, 3, ["angry"])
    with reading(engine) as session:
        yield session


def find(session: Session, query: str, order: str = "newest", **more: object) -> list[Hit]:
    search_filter = SearchFilter(1, query, **more)  # type: ignore[arg-type]
    hits = find_hits(session, search_filter, order=order, offset=0, limit=100)  # type: ignore[arg-type]
    assert count_hits(session, search_filter) == (len(hits), len({hit.call_id for hit in hits}))
    return hits


def calls_found(session: Session, query: str, **more: object) -> list[int]:
    return [hit.call_id for hit in find(session, query, **more)]  # type: ignore[arg-type]


def test_hit_has_all_its_data(session: Session) -> None:
    (_, hit) = find(session, "refund", until=NOON + DAY)
    assert (hit.call_id, hit.recording_id, hit.start_s, hit.end_s, hit.speaker) == (1, 1, 1.0, 1.9, "agent")
    assert (hit.text, hit.spans) == ("Which refund do you mean?", ((6, 12),))
    assert (hit.started_at, hit.from_number, hit.to_number) == (NOON, "+493012345", "")
    assert (hit.queue, hit.agent, hit.direction, hit.flags, hit.edited) == ("sales", "PJSIP/1001", "inbound", (), False)
    assert (hit.before, hit.after) == ("I want a refund", "The late one")  # without doubtful segments


def test_doubtful_segments_are_found_only_if_included(session: Session) -> None:
    assert find(session, "thanks") == []
    (hit,) = find(session, "thanks", doubtful=True)
    assert hit.flags == ("phantom", "no_voice")
    assert (hit.before, hit.after) == ("Which refund do you mean?", "The late one")
    assert calls_found(session, "late", doubtful=True) == [1]


def test_pages_follow_each_other_in_each_order(session: Session) -> None:
    assert calls_found(session, "refund", order="newest") == [3, 2, 1, 1, 5]
    assert calls_found(session, "refund", order="oldest") == [1, 1, 2, 3, 5]
    for order in ("relevance", "newest", "oldest"):
        all_ids = [hit.segment_id for hit in find(session, "refund", order=order)]
        pages = [
            hit.segment_id
            for offset in (0, 2, 4, 6)
            for hit in find_hits(session, SearchFilter(1, "refund"), order=order, offset=offset, limit=2)  # type: ignore[arg-type]
        ]
        assert pages == all_ids


def test_relevance_prefers_frequent_words_and_short_segments(session: Session) -> None:
    assert calls_found(session, "refund OR money", order="relevance")[0] == 3


def test_only_the_newest_of_too_many_hits_are_ranked(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pbx.transcription.search.hits, "MAX_RANKED", 2)
    hits = find_hits(session, SearchFilter(1, "refund"), offset=0, limit=10)
    assert sorted(hit.call_id for hit in hits) == [3, 5]
    assert len(find_hits(session, SearchFilter(1, "refund"), order="newest", offset=0, limit=10)) == 5


FILTERS: list[tuple[dict[str, object], list[int]]] = [
    ({}, [3, 2, 1, 1, 5]),
    ({"since": NOON + DAY}, [3, 2]),
    ({"until": NOON + DAY}, [1, 1]),
    ({"since": NOON, "until": NOON + 3 * DAY}, [2, 1, 1]),
    ({"direction": "outbound"}, [2]),
    ({"queue": "sales"}, [3, 1, 1]),
    ({"queue": ""}, [2, 5]),
    ({"agent": "PJSIP/1002"}, [2]),
    ({"number": "+49 (30) 1"}, [3, 1, 1]),
    ({"number": "0301"}, [2]),
    ({"tag": "angry"}, [3]),
    ({"tag": "calm"}, []),
    ({"speaker": "caller"}, [3, 1, 5]),
    ({"speaker": "agent"}, [2, 1]),
    ({"speaker": ""}, []),
    ({"queue": "sales", "speaker": "agent", "since": NOON, "agent": "PJSIP/1001"}, [1]),
]
QUERIES = [
    ("REFUND AND mean", [1]),
    ("refund want", [1]),
    ("refund NOT your", [3, 1, 1, 5]),
    ("money OR way", [3, 2]),
    ('"no refund"', [3]),
    ('"refund no"', []),
    ("ref*", [3, 2, 1, 1, 5]),
    ('"on its w*"', [2]),
    ("NEAR(money refund, 1)", []),
    ("NEAR(money refund, 2)", [3]),
    ("NEAR(refund money)", [3]),
    ("NEAR(money never refund, 5)", [3]),
    ("grosse", [2]),
    ("GRÖß*", [2]),
    ("京都", [3]),
    ("都京", []),
    ("天*", [3]),
    ("hello", [4, 4]),
    ("elsewhere", []),  # another PBX's
    ("nothing", []),
]


def test_each_filter_selects_its_hits(session: Session) -> None:
    assert [(more, calls_found(session, "refund", **more)) for more, _ in FILTERS] == FILTERS


def test_each_query_finds_its_hits(session: Session) -> None:
    assert [(query, calls_found(session, query)) for query, _ in QUERIES] == QUERIES
    assert all(hit.spans for query, _ in QUERIES for hit in find(session, query))


def test_hits_name_their_recording(session: Session) -> None:
    assert [(hit.recording_id, hit.before, hit.after) for hit in find(session, "hello")] == [(4, "", ""), (40, "", "")]


def test_each_function_raises_query_errors(session: Session) -> None:
    search_filter = SearchFilter(1, 'a "b')
    for search in (
        lambda: find_hits(session, search_filter, offset=0, limit=1),
        lambda: count_hits(session, search_filter),
        lambda: trend(session, search_filter, "day", UTC),
    ):
        with pytest.raises(QueryError, match='A closing " is missing'):
            search()


def test_a_trend_by_day_has_every_day(session: Session) -> None:
    first = date(2026, 3, 1)
    assert trend(session, SearchFilter(1, "refund"), "day", UTC) == [
        TrendPoint("2026-03-01", first, 2, 1, 1),
        TrendPoint("2026-03-02", first + DAY, 1, 1, 1),
        TrendPoint("2026-03-03", first + 2 * DAY, 0, 0, 0),
        TrendPoint("2026-03-04", first + 3 * DAY, 1, 1, 2),
    ]


def test_a_trend_by_day_uses_the_time_zone(session: Session) -> None:
    # Call 4 started at 23:30 UTC: the next day in Berlin. Nepal is 5:45 ahead.
    for zone, last in ((BERLIN, "2026-03-05"), (ZoneInfo("Asia/Kathmandu"), "2026-03-05"), (UTC, "2026-03-04")):
        points = trend(session, SearchFilter(1, "hello"), "day", zone)
        assert (points[-1].label, points[-1].hits, points[-1].calls) == (last, 2, 1)


def test_a_trend_by_day_follows_clock_changes(engine: Engine) -> None:
    started_at = datetime(2026, 3, 28, 23, 30, tzinfo=UTC)  # 0:30 on the 29th, when clocks go forward at 2:00
    with writing(engine) as session:
        for number in range(3):
            add_call(session, 1 + number, started_at=started_at + number * timedelta(hours=22, minutes=15))
            add_transcript(session, 1 + number, ["refund"])
    with reading(engine) as session:
        points = trend(session, SearchFilter(1, "refund"), "day", BERLIN)
    assert [(point.label, point.hits) for point in points] == [("2026-03-29", 2), ("2026-03-30", 1)]


def test_a_trend_covers_the_period_of_the_filter(session: Session) -> None:
    search_filter = SearchFilter(1, "refund", since=NOON - 2 * DAY, until=NOON + 2 * DAY)
    points = trend(session, search_filter, "day", UTC)
    assert [point.hits for point in points] == [0, 0, 2, 1, 0]
    assert [point.label for point in points][::4] == ["2026-02-27", "2026-03-03"]
    unlimited = SearchFilter(1, "refund", since=datetime(1, 1, 2, tzinfo=UTC), until=datetime(9999, 12, 30, tzinfo=UTC))
    assert len(trend(session, unlimited, "day", UTC)) == 4
    assert trend(session, SearchFilter(9, "refund"), "day", UTC) == []


def test_trends_by_queue_and_agent(session: Session) -> None:
    assert trend(session, SearchFilter(1, "refund"), "queue", UTC) == [
        TrendPoint("sales", None, 3, 2, 2),
        TrendPoint("", None, 2, 2, 2),
        TrendPoint("support", None, 0, 0, 1),
    ]
    outbound = SearchFilter(1, "refund", direction="outbound")
    assert trend(session, outbound, "agent", UTC) == [TrendPoint("PJSIP/1002", None, 1, 1, 1)]


@pytest.fixture
def sqlite_engine() -> Iterator[Engine]:
    engine = open_engine(load_settings())
    yield engine
    engine.dispose()


@pytest.mark.parametrize(
    "more",
    [{}, {"queue": "sales"}, {"since": NOON, "until": NOON + DAY}, {"tag": "angry", "number": "1", "agent": "a"}],
)
def test_query_plan_reads_the_index_first(sqlite_engine: Engine, more: dict[str, object]) -> None:
    plans: list[str] = []

    def explain(_conn: object, cursor: object, statement: str, parameters: object, *_: object) -> None:
        if statement.startswith("SELECT") and "segment_index" in statement:
            plan = cursor.connection.execute(f"EXPLAIN QUERY PLAN {statement}", parameters)  # type: ignore[attr-defined]
            plans.append("\n".join(row[3] for row in plan))

    event.listen(sqlite_engine, "after_cursor_execute", explain)
    search_filter = SearchFilter(1, "refund", **more)  # type: ignore[arg-type]
    with reading(sqlite_engine) as session:
        count_hits(session, search_filter)
        find_hits(session, search_filter, offset=0, limit=50)
        find_hits(session, search_filter, order="newest", offset=0, limit=50)
    assert len(plans) == 3
    for plan in plans:
        assert "SCAN segment_index VIRTUAL TABLE INDEX" in plan
        assert re.search(r"SEARCH calls USING .*\browid=\?", plan), plan
        assert "segments" not in plan
