"""The database and the marks in the text agree on what matches, and both with the plain meaning of a search."""

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


def pairs(trees: st.SearchStrategy[Query]) -> st.SearchStrategy[Query]:
    both = st.lists(trees, min_size=2, max_size=3).map(tuple)
    return st.builds(All, both) | st.builds(Either, both) | st.builds(Without, trees, trees)


trees: st.SearchStrategy[Query] = st.recursive(phrases | nears, pairs, max_leaves=6)
texts = st.lists(st.sampled_from(WORDS), max_size=14).map(" ".join)


def places(phrase: PhraseTerm, words: list[str]) -> list[int]:
    """Where a phrase begins, tried at every word."""
    count = len(phrase.words)
    ends = str.startswith if phrase.prefix else str.__eq__
    return [
        at
        for at in range(len(words) - count + 1)
        if tuple(words[at : at + count - 1]) == phrase.words[:-1] and ends(words[at + count - 1], phrase.words[-1])
    ]


def means(tree: Query, words: list[str]) -> bool:
    """Whether a text of these words is what is looked for, by the plain meaning of each node."""
    match tree:
        case PhraseTerm():
            return bool(places(tree, words))
        case Near(found, distance):
            starts = [places(phrase, words) for phrase in found]
            return any(
                all(
                    any(last - len(phrase.words) - distance <= at <= last for at in mine)
                    for phrase, mine in zip(found, starts, strict=True)
                )
                for last in sorted({at for mine in starts for at in mine})
            )
        case All(parts):
            return all(means(part, words) for part in parts)
        case Either(parts):
            return any(means(part, words) for part in parts)
        case Without(wanted, unwanted):
            return means(wanted, words) and not means(unwanted, words)


def positive(tree: Query) -> bool:
    match tree:
        case All(parts) | Either(parts):
            return all(map(positive, parts))
    return not isinstance(tree, Without)


database = sqlite3.connect(":memory:")
database.execute("CREATE VIRTUAL TABLE segment_index USING fts5(caller, agent, tokenize='ascii')")


@settings(deadline=None)
@given(trees, texts)
def test_sqlite_finds_the_right_texts(tree: Query, text: str) -> None:
    words = [token.text for token in tokens_of(text)]
    database.execute("DELETE FROM segment_index")
    database.execute("INSERT INTO segment_index (caller) VALUES (?)", (" ".join(words),))
    expression = f"{{caller}} : {to_fts5(tree)}"
    query = "SELECT count(*) FROM segment_index WHERE segment_index MATCH ?"
    found = database.execute(query, (expression,)).fetchone()[0]
    assert bool(found) == means(tree, words)


@settings(deadline=None)
@given(trees, texts)
def test_spans_of_matches(tree: Query, text: str) -> None:
    spans = spans_in(tree, text)
    assert all(start < end for start, end in spans)
    assert all(before[1] < after[0] for before, after in pairwise(spans))
    if positive(tree) and means(tree, [token.text for token in tokens_of(text)]):
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
        ('"b c" "c d"', "a b c d e", ["b c d"]),  # overlapping: one mark
        ("script", "<script>alert('x')</script> 😀 script", ["script", "script", "script"]),
        ("كتاب", "هُوَ كِتَابٌ", ["كِتَابٌ"]),
        ("שלום", "שָׁלוֹם לך", ["שָׁלוֹם"]),
    ],
)
def test_spans_are_exact(query: str, text: str, marked: list[str]) -> None:
    assert [text[start:end] for start, end in spans_in(parse_query(query), text)] == marked
