"""Text whose character encoding nobody declares: what Asterisk writes into AMI, its files and its databases.

Asterisk passes names on as the bytes it was given. Most are UTF-8. The others are read in one fallback encoding, cp1252
unless `PBX_ENCODING` names another, so that they stay readable and two different names stay two names.
"""

import codecs

DEFAULT = "cp1252"
BOM = codecs.BOM_UTF8
_fallback = DEFAULT
# Asterisk and its databases cut a caller's name and number at 80 bytes, in the middle of a character too; an opening
# quote and a NUL may be among these bytes.
_CUT_BYTES = range(78, 81)


def use_fallback(encoding: str) -> None:
    """Set how this process reads bytes that aren't UTF-8."""
    global _fallback
    _fallback = encoding


def checked_encoding(name: str) -> str:
    """Return the name of an encoding that `decode` can fall back on. Raises ValueError for any other."""
    plain = "".join(map(chr, range(0x20, 0x7F))).replace("\\", "")
    try:
        usable = plain.encode().decode(name) == plain and codecs.lookup(name).name not in ("punycode", "idna")
    except (LookupError, UnicodeError, ValueError):
        usable = False
    if not usable:
        raise ValueError(f"{name[:40]!r} is not a character encoding that contains ASCII; use a name such as cp1251")
    return name


def decode(raw: bytes) -> str:
    """One value as text: UTF-8, otherwise the fallback encoding. A byte that means nothing there becomes `\\x81`.

    A UTF-8 value that was cut in the middle of a character loses that character.
    """
    try:
        return raw.decode()
    except UnicodeDecodeError as error:
        return _cut(raw, error) or raw.decode(_fallback, "backslashreplace")


def decode_fields(line: bytes, separator: bytes) -> str:
    """A line whose fields may each be in an encoding of its own, with its separators as they are."""
    try:
        return line.decode()
    except UnicodeDecodeError:
        return separator.decode().join(map(decode, line.split(separator)))


def repair(text: str, *, latin1: bool = False) -> str:
    """Text from a database, where UTF-8 bytes were stored as if they were latin1: `JÃ¶rg` is Jörg.

    A text whose bytes in that reading aren't valid UTF-8, such as JOÃO, stays. `latin1`: the column is declared
    latin1, so bytes that aren't UTF-8 are in the fallback encoding.
    """
    if text.isascii() or (raw := _as_latin1(text)) is None:
        return text
    try:
        return repair(raw.decode())  # shorter each time; some sites encode twice
    except UnicodeDecodeError as error:
        return _cut(raw, error) or (decode(raw) if latin1 else text)


def _cut(raw: bytes, error: UnicodeDecodeError) -> str:
    """The text before a last character that isn't complete; "" where the bytes aren't UTF-8 that was cut."""
    whole = raw[: error.start]
    if error.reason != "unexpected end of data" or (whole.isascii() and len(raw) not in _CUT_BYTES):
        return ""
    return whole.decode()


def _as_latin1(text: str) -> bytes | None:
    """The bytes that MySQL (cp1252) or PostgreSQL (ISO 8859-1) reads as this text in a latin1 column; None without."""
    raw = bytearray()
    for one in text:
        try:
            raw += one.encode("latin-1") if ord(one) < 256 else one.encode(DEFAULT)
        except UnicodeEncodeError:
            return None
    return bytes(raw)
