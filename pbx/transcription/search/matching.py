"""Translates a parsed search for each database, and finds the parts of a text that match it.

The only user input that reaches SQLite's FTS5 or PostgreSQL's tsquery are words split by pbx.store.search_tokens, in
quotes.
"""

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from itertools import combinations

from pbx.store.search_tokens import Token, tokens_of
from pbx.transcription.search.query import All, Either, Near, PhraseTerm, Query, Without

TokenSpan = tuple[int, int]  # the indexes of the first and the last token


def to_fts5(tree: Query) -> str:
    """Translate a search to an FTS5 expression (https://sqlite.org/fts5.html#full_text_query_syntax)."""
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
    """Translate a search to a PostgreSQL tsquery. In a NEAR, each two phrases must be near each other."""
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
    # a <n> b: b starts n words after the last word of a. 0 is for phrases that share a word.
    first, second = to_tsquery(one), to_tsquery(other)
    orders = ((first, second), (second, first))
    return f"({' | '.join(f'{a} <{n}> {b}' for a, b in orders for n in range(distance + 2))})"


def spans_in(tree: Query, text: str) -> tuple[tuple[int, int], ...]:
    """Return the parts of a matching text that match, as spans of characters, in order and without overlaps.

    Includes every occurrence of the words and phrases; of a NEAR only those near each other, and nothing after NOT.
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
    """An index of the positions of each word in a text."""

    def __init__(self, tokens: Sequence[Token]) -> None:
        self.words = [token.text for token in tokens]
        self.positions: dict[str, list[int]] = {}
        for position, word in enumerate(self.words):
            self.positions.setdefault(word, []).append(position)

    def find(self, phrase: PhraseTerm) -> list[TokenSpan]:
        """Return all occurrences of a phrase, in order."""
        *exact, final = phrase.words
        if exact:
            starts = self.positions.get(exact[0], [])
        elif phrase.prefix:
            starts = [position for position, word in enumerate(self.words) if word.startswith(final)]
        else:
            starts = self.positions.get(final, [])
        length = len(phrase.words)
        return [(start, start + length - 1) for start in starts if self._matches_at(phrase, start)]

    def _matches_at(self, phrase: PhraseTerm, start: int) -> bool:
        found = self.words[start : start + len(phrase.words)]
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
    """Yield the occurrences of phrases that are near occurrences of all the others.

    Near means: each ends at most `distance` words before the last of them starts. `found`: one list per phrase.
    """
    for last_start in sorted({start for occurrences in found for start, _ in occurrences}):
        near = [list(_within(occurrences, last_start, distance)) for occurrences in found]
        if all(near):
            for occurrences in near:
                yield from occurrences


def _within(occurrences: list[TokenSpan], last_start: int, distance: int) -> Iterator[TokenSpan]:
    if not occurrences:
        return
    length = occurrences[0][1] - occurrences[0][0] + 1
    for index in range(bisect_left(occurrences, (last_start - length - distance, 0)), len(occurrences)):
        if occurrences[index][0] > last_start:
            return
        yield occurrences[index]
