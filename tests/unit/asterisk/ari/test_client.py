"""The ARI client, against a PBX on loopback that replays real Asterisk's bytes and every kind of connection failure."""

import datetime as dt
import ipaddress
import socket
import ssl
import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from pbx import errors
from pbx.asterisk.ari.client import AriClient, StoredRecording
from pbx.settings import Connection
from tests.operating_systems import needs_linux
from tests.unit.asterisk.ari.replay_server import (
    PASSWORD,
    STORED,
    ReplayPbx,
    captured,
    never_answer,
    replay,
    reply,
    send_half,
    send_slowly,
    wav,
)


@pytest.fixture
def pbx() -> Iterator[ReplayPbx]:
    with replay() as server:
        yield server


def client(connection: Connection, **kwargs: Any) -> AriClient:
    return AriClient(connection, backoff_s=0.001, **kwargs)


@pytest.mark.parametrize("version", [16, 22])
def test_the_client_reads_real_asterisks_replies(pbx: ReplayPbx, version: int) -> None:
    pbx.answers = {
        "/ari/asterisk/info": captured("info", version),
        "/ari/channels": captured("channels", version),
        STORED: captured("list-odd", version),
    }
    with client(pbx.connection) as ari:
        info = ari.info()
        channels = ari.channels()
        listed = ari.list_recordings()
    assert info.version.startswith(f"{version}.")
    assert info.entity_id.count(":") == 5
    assert info.started_at.utcoffset() == dt.timedelta(0)
    assert info.started_at.year == 2026
    assert channels
    assert all(uniqueid.replace(".", "").isdigit() for uniqueid in channels)
    assert all(isinstance(item, StoredRecording) and item.format == "wav" for item in listed)
    assert any(item.name.startswith("2026/11/21/out-5551001-1001-") for item in listed)
    assert all(head.count(b"Range") == 0 for head in pbx.request_heads)


@pytest.mark.parametrize(
    ("reply_bytes", "error", "message", "fix", "requests"),
    [
        (captured("401"), errors.AriLoginError, "refused the user 'notebook'", "FREEPBX_ARI_PASSWORD", 1),
        (captured("403"), errors.AriDenied, "Write access denied", "read-only", 1),
        (captured("404-path"), errors.AriNotFound, "without recordings or channels", "res_ari_recordings", 1),
        (
            b"HTTP/1.1 404 Not Found\r\nContent-type: text/html\r\nContent-Length: 6\r\n\r\n<html>",
            errors.AriNotFound,
            "doesn't offer ARI",
            "ari.conf",
            1,
        ),
        (captured("list-500"), errors.AriServerError, "Allocation failed", "find -L", 4),
        (reply("list-500", b'{"error":"Module gone"}'), errors.AriServerError, "500 Module gone", "log", 4),
        (
            captured("list-500").replace(b"500 Internal", b"503 Internal"),
            errors.AriServerError,
            "Allocation failed",
            "find",
            4,
        ),
        (
            reply("list-500", b"{}").replace(b"500 Internal", b"503 Internal"),
            errors.AriServerError,
            "still starting",
            "again",
            4,
        ),
        (
            b"HTTP/1.1 301 Moved\r\nLocation: https://x/\r\nContent-Length: 0\r\n\r\n",
            errors.AriProtocolError,
            "301",
            "FREEPBX_ARI_TLS",
            1,
        ),
        (reply("list", b"<html>Sign in</html>"), errors.AriProtocolError, "not with JSON as ARI does", "web server", 1),
        (reply("list", b'[{"name":"a"'), errors.AriProtocolError, "not with JSON as ARI does", "web server", 1),
        (reply("list", b'[{"name":"a"}]'), errors.AriProtocolError, "not with JSON as ARI does", "web server", 1),
        (reply("list", b'{"name":"a"}'), errors.AriProtocolError, "not with JSON as ARI does", "web server", 1),
        (reply("list", b"7"), errors.AriProtocolError, "not with JSON as ARI does", "web server", 1),
        (reply("list", b"\xff\xfe\xfd"), errors.AriProtocolError, "not with JSON as ARI does", "web server", 1),
        (
            b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n[]",
            errors.AriProtocolError,
            "length of its answer",
            "proxy",
            1,
        ),
    ],
)
def test_an_error_states_the_reason_and_the_fix(
    pbx: ReplayPbx, reply_bytes: bytes, error: type[errors.PbxError], message: str, fix: str, requests: int
) -> None:
    pbx.answers[STORED] = reply_bytes
    with client(pbx.connection) as ari, pytest.raises(error) as raised:
        ari.list_recordings()
    assert message in str(raised.value)
    assert fix in raised.value.fix
    assert len(pbx.request_heads) == requests


@pytest.mark.parametrize("name", ["2026/11/21/q-sales-+49 30-é日本-1", "a%2Fb", "..", "x?y#z&w", "q\"'<b>\r\nX: 1"])
def test_a_download_requests_exactly_the_given_name(pbx: ReplayPbx, name: str, tmp_path: Path) -> None:
    pbx.recordings[name] = wav()
    with client(pbx.connection) as ari:
        assert ari.download(name, tmp_path / "x") == len(wav())
    assert (tmp_path / "x").read_bytes() == wav()
    assert pbx.downloads() == {name: 1}
    assert [file.name for file in tmp_path.iterdir() if file.is_file()] == ["x"]


def test_one_connection_serves_many_requests(pbx: ReplayPbx, tmp_path: Path) -> None:
    pbx.recordings = {str(n): wav() for n in range(20)}
    with client(pbx.connection, parallel=1) as ari:
        for name in pbx.recordings:
            ari.download(name, tmp_path / name)
        ari.list_recordings()
        assert len(pbx.connections) == 1


def test_an_interrupted_download_restarts_from_the_beginning(pbx: ReplayPbx, tmp_path: Path) -> None:
    pbx.recordings["a"] = wav(bytes(range(256)) * 2000)
    pbx.faults[f"{STORED}/a/file"] = [send_half, send_half]
    with client(pbx.connection) as ari:
        ari.download("a", tmp_path / "a")
    assert (tmp_path / "a").read_bytes() == pbx.recordings["a"]
    assert pbx.downloads()["a"] == 3
    assert b"range:" not in b"".join(pbx.request_heads).lower()


def test_a_download_that_keeps_failing_raises_an_error_and_leaves_no_file(pbx: ReplayPbx, tmp_path: Path) -> None:
    pbx.recordings["a"] = wav()
    pbx.faults[f"{STORED}/a/file"] = [send_half] * 9
    with client(pbx.connection) as ari, pytest.raises(errors.Unreachable, match="broke off"):
        ari.download("a", tmp_path / "a")
    assert pbx.downloads()["a"] == 3
    assert list(tmp_path.glob("a*")) == []


def test_a_lost_answer_is_requested_again(pbx: ReplayPbx) -> None:
    pbx.faults[STORED] = [lambda _, sock, complete: sock.shutdown(socket.SHUT_RDWR)] * 2
    with client(pbx.connection) as ari:
        assert ari.list_recordings() == []
    assert pbx.paths()[STORED] == 3


@pytest.mark.parametrize(
    ("fault", "limits"),
    [(send_slowly, {"deadline_s": 0.2}), (never_answer, {"idle_timeout_s": 0.05}), (send_slowly, {"deadline_s": 0})],
)
def test_a_slow_server_hits_a_deadline(pbx: ReplayPbx, fault: Any, limits: dict[str, float], tmp_path: Path) -> None:
    pbx.recordings["a"] = wav()
    pbx.faults[f"{STORED}/a/file"] = [fault] * 9
    with client(pbx.connection, **limits) as ari, pytest.raises(errors.Deadline):
        ari.download("a", tmp_path / "a")
    assert list(tmp_path.glob("a*")) == []


def test_cancel_ends_the_downloads_of_other_threads(pbx: ReplayPbx, tmp_path: Path) -> None:
    pbx.recordings["a"] = wav(bytes(100_000))
    started = threading.Event()

    def start_slowly(server: ReplayPbx, sock: socket.socket, complete: bytes) -> None:
        started.set()
        send_slowly(server, sock, complete)

    pbx.faults[f"{STORED}/a/file"] = [start_slowly]
    with client(pbx.connection) as ari:
        threading.Thread(target=lambda: started.wait() and ari.cancel(), daemon=True).start()
        with pytest.raises(errors.Unreachable, match="cancelled"):
            ari.download("a", tmp_path / "a")
    assert pbx.downloads()["a"] == 1


@needs_linux
def test_a_full_disk_and_a_missing_directory_have_different_errors(pbx: ReplayPbx, tmp_path: Path) -> None:
    pbx.recordings["a"] = wav()
    (tmp_path / "a.part").symlink_to("/dev/full")
    with client(pbx.connection) as ari:
        with pytest.raises(errors.StorageFull, match="Not enough disk space"):
            ari.download("a", tmp_path / "a")
        with pytest.raises(errors.DataError, match="Can't write to") as raised:
            ari.download("a", tmp_path / "nowhere" / "a")
    assert not isinstance(raised.value, errors.StorageFull)
    assert list(tmp_path.glob("a*")) == []


def test_the_password_appears_in_no_error_and_no_request(pbx: ReplayPbx) -> None:
    pbx.answers[STORED] = captured("401")
    with client(pbx.connection) as ari, pytest.raises(errors.AriLoginError) as raised:
        ari.list_recordings()
    shown = "".join(traceback.format_exception(raised.value)) + repr(ari) + repr(vars(ari)) + raised.value.advice
    assert PASSWORD not in shown
    assert all(PASSWORD.encode() not in head for head in pbx.request_heads)  # not in a URL


def refused_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


@contextmanager
def greeting(data: bytes) -> Iterator[int]:
    """A port that sends these bytes to each client, then closes the connection."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            while True:
                try:
                    sock, _ = server.accept()
                except OSError:
                    return
                with sock:
                    sock.sendall(data)
                    sock.recv(1000)

        threading.Thread(target=serve, daemon=True).start()
        yield server.getsockname()[1]
        server.shutdown(socket.SHUT_RDWR)


def test_a_closed_port_is_unreachable() -> None:
    connection = Connection(host="127.0.0.1", ari_port=refused_port(), ami_port=5038)
    with client(connection) as ari, pytest.raises(errors.Unreachable, match="Nothing listens") as raised:
        ari.info()
    assert "http.conf" in raised.value.fix


def test_a_host_name_that_does_not_resolve_is_unreachable() -> None:
    connection = Connection(host="pbx.invalid", ari_port=8088, ami_port=5038)
    with client(connection) as ari, pytest.raises(errors.Unreachable, match="doesn't resolve"):
        ari.info()


def test_another_protocol_on_the_port_is_a_protocol_error() -> None:
    with greeting(b"Asterisk Call Manager/5.0.2\r\n") as port:
        connection = Connection(host="127.0.0.1", ari_port=port, ami_port=5038)
        with client(connection) as ari, pytest.raises(errors.AriProtocolError, match="doesn't speak HTTP"):
            ari.info()


def test_tls_on_a_plain_port_is_explained(pbx: ReplayPbx) -> None:
    connection = pbx.connection.model_copy(update={"ari_tls": True})
    with greeting(b"HTTP/1.1 400 Bad Request\r\n\r\n") as port:
        connection = connection.model_copy(update={"ari_port": port})
        with client(connection) as ari, pytest.raises(errors.Unreachable, match="doesn't speak TLS"):
            ari.info()


def test_an_invalid_or_missing_ca_file_is_a_settings_error(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("hello")
    for path in (tmp_path / "ca.pem", tmp_path / "nowhere.pem"):
        connection = Connection(host="127.0.0.1", ari_port=1, ari_tls=True, ami_port=1, ca_file=path)
        with pytest.raises(errors.SettingsError, match="can't be read as PEM"):
            AriClient(connection)


def certificate(path: Path, host: str) -> Path:
    """A self-signed certificate with its key, for this host."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test")])
    names: list[x509.GeneralName] = [x509.DNSName(host)]
    if host[0].isdigit():
        names = [x509.IPAddress(ipaddress.ip_address(host))]
    start = dt.datetime.now(dt.UTC) - dt.timedelta(days=1)
    signed = (
        x509.CertificateBuilder(name, name, key.public_key(), 1, start, start + dt.timedelta(days=2))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    path.write_bytes(signed.public_bytes(pem) + private)
    return path


@contextmanager
def tls_pbx(pem: Path) -> Iterator[ReplayPbx]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)
    with replay() as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        yield server


def test_tls_checks_the_ca_and_the_host_name(tmp_path: Path) -> None:
    matching, other = certificate(tmp_path / "mine", "127.0.0.1"), certificate(tmp_path / "other", "pbx.example")
    with tls_pbx(matching) as server:
        server.answers["/ari/asterisk/info"] = captured("info")
        secure = server.connection.model_copy(update={"ari_tls": True, "ca_file": matching})
        with client(secure) as ari:
            assert ari.info().version.startswith("16.")
        for ca_file in (None, other):
            connection = secure.model_copy(update={"ca_file": ca_file})
            with client(connection) as ari, pytest.raises(errors.Unreachable, match="unknown CA") as raised:
                ari.info()
            assert "FREEPBX_CA_FILE" in raised.value.fix
    with tls_pbx(other) as server:
        connection = server.connection.model_copy(update={"ari_tls": True, "ca_file": other})
        with client(connection) as ari, pytest.raises(errors.Unreachable, match="another name"):
            ari.info()
