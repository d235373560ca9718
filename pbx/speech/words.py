"""Splits text of any script into comparable words, and detects languages by their stop words."""

import re
import unicodedata
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from functools import cache, lru_cache
from typing import NamedTuple

from pbx.speech.idioms import idioms_of, own_stop_words, spoken_digits

# Scripts that put no spaces between words: kana, Chinese characters, Thai, Lao, Burmese, Khmer.
UNSPACED = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3005\u3041-\u30ff\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
# Accents, Hebrew points, Arabic vowel signs and the lengthening stroke: often left out in writing.
_ACCENTS = re.compile("[\u0300-\u036f\u0591-\u05bd\u05bf-\u05c7\u0640\u064b-\u065f\u0670]")
_STROKES = str.maketrans("łøđ", "lod")  # Unicode doesn't count these as accents
_ELISION = re.compile(r"^(?:[cdjlmnst]|qu|un|\w{0,4}ll)'(?=\w)")  # l'ordine, d'accord, qu'on, dell'ordine
_KANJI = re.compile("[\u4e00-\u9fff\u3005]+|[\u30a0-\u30ff]+")
_KANA = re.compile("[\u3041-\u3096]")
# Languages without countable stop words; Japanese before Chinese, whose characters it uses.
_SCRIPTS = {
    "ja": _KANA,
    "zh": re.compile("[\u3400-\u9fff]"),
    "ko": re.compile("[\uac00-\ud7a3]"),
    "th": re.compile("[\u0e00-\u0e7f]"),
}
_SECOND_LANGUAGE = 0.15  # share of the words from which a second language counts


class WordAt(NamedTuple):
    """A word in its comparable form, and its position in the text."""

    word: str
    start: int
    end: int


@lru_cache(maxsize=50_000)
def fold(text: str) -> str:
    """Return the text without differences of case, accents, width and typographic apostrophes."""
    plain = _ACCENTS.sub("", unicodedata.normalize("NFKD", text.replace("’", "'")))
    return unicodedata.normalize("NFKC", plain.casefold()).translate(_STROKES)


def find_words(text: str) -> Iterator[WordAt]:
    """Yield the words of a text, folded, without elided articles and English possessives.

    A run of a script without spaces comes as one word.
    """
    for match in _word_pattern().finditer(text):
        word = fold(match[0]).removesuffix("'s")
        yield WordAt(_ELISION.sub("", word, count=1), match.start(), match.end())


def stem(word: str) -> str:
    """Return the word without a plural s: crude, but enough to match "order" and "orders"."""
    return word[:-1] if len(word) > 3 and word.endswith("s") and not word.endswith("ss") else word


def is_unspaced(word: str) -> bool:
    """Whether it is a run of a script that puts no spaces between words."""
    return word >= "\u0e00" and bool(_unspaced_pattern().match(word))  # the first letter decides most words


def cut_unspaced(run: str, stops: Collection[str]) -> list[str]:
    """Cut a run of a script without spaces into what is probably words, of two characters or more.

    Japanese is cut at its hiragana, which are mostly grammar; other scripts at stop words.
    """
    if _KANA.search(run):
        return [piece for piece in _KANJI.findall(run) if len(piece) > 1]
    return [piece for piece in _stop_pattern(frozenset(stops)).split(run) if len(piece) > 1]


def find_languages(texts: Sequence[Sequence[str]]) -> frozenset[str]:
    """Return the codes of the one or two languages of some texts, given as folded words, by their stop words.

    English when nothing decides. Scripts without spaces have no words to count and are recognised by the script.
    """
    counts = Counter(word for words in texts for word in words)
    first = _language_of(counts)
    known = stop_words_of(first)
    foreign = [words for words in texts if len(words) > 3 and sum(word in known for word in words) < len(words) / 5]
    languages = {first}
    if sum(map(len, foreign)) > _SECOND_LANGUAGE * counts.total():
        languages.add(_language_of(Counter(word for words in foreign for word in words)))
    return frozenset(languages)


def all_stop_words(languages: Iterable[str]) -> frozenset[str]:
    """Return the stop words of several languages together."""
    return frozenset[str]().union(*map(stop_words_of, languages))


@cache
def stop_words_of(language: str) -> frozenset[str]:
    """Return a language's stop words, folded; empty for an unknown language."""
    from stopwordsiso import stopwords

    fillers = idioms_of(frozenset({language})).fillers
    words = {*(own_stop_words(language) or stopwords(language)), *fillers, *spoken_digits()}
    return frozenset(part for word in words for part in fold(word).split())


def _language_of(counts: Counter[str]) -> str:
    """Return the language with the most stop words among these, or whose script most of them use."""
    for language, script in _SCRIPTS.items():
        if 2 * sum(bool(script.search(word)) for word in counts) > len(counts):
            return language
    common = counts.most_common(500)
    scores = {language: sum(n for word, n in common if word in stop_words_of(language)) for language in _languages()}
    return max(scores, key=lambda language: (scores[language], language == "en"))


@cache
def _languages() -> tuple[str, ...]:
    from stopwordsiso import langs

    return tuple(sorted(langs()))


@lru_cache(maxsize=8)
def _stop_pattern(stops: frozenset[str]) -> re.Pattern[str]:
    unspaced = sorted((word for word in stops if is_unspaced(word)), key=len, reverse=True)
    return re.compile("|".join(map(re.escape, unspaced)) or r"(?!)")


@cache
def _word_pattern() -> re.Pattern[str]:
    # Python's \w leaves out the vowel signs of Indian and Thai script, which would cut words in two.
    marks = "".join(chr(code) for code in range(0x300, 0x1D00) if unicodedata.category(chr(code))[0] == "M")
    letter = rf"(?:[^\W_]|[{marks}])"
    unspaced = f"[{UNSPACED}]+"
    return re.compile(rf"{unspaced}|(?:(?![{UNSPACED}]){letter})+(?:['’](?:(?![{UNSPACED}]){letter})+)*")


@cache
def _unspaced_pattern() -> re.Pattern[str]:
    return re.compile(f"[{UNSPACED}]")
