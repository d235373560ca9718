"""An Asterisk with queues, and a SIP telephone that transfers callers (REFER with Replaces)."""

from __future__ import annotations

import re
import socket
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from tests.lab.provision import LabError
from tests.lab.queue_asterisk import QueueAsterisk

AMI_PORTS = {16: 5916, 22: 5922}
SIP_PORTS = {16: (5966, 5967), 22: (5972, 5973)}  # of Asterisk and of the telephone
NUMBER = "7009"
_DEADLINE_S = 20


@dataclass
class Call:
    """One call of the telephone. `local` and `remote` are its From and To headers with their tags."""

    call_id: str
    local: str
    remote: str
    target: str
    cseq: int = 1


@dataclass
class Telephone:
    """A SIP telephone without sound. It answers a call, makes another one, and transfers the first caller to it."""

    port: int
    server_port: int
    line: socket.socket = field(init=False)

    def __enter__(self) -> Telephone:
        self.line = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.line.bind(("127.0.0.1", self.port))
        return self

    def __exit__(self, *_: object) -> None:
        self.line.close()

    def answer(self) -> Call:
        """Wait until the telephone rings, and answer the call."""
        invite = self._wait_for(lambda text: text.startswith("INVITE "))
        tag = f";tag={uuid.uuid4().hex[:8]}"
        self._reply(invite, "200 OK", tag=tag, body=self._sdp())
        self._wait_for(lambda text: text.startswith("ACK "))
        call_id, caller, local = (_header(invite, name) for name in ("Call-ID", "From", "To"))
        return Call(call_id, local + tag, caller, _uri(_header(invite, "Contact")))

    def call(self, number: str) -> Call:
        """Call a number, and wait until the call is answered."""
        to = f"sip:{number}@127.0.0.1:{self.server_port}"
        local = f"<sip:{NUMBER}@127.0.0.1:{self.port}>;tag={uuid.uuid4().hex[:8]}"
        call = Call(uuid.uuid4().hex, local, f"<{to}>", to)
        self._send("INVITE", call, self._sdp())
        answer = self._wait_for(lambda text: text.startswith("SIP/2.0 200") and call.call_id in text)
        call.remote, call.target = _header(answer, "To"), _uri(_header(answer, "Contact"))
        self._send("ACK", call)
        return call

    def transfer(self, caller: Call, to: Call) -> None:
        """Transfer `caller`: they replace this telephone in the call `to`."""
        tags = "%3B".join(f"{name}-tag%3D{_tag(text)}" for name, text in (("to", to.remote), ("from", to.local)))
        replaces = f"<{to.target}?Replaces={to.call_id}%3B{tags}>"
        caller.cseq += 1
        self._send("REFER", caller, "", f"Refer-To: {replaces}\r\nReferred-By: <sip:{NUMBER}@127.0.0.1>\r\n")
        self._wait_for(lambda text: text.startswith("SIP/2.0 202"))
        self._wait_for(lambda text: text.startswith("NOTIFY ") and "200 OK" in text)

    def idle(self, seconds: float) -> None:
        """Keep answering Asterisk's requests for some seconds."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            self._receive(deadline)

    def _send(self, method: str, call: Call, body: str = "", more: str = "") -> None:
        branch = f"z9hG4bK{uuid.uuid4().hex}"
        head = (
            f"{method} {call.target} SIP/2.0\r\nVia: SIP/2.0/UDP 127.0.0.1:{self.port};branch={branch}\r\n"
            f"Max-Forwards: 70\r\nFrom: {call.local}\r\nTo: {call.remote}\r\nCall-ID: {call.call_id}\r\n"
            f"CSeq: {call.cseq} {method}\r\nContact: <sip:{NUMBER}@127.0.0.1:{self.port}>\r\n{more}"
        )
        self._write(head, body)

    def _reply(self, request: str, status: str, *, tag: str = "", body: str = "") -> None:
        copied = [line for line in request.splitlines() if re.match(r"(?i)(via|from|call-id|cseq|record-route):", line)]
        to = f"To: {_header(request, 'To')}{tag}"
        contact = f"Contact: <sip:{NUMBER}@127.0.0.1:{self.port}>"
        self._write("\r\n".join([f"SIP/2.0 {status}", *copied, to, contact, ""]), body)

    def _write(self, head: str, body: str) -> None:
        kind = "Content-Type: application/sdp\r\n" if body else ""
        text = f"{head}{kind}Content-Length: {len(body)}\r\n\r\n{body}"
        self.line.sendto(text.encode(), ("127.0.0.1", self.server_port))

    def _wait_for(self, matches: object) -> str:
        deadline = time.monotonic() + _DEADLINE_S
        while time.monotonic() < deadline:
            text = self._receive(deadline)
            if text and matches(text):  # type: ignore[operator]
                return text
        raise LabError("The telephone got no call.")

    def _receive(self, deadline: float) -> str:
        self.line.settimeout(max(deadline - time.monotonic(), 0.01))
        try:
            text = self.line.recv(65536).decode()
        except TimeoutError:
            return ""
        if not text.startswith(("SIP/2.0", "ACK ")) and not (
            text.startswith("INVITE ") and ";tag=" not in _header(text, "To")
        ):
            self._reply(text, "200 OK", body=self._sdp() if text.startswith(("INVITE ", "UPDATE ")) else "")
        return text

    def _sdp(self) -> str:
        port = self.port + 1000
        return (
            "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\n"
            f"m=audio {port} RTP/AVP 0\r\na=rtpmap:0 PCMU/8000\r\n"
        )


def _header(text: str, name: str) -> str:
    found = re.search(rf"(?im)^{name}:\s*(.*?)\r?$", text)
    if found is None:
        raise LabError(f"No {name} in {text[:200]!r}.")
    return found[1]


def _uri(contact: str) -> str:
    return contact.partition("<")[2].partition(">")[0] or contact


def _tag(header: str) -> str:
    return header.partition(";tag=")[2].partition(";")[0]


@contextmanager
def transfer_asterisk(version: int) -> Iterator[tuple[QueueAsterisk, Telephone]]:
    """Run this Asterisk and its telephone, then stop them and delete their files."""
    sip_port, phone_port = SIP_PORTS[version]
    asterisk = QueueAsterisk(
        name=f"transfers-{version}",
        version=version,
        ami_port=AMI_PORTS[version],
        sip_port=sip_port,
        iax_port=phone_port,
        rtp_start=17000 + version * 10,
        suffix="-transfers",
        templates=("common", "queues", "transfers"),
    )
    with asterisk.fresh(), Telephone(phone_port, sip_port) as phone:
        yield asterisk, phone
