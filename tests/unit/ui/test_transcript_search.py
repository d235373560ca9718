"""Topics and bars of trend charts become searches."""

import pytest

from pbx.store.models import Topic
from pbx.transcription.search.query import Either, PhraseTerm, parse_query
from pbx.ui.transcript_search import phrase_query, topic_query
from pbx.ui.trends import trend_drilldown


@pytest.mark.parametrize(
    ("phrase", "words", "prefix"),
    [
        ("refund", ("refund",), False),
        ("refund*", ("refund",), True),
        ("money back", ("money", "back"), False),
        ("my contr*", ("my", "contr"), True),
        ("AND", ("and",), False),
        ("NEAR(x)", ("near", "x"), False),
        ('say "no" now', ("say", "no", "now"), False),
        ("don't", ("don", "t"), False),
    ],
)
def test_a_phrase_becomes_a_query(phrase: str, words: tuple[str, ...], prefix: bool) -> None:
    assert parse_query(phrase_query(phrase)) == PhraseTerm(words, prefix)


def test_a_topic_becomes_a_query_of_its_phrases() -> None:
    topic = Topic(name="Refunds", phrases=["refund*", "money back"])
    assert topic_query(topic) == 'refund* OR "money back"'
    assert parse_query(topic_query(topic)) == Either((PhraseTerm(("refund",), True), PhraseTerm(("money", "back"))))


def test_a_bar_links_to_the_calls_it_counts() -> None:
    filters = trend_drilldown("2026-07-01", "day")
    assert filters["period"] == "Custom range"
    assert [day.isoformat() for day in filters["days"]] == ["2026-07-01", "2026-07-01"]
    assert trend_drilldown("600", "queue") == {"queue": "600"}
    assert trend_drilldown("", "agent") == {"agent": "No agent"}
