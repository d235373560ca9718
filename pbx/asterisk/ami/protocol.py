"""The protocol of AMI without any IO: bytes in, messages out, and actions to bytes.

A greeting line, then messages of `Key: Value\\r\\n` lines ended by an empty line; values are bytes of no declared
charset, so a message is framed first, and each value is decoded (`pbx.text_encoding`) only when it is used.
`AuthDetail` events contain the passwords of trunks and extensions in plain text, and are dropped here.
"""

import re
from collections.abc import Iterable, Iterator
from functools import lru_cache

from pbx.errors import AmiProtocolError, SettingsError
from pbx.text_encoding import decode

GREETING = b"Asterisk Call Manager"
MAX_GREETING_BYTES = 200
MAX_LINE_BYTES = 64 * 1024
MAX_MESSAGE_BYTES = 8 * 1024 * 1024
MAX_ACTION_LINE_BYTES = 1024  # Asterisk's limits for what a client may send: manager.c, AST_MAX_MANHEADERS
MAX_ACTION_HEADERS = 128

_END = b"\r\n\r\n"
_COMMAND_START = b"Response: Follows"
_COMMAND_END = b"--END COMMAND--\r\n\r\n"
_SECRET_EVENT = b"Event: AuthDetail\r\n"
# Old releases end some list items with a bare line feed, so two items arrive in one frame.
_SHORT_END = re.compile(rb"\r\n\n+(?=Event: |Response: )")
# A buffer with any of these can't be split in one step. Asterisk 16 greets with 5.0 and has none of the old ones.
_ODD = (_SECRET_EVENT,)
_OLD_ODD = (*_ODD, _COMMAND_START, b"\n\nEvent: ", b"\n\nResponse: ")
_FIRST_WITHOUT_OLD = 5
_COMMAND = re.compile(rb"\A(Response: Follows\r\n(?:(?:Privilege|ActionID|Message): [^\r\n]*\r\n)*)(.*)\Z", re.DOTALL)

Headers = Iterable[tuple[str, str]]


class Message:
    """One response or event, decoded header by header as needed. Header names are written as Asterisk writes them.

    Its repr names the message and never shows a value.
    """

    __slots__ = ("raw",)

    def __init__(self, raw: bytes) -> None:
        self.raw = raw

    @property
    def headers(self) -> list[tuple[str, str]]:
        """All headers in their order, including repeated ones; a line break inside a value is kept."""
        headers: list[tuple[str, str]] = []
        for line in self.raw.split(b"\r\n"):
            key, colon, value = line.partition(b":")
            if colon:
                headers.append((decode(key), _value(value)))
            elif headers:
                headers[-1] = (headers[-1][0], f"{headers[-1][1]}\n{decode(line)}")
        return headers

    @property
    def event(self) -> str:
        """The event's name; empty for a response."""
        raw = self.raw
        if not raw.startswith(b"Event: "):
            return ""
        end = raw.find(b"\r\n")
        return decode(raw[7 : end if end > 0 else None])

    @property
    def response(self) -> str:
        """`Success`, `Error`, `Follows`, `Goodbye`; empty for an event, even one that carries a `Response` header."""
        return self.get("Response") if self.raw.startswith(b"Response: ") else ""

    @property
    def action_id(self) -> str:
        """The ActionID of the action this belongs to; empty for an unsolicited event."""
        return self.get("ActionID")

    def get(self, key: str, default: str = "") -> str:
        """The first value of a header, up to the end of its line; `default` without one."""
        raw = self.raw
        head, line = _header_starts(key)
        if raw.startswith(head):
            rest = raw[len(head) :]
        else:
            _, found, rest = raw.partition(line)
            if not found:
                return default
        return _value(rest.partition(b"\r\n")[0])

    def getlist(self, key: str) -> list[str]:
        """All values of a repeated header, in order."""
        return [value for name, value in self.headers if name == key]

    def __getitem__(self, key: str) -> str:
        if key not in self:
            raise KeyError(key)
        return self.get(key)

    def __contains__(self, key: object) -> bool:
        return isinstance(key, str) and any(name == key for name in self)

    def __iter__(self) -> Iterator[str]:
        return (name for name, _ in self.headers)

    def __repr__(self) -> str:
        kind = f"event {self.event}" if self.event else f"response {self.response}"
        return f"<Message {kind}, {len(self.raw)} bytes>"


def _value(raw: bytes) -> str:
    """The value after a header's colon."""
    return decode(raw.removeprefix(b" ")).rstrip("\n")


@lru_cache(maxsize=1024)
def _header_starts(key: str) -> tuple[bytes, bytes]:
    """How a header begins in a message's first line, and in a later line."""
    return f"{key}:".encode(), f"\r\n{key}:".encode()


def _as_headers(frame: bytes) -> bytes:
    """A reply to Command in the format of Asterisk 13 and older, rewritten with the `Output:` headers of newer ones."""
    match = _COMMAND.match(frame)
    if not match:
        return frame
    lines = match[2].removesuffix(b"--END COMMAND--").removesuffix(b"\n").split(b"\n")
    return match[1] + b"\r\n".join(b"Output: " + line.rstrip(b"\r") for line in lines)


class AmiParser:
    """Splits a stream of bytes into messages, however it was cut on its way.

    `version` is the protocol's version from the greeting, None until that line is complete.
    """

    def __init__(self, *, max_line: int = MAX_LINE_BYTES, max_message: int = MAX_MESSAGE_BYTES) -> None:
        self.version: str | None = None
        self._odd: tuple[bytes, ...] = _ODD
        self._max_line = max_line
        self._max_message = max_message
        self._buffer = bytearray()
        self._searched = 0  # where the search for the end of the message continues
        self._in_command = False  # inside the output of an old command, which may contain empty lines

    def feed(self, data: bytes) -> list[Message]:
        """Take the next bytes and return the messages they complete. Raises as `feed_frames`."""
        return list(map(Message, self.feed_frames(data)))

    def feed_frames(self, data: bytes) -> list[bytes]:
        """Take the next bytes and return the bytes of the messages they complete, for `Message`.

        Raises AmiProtocolError when the greeting isn't Asterisk's or a limit is exceeded; don't use the parser after an
        error. It keeps at most `max_message` bytes besides `data`.
        """
        self._buffer += data
        if self.version is None and not self._take_greeting():
            return []
        buffer, searched = self._buffer, self._searched
        size = len(buffer)
        if buffer.find(_COMMAND_END if self._in_command else _END, searched) < 0:
            self._searched = max(searched, len(buffer) - len(_COMMAND_END) + 1)
            self._check_rest()
            return []
        if self._in_command or any(odd in buffer for odd in self._odd):
            frames = self._cut()
        else:
            frames = bytes(buffer).split(_END)
            buffer[:] = frames.pop()
            self._searched = 0
        self._check_rest()
        if size > self._max_line:
            self._check(frames)
        if min(frames, default=b"!") <= b" ":  # stray line feeds before a message
            frames = [stripped for frame in frames if (stripped := frame.lstrip(b"\r\n"))]
        return frames

    def _cut(self) -> list[bytes]:
        """Take all complete frames from a buffer with rare content.

        That is an old command's output, which may contain empty lines, items that end with a bare line feed, or
        passwords, which are dropped.
        """
        buffer, start = self._buffer, 0
        frames: list[bytes] = []
        while True:
            terminator = _COMMAND_END if self._in_command else _END
            end = buffer.find(terminator, self._searched)
            if end < 0:
                break
            self._searched = end = end + len(terminator)
            frame = bytes(buffer[start:end]).lstrip(b"\r\n")
            started = self._odd == _OLD_ODD and frame.startswith(_COMMAND_START)
            self._in_command = started and not frame.endswith(_COMMAND_END)
            if not self._in_command:
                start = end
                frame = frame.removesuffix(_END)
                frames += _SHORT_END.split(_as_headers(frame)) if self._odd == _OLD_ODD else [frame]
        self._searched = max(self._searched, len(buffer) - len(terminator) + 1) - start
        del buffer[:start]
        return [frame for frame in frames if not frame.startswith(_SECRET_EVENT)]

    def _take_greeting(self) -> bool:
        head = bytes(self._buffer[: len(GREETING)])
        if not GREETING.startswith(head):
            self._fail("Its greeting is not Asterisk's.")
        end = self._buffer.find(b"\r\n", 0, MAX_GREETING_BYTES)
        if end < 0:
            if len(self._buffer) >= MAX_GREETING_BYTES:
                self._fail("Its greeting doesn't end.")
            return False
        self.version = self._buffer[len(GREETING) : end].decode("utf-8", "replace").lstrip("/").strip()
        major = self.version.partition(".")[0]
        self._odd = _ODD if major.isdecimal() and int(major) >= _FIRST_WITHOUT_OLD else _OLD_ODD
        del self._buffer[: end + 2]
        return True

    def _check_rest(self) -> None:
        buffer = self._buffer
        if len(buffer) > self._max_message or len(buffer) - buffer.rfind(b"\n") - 1 > self._max_line:
            self._check([bytes(buffer)])

    def _check(self, frames: list[bytes]) -> None:
        for frame in (frame for frame in frames if len(frame) > self._max_line):
            if len(frame) > self._max_message:
                self._fail(f"It sent a message of more than {self._max_message:,} bytes.")
            if max(map(len, frame.split(b"\n"))) > self._max_line:
                self._fail(f"It sent a line of more than {self._max_line:,} bytes.")

    def _fail(self, why: str) -> None:
        self._buffer.clear()
        self._searched = 0
        raise AmiProtocolError(
            f"The peer doesn't speak Asterisk's manager protocol. {why}",
            "Check host and port: AMI listens on 5038 unless manager.conf says otherwise.",
        )


def encode_action(action: str, headers: Headers, action_id: str) -> bytes:
    """The bytes of one action.

    Raises SettingsError for a line break or a NUL in a name or value, a line over 1,024 bytes or more than 128 headers.
    Asterisk would read a line break as the start of another header, and cut or drop what is too long.
    """
    lines = []
    for key, value in (("Action", action), ("ActionID", action_id), *headers):
        if any(character in key + value for character in "\r\n\0") or ":" in key:
            raise SettingsError(f"The header {key!r} of the action {action!r} has a line break in it.", "Remove it.")
        line = f"{key}: {value}\r\n".encode()
        if len(line) > MAX_ACTION_LINE_BYTES:
            raise SettingsError(
                f"The header {key!r} of the action {action!r} has {len(line):,} bytes; Asterisk takes at most 1,024.",
                "Shorten it.",
            )
        lines.append(line)
    if len(lines) > MAX_ACTION_HEADERS:
        raise SettingsError(f"The action {action!r} has {len(lines)} headers; Asterisk takes at most 128.", "Split it.")
    return b"".join(lines) + b"\r\n"
