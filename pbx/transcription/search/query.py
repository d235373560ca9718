"""What somebody types into the search → a tree, which is told to the database and finds what matched in a text.

    refund invoice        both words, anywhere in what one person says at a stretch
    "cancel my contract"  the phrase
    cancel*               words that begin so; "my contr"* a phrase whose last word does
    NEAR(cancel fee, 5)   at most 5 words apart, in either order (10 without a number)
    AND OR NOT ( )        in capitals; NOT and AND bind closer than OR, and AND needs not be written

No text of the user's reaches the database's own query language: only words split by pbx.store.search_tokens, in quotes.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple, cast

from pbx.errors import QueryError
from pbx.store.search_tokens import tokens_of

NEAR_WORDS = 10  # apart at most, unless the query says how many
NEAR_MOST = 100
_NEAR_PHRASES = 8
_LONGEST = 2000  # characters; far from any limit of a database
_DEEPEST = 20  # parentheses within parentheses
_QUOTES = str.maketrans(dict.fromkeys("“”„‟«»＂", '"') | {"（": "(", "）": ")", "＊": "*"})  # as keyboards write them
_PIECE = re.compile(r'''
    \s+
  | NEAR\s*\((?P<near>(?:[^()"]|"[^"]*")*)(?P<near_end>\)?)
  | "(?P<phrase>[^"]*)"(?P<more>\**)
  | (?P<sign>[()"])
  | (?P<bare>[^\s()"]+)
''', re.VERBOSE)  # fmt: skip
_DISTANCE = re.compile(r"(.*),\s*([-+]?[0-9]+)\s*", re.DOTALL)
_COMMA = re.compile(r"(?<!\d),|,(?!\d)")  # that separates, not one within a number
_AS_A_WORD = "To search for the word itself, write it in small letters."


@dataclass(frozen=True, slots=True)
class PhraseTerm:
    """Words in a row; one word is a phrase too. `prefix`: the last one may go on."""

    words: tuple[str, ...]
    prefix: bool = False


@dataclass(frozen=True, slots=True)
class Near:
    """Phrases with at most `distance` words from the end of each to the beginning of the last."""

    phrases: tuple[PhraseTerm, ...]
    distance: int = NEAR_WORDS


@dataclass(frozen=True, slots=True)
class All:
    """Every one of these."""

    parts: tuple["Query", ...]


@dataclass(frozen=True, slots=True)
class Either:
    """At least one of these."""

    parts: tuple["Query", ...]


@dataclass(frozen=True, slots=True)
class Without:
    """The first, where the second isn't found."""

    wanted: "Query"
    unwanted: "Query"


Query = PhraseTerm | Near | All | Either | Without


class _QueryToken(NamedTuple):
    kind: str  # "AND", "OR", "NOT", "(", ")", or "words"
    query: Query | None = None


def parse_query(text: str) -> Query:
    """Read what somebody types into the search.

    Raises QueryError, which tells what can't be understood and how to write it; never another error, whatever the text.
    """
    if len(text) > _LONGEST:
        raise QueryError("This search is too long.", f"Use at most {_LONGEST:,} characters.")
    pieces = list(_pieces(text.translate(_QUOTES)))
    if not pieces:
        raise QueryError("There is no word to search for.", 'Write a word, a "phrase in quotation marks" or a begin*.')
    parser = _Parser(pieces)
    tree = parser.read_either()
    if parser.next_kind == ")":
        raise QueryError("There is a ) without its (.", "Open it before the words that belong together, or remove it.")
    return tree


def _pieces(text: str) -> Iterator[_QueryToken]:
    for found in _PIECE.finditer(text):  # it leaves nothing out: each character is one of these
        if found["near"] is not None:
            yield _QueryToken("words", _near(found["near"], found["near_end"], text[found.end() :]))
        elif found["phrase"] is not None:
            yield _QueryToken("words", _phrase(found["phrase"], found["more"]))
        elif found["sign"] == '"':
            raise _lone_quote()
        elif found["sign"]:
            yield _QueryToken(found["sign"])
        elif found["bare"] in ("AND", "OR", "NOT"):
            yield _QueryToken(found["bare"])
        elif found["bare"] and (word := _word(found["bare"])):
            yield _QueryToken("words", word)


def _word(bare: str) -> PhraseTerm | None:
    """A word as typed; None for what is no word, such as a dash. One like "don't" is two words in a row."""
    if re.fullmatch(r"NEAR(/.*)?", bare):
        raise QueryError("NEAR needs parentheses.", f"Write NEAR(refund invoice, 5). {_AS_A_WORD}")
    stem, star, rest = bare.partition("*")
    words = tuple(token.text for token in tokens_of(stem))
    if star and (rest or not words):
        raise QueryError("A * stands only at the end of a word.", "Write the beginning of the word, then *: refund*")
    return PhraseTerm(words, prefix=bool(star)) if words else None


def _phrase(inside: str, stars: str) -> PhraseTerm:
    body = inside.rstrip()
    stem = body.rstrip("*")
    words = tuple(token.text for token in tokens_of(stem))
    if not words:
        raise QueryError("There is no word between the quotation marks.", "Write a phrase there, or remove them.")
    if "*" in stem:
        raise QueryError("A * stands only at the end of a phrase.", 'Write "my contr*" for words that begin so.')
    return PhraseTerm(words, prefix=bool(stars) or stem != body)


def _near(inside: str, end: str, rest: str) -> Near:
    if rest.startswith('"') and not end:
        raise _lone_quote()
    if not end:
        reason = "There are parentheses within NEAR." if rest else "NEAR( is not closed."
        raise QueryError(reason, 'Write words and phrases only, then ): NEAR(refund "last invoice", 5)')
    distance = NEAR_WORDS
    if found := _DISTANCE.fullmatch(inside):
        inside, distance = found[1], int(found[2])
    if not 0 <= distance <= NEAR_MOST:
        raise QueryError(
            f"NEAR counts 0 to {NEAR_MOST} words.",
            f"Write such a number at its end: NEAR(refund invoice, {NEAR_WORDS})",
        )
    pieces = list(_pieces(_COMMA.sub(" ", inside)))
    if any(piece.kind != "words" for piece in pieces):
        raise QueryError("NEAR takes words and phrases only.", f"Move AND, OR and NOT out of it. {_AS_A_WORD}")
    phrases = tuple(piece.query for piece in pieces if isinstance(piece.query, PhraseTerm))
    if not 2 <= len(phrases) <= _NEAR_PHRASES:
        raise QueryError(f"NEAR needs two to {_NEAR_PHRASES} words or phrases.", "Write NEAR(refund invoice, 5)")
    return Near(phrases, distance)


def _lone_quote() -> QueryError:
    return QueryError('There is a " without its partner.', 'Close the phrase: "like this".')


class _Parser:
    """Reads pieces from left to right; each method reads what binds closer than the one before."""

    def __init__(self, pieces: list[_QueryToken]) -> None:
        self._pieces = pieces
        self._at = 0
        self._depth = 0

    @property
    def next_kind(self) -> str:
        return self._pieces[self._at].kind if self._at < len(self._pieces) else ""

    def read_either(self, before: str = "") -> Query:
        parts = [self._read_all(before)]
        while self.next_kind == "OR":
            self._at += 1
            parts.append(self._read_all("OR"))
        return parts[0] if len(parts) == 1 else Either(tuple(parts))

    def _read_all(self, before: str) -> Query:
        wanted: list[Query] = [self._read_one(before)]
        unwanted: list[Query] = []
        while self.next_kind in ("AND", "NOT", "words", "("):
            before = ""
            while self.next_kind in ("AND", "NOT") and before in ("", "AND"):  # AND NOT is NOT
                before = self.next_kind
                self._at += 1
            (unwanted if before == "NOT" else wanted).append(self._read_one(before))
        tree = wanted[0] if len(wanted) == 1 else All(tuple(wanted))
        if not unwanted:
            return tree
        return Without(tree, unwanted[0] if len(unwanted) == 1 else Either(tuple(unwanted)))

    def _read_one(self, before: str) -> Query:
        """A word, phrase, NEAR or parenthesis; `before` is the operator or ( that it stands behind."""
        kind = self.next_kind
        if kind == "(":
            return self._read_parentheses()
        if kind != "words":
            raise _missing(before, kind)
        found = self._pieces[self._at].query
        self._at += 1
        return cast(Query, found)

    def _read_parentheses(self) -> Query:
        self._at += 1
        self._depth += 1
        if self._depth > _DEEPEST:
            raise QueryError("There are too many parentheses within parentheses.", "Remove those you don’t need.")
        found = self.read_either("(")
        if self.next_kind != ")":
            raise _open_parenthesis()
        self._at += 1
        self._depth -= 1
        return found


def _missing(before: str, kind: str) -> QueryError:
    """What is wrong where a word should stand behind `before`, and `kind` stands."""
    if kind == "" and before == "(":
        return _open_parenthesis()
    if kind == ")" and before == "(":
        return QueryError("There is nothing between the parentheses.", "Put words there, or remove them.")
    if before in ("AND", "OR", "NOT"):
        return QueryError(f"{before} needs a word after it.", f"Write refund {before} invoice. {_AS_A_WORD}")
    if kind == ")":
        return QueryError("There is a ) without its (.", "Open it before the words that belong together, or remove it.")
    return QueryError(f"{kind} needs a word before it.", f"Write refund {kind} invoice. {_AS_A_WORD}")


def _open_parenthesis() -> QueryError:
    return QueryError("There is a ( without its ).", "Close it behind the words that belong together, or remove it.")
