"""The steps that check the network: whether the host name resolves and the ports accept connections."""

import socket
import threading
import time
from typing import Any

from pbx.asterisk.doctor.advice import packets_dropped, port_closed
from pbx.asterisk.doctor.step import Check, StepFailed, StepResult

RESOLVE_S = 3.0
CONNECT_S = 3.0  # for each port; a lost packet is sent again after one second

Address = tuple[int, tuple[Any, ...]]  # family and socket address


class NameCheck:
    """Resolves the host name into `addresses`."""

    def __init__(self, host: str) -> None:
        self.host = host
        self.addresses: list[Address] = []
        self._failure: OSError | UnicodeError | None = None

    def steps(self) -> list[Check]:
        """The only step."""
        return [Check("Name resolves", self.resolve)]

    def resolve(self) -> StepResult:
        """Resolve the host name."""
        thread = threading.Thread(target=self._look_up, daemon=True)  # the resolver has no timeout
        thread.start()
        thread.join(RESOLVE_S)
        if self._failure is not None:
            raise StepFailed(
                f"The name {self.host!r} doesn't resolve to an address.",
                [
                    "The name is misspelt. Correct FREEPBX_HOST, or enter the PBX's IP address.",
                    "Only a name server on another network (a VPN, an office) knows the name. Test it here with "
                    "`getent hosts`.",
                ],
            )
        if not self.addresses:
            raise StepFailed(
                f"The name server gave no answer for {self.host!r} within {RESOLVE_S:.0f} s.",
                ["Set FREEPBX_HOST to the PBX's IP address, or fix this machine's name resolution."],
            )
        found = ", ".join(str(address[0]) for _, address in self.addresses)
        return StepResult(
            f"{self.host} is an IP address." if found == self.host else f"{self.host} resolves to {found}."
        )

    def _look_up(self) -> None:
        try:
            found = socket.getaddrinfo(self.host, None, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:
            self._failure = error
        else:
            self.addresses = [(family, address) for family, _, _, _, address in found]


def open_port(addresses: list[Address], port: int, interface: str) -> socket.socket:
    """Connect to the first address that accepts the connection. `interface`: AMI or ARI.

    Raises StepFailed, with different fixes for a refused connection, no answer, and no route.
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
        raise StepFailed(
            f"{where} refuses the connection: nothing listens there.", port_closed(interface, port, source)
        )
    if any(isinstance(error, TimeoutError) for error in failures):
        raise StepFailed(
            f"No answer from {where} within {CONNECT_S:.0f} s: the packets are dropped.",
            packets_dropped(interface, port, source),
        )
    raise StepFailed(
        f"No route to {where}: {failures[0].strerror or failures[0]}.",
        ["Check FREEPBX_HOST, this machine's network, and the VPN if the PBX is reached through one."],
    )


def source_address(target: Address) -> str:
    """This machine's address as the PBX sees it, unless a router translates it; "" without a route to `target`."""
    family, address = target
    with socket.socket(family, socket.SOCK_DGRAM) as sock:  # connecting a datagram socket sends nothing
        try:
            sock.connect((address[0], 9, *address[2:]))
            return str(sock.getsockname()[0]).partition("%")[0]
        except OSError:
            return ""
