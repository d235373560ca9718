"""Texts in any script are split into words with their positions."""

import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pbx.store.search_tokens import tokens_of


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Hello, World! 24/7", ["hello", "world", "24", "7"]),
        ("don't — can’t", ["don", "t", "can", "t"]),
        ("GRÖSSE Größe naïve", ["grosse", "grosse", "naive"]),
        ("İstanbul ﬁn ² Ｆｕｌｌ", ["istanbul", "fin", "2", "full"]),
        ("cafe\u0301 Łódź", ["cafe", "łodz"]),
        ("日本語のABCテスト", ["日", "本", "語", "の", "abc", "テ", "ス", "ト"]),
        ("がか ｶﾞ", ["が", "か", "ガ"]),  # a voicing mark is not an accent
        ("학교에서", ["학", "교", "에", "서"]),
        ("สวัสดี", ["ส", "วั", "ส", "ดี"]),
        ("هُوَ كِتَابٌ", ["هو", "كتاب"]),  # vowel points are ignored
        ("שָׁלוֹם", ["שלום"]),
        ("किताब में", ["किताब", "में"]),  # a vowel sign does not end a word
        ("می‌خواهم", ["میخواهم"]),  # neither does a joiner
        ("<b>fee</b> 😀 &amp;", ["b", "fee", "b", "amp"]),
        ("", []),
        ("😀 — … \u0301 \x00", []),
    ],
)
def test_words_have_no_case_and_no_accents(text: str, words: list[str]) -> None:
    assert [token.text for token in tokens_of(text)] == words


def test_a_word_has_its_position_in_the_text() -> None:
    text = "Die Größe, cafe\u0301: 日本 ﬁn."
    assert [text[token.start : token.end] for token in tokens_of(text)] == [
        *("Die", "Größe", "cafe\u0301", "日", "本", "ﬁn"),
    ]


def test_a_very_long_word_is_cut() -> None:
    assert [len(token.text) for token in tokens_of("a" * 5000)] == [200]
    assert [len(token.text) for token in tokens_of("ä" * 5000)] == [200]


@settings(deadline=None)
@given(st.text())
def test_words_of_any_text_contain_only_letters_and_numbers(text: str) -> None:
    end = 0
    for token in tokens_of(text):
        assert end <= token.start < token.end <= len(text)
        end = token.end
        kinds = {unicodedata.category(char) for char in token.text}
        assert kinds
        assert all(kind[0] in "LNM" or kind == "Co" for kind in kinds)  # no quote or sign that SQL interprets


@settings(deadline=None)
@given(st.text(alphabet=st.characters(max_codepoint=127)))
def test_ascii_text_is_split_like_any_other_text(text: str) -> None:
    assert tokens_of(text) == tokens_of(f"{text} é")[:-1]
