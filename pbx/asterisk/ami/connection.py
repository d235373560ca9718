"""One connection to the manager interface: socket, TLS, greeting, login. Every failure has its own error message."""

import hashlib
import ipaddress
import socket
import ssl
import threading
import time
from dataclasses import dataclass, field
from typing import Any

from pbx.asterisk.ami.protocol import AmiParser, Message, encode_action
from pbx.errors import (
    AmiError,
    AmiLoginError,
    AmiPlainLogin,
    AmiProtocolError,
    AmiTooLarge,
    Deadline,
    SettingsError,
    Unreachable,
)
from pbx.settings import Connection

CHUNK_BYTES = 64 * 1024  # larger chunks don't fit into the CPU's cache and make the parser slower
MAX_LOGIN_BYTES = 1024 * 1024  # greeting, challenge and login take less than one kilobyte

# OpenSSL's X509_V_ERR_... codes for a certificate from an unknown CA, and for one with another name.
_UNKNOWN_CA = {2, 18, 19, 20, 21}
_OTHER_NAME = {62, 64}


@dataclass
class AmiConnection:
    """A logged-in socket, its parser with the data read so far, and the messages that came with the login."""

    sock: socket.socket
    parser: AmiParser
    messages: list[Message] = field(default_factory=list)
    bytes_read: int = 0

    @property
    def ami_version(self) -> str:
        """The version of AMI from the greeting."""
        return self.parser.version or ""


def open_link(connection: Connection, *, deadline_s: float, events: str = "off") -> AmiConnection:
    """Connect, check the greeting and log in, all within `deadline_s` seconds.

    `events` is Asterisk's event mask: `off`, `on` or classes such as `call,agent`.
    Raises SettingsError, Unreachable, Deadline, AmiProtocolError or AmiLoginError.
    """
    end = time.monotonic() + deadline_s
    sock = _connect(connection, end)
    try:
        if connection.ami_tls:
            sock = wrap_tls(sock, connection, end)
        link = AmiConnection(sock, AmiParser())
        await_greeting(link, connection, end)
        log_in(link, connection, events, end)
    except BaseException:
        sock.close()
        raise
    return link


def _where(connection: Connection) -> str:
    return f"{connection.host}:{connection.ami_port}"


def _left(end: float) -> float:
    left = end - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left


def _connect(connection: Connection, end: float) -> socket.socket:
    """Try each address of the host in turn."""
    where = _where(connection)
    addresses = _resolve(connection, end)
    failure: OSError = OSError("no address")
    for family, kind, protocol, _, address in addresses:
        sock = socket.socket(family, kind, protocol)
        try:
            sock.settimeout(_left(end))
            sock.connect(address)
        except OSError as error:
            sock.close()
            failure = error
        else:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            return sock
    if isinstance(failure, TimeoutError):
        raise Deadline(
            f"No answer from {where}.",
            "A firewall may drop the packets (FreePBX: add this machine under Connectivity, Firewall), "
            "or the address is wrong.",
        ) from None
    if isinstance(failure, ConnectionRefusedError):
        raise Unreachable(
            f"Nothing listens on {where}.",
            "On the PBX, manager.conf needs enabled=yes and a bindaddr this machine can reach; "
            "`asterisk -rx 'manager show settings'` shows what is in force. Check FREEPBX_AMI_PORT too.",
        ) from None
    raise Unreachable(f"Can't connect to {where}: {failure.strerror or failure}.", "Check the network and the address.")


def _resolve(connection: Connection, end: float) -> list[Any]:
    """The result of getaddrinfo, with a deadline, which the resolver doesn't have."""
    found: list[Any] = []

    def look_up() -> None:
        try:
            found.append(socket.getaddrinfo(connection.host, connection.ami_port, type=socket.SOCK_STREAM))
        except (OSError, UnicodeError) as error:
            found.append(error)

    thread = threading.Thread(target=look_up, name="resolver", daemon=True)
    thread.start()
    thread.join(max(end - time.monotonic(), 0.0))
    if not found:
        raise Deadline(
            f"The DNS server didn't answer for {connection.host!r} before the deadline.",
            "Set FREEPBX_HOST to the PBX's IP address, or check the DNS servers of the machine that runs this app.",
        )
    if isinstance(found[0], Exception):
        raise Unreachable(
            f"The name {connection.host!r} doesn't resolve to an address.",
            "Check FREEPBX_HOST for typing errors, or set it to the PBX's IP address.",
        )
    return list(found[0])


def wrap_tls(sock: socket.socket, connection: Connection, end: float) -> ssl.SSLSocket:
    """Do the TLS handshake by `end` on the monotonic clock. Raises SettingsError, Unreachable or Deadline."""
    where = _where(connection)
    try:
        context = ssl.create_default_context(cafile=connection.ca_file)
    except (OSError, ssl.SSLError):
        raise SettingsError(
            f"The CA file {connection.ca_file} can't be read as PEM certificates.", "Fix FREEPBX_CA_FILE."
        ) from None
    try:
        sock.settimeout(_left(end))
        return context.wrap_socket(sock, server_hostname=connection.host)
    except ssl.SSLCertVerificationError as error:
        if error.verify_code in _UNKNOWN_CA:
            fix = "Copy the certificate of the CA that signed it from the PBX and name that file in FREEPBX_CA_FILE."
            raise Unreachable(f"{where} shows a certificate of an unknown CA.", fix) from None
        if error.verify_code in _OTHER_NAME:
            fix = "Set FREEPBX_HOST to the name in the certificate, or let the PBX have one for this name."
            raise Unreachable(f"{where} shows a certificate for another name.", fix) from None
        raise Unreachable(
            f"The certificate of {where} isn't valid: {error.verify_message}.", "Renew it on the PBX."
        ) from None
    except ssl.SSLError:
        raise Unreachable(
            f"{where} doesn't speak TLS.",
            "AMI over TLS has a port of its own (tlsbindaddr in manager.conf, often 5039): set FREEPBX_AMI_PORT to it, "
            "or turn FREEPBX_AMI_TLS off.",
        ) from None
    except TimeoutError:
        raise Deadline(
            f"{where} didn't answer the TLS handshake.", "Check that the port is AMI's TLS port (tlsbindaddr)."
        ) from None
    except OSError as error:
        raise Unreachable(f"{where} broke off the TLS handshake: {error.strerror}.", "Check the port.") from None


def _read(link: AmiConnection, connection: Connection, end: float) -> None:
    link.sock.settimeout(_left(end))
    data = link.sock.recv(CHUNK_BYTES)
    if not data:
        raise Unreachable(f"{_where(connection)} closed the connection.", "Try again.")
    link.bytes_read += len(data)
    if link.bytes_read > MAX_LOGIN_BYTES:
        raise AmiTooLarge(
            f"{_where(connection)} sent more than {MAX_LOGIN_BYTES >> 20} MB before it answered the login.",
            "Asterisk's reply to a login is short, so this is probably another service. Check the host and the port.",
        )
    link.messages += link.parser.feed(data)


def await_greeting(link: AmiConnection, connection: Connection, end: float) -> None:
    """Read Asterisk's greeting. Raises AmiProtocolError, Unreachable or Deadline."""
    where = _where(connection)
    try:
        while link.parser.version is None:
            _read(link, connection, end)
    except AmiTooLarge:
        raise
    except AmiProtocolError as error:
        raise AmiProtocolError(f"{where} isn't Asterisk's manager interface. {error}", error.fix) from None
    except TimeoutError:
        raise _silent(link.sock, where) from None
    except (OSError, Unreachable):
        raise Unreachable(
            f"{where} closed the connection without a greeting.",
            "Asterisk does so at more than authlimit (50) sessions that aren't logged in, and a proxy does when "
            "Asterisk is down. Try again in a minute; else `asterisk -rx 'manager show connected'` on the PBX.",
        ) from None


def _silent(sock: socket.socket, where: str) -> AmiError | Deadline:
    """The error of a server without a greeting. A web server answers only a request, so one is sent."""
    try:
        sock.settimeout(2)
        sock.sendall(b"HEAD / HTTP/1.0\r\n\r\n")
        answer = sock.recv(100)
    except OSError:
        answer = b""
    if answer.startswith(b"HTTP/"):
        return AmiProtocolError(
            f"A web server answers on {where}, not the manager interface.",
            "8088 and 8089 are ARI's ports; AMI listens on 5038 unless manager.conf says otherwise.",
        )
    return Deadline(
        f"{where} accepted the connection and sent no greeting.",
        "Asterisk sends its greeting immediately. If this is its TLS port, turn FREEPBX_AMI_TLS on. Otherwise check "
        "FREEPBX_AMI_PORT, and whether Asterisk still responds.",
    )


def log_in(link: AmiConnection, connection: Connection, events: str, end: float) -> bool:
    """Log in by challenge, so that the password isn't sent; returns whether it had to be sent in plain text.

    A server without the challenge needs the password. It is sent over TLS, or in plain text if the settings allow it.
    Raises AmiLoginError, AmiPlainLogin, AmiProtocolError, Unreachable or Deadline.
    """
    where = _where(connection)
    user, secret = connection.ami_username, connection.ami_password.get_secret_value()
    plain = False
    try:
        reply = _request(link, connection, "Challenge", [("AuthType", "MD5")], end)
        if challenge := reply.get("Challenge"):
            key = hashlib.md5(f"{challenge}{secret}".encode(), usedforsecurity=False).hexdigest()
            proof = [("AuthType", "MD5"), ("Username", user), ("Key", key)]
        else:
            plain = not isinstance(link.sock, ssl.SSLSocket)
            if plain and not connection.ami_plain_login:
                raise AmiPlainLogin(
                    f"{where} doesn't offer the MD5 challenge, so it would need the password in plain text, readable "
                    "by anyone on the network between. The password was not sent.",
                    "Asterisk always offers the challenge: check that it is Asterisk that answers there. Then turn on "
                    "AMI over TLS (FREEPBX_AMI_TLS) or, if nobody else can listen on that network, set "
                    "FREEPBX_AMI_PLAIN_LOGIN=true.",
                )
            proof = [("Username", user), ("Secret", secret)]
        reply = _request(link, connection, "Login", [*proof, ("Events", events)], end)
    except TimeoutError:
        raise Deadline(
            f"{where} greeted and then didn't answer the login.", "Check whether Asterisk still responds."
        ) from None
    except OSError as error:
        raise Unreachable(f"{where} broke off the login: {error.strerror}.", "Try again.") from None
    if reply.response != "Success":
        raise _refused(connection, link.sock.getsockname()[0])
    return plain


def _request(
    link: AmiConnection, connection: Connection, action: str, headers: list[tuple[str, str]], end: float
) -> Message:
    link.sock.settimeout(_left(end))
    link.sock.sendall(encode_action(action, headers, action))
    seen = 0
    while True:
        for at, message in enumerate(link.messages[seen:], seen):
            if message.response and message.action_id == action:
                return link.messages.pop(at)
        seen = len(link.messages)
        _read(link, connection, end)


def netmask(source: str) -> str:
    """Return the netmask of a single IP address, in the form that Asterisk's permit= expects."""
    return "255.255.255.255" if ipaddress.ip_address(source).version == 4 else "128"


def _refused(connection: Connection, source: str) -> AmiLoginError:
    """The error of a refused login. AMI doesn't show which of three causes it has, so it names all three."""
    source = source.partition("%")[0]
    user = connection.ami_username
    return AmiLoginError(
        f"{_where(connection)} refused the login of {user!r}. Asterisk's reply is the same for three causes: no such "
        f"user, a wrong secret, or this machine's address {source} isn't permitted.",
        "In /etc/asterisk/manager.conf (FreePBX: Settings, Asterisk Manager Users) there must be:\n"
        f"[{user}]\n"
        "secret=(the same as FREEPBX_AMI_PASSWORD)\n"
        "deny=0.0.0.0/0.0.0.0\n"
        f"permit={source}/{netmask(source)}\n"
        "read=system,call,agent,reporting,cdr\n"
        "write=system,reporting\n"
        "Then run `asterisk -rx 'manager reload'`.",
    )
