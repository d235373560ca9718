"""Receivers of alerts on loopback: a web server for webhooks and a mail server. Tests can make both fail."""

import email
import email.policy
import json
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.message import EmailMessage
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session

from tests.web_servers import serve

USER, PASSWORD, TOKEN = "alerts", "s3cret-of-the-mail", "t0ken-of-the-webhook"


@dataclass
class WebReceiver:
    """The messages posted to a web server, which answers with `status` after `slow_s` seconds."""

    port: int = 0
    status: int = 200
    slow_s: float = 0.0
    messages: list[dict[str, Any]] = field(default_factory=list)
    tried: int = 0

    @property
    def url(self) -> str:
        return f"json://127.0.0.1:{self.port}/hook/{TOKEN}"


@dataclass
class MailReceiver:
    """The messages sent to a mail server, which answers with `refusal`, if set, instead of 250."""

    port: int = 0
    refusal: str = ""
    messages: list[EmailMessage] = field(default_factory=list)

    @property
    def url(self) -> str:
        login = f"{USER}:{PASSWORD}@127.0.0.1:{self.port}"
        return f"mailto://{login}?smtp=127.0.0.1&from=pbx@example.com&to=ada@example.com&mode=insecure"

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        if self.refusal or not session.authenticated:
            return self.refusal or "530 Log in first"
        assert isinstance(envelope.content, bytes)
        self.messages.append(email.message_from_bytes(envelope.content, policy=email.policy.default))
        return "250 OK"


@contextmanager
def web_receiver() -> Iterator[WebReceiver]:
    received = WebReceiver()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            received.tried += 1
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            time.sleep(received.slow_s)
            if received.status == 200:
                received.messages.append(body)
            self.send_response(received.status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    received.port = server.server_port
    with serve(server):
        yield received


@contextmanager
def mail_receiver() -> Iterator[MailReceiver]:
    received = MailReceiver(port=free_port())

    def allow(server: SMTP, session: Session, envelope: Envelope, mechanism: str, login: object) -> AuthResult:
        given = (login.login, login.password) if isinstance(login, LoginPassword) else None
        return AuthResult(success=given == (USER.encode(), PASSWORD.encode()), handled=False)

    controller = Controller(
        received,
        hostname="127.0.0.1",
        port=received.port,
        authenticator=allow,
        auth_require_tls=False,
    )
    controller.start()
    try:
        yield received
    finally:
        controller.stop()


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])
