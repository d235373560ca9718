"""Name and ports: what is there before anybody speaks."""

import socket
import threading
import time
from typing import Any

from pbx.asterisk.doctor.advice import firewall, refused
from pbx.asterisk.doctor.step import Check, StepResult, Trouble

RESOLVE_S = 3.0
CONNECT_S = 3.0  # for each port: a packet lost is sent again after one second

Address = tuple[int, tuple[Any, ...]]  # family and socket address


class NameCheck:
    """Looks the host's name up."""

    def __init__(self, host: str) -> None:
        self.host = host
        self.addresses: list[Address] = []
        self._failure: OSError | UnicodeError | None = None

    def steps(self) -> list[Check]:
        return [Check("Name resolves", self.resolve)]

    def resolve(self) -> StepResult:
        thread = threading.Thread(target=self._look_up, daemon=True)  # the resolver knows no time limit
        thread.start()
        thread.join(RESOLVE_S)
        if self._failure is not None:
            raise Trouble(
                f"The name {self.host!r} doesn't resolve to an address.",
                [
                    "There is a slip in it: correct FREEPBX_HOST, or write the PBX's IP address.",
                    "Only another network's name server knows it (a VPN's, the office's): `getent hosts` asks yours.",
                ],
            )
        if not self.addresses:
            raise Trouble(
                f"The name server gave no answer for {self.host!r} within {RESOLVE_S:.0f} s.",
                ["Write the PBX's IP address as FREEPBX_HOST, or fix this machine's /etc/resolv.conf."],
            )
        found = ", ".join(str(address[0]) for _, address in self.addresses)
        return StepResult(f"{self.host} is an address." if found == self.host else f"{self.host} is {found}.")

    def _look_up(self) -> None:
        try:
            found = socket.getaddrinfo(self.host, None, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:
            self._failure = error
        else:
            self.addresses = [(family, address) for family, _, _, _, address in found]


def open_port(addresses: list[Address], port: int, what: str) -> socket.socket:
    """Connect to the first address that lets us. Raises Trouble: refused, silent and unreachable told apart.

    `what` is AMI or ARI.
    """
    end = time.monotonic() + CONNECT_S
    failures: list[OSError] = []
    for tried, (family, address) in enumerate(addresses):
        sock = socket.socket(family, socket.SOCK_STREAM)
        sock.settimeout(max(end - time.monotonic(), 0.1) / (len(addresses) - tried))
        try:
            sock.connect((address[0], port, *address[2:]))
        except OSError as error:
            sock.close()
            failures.append(error)
        else:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            return sock
    where = f"{addresses[0][1][0]}:{port}"
    source = source_address(addresses[0])
    if any(isinstance(error, ConnectionRefusedError) for error in failures):
        raise Trouble(f"{where} refuses the connection: nothing listens there.", refused(what, port, source))
    if any(isinstance(error, TimeoutError) for error in failures):
        raise Trouble(
            f"No answer from {where} within {CONNECT_S:.0f} s: the packets are dropped on the way.",
            firewall(what, port, source),
        )
    raise Trouble(
        f"There is no way to {where}: {failures[0].strerror or failures[0]}.",
        ["Check FREEPBX_HOST, this machine's network, and the VPN if the PBX is behind one."],
    )


def source_address(target: Address) -> str:
    """This machine's own address on the route there, as the PBX sees it if nothing rewrites it; "" without a route."""
    family, address = target
    with socket.socket(family, socket.SOCK_DGRAM) as sock:  # connecting a datagram socket sends nothing
        try:
            sock.connect((address[0], 9, *address[2:]))
            return str(sock.getsockname()[0]).partition("%")[0]
        except OSError:
            return ""
