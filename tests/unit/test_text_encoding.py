"""Bytes without a declared encoding become readable text, and different bytes stay different."""

import pytest

from pbx.text_encoding import checked_encoding, decode, decode_fields, repair


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        (b"Eve", "Eve"),
        ("Jörg 日本 🎉".encode(), "Jörg 日本 🎉"),
        (b"J\xf6rg", "Jörg"),
        (b"Andr\xe9", "André"),  # looks like truncated UTF-8
        (b"50 \x80", "50 €"),
        (b"J\x81rg", "J\\x81rg"),
        (b"\xed\xa0\x80", "í\xa0€"),  # half of a surrogate pair isn't UTF-8
    ],
)
def test_bytes_are_read_as_utf8_or_else_as_cp1252(raw: bytes, text: str) -> None:
    assert decode(raw) == text


def test_different_bytes_become_different_texts() -> None:
    assert len({decode(b"J%crg" % byte) for byte in range(256)}) == 256


@pytest.mark.parametrize("name", ["Jörg Müller", "Čapek ", "日本語の名前", "x" * 76])
def test_a_value_cut_within_a_character_loses_only_that_character(name: str) -> None:
    for last in ("é", "日", "🎉"):
        complete = (name + last).encode()
        for end in range(len(name.encode()) + 1, len(complete)):
            if not name.isascii() or end in (78, 79, 80):
                assert decode(complete[:end]) == name


def test_fields_may_be_in_different_encodings() -> None:
    assert decode_fields(b"J\xc3\xb6rg|Caf\xe9|x", b"|") == "Jörg|Café|x"


@pytest.mark.parametrize("name", ["Jörg", "Čapek", "日本", "Лена", "MÜLLER À", "José Núñez", "50 €", "Zoë’s “café”"])
@pytest.mark.parametrize("latin1", ["cp1252", "latin-1"])
def test_utf8_in_a_latin1_column_is_read_as_utf8(name: str, latin1: str) -> None:
    """MySQL's latin1 is cp1252 whose five undefined bytes are read as in ISO 8859-1."""
    misread = "".join(bytes([byte]).decode(latin1, "ignore") or chr(byte) for byte in name.encode())
    assert misread != name
    assert repair(misread) == repair(misread, latin1=True) == name
    misread_twice = "".join(bytes([byte]).decode(latin1, "ignore") or chr(byte) for byte in misread.encode())
    assert repair(misread_twice) == name


@pytest.mark.parametrize(
    "name", ["JOÃO", "JoÃo", "Ã", "São Paulo", "«NOËL»", "“KÖ”", "Ñuñez", "Čapek", "日本", "Â", "50 €", "Jörg", "Ä-Ö-Ü"]
)
def test_a_correct_name_is_unchanged(name: str) -> None:
    assert repair(name) == repair(name, latin1=True) == name


def test_a_latin1_column_may_hold_the_fallback_encoding(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pbx.text_encoding._fallback", "cp1251")
    assert (repair("Ëåíà", latin1=True), repair("Jörg")) == ("Лена", "Jörg")


@pytest.mark.parametrize("name", ["cp1251", "ISO8859-2", "koi8-r", "gbk", "utf-8"])
def test_encodings_that_contain_ascii_can_be_set(name: str) -> None:
    assert checked_encoding(name) == name


@pytest.mark.parametrize("name", ["", "utf-16", "cp037", "hex", "rot13", "idna", "punycode", "no such", "\0"])
def test_other_encodings_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match="character encoding"):
        checked_encoding(name)
