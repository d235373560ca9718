"""The AMI parser reads messages from any pieces of a stream, and actions are encoded safely."""

from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pbx.asterisk.ami.protocol import AmiParser, Message, encode_action
from pbx.errors import AmiProtocolError, SettingsError
from tests.unit.asterisk.ami.replay_server import ami_fixtures

GREETING = b"Asterisk Call Manager/11.0.0\r\n"
OLD_GREETING = b"Asterisk Call Manager/1.1\r\n"
EVENT = b"Event: Hangup\r\nCause: 16\r\n\r\n"


def read(data: bytes, size: int = 0) -> list[list[tuple[str, str]]]:
    """The headers of all messages in a stream, fed in one piece or in pieces of `size` bytes."""
    parser = AmiParser()
    size = size or max(len(data), 1)
    pieces = [data[i : i + size] for i in range(0, len(data), size)]
    return [message.headers for piece in pieces for message in parser.feed(piece)]


CASES = {
    "one": (b"Event: Hangup\r\nCause: 16\r\n\r\n", [[("Event", "Hangup"), ("Cause", "16")]]),
    "two": (EVENT * 2, [[("Event", "Hangup"), ("Cause", "16")]] * 2),
    "empty value": (b"Event: A\r\nAccountCode: \r\n\r\n", [[("Event", "A"), ("AccountCode", "")]]),
    "no space": (b"Event: A\r\nKey:value\r\n\r\n", [[("Event", "A"), ("Key", "value")]]),
    "colons": (b"Event: A\r\nUri: sip:1@h: 2\r\n\r\n", [[("Event", "A"), ("Uri", "sip:1@h: 2")]]),
    "repeated": (
        b"Event: A\r\nVariable: a=1\r\nVariable: b=2\r\n\r\n",
        [[("Event", "A"), ("Variable", "a=1"), ("Variable", "b=2")]],
    ),
    "characters": ("Event: A\r\nName: Zoë 🎉\r\n\r\n".encode(), [[("Event", "A"), ("Name", "Zoë 🎉")]]),
    "not utf-8": (b"Event: A\r\nName: Zo\xeb\r\nB: 1\r\n\r\n", [[("Event", "A"), ("Name", "Zoë"), ("B", "1")]]),
    "line feed after a value": (  # as Asterisk 16 and 22 send it
        b"Response: Error\r\nMessage: No Contacts found\n\r\n\r\n",
        [[("Response", "Error"), ("Message", "No Contacts found")]],
    ),
    "stray line feeds": (b"\r\n\n\r\n" + EVENT + b"\r\n\r\n\n" + EVENT, [[("Event", "Hangup"), ("Cause", "16")]] * 2),
    "items ended by a line feed": (
        b"Event: A\r\nB: 1\r\n\nEvent: A\r\nB: 2\r\n\n" + EVENT,
        [[("Event", "A"), ("B", "1")], [("Event", "A"), ("B", "2")], [("Event", "Hangup"), ("Cause", "16")]],
    ),
    "line break in a value": (
        b"Event: A\r\nName: one\r\ntwo\r\nB: 1\r\n\r\n",
        [[("Event", "A"), ("Name", "one\ntwo"), ("B", "1")]],
    ),
    "output": (
        b"Response: Success\r\nOutput:  indented: yes\r\nOutput: \r\nOutput: end\r\n\r\n",
        [[("Response", "Success"), ("Output", " indented: yes"), ("Output", ""), ("Output", "end")]],
    ),
    "old command": (
        b"Response: Follows\r\nPrivilege: Command\r\nActionID: 1\r\nA: b\n\r\n\r\nlast\n--END COMMAND--\r\n\r\n"
        + EVENT,
        [
            [
                ("Response", "Follows"),
                ("Privilege", "Command"),
                ("ActionID", "1"),
                ("Output", "A: b"),
                ("Output", ""),
                ("Output", ""),
                ("Output", "last"),
            ],
            [("Event", "Hangup"), ("Cause", "16")],
        ],
    ),
}


OLD_GREETING_ONLY = ("items ended by a line feed", "old command")


@pytest.mark.parametrize("name", CASES)
def test_a_message_is_the_same_in_any_pieces_and_with_data_after_it(name: str) -> None:
    data, expected = CASES[name]
    greetings = [OLD_GREETING] if name in OLD_GREETING_ONLY else [OLD_GREETING, GREETING]
    for greeting in greetings:
        assert read(greeting + data) == expected
        assert read(greeting + data, 1) == expected
        assert read(greeting + data, 7) == expected
        assert read(greeting + data + b"Event: Unfinished\r\nKey: ") == expected
        assert read(greeting + data + EVENT) == [*expected, [("Event", "Hangup"), ("Cause", "16")]]


@pytest.mark.parametrize("path", ami_fixtures(), ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_captured_bytes_give_the_same_messages_in_any_pieces(path: Path) -> None:
    data = path.read_bytes()
    data = data if data.startswith(b"Asterisk Call Manager") else GREETING + data
    complete = read(data)
    assert complete == read(data, 1) == read(data, 7)
    assert len(complete) == data.count(b"\r\n\r\n") - data.count(b"Event: AuthDetail\r\n")
    listed = sum(len(headers) for headers in complete)
    dropped = sum(len(part.split(b"\r\n")) for part in data.split(b"\r\n\r\n") if part.startswith(b"Event: AuthDetail"))
    assert listed + dropped == sum(b": " in line for line in data.split(b"\r\n"))
    assert "lab-trunk-secret" not in str(complete)


def test_get_returns_the_first_of_repeated_headers_and_getlist_returns_all() -> None:
    message = Message(b"Event: A\r\nVariable: a=1\r\nVariable: b=2\r\nEvent: B\r\nActionID: x-1")
    assert message.get("Variable") == message["Variable"] == "a=1"
    assert message.getlist("Variable") == ["a=1", "b=2"]
    assert message.get("Event") == "A"
    assert message.get("missing", "none") == "none"
    assert "Variable" in message
    assert "missing" not in message
    with pytest.raises(KeyError):
        message["missing"]
    assert (message.event, message.response, message.action_id) == ("A", "", "x-1")


def test_an_event_with_a_response_header_is_still_an_event() -> None:
    message = Message(b"Event: OriginateResponse\r\nActionID: 1\r\nResponse: Failure")
    assert (message.event, message.response) == ("OriginateResponse", "")


def test_a_messages_repr_contains_no_values() -> None:
    message = Message(b"Event: Thing\r\nPassword: hidden")
    assert "hidden" not in repr(message)
    assert "Thing" in repr(message)


def test_events_with_passwords_are_dropped() -> None:
    auth = b"Event: AuthDetail\r\nUsername: lab\r\nPassword: secret\r\n\r\n"
    assert len(read(GREETING + auth + EVENT + b"\r\n" + auth)) == 1
    assert len(read(OLD_GREETING + b"Event: A\r\nB: 1\r\n\n" + auth + EVENT)) == 2


@pytest.mark.parametrize("data", [b"HTTP/1.1 400 Bad Request\r\n", b"SSH-2.0-OpenSSH_9.2\r\n", b"A" * 300, b"\0"])
def test_a_greeting_of_another_protocol_is_refused(data: bytes) -> None:
    with pytest.raises(AmiProtocolError):
        AmiParser().feed(data)


def test_the_greeting_contains_the_version_and_is_limited_in_length() -> None:
    parser = AmiParser()
    assert parser.feed(GREETING[:20]) == []
    assert parser.version is None
    assert [message.event for message in parser.feed(GREETING[20:] + EVENT)] == ["Hangup"]
    assert parser.version == "11.0.0"
    with pytest.raises(AmiProtocolError):
        AmiParser().feed(b"Asterisk Call Manager/" + b"1" * 300)


@pytest.mark.parametrize(
    "data",
    [
        b"Event: A\r\nKey: " + b"x" * 2000,
        b"Event: A\r\nKey: " + b"x" * 2000 + b"\r\n\r\n",
        b"Event: A\r\n" + b"Key: value\r\n" * 1000,
        b"Event: A\r\n" + b"Key: value\r\n" * 1000 + b"\r\n",
        b"Response: Follows\r\n" + b"line\r\n\r\n" * 2000,
        b"\n" * 20_000,
    ],
    ids=["open line", "complete line", "open message", "complete message", "endless output", "line feeds"],
)
@pytest.mark.parametrize("size", [1, 100, 100_000])
def test_data_beyond_the_limits_is_refused(data: bytes, size: int) -> None:
    parser = AmiParser(max_line=1000, max_message=10_000)
    parser.feed(OLD_GREETING)
    with pytest.raises(AmiProtocolError):
        [parser.feed(data[start : start + size]) for start in range(0, len(data), size)]


PIECES = st.sampled_from(
    [
        b"\r\n",
        b"\n",
        b"\r",
        b"\r\n\r\n",
        b"\r\n\n",
        b"Event: A",
        b"Response: Follows",
        b"--END COMMAND--",
        b"Key: v",
        b"KEY: w",
        b"Key: x\n",
        b"E:",
        b":",
    ]
) | st.binary(max_size=20)
STREAMS = st.lists(PIECES, max_size=40).map(b"".join) | st.binary(max_size=500)


@given(STREAMS, st.booleans(), st.lists(st.integers(1, 60), min_size=1, max_size=20))
def test_arbitrary_bytes_raise_only_a_protocol_error_and_use_bounded_memory(
    data: bytes, greeted: bool, sizes: list[int]
) -> None:
    parser = AmiParser(max_line=64, max_message=256)
    data = OLD_GREETING + data if greeted else data
    at = 0
    try:
        for i in range(len(data)):
            piece = data[at : at + sizes[i % len(sizes)]]
            for message in parser.feed(piece):
                assert len(message.raw) <= 9 * 256  # "Output: " is prepended to each line of an old reply
                assert isinstance(message.headers, list)
                assert isinstance(repr(message) + message.action_id, str)
            at += len(piece)
            assert len(parser._buffer) <= 256
    except AmiProtocolError:
        assert len(parser._buffer) == 0


@given(STREAMS, st.integers(1, 30))
def test_arbitrary_messages_are_the_same_in_any_pieces(data: bytes, size: int) -> None:
    for greeting in (GREETING, OLD_GREETING):
        assert read(greeting + data, size) == read(greeting + data)


@given(STREAMS)
@example(b"\x9dEvent: A")  # its name is shown as \\x9dEvent, which isn't what Asterisk wrote
def test_get_returns_the_first_value_of_getlist_for_arbitrary_messages(data: bytes) -> None:
    for message in AmiParser().feed(OLD_GREETING + data + b"\r\n\r\n--END COMMAND--\r\n\r\n"):
        for name in [*(name for name in message if name.isascii() and name.encode() in message.raw), "key"]:
            listed = [value.partition("\n")[0] for value in message.getlist(name)]
            assert message.get(name, "none").partition("\n")[0] == [*listed, "none"][0]


def test_an_action_is_encoded_with_its_id() -> None:
    raw = encode_action("Getvar", [("Variable", "Zoë"), ("Variable", "")], "x-1")
    assert raw == "Action: Getvar\r\nActionID: x-1\r\nVariable: Zoë\r\nVariable: \r\n\r\n".encode()


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("A", "b\r\nAction: Command"),
        ("A", "b\n"),
        ("A", "b\r"),
        ("A", "b\0"),
        ("A\r\nB", "c"),
        ("A: b", "c"),
        ("\n", ""),
    ],
)
def test_line_breaks_in_an_action_are_refused(key: str, value: str) -> None:
    with pytest.raises(SettingsError) as caught:
        encode_action("Getvar", [(key, value)], "x")
    assert "Command" not in caught.value.advice


def test_asterisks_limits_apply_exactly_to_the_byte() -> None:
    longest = "x" * (1024 - len("Variable: \r\n"))
    assert encode_action("Getvar", [("Variable", longest)], "x")
    with pytest.raises(SettingsError):
        encode_action("Getvar", [("Variable", longest + "x")], "x")
    with pytest.raises(SettingsError):
        encode_action("Getvar", [("Variable", longest[:-1] + "ë")], "x")
    assert encode_action("Getvar", [("A", "b")] * 126, "x")
    with pytest.raises(SettingsError):
        encode_action("Getvar", [("A", "b")] * 127, "x")
    with pytest.raises(SettingsError):
        encode_action("Getvar\nX: y", [], "x")


def test_every_way_to_read_a_header_decodes_it_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    """One event contains Cyrillic in cp1251 and UTF-8: each value is decoded on its own."""
    raw = b"Event: QueueMember\r\nName: \xcb\xe5\xed\xe0\r\nMemberName: J\xc3\xb6rg\r\nQueue: \xce\xeb\xff"
    for fallback, names in (("cp1252", ["Ëåíà", "Jörg", "Îëÿ"]), ("cp1251", ["Лена", "Jörg", "Оля"])):
        monkeypatch.setattr("pbx.text_encoding._fallback", fallback)
        message = Message(raw)
        keys = ("Name", "MemberName", "Queue")
        assert [message.get(key) for key in keys] == [message[key] for key in keys] == names
        assert [dict(message.headers)[key] for key in keys] == names
