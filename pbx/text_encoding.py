"""Decodes text without a declared encoding: Asterisk's AMI, files and databases.

Asterisk passes names on as the bytes it received. Most are UTF-8. Others are decoded in one fallback encoding, cp1252
unless `PBX_ENCODING` names another, so that they stay readable and different names stay different.
"""

import codecs

DEFAULT = "cp1252"
BOM = codecs.BOM_UTF8
_fallback = DEFAULT
# Asterisk and its databases cut a caller's name and number at 80 bytes, possibly in the middle of a character. An
# opening quote and a NUL may count among these bytes.
_CUT_BYTES = range(78, 81)


def use_fallback(encoding: str) -> None:
    """Set the encoding with which this process decodes bytes that aren't UTF-8."""
    global _fallback
    _fallback = encoding


def checked_encoding(name: str) -> str:
    """Return the name, if it is an encoding that `decode` can fall back on. Raises ValueError otherwise."""
    plain = "".join(map(chr, range(0x20, 0x7F))).replace("\\", "")
    try:
        usable = plain.encode().decode(name) == plain and codecs.lookup(name).name not in ("punycode", "idna")
    except (LookupError, UnicodeError, ValueError):
        usable = False
    if not usable:
        raise ValueError(f"{name[:40]!r} is not a character encoding that contains ASCII; use a name such as cp1251")
    return name


def decode(raw: bytes) -> str:
    """Decode one value as UTF-8, otherwise in the fallback encoding. A byte without meaning there becomes `\\x81`.

    A UTF-8 value that was cut in the middle of a character loses that character.
    """
    try:
        return raw.decode()
    except UnicodeDecodeError as error:
        return _without_cut_character(raw, error) or raw.decode(_fallback, "backslashreplace")


def text_of(value: object) -> str:
    """A value of a database's column as text, without NULs and surrounding blanks; "" for None."""
    if value is None:
        return ""
    text = decode(bytes(value)) if isinstance(value, bytes | bytearray) else str(value)
    return text.replace("\0", "").strip()


def decode_fields(line: bytes, separator: bytes) -> str:
    """Decode a line whose fields may each have their own encoding; separators stay in place."""
    try:
        return line.decode()
    except UnicodeDecodeError:
        return separator.decode().join(map(decode, line.split(separator)))


def repair(text: str, *, latin1: bool = False) -> str:
    """Repair text from a database that stored UTF-8 bytes as latin1: `JÃ¶rg` becomes Jörg.

    Text whose latin1 bytes aren't valid UTF-8, such as JOÃO, stays as it is. `latin1`: the column is declared as
    latin1, so bytes that aren't UTF-8 are in the fallback encoding.
    """
    if text.isascii() or (raw := _as_latin1(text)) is None:
        return text
    try:
        return repair(raw.decode())  # some sites encode twice; it ends because the text gets shorter
    except UnicodeDecodeError as error:
        return _without_cut_character(raw, error) or (decode(raw) if latin1 else text)


def _without_cut_character(raw: bytes, error: UnicodeDecodeError) -> str:
    """Return the text before an incomplete last character, or "" when the bytes aren't cut UTF-8."""
    complete = raw[: error.start]
    if error.reason != "unexpected end of data" or (complete.isascii() and len(raw) not in _CUT_BYTES):
        return ""
    return complete.decode()


def _as_latin1(text: str) -> bytes | None:
    """Return the bytes that MySQL (cp1252) or PostgreSQL (ISO 8859-1) reads as this text, if there are any."""
    raw = bytearray()
    for character in text:
        try:
            raw += character.encode("latin-1") if ord(character) < 256 else character.encode(DEFAULT)
        except UnicodeEncodeError:
            return None
    return bytes(raw)
