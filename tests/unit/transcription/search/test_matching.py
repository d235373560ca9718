"""The database and the highlighted spans agree with a direct evaluation of the search."""

import sqlite3
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pbx.store.search_tokens import tokens_of
from pbx.transcription.search.matching import spans_in, to_fts5
from pbx.transcription.search.query import All, Either, Near, PhraseTerm, Query, Without, parse_query

WORDS = ["a", "b", "c", "ab", "ac", "京", "都"]
phrases = st.builds(PhraseTerm, st.lists(st.sampled_from(WORDS), min_size=1, max_size=3).map(tuple), st.booleans())
nears = st.builds(Near, st.lists(phrases, min_size=2, max_size=3).map(tuple), st.integers(0, 3))


def compound_queries(trees: st.SearchStrategy[Query]) -> st.SearchStrategy[Query]:
    several = st.lists(trees, min_size=2, max_size=3).map(tuple)
    return st.builds(All, several) | st.builds(Either, several) | st.builds(Without, trees, trees)


trees: st.SearchStrategy[Query] = st.recursive(phrases | nears, compound_queries, max_leaves=6)
texts = st.lists(st.sampled_from(WORDS), max_size=14).map(" ".join)


def start_positions(phrase: PhraseTerm, words: list[str]) -> list[int]:
    """The positions at which a phrase starts, found by trying every word."""
    count = len(phrase.words)
    last_word_matches = str.startswith if phrase.prefix else str.__eq__
    return [
        at
        for at in range(len(words) - count + 1)
        if tuple(words[at : at + count - 1]) == phrase.words[:-1]
        and last_word_matches(words[at + count - 1], phrase.words[-1])
    ]


def matches(tree: Query, words: list[str]) -> bool:
    """Whether a text of these words matches the query, evaluated node by node."""
    match tree:
        case PhraseTerm():
            return bool(start_positions(tree, words))
        case Near(terms, distance):
            starts = [start_positions(phrase, words) for phrase in terms]
            return any(
                all(
                    any(last - len(phrase.words) - distance <= at <= last for at in phrase_starts)
                    for phrase, phrase_starts in zip(terms, starts, strict=True)
                )
                for last in sorted({at for phrase_starts in starts for at in phrase_starts})
            )
        case All(parts):
            return all(matches(part, words) for part in parts)
        case Either(parts):
            return any(matches(part, words) for part in parts)
        case Without(wanted, unwanted):
            return matches(wanted, words) and not matches(unwanted, words)


def has_no_exclusion(tree: Query) -> bool:
    match tree:
        case All(parts) | Either(parts):
            return all(map(has_no_exclusion, parts))
    return not isinstance(tree, Without)


database = sqlite3.connect(":memory:")
database.execute("CREATE VIRTUAL TABLE segment_index USING fts5(caller, agent, tokenize='ascii')")


@settings(deadline=None)
@given(trees, texts)
def test_sqlite_finds_exactly_the_matching_texts(tree: Query, text: str) -> None:
    words = [token.text for token in tokens_of(text)]
    database.execute("DELETE FROM segment_index")
    database.execute("INSERT INTO segment_index (caller) VALUES (?)", (" ".join(words),))
    expression = f"{{caller}} : {to_fts5(tree)}"
    query = "SELECT count(*) FROM segment_index WHERE segment_index MATCH ?"
    found = database.execute(query, (expression,)).fetchone()[0]
    assert bool(found) == matches(tree, words)


@settings(deadline=None)
@given(trees, texts)
def test_a_matching_text_has_spans_that_do_not_overlap(tree: Query, text: str) -> None:
    spans = spans_in(tree, text)
    assert all(start < end for start, end in spans)
    assert all(first[1] < second[0] for first, second in pairwise(spans))
    if has_no_exclusion(tree) and matches(tree, [token.text for token in tokens_of(text)]):
        assert spans


@pytest.mark.parametrize(
    ("query", "text", "marked"),
    [
        ("grosse", "Die GRÖSSE und Größe.", ["GRÖSSE", "Größe"]),
        ("gros*", "größer, Größe!", ["größer", "Größe"]),
        ("cafe", "cafe\u0301s, cafe\u0301", ["cafe\u0301"]),
        ('"my contract"', "My contract? MY — contract; my old contract", ["My contract", "MY — contract"]),
        ('"my contr*"', "my contracts", ["my contracts"]),
        ("京都", "東京都の京都", ["京都", "京都"]),
        ("don't", "Don’t! Do nt don", ["Don’t"]),
        ("fee NOT refund", "fee fee", ["fee", "fee"]),
        ("fee OR bill", "a bill", ["bill"]),
        ("NEAR(fee late, 1)", "late the fee. fee, and then some more later: late", ["late", "fee"]),
        ('"b c" "c d"', "a b c d e", ["b c d"]),  # overlapping matches share one span
        ("script", "<script>alert('x')</script> 😀 script", ["script", "script", "script"]),
        ("كتاب", "هُوَ كِتَابٌ", ["كِتَابٌ"]),
        ("שלום", "שָׁלוֹם לך", ["שָׁלוֹם"]),
    ],
)
def test_spans_are_exact(query: str, text: str, marked: list[str]) -> None:
    assert [text[start:end] for start, end in spans_in(parse_query(query), text)] == marked
