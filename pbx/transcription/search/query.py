"""Parses what somebody types into the search into a tree.

    refund invoice        both words, anywhere in one segment
    "cancel my contract"  the phrase
    cancel*               words that start with it; "my contr"* a phrase whose last word starts with contr
    NEAR(cancel fee, 5)   at most 5 words apart, in either order (10 without a number)
    AND OR NOT ( )        in capitals; NOT and AND bind more tightly than OR, and AND may be left out

The only user input that reaches the database's query language are words split by pbx.store.search_tokens, in quotes.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple, cast

from pbx.errors import QueryError
from pbx.store.search_tokens import tokens_of

NEAR_WORDS = 10  # the distance if a query names none
NEAR_MAX = 100
_MAX_NEAR_PHRASES = 8
_MAX_CHARACTERS = 2000  # far below any limit of a database
_MAX_NESTED_PARENTHESES = 20
# Other forms of these characters that some keyboards type.
_QUOTES = str.maketrans(dict.fromkeys("“”„‟«»＂", '"') | {"（": "(", "）": ")", "＊": "*"})
_PIECE = re.compile(r'''
    \s+
  | NEAR\s*\((?P<near>(?:[^()"]|"[^"]*")*)(?P<near_end>\)?)
  | "(?P<phrase>[^"]*)"(?P<more>\**)
  | (?P<sign>[()"])
  | (?P<bare>[^\s()"]+)
''', re.VERBOSE)  # fmt: skip
_DISTANCE = re.compile(r"(.*),\s*([-+]?[0-9]+)\s*", re.DOTALL)
_COMMA = re.compile(r"(?<!\d),|,(?!\d)")  # not those inside a number
_AS_A_WORD = "To search for the word itself, write it in lower case."


@dataclass(frozen=True, slots=True)
class PhraseTerm:
    """Consecutive words, or a single word. `prefix`: the last word may be the start of a longer one."""

    words: tuple[str, ...]
    prefix: bool = False


@dataclass(frozen=True, slots=True)
class Near:
    """Phrases with at most `distance` words between the end of each and the start of the last."""

    phrases: tuple[PhraseTerm, ...]
    distance: int = NEAR_WORDS


@dataclass(frozen=True, slots=True)
class All:
    """Matches if every part matches."""

    parts: tuple["Query", ...]


@dataclass(frozen=True, slots=True)
class Either:
    """Matches if at least one part matches."""

    parts: tuple["Query", ...]


@dataclass(frozen=True, slots=True)
class Without:
    """Matches if `wanted` does and `unwanted` doesn't."""

    wanted: "Query"
    unwanted: "Query"


Query = PhraseTerm | Near | All | Either | Without


class _QueryToken(NamedTuple):
    kind: str  # "AND", "OR", "NOT", "(", ")", or "words"
    query: Query | None = None


def parse_query(text: str) -> Query:
    """Parse what somebody types into the search.

    Raises QueryError, which says what is wrong and how to fix it. No text raises another error.
    """
    if len(text) > _MAX_CHARACTERS:
        raise QueryError("This search is too long.", f"Use at most {_MAX_CHARACTERS:,} characters.")
    pieces = list(_pieces(text.translate(_QUOTES)))
    if not pieces:
        raise QueryError("There is no word to search for.", 'Type a word, a "phrase" or the start of a word with *.')
    parser = _Parser(pieces)
    tree = parser.read_either()
    if parser.next_kind == ")":
        raise QueryError("A ( is missing.", "Add ( before the words that belong together, or remove the ).")
    return tree


def _pieces(text: str) -> Iterator[_QueryToken]:
    for found in _PIECE.finditer(text):  # every character matches one of the alternatives
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
    """Parse a word; None if there is none, as in a dash. A word such as "don't" becomes two consecutive words."""
    if re.fullmatch(r"NEAR(/.*)?", bare):
        raise QueryError("NEAR needs parentheses.", f"Type NEAR(refund invoice, 5). {_AS_A_WORD}")
    stem, star, rest = bare.partition("*")
    words = tuple(token.text for token in tokens_of(stem))
    if star and (rest or not words):
        raise QueryError("A * is only allowed at the end of a word.", "Type the start of the word, then *: refund*")
    return PhraseTerm(words, prefix=bool(star)) if words else None


def _phrase(inside: str, stars: str) -> PhraseTerm:
    body = inside.rstrip()
    stem = body.rstrip("*")
    words = tuple(token.text for token in tokens_of(stem))
    if not words:
        raise QueryError("There is no word between the quotation marks.", "Type a phrase there, or remove them.")
    if "*" in stem:
        raise QueryError("A * is only allowed at the end of a phrase.", 'Type "my contr*" to find my contract.')
    return PhraseTerm(words, prefix=bool(stars) or stem != body)


def _near(inside: str, end: str, rest: str) -> Near:
    if rest.startswith('"') and not end:
        raise _lone_quote()
    if not end:
        reason = "NEAR can’t contain parentheses." if rest else "NEAR( has no closing )."
        raise QueryError(reason, 'Type only words and phrases, then ): NEAR(refund "last invoice", 5)')
    distance = NEAR_WORDS
    if found := _DISTANCE.fullmatch(inside):
        inside, distance = found[1], int(found[2])
    if not 0 <= distance <= NEAR_MAX:
        raise QueryError(
            f"The distance of NEAR must be 0 to {NEAR_MAX} words.",
            f"Type it at the end: NEAR(refund invoice, {NEAR_WORDS})",
        )
    pieces = list(_pieces(_COMMA.sub(" ", inside)))
    if any(piece.kind != "words" for piece in pieces):
        raise QueryError("NEAR only takes words and phrases.", f"Move AND, OR and NOT outside of it. {_AS_A_WORD}")
    phrases = tuple(piece.query for piece in pieces if isinstance(piece.query, PhraseTerm))
    if not 2 <= len(phrases) <= _MAX_NEAR_PHRASES:
        raise QueryError(f"NEAR needs two to {_MAX_NEAR_PHRASES} words or phrases.", "Type NEAR(refund invoice, 5)")
    return Near(phrases, distance)


def _lone_quote() -> QueryError:
    return QueryError('A closing " is missing.', 'Add it after the phrase: "like this".')


class _Parser:
    """Reads tokens from left to right. Each method reads operators that bind more tightly than the one before it."""

    def __init__(self, pieces: list[_QueryToken]) -> None:
        self._pieces = pieces
        self._at = 0
        self._depth = 0

    @property
    def next_kind(self) -> str:
        """The kind of the next token, "" at the end."""
        return self._pieces[self._at].kind if self._at < len(self._pieces) else ""

    def read_either(self, before: str = "") -> Query:
        """Read alternatives with OR between them; `before` as in `_read_one`."""
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
        """Read a word, phrase, NEAR or parenthesis; `before` is the operator or ( in front of it."""
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
        if self._depth > _MAX_NESTED_PARENTHESES:
            raise QueryError("There are too many nested parentheses.", "Remove some of them.")
        found = self.read_either("(")
        if self.next_kind != ")":
            raise _open_parenthesis()
        self._at += 1
        self._depth -= 1
        return found


def _missing(before: str, kind: str) -> QueryError:
    """Return the error for a missing word: after `before` a word is needed, but `kind` follows."""
    if kind == "" and before == "(":
        return _open_parenthesis()
    if kind == ")" and before == "(":
        return QueryError("There is nothing between the parentheses.", "Type words there, or remove them.")
    if before in ("AND", "OR", "NOT"):
        return QueryError(f"{before} needs a word after it.", f"Type refund {before} invoice. {_AS_A_WORD}")
    if kind == ")":
        return QueryError("A ( is missing.", "Add ( before the words that belong together, or remove the ).")
    return QueryError(f"{kind} needs a word before it.", f"Type refund {kind} invoice. {_AS_A_WORD}")


def _open_parenthesis() -> QueryError:
    return QueryError("A ) is missing.", "Add ) after the words that belong together, or remove the (.")
