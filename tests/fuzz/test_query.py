"""Mutated searches give a query that the database accepts, or an error with a fix."""

import sqlite3

from hypothesis import given
from hypothesis import strategies as st

from pbx.errors import QueryError
from pbx.store.search_tokens import tokens_of
from pbx.transcription.search.matching import spans_in, to_fts5, to_tsquery
from pbx.transcription.search.query import parse_query
from tests.fuzz.mutations import fuzzed, mutated

SEARCHES = [
    'refund invoice "cancel my contract" OR cancel* NOT NEAR(cancel fee, 5)',
    '("my contr"* AND (Rechnung OR “Zoë”)) NOT NEAR("last invoice" fee refund, 10)',
    "text:a ^b -c +d 1,000 don't 京都 a&b — 😀",
]
TEXT = mutated([text.encode() for text in SEARCHES]).map(lambda data: data.decode("utf-8", "replace"))
TRANSCRIPT = "refund of the last invoice: don't cancel my contract, Zoë, 1,000 京都"


@fuzzed
@given(TEXT | st.text(max_size=60) | st.text(st.characters(categories=["Cs", "Cc", "Cf", "Mn", "Zs"]), max_size=20))
def test_a_mutated_search_is_accepted_by_the_database_or_explained(text: str) -> None:
    try:
        tree = parse_query(text)
    except QueryError as error:
        refusal = error
    else:
        refusal = None
        index = sqlite3.connect(":memory:")
        index.execute("CREATE VIRTUAL TABLE t USING fts5(words, tokenize='unicode61')")
        index.execute("INSERT INTO t VALUES (?)", [" ".join(token.text for token in tokens_of(TRANSCRIPT))])
        index.execute("SELECT count(*) FROM t WHERE t MATCH ?", [to_fts5(tree)]).fetchone()
        index.close()
        assert to_tsquery(tree)
        assert all(0 <= start < end <= len(TRANSCRIPT) for start, end in spans_in(tree, TRANSCRIPT))
    assert refusal is None or refusal.fix
