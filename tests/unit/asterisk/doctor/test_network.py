"""A working PBX passes every step; unresolvable names, blocked ports and closed ports have different findings."""

import socket
import threading
from contextlib import ExitStack

import pytest

from pbx.asterisk.doctor import check_connection, network
from pbx.settings import Connection
from tests.unit.asterisk.doctor.working_pbx import AMI_STEPS, ARI_STEPS, OLD, check_steps, states, working_pbx


@pytest.mark.parametrize("version", [16, 22])
def test_a_working_pbx_passes_every_step_in_order(version: int) -> None:
    with working_pbx(version=version) as pbx:
        steps = check_steps(pbx.connection())
    assert list(steps) == ["Name resolves", *AMI_STEPS, *ARI_STEPS]
    assert set(states(steps).values()) == {"ok"}
    assert steps["Asterisk version"].finding.startswith(f"Asterisk {version}.")
    assert f"Asterisk {version}." in steps["ARI login"].finding
    assert steps["Recordings listed"].finding == "1 recording."
    assert (
        steps["Recording downloads"].finding == f"{OLD} (wav) downloaded completely: 1,644 bytes, 0.1 s of pcm_s16le."
    )


def test_steps_are_reported_as_soon_as_they_finish() -> None:
    with working_pbx() as pbx:
        steps = check_connection(pbx.connection())
        assert [next(steps).name for _ in range(3)] == ["Name resolves", "AMI port open", "AMI greeting"]
        assert not pbx.ari.request_heads
        steps.close()


@pytest.mark.parametrize("host", ["nosuch.invalid", "a..b", "x" * 300])
def test_a_name_that_does_not_resolve_skips_all_other_steps(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(network, "RESOLVE_S", 20)
    steps = check_steps(Connection(host=host, ari_port=1, ami_port=1))
    assert "doesn't resolve" in steps["Name resolves"].finding
    assert {step.state for name, step in steps.items() if name != "Name resolves"} == {"skipped"}
    assert set(steps) == {"Name resolves", *AMI_STEPS, *ARI_STEPS}


def test_a_dns_server_that_does_not_answer_fails_at_the_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    may_answer = threading.Event()
    monkeypatch.setattr(network, "RESOLVE_S", 0.1)
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: may_answer.wait(20) and [])
    steps = check_steps(Connection(host="pbx.example", ari_port=1, ami_port=1))
    may_answer.set()
    assert steps["Name resolves"].state == "failed"
    assert "gave no answer" in steps["Name resolves"].finding


def test_closed_ports_show_how_to_open_them() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    steps = check_steps(Connection(host="127.0.0.1", ari_port=port, ami_port=port))
    ami, ari_port = steps["AMI port open"], steps["ARI port open"]
    assert ami.state == ari_port.state == "failed"
    assert "refuses the connection" in ami.finding
    assert f"[general](+)\nenabled = yes\nbindaddr = 127.0.0.1\nport = {port}\n" in ami.fix[0]
    assert "Asterisk Builtin mini-HTTP server" in ari_port.fix[0]
    assert f"bindport = {port}" in ari_port.fix[0]


def test_a_blocked_port_has_another_finding_than_a_closed_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(network, "CONNECT_S", 0.3)
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full, ExitStack() as waiting:
        for _ in range(4):  # a full backlog drops packets as a firewall does
            sock = waiting.enter_context(socket.socket())
            sock.setblocking(False)
            sock.connect_ex(full.getsockname())
        port = full.getsockname()[1]
        steps = check_steps(Connection(host="127.0.0.1", ari_port=port, ami_port=port))
    for name in ("AMI port open", "ARI port open"):
        assert "No answer" in steps[name].finding
        assert f"-s 127.0.0.1 --dport {port} -j ACCEPT" in steps[name].fix[0]
        assert "Intrusion Detection" in steps[name].fix[1]


def test_the_second_address_of_a_name_is_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    resolve = socket.getaddrinfo

    def two_addresses(host: str, *rest: object, **options: object) -> list[object]:
        if host != "pbx.example":
            return list(resolve(host, *rest, **options))  # type: ignore[arg-type]
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, 0)) for address in ("127.0.0.2", "127.0.0.1")]

    monkeypatch.setattr(socket, "getaddrinfo", two_addresses)
    with working_pbx() as pbx:
        steps = check_steps(pbx.connection(host="pbx.example"))
    assert steps["Name resolves"].finding == "pbx.example resolves to 127.0.0.2, 127.0.0.1."
    assert states(steps)["AMI permissions"] == "ok"
