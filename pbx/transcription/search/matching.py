"""Translates a parsed search for each database, and finds where in a text it matched.

SQLite's FTS5 and PostgreSQL's tsquery get only words split by pbx.store.search_tokens, in quotes: nothing else that
the analyst typed.
"""

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from itertools import combinations

from pbx.store.search_tokens import Token, tokens_of
from pbx.transcription.search.query import All, Either, Near, PhraseTerm, Query, Without

TokenSpan = tuple[int, int]  # the first token and the last


def to_fts5(tree: Query) -> str:
    """The tree as an expression of FTS5 (https://sqlite.org/fts5.html#full_text_query_syntax)."""
    match tree:
        case PhraseTerm(words, prefix):
            return f'"{" ".join(words)}"' + ("*" if prefix else "")
        case Near(phrases, distance):
            return f"NEAR({' '.join(map(to_fts5, phrases))}, {distance})"
        case All(parts):
            return f"({' AND '.join(map(to_fts5, parts))})"
        case Either(parts):
            return f"({' OR '.join(map(to_fts5, parts))})"
        case Without(wanted, unwanted):
            return f"({to_fts5(wanted)} NOT {to_fts5(unwanted)})"


def to_tsquery(tree: Query) -> str:
    """The tree as PostgreSQL's tsquery. Of a NEAR with more than two phrases, each two have to be near each other."""
    match tree:
        case PhraseTerm(words, prefix):
            return "('" + "' <-> '".join(words) + "'" + (":*)" if prefix else ")")
        case Near(phrases, distance):
            return f"({' & '.join(_near_pair(*pair, distance) for pair in combinations(phrases, 2))})"
        case All(parts):
            return f"({' & '.join(map(to_tsquery, parts))})"
        case Either(parts):
            return f"({' | '.join(map(to_tsquery, parts))})"
        case Without(wanted, unwanted):
            return f"({to_tsquery(wanted)} & !{to_tsquery(unwanted)})"


def _near_pair(one: PhraseTerm, other: PhraseTerm, distance: int) -> str:
    # <n>: the right one begins n words behind the left one's last. 0 is for phrases that share a word.
    first, second = to_tsquery(one), to_tsquery(other)
    orders = ((first, second), (second, first))
    return f"({' | '.join(f'{a} <{n}> {b}' for a, b in orders for n in range(distance + 2))})"


def spans_in(tree: Query, text: str) -> tuple[tuple[int, int], ...]:
    """What of a text that is a hit matched: stretches of characters, in order, none touching another.

    All places of all words and phrases count, but of a NEAR those that are near, and nothing behind a NOT.
    """
    tokens = tokens_of(text)
    index = _WordPositions(tokens)
    spans: list[tuple[int, int]] = []
    for first, last in sorted(set(_token_spans(tree, index))):
        start, end = tokens[first].start, tokens[last].end
        if spans and start <= spans[-1][1]:
            spans[-1] = (spans[-1][0], max(end, spans[-1][1]))
        else:
            spans.append((start, end))
    return tuple(spans)


class _WordPositions:
    """Where each word of a text stands."""

    def __init__(self, tokens: Sequence[Token]) -> None:
        self.words = [token.text for token in tokens]
        self.places: dict[str, list[int]] = {}
        for place, word in enumerate(self.words):
            self.places.setdefault(word, []).append(place)

    def find(self, phrase: PhraseTerm) -> list[TokenSpan]:
        """All places of a phrase, in order."""
        *exact, final = phrase.words
        if exact:
            starts = self.places.get(exact[0], [])
        elif phrase.prefix:
            starts = [place for place, word in enumerate(self.words) if word.startswith(final)]
        else:
            starts = self.places.get(final, [])
        length = len(phrase.words)
        return [(at, at + length - 1) for at in starts if self._goes_on(phrase, at)]

    def _goes_on(self, phrase: PhraseTerm, at: int) -> bool:
        found = self.words[at : at + len(phrase.words)]
        *exact, final = phrase.words
        if len(found) < len(phrase.words) or found[:-1] != exact:
            return False
        return found[-1].startswith(final) if phrase.prefix else found[-1] == final


def _token_spans(tree: Query, index: _WordPositions) -> Iterator[TokenSpan]:
    match tree:
        case PhraseTerm():
            yield from index.find(tree)
        case Near(phrases, distance):
            yield from _near_spans([index.find(phrase) for phrase in phrases], distance)
        case All(parts) | Either(parts):
            for part in parts:
                yield from _token_spans(part, index)
        case Without(wanted, _):
            yield from _token_spans(wanted, index)


def _near_spans(found: list[list[TokenSpan]], distance: int) -> Iterator[TokenSpan]:
    """Of each phrase's places those in a clump with all others: each ends at most `distance` words before the last
    one of the clump begins.
    """
    for last_start in sorted({start for places in found for start, _ in places}):
        clump = [list(_within(places, last_start, distance)) for places in found]
        if all(clump):
            for places in clump:
                yield from places


def _within(places: list[TokenSpan], last_start: int, distance: int) -> Iterator[TokenSpan]:
    if not places:
        return
    length = places[0][1] - places[0][0] + 1
    for at in range(bisect_left(places, (last_start - length - distance, 0)), len(places)):
        if places[at][0] > last_start:
            return
        yield places[at]
