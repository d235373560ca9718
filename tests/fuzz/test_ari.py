"""The ARI client with mutated replies: it returns recordings and channels, or raises an AriError with a fix."""

import json
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pbx.asterisk.ari.client import AriClient
from pbx.errors import AriError
from tests.fuzz.mutations import fuzzed, mutated
from tests.unit.asterisk.ari.replay_server import STORED, ReplayPbx, captured, replay, reply


@pytest.fixture(scope="module")
def pbx() -> Iterator[ReplayPbx]:
    with replay() as server:
        yield server


BODIES = [captured(name, 16).partition(b"\r\n\r\n")[2] for name in ("list", "list-odd", "channels", "info")]
JSON = st.recursive(
    st.none() | st.booleans() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["name", "format", "id", "status", "system", "startup_time"]), inner, max_size=3
        )
    ),
    max_leaves=12,
).map(lambda value: json.dumps(value).encode())


@fuzzed
@given(mutated(BODIES) | JSON | st.binary(max_size=60))
def test_mutated_replies_are_read_or_refused(pbx: ReplayPbx, body: bytes) -> None:
    pbx.answers = dict.fromkeys((STORED, "/ari/channels", "/ari/asterisk/info"), reply("list", body))
    with AriClient(pbx.connection, backoff_s=0.001) as ari:
        for request in (ari.list_recordings, ari.channels, ari.info):
            try:
                items = request()
            except AriError as error:
                refusal = error
            else:
                refusal = None
                for item in items:
                    assert item is not None
            assert refusal is None or refusal.fix


@pytest.mark.parametrize(
    "body", [b'[{"name":null,"format":"wav"}]', b'[{"name":"\\ud800","format":"wav"}]', b'[{"name":"a","format":1}]',
             b'[{"name":"a\\u0000b","format":"wav"}]', b"[1]", b"{}1", b"\xff", b'"text"', b"null"]
)  # fmt: skip
def test_a_list_without_file_names_is_refused(pbx: ReplayPbx, body: bytes) -> None:
    pbx.answers = {STORED: reply("list", body)}
    with AriClient(pbx.connection, backoff_s=0.001) as ari, pytest.raises(AriError, match="not with JSON as ARI does"):
        ari.list_recordings()
