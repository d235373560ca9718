"""Hypothesis strategies that mutate real bytes, to test parsers. `FUZZ_EXAMPLES` sets the examples per test."""

import os
from collections.abc import Sequence

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "100"))
fuzzed = settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.too_slow])

# Numbers and characters that can break arithmetic and framing.
EDGE_CASES = (
    *(b"nan inf -inf 1e400 -1 0 00 0x10 1_0 99999999999999999999 4294967295 2147483648 -9223372036854775809".split()),
    *(text.encode() for text in ("²", "٣٣", "１２", "é", "日本", "\u202e", "\u2028", "\ufeff")),
    *(
        b"\0",
        b"\r",
        b"\n",
        b"\r\n",
        b"\r\n\r\n",
        b"\n\n",
        b"|",
        b"||",
        b",",
        b'"',
        b'""',
        b"'",
        b";",
        b":",
        b": ",
        b"-",
    ),
    *(
        b"\xff",
        b"\xfe\xff",
        b"\xc3",
        b"\xed\xa0\x80",
        b"\\",
        b"\\x00",
        b"..",
        b"/",
        b"../",
        b"%2e",
        b"9" * 5000,
        b"(" * 500,
    ),
    *(b"0001-01-01 00:00:00", b"9999-12-31 23:59:59", b"0000-00-00 00:00:00", b"00010101-000000", b"99991231-235959"),
)


@st.composite
def mutated(draw: st.DrawFn, seeds: Sequence[bytes], changes: int = 8) -> bytes:
    """One of the seeds with a few changes: bytes inserted, replaced, deleted, repeated, flipped or spliced in."""
    data = bytearray(draw(st.sampled_from(seeds)))
    for _ in range(draw(st.integers(0, changes))):
        at = draw(st.integers(0, len(data)))
        end = at + draw(st.integers(0, 40))
        match draw(st.sampled_from(("insert", "replace", "delete", "repeat", "flip", "splice", "cut"))):
            case "insert":
                data[at:at] = draw(st.sampled_from(EDGE_CASES) | st.binary(max_size=8))
            case "replace":
                data[at:end] = draw(st.sampled_from(EDGE_CASES) | st.binary(max_size=8))
            case "delete":
                del data[at:end]
            case "repeat":
                data[at:at] = data[at:end]
            case "flip" if at < len(data):
                data[at] ^= 1 << draw(st.integers(0, 7))
            case "splice":
                other = draw(st.sampled_from(seeds))
                start = draw(st.integers(0, len(other)))
                data[at:end] = other[start : start + 200]
            case "cut":
                del data[at + draw(st.integers(0, 2000)) :]
    return bytes(data)


def mutated_fields(fields: Sequence[bytes], separator: bytes) -> st.SearchStrategy[bytes]:
    """A line in which each field is the original, an edge case or random bytes."""
    return st.tuples(*(st.just(field) | st.sampled_from(EDGE_CASES) | st.binary(max_size=12) for field in fields)).map(
        separator.join
    )
