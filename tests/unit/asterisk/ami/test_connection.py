"""AMI connections: TLS, refused logins, and servers that are not AMI, each with a clear error."""

import datetime as dt
import ipaddress
import socket
import ssl
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from pbx.asterisk.ami.client import AmiClient
from pbx.asterisk.ami.connection import open_link
from pbx.errors import AmiLoginError, AmiProtocolError, Deadline, PbxError, SettingsError, Unreachable
from pbx.settings import Connection
from tests.unit.asterisk.ami.replay_server import VERSIONS, Session, raw, replay

DAY = dt.timedelta(days=1)


def connect(connection: Connection, deadline_s: float = 20) -> None:
    open_link(connection, deadline_s=deadline_s).sock.close()


class Authority:
    """A certificate authority for one test."""

    def __init__(self, folder: Path, name: str) -> None:
        self.folder = folder
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        certificate = self.sign(self.name, self.key, x509.BasicConstraints(ca=True, path_length=None))
        self.file = folder / f"{name}.pem"
        self.file.write_bytes(certificate)

    def sign(
        self,
        subject: x509.Name,
        key: ec.EllipticCurvePrivateKey,
        *extensions: x509.ExtensionType,
        expired: bool = False,
    ) -> bytes:
        now = dt.datetime.now(dt.UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self.name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - 9 * DAY)
            .not_valid_after(now - DAY if expired else now + DAY)
        )
        for extension in extensions:
            builder = builder.add_extension(extension, critical=False)
        return builder.sign(self.key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)

    def server(self, *names: x509.GeneralName, expired: bool = False) -> ssl.SSLContext:
        """The TLS context of a server that has a certificate for these names."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "pbx")])
        private = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        file = self.folder / "server.pem"
        file.write_bytes(private + self.sign(subject, key, x509.SubjectAlternativeName(names), expired=expired))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(file)
        return context


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path, "ca")


LOOPBACK = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))


def test_tls_works_with_the_ca_file_and_reads_large_replies_completely(authority: Authority) -> None:
    def send_large_reply(session: Session) -> None:
        session.log_in()
        action = session.next_action()
        session.reply(
            action, raw(22, "PJSIPShowEndpoints").replace(b"\r\n\r\n", b"\r\nX: " + b"x" * 40_000 + b"\r\n\r\n")
        )
        for action in session.actions():
            session.answer(action)

    with (
        replay(send_large_reply, tls=authority.server(LOOPBACK)) as server,
        AmiClient.connect(server.connection(ami_tls=True, ca_file=authority.file)) as client,
    ):
        assert len(client.request("PJSIPShowEndpoints").items) == raw(22, "PJSIPShowEndpoints").count(b"\r\n\r\n") - 1
        assert client.request("Ping").response.get("Ping") == "Pong"


def test_tls_with_an_unknown_ca_is_an_error_with_a_fix(authority: Authority, tmp_path: Path) -> None:
    other = Authority(tmp_path, "other")
    with replay(tls=authority.server(LOOPBACK)) as server:
        for ca_file in (other.file, None):
            with pytest.raises(Unreachable, match="unknown CA") as caught:
                connect(server.connection(ami_tls=True, ca_file=ca_file))
            assert "FREEPBX_CA_FILE" in caught.value.fix


def test_tls_checks_the_name_and_the_dates(authority: Authority) -> None:
    with (
        replay(tls=authority.server(x509.DNSName("pbx.example"))) as server,
        pytest.raises(Unreachable, match="another name"),
    ):
        connect(server.connection(ami_tls=True, ca_file=authority.file))
    with (
        replay(tls=authority.server(LOOPBACK, expired=True)) as server,
        pytest.raises(Unreachable, match="expired"),
    ):
        connect(server.connection(ami_tls=True, ca_file=authority.file))


def test_a_mix_up_of_tls_and_plain_ports_is_explained(authority: Authority) -> None:
    with replay() as server, pytest.raises(Unreachable, match="doesn't speak TLS"):
        connect(server.connection(ami_tls=True, ca_file=authority.file))
    with replay(tls=authority.server(LOOPBACK)) as server, pytest.raises(Deadline) as caught:
        connect(server.connection(), deadline_s=0.2)
    assert "FREEPBX_AMI_TLS" in caught.value.fix


def test_an_invalid_or_missing_ca_file_is_a_settings_error(tmp_path: Path) -> None:
    (tmp_path / "text.pem").write_text("no certificate")
    with replay() as server:
        for name in ("text.pem", "missing.pem"):
            with pytest.raises(SettingsError, match=name):
                connect(server.connection(ami_tls=True, ca_file=tmp_path / name))


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("login", ["login-wrong-secret", "login-unknown-user", "login-fenced"])
def test_a_refused_login_lists_all_three_causes_and_the_clients_address(version: int, login: str) -> None:
    with (
        replay(lambda session: session.log_in(login), version=version) as server,
        pytest.raises(AmiLoginError) as caught,
    ):
        connect(server.connection())
    advice = caught.value.advice
    assert all(words in advice for words in ("no such user", "wrong secret", "127.0.0.1 isn't permitted"))
    assert all(line in advice for line in ("[notebook]", "permit=127.0.0.1/255.255.255.255", "manager reload"))
    assert "lab-ami-secret" not in advice + repr(caught.value)


def test_a_closed_port_an_unknown_name_and_a_silent_server_have_different_errors() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with replay() as server:
        connection = server.connection()
    with pytest.raises(Unreachable, match=f"Nothing listens on 127.0.0.1:{port}") as refused:
        connect(connection.model_copy(update={"ami_port": port}))
    assert "enabled=yes" in refused.value.fix
    with pytest.raises(Unreachable, match=r"'pbx\.invalid' doesn't resolve"):
        connect(connection.model_copy(update={"host": "pbx.invalid"}))
    with pytest.raises(Unreachable, match="doesn't resolve"):
        connect(connection.model_copy(update={"host": "a" * 70 + ".example"}))
    with (
        replay(lambda session: session.next_request() and None) as server,
        pytest.raises(Deadline, match="no greeting"),
    ):
        connect(server.connection(), deadline_s=0.1)


def test_a_web_server_on_the_port_is_recognized() -> None:
    def answer_as_web_server(session: Session) -> None:
        session.next_request()
        session.send(b"HTTP/1.1 404 Not Found\r\nServer: Asterisk/22\r\n\r\n")

    with replay(answer_as_web_server) as server, pytest.raises(AmiProtocolError, match="web server") as caught:
        connect(server.connection(), deadline_s=0.2)
    assert "5038" in caught.value.fix


def test_another_protocol_and_a_closed_connection_have_different_errors() -> None:
    with (
        replay(lambda session: session.send(b"SSH-2.0-OpenSSH_9.2\r\n")) as server,
        pytest.raises(AmiProtocolError, match="isn't Asterisk's manager interface"),
    ):
        connect(server.connection())
    with replay(lambda session: None) as server, pytest.raises(Unreachable, match="without a greeting") as caught:
        connect(server.connection())
    assert "authlimit" in caught.value.fix


def test_a_login_that_is_interrupted_or_never_answered_is_an_error() -> None:
    def greet(session: Session) -> None:
        session.send(b"Asterisk Call Manager/11.0.0\r\n")
        session.next_action()

    def never_answer(session: Session) -> None:
        greet(session)
        list(session.actions())

    with replay(greet) as server, pytest.raises(Unreachable, match="closed the connection"):
        connect(server.connection())
    with replay(never_answer) as server, pytest.raises(Deadline, match="didn't answer the login"):
        connect(server.connection(), deadline_s=0.2)


def test_a_user_name_with_a_line_break_is_not_sent() -> None:
    received: list[str] = []

    def record_actions(session: Session) -> None:
        session.send(b"Asterisk Call Manager/11.0.0\r\n")
        for action in session.actions():
            received.append(action["Action"])
            session.reply(action, b"Response: Success\r\nActionID: x\r\nChallenge: 1\r\n\r\n")

    with replay(record_actions) as server, pytest.raises(SettingsError):
        connect(server.connection(ami_username="a\r\nSecret: b"))
    assert received == ["Challenge"]


def test_no_error_contains_the_secret() -> None:
    for script in (lambda session: session.log_in("login-fenced"), lambda session: session.send(b"nonsense\r\n")):
        with replay(script) as server, pytest.raises(PbxError) as caught:
            connect(server.connection())
        chain = [caught.value, caught.value.__cause__, caught.value.__context__]
        assert "lab-ami-secret" not in repr(chain) + caught.value.advice
