"""Each text typed into the search becomes a query, or an error that explains what is wrong."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pbx.errors import QueryError
from pbx.transcription.search.query import All, Either, Near, PhraseTerm, Query, Without, parse_query

A, B, C, D = (PhraseTerm((letter,)) for letter in "abcd")
DON_T = PhraseTerm(("don", "t"))
KYOTO = PhraseTerm(("京", "都"))


@pytest.mark.parametrize(
    ("text", "tree"),
    [
        ("A", A),
        ("  a\t\n", A),
        ("a b", All((A, B))),
        ("a AND b c", All((A, B, C))),
        ("a OR b c OR d", Either((A, All((B, C)), D))),
        ("(a OR b) c", All((Either((A, B)), C))),
        ("a NOT b", Without(A, B)),
        ("a AND NOT b", Without(A, B)),
        ("a NOT b c", Without(All((A, C)), B)),
        ("a NOT b NOT c", Without(A, Either((B, C)))),
        ("a OR b NOT c", Either((A, Without(B, C)))),
        ("a NOT (b OR c)", Without(A, Either((B, C)))),
        ("((a))", A),
        ("and or not near", All(tuple(PhraseTerm((word,)) for word in ("and", "or", "not", "near")))),
        ('"A, b!"', PhraseTerm(("a", "b"))),
        ("“a b” „c“", All((PhraseTerm(("a", "b")), C))),  # quotation marks of phones and word processors
        ('"AND"', PhraseTerm(("and",))),
        ('"NEAR(a"', PhraseTerm(("near", "a"))),
        ("don't", DON_T),
        ("don’t", DON_T),
        ("京都", KYOTO),
        ("a&b", PhraseTerm(("a", "b"))),
        ("a & b — c 😀", All((A, B, C))),
        ("1,000", PhraseTerm(("1", "000"))),
        ("a*", PhraseTerm(("a",), prefix=True)),
        ('"a b"*', PhraseTerm(("a", "b"), prefix=True)),
        ('"a b*"', PhraseTerm(("a", "b"), prefix=True)),
        ("GRÖ*", PhraseTerm(("gro",), prefix=True)),
        ("NEAR(a b)", Near((A, B), 10)),
        ("NEAR (a, b, 3)", Near((A, B), 3)),
        ("NEAR(a,b,0)", Near((A, B), 0)),
        ('NEAR("a b" c* d, 5) b', All((Near((PhraseTerm(("a", "b")), PhraseTerm(("c",), True), D), 5), B))),
        ("NEAR(a 1,000 5)", Near((A, PhraseTerm(("1", "000")), PhraseTerm(("5",))), 10)),
        ("text:a ^b -c +d", All((PhraseTerm(("text", "a")), B, C, D))),  # no other query language
    ],
)
def test_a_valid_search_becomes_a_query(text: str, tree: Query) -> None:
    assert parse_query(text) == tree


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "no word to search for"),
        (" \n", "no word to search for"),
        ("… 😀 -", "no word to search for"),
        ('"', 'A closing " is missing'),
        ('a "b c', 'A closing " is missing'),
        ("a “b", 'A closing " is missing'),
        ('""', "no word between the quotation marks"),
        ('"…"', "no word between the quotation marks"),
        ("*", r"A \* is only allowed at the end of a word"),
        ("*a", r"A \* is only allowed at the end of a word"),
        ("a*b", r"A \* is only allowed at the end of a word"),
        ("a**", r"A \* is only allowed at the end of a word"),
        ('"a* b"', r"A \* is only allowed at the end of a phrase"),
        ('"*"', "no word between the quotation marks"),
        ("AND", "AND needs a word before it"),
        ("OR a", "OR needs a word before it"),
        ("NOT a", "NOT needs a word before it"),
        ("(NOT a)", "NOT needs a word before it"),
        ("a AND", "AND needs a word after it"),
        ("a OR OR b", "OR needs a word after it"),
        ("a OR NOT b", "OR needs a word after it"),
        ("a NOT NOT b", "NOT needs a word after it"),
        ("a NOT AND b", "NOT needs a word after it"),
        ("(a OR) b", "OR needs a word after it"),
        ("a AND …", "AND needs a word after it"),
        ("(a", r"A \) is missing"),
        ("((a) b", r"A \) is missing"),
        ("(", r"A \) is missing"),
        ("a)", r"A \( is missing"),
        (")", r"A \( is missing"),
        ("()", "nothing between the parentheses"),
        ("NEAR", "NEAR needs parentheses"),
        ("a NEAR b", "NEAR needs parentheses"),
        ("a NEAR/5 b", "NEAR needs parentheses"),
        ("NEAR(a b", "has no closing"),
        ("NEAR(a (b c))", "contain parentheses"),
        ('NEAR(a "b c)', 'A closing " is missing'),
        ("NEAR()", "two to 8"),
        ("NEAR(a, 5)", "two to 8"),
        ("NEAR(a b c d e f g h i)", "two to 8"),
        ("NEAR(a b, 101)", "0 to 100"),
        ("NEAR(a b, -1)", "0 to 100"),
        ("NEAR(a OR b)", "only takes words and phrases"),
        ("NEAR(a* *b)", r"A \* is only allowed"),
        ("(" * 1000 + "a" + ")" * 999, "too many nested parentheses"),
        ("a " * 1500, "too long"),
    ],
)
def test_an_invalid_search_raises_an_error_with_its_fix(text: str, reason: str) -> None:
    with pytest.raises(QueryError, match=reason) as caught:
        parse_query(text)
    assert caught.value.fix


PIECES = [
    "a",
    "b*",
    '"',
    '"c d"',
    "(",
    ")",
    "NEAR(",
    "NEAR",
    "AND",
    "OR",
    "NOT",
    ",",
    "5",
    " ",
    "*",
    "日本",
    "'",
    "\0",
    "“",
]


@settings(deadline=None)
@given(st.one_of(st.text(max_size=60), st.lists(st.sampled_from(PIECES), max_size=20).map(" ".join)))
def test_any_text_is_a_search_or_a_query_error(text: str) -> None:
    query_error = None
    try:
        parse_query(text)
    except QueryError as error:
        query_error = error
    assert query_error is None or (str(query_error).endswith(".") and query_error.fix)
