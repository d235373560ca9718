"""Lists of calls for the search page: calls with hits, transcribed calls, their agents and summaries."""

from datetime import timedelta

import pytest
from sqlalchemy import Engine

from pbx.store.calls import call_agents
from pbx.store.engine import reading, writing
from pbx.store.notes import set_tags
from pbx.store.transcripts import save_analysis, summaries_of
from pbx.transcription.search.hits import SearchFilter, calls_with_hits, count_transcribed, transcribed_calls
from tests.unit.transcription.search.transcribed_calls import NOON, add_call, add_transcript, id_of


@pytest.fixture
def calls_with_transcripts(engine: Engine) -> Engine:
    """Call 1 mentions refund once, 2 (later, Ada's) twice, 3 not at all; 4 has no transcript; 5 is another PBX's."""
    with writing(engine) as session:
        for number, texts in ((1, ["refund"]), (2, ["refund", "refund"]), (3, ["invoice"])):
            add_call(session, number, started_at=NOON + timedelta(hours=number), agent="Ada" if number == 2 else "")
            add_transcript(session, number, texts)
        add_call(session, 4, agent="Grace")
        add_call(session, 5, 2, agent="Other")
        add_transcript(session, 5, ["refund"])
        set_tags(session, 3, ["vip"])
    return engine


def test_calls_with_hits_are_sorted_and_limited(calls_with_transcripts: Engine) -> None:
    search_filter = SearchFilter(1, "refund")
    with reading(calls_with_transcripts) as session:
        assert calls_with_hits(session, search_filter, limit=9) == [2, 1]
        assert calls_with_hits(session, search_filter, order="newest", limit=9) == [2, 1]
        assert calls_with_hits(session, search_filter, order="oldest", limit=9) == [1, 2]
        assert calls_with_hits(session, search_filter, order="oldest", limit=1) == [1]
        assert calls_with_hits(session, SearchFilter(1, "refund", agent="Ada"), limit=9) == [2]


def test_transcribed_calls_ignore_the_query(calls_with_transcripts: Engine) -> None:
    with reading(calls_with_transcripts) as session:
        for search_filter, expected in (
            (SearchFilter(1, ""), [3, 2, 1]),
            (SearchFilter(1, "nowhere AND"), [3, 2, 1]),
            (SearchFilter(1, "", agent=""), [3, 1]),
            (SearchFilter(1, "", tag="vip"), [3]),
            (SearchFilter(1, "", since=NOON + timedelta(hours=2), until=NOON + timedelta(hours=3)), [2]),
        ):
            assert [call.id for call in transcribed_calls(session, search_filter, limit=9)] == expected
            assert count_transcribed(session, search_filter) == len(expected)
        assert [call.id for call in transcribed_calls(session, SearchFilter(1, ""), limit=2)] == [3, 2]


def test_agents_of_the_pbx_are_sorted_by_name(calls_with_transcripts: Engine) -> None:
    with reading(calls_with_transcripts) as session:
        assert call_agents(session, 1) == ["Ada", "Grace"]


def test_summaries_are_those_of_current_transcripts(engine: Engine) -> None:
    with writing(engine) as session:
        add_call(session, 1)
        add_call(session, 2)
        save_analysis(session, id_of(add_transcript(session, 1, ["a"], model="tiny")), "local", {"summary": "Old."})
        save_analysis(session, id_of(add_transcript(session, 1, ["a"])), "local", {"summary": "New."})
        save_analysis(session, id_of(add_transcript(session, 2, ["b"])), "local", {"summary": ""})
    with reading(engine) as session:
        assert summaries_of(session, [1, 2, 3]) == {1: "New.", 2: ""}
        assert summaries_of(session, []) == {}
