"""The AMI client on real Asterisk 16 and 22."""

import pytest

from benchmarks.generated_pbx import generated_pbx
from pbx.asterisk.ami.client import AmiClient, AmiTiming
from pbx.asterisk.ami.protocol import Message
from pbx.asterisk.ami.queries import take_snapshot
from pbx.asterisk.ami.subscription import ConnectionGap
from pbx.errors import AmiActionError, AmiDenied, AmiLoginError, AmiProtocolError, SettingsError, Unreachable
from pbx.settings import Connection
from tests.lab.calls import hang_up_all, park_callers, start_phone_call
from tests.lab.servers import ODD_MEMBER, SERVERS, TRUNK_SECRET, LabServer
from tests.unit.asterisk.ami.replay_server import wait_until

pytestmark = pytest.mark.lab


def user(server: LabServer, name: str) -> Connection:
    return server.connection().model_copy(update={"ami_username": name})


@pytest.mark.parametrize("name", ["notebook", "analyst"])
def test_a_snapshot_has_the_labs_extensions_trunks_and_queues(server: LabServer, name: str) -> None:
    with AmiClient.connect(user(server, name)) as client:
        snapshot = take_snapshot(client)
    assert {part.state for part in snapshot.parts.values()} == {"ok"}
    sip = server.version == 16
    numbers = ["1001", "1002", "1003", "1004", *(["1011"] if sip else []), "1021"]
    assert [one.extension for one in snapshot.extensions] == numbers
    assert {one.name: one.state for one in snapshot.trunks} == {
        "badcarrier": "rejected",
        "carrier": "registered",
        "iaxcarrier": "registered",
        "peer-down": "unreachable",
    } | ({"oldcarrier": "registered"} if sip else {})
    assert [queue.name for queue in snapshot.queues] == ["billing", "desk", "sales", "support"]
    assert ODD_MEMBER in [member.name for queue in snapshot.queues for member in queue.members]
    assert snapshot.system is not None
    assert snapshot.system.version.startswith(f"{server.version}.")
    assert snapshot.system.utc_offset_s == {16: 19_800, 22: 0}[server.version]
    assert snapshot.system.started_at is not None
    assert TRUNK_SECRET not in snapshot.model_dump_json()


def test_the_uptime_is_that_of_the_command_line(server: LabServer) -> None:
    with AmiClient.connect(server.connection()) as client:
        system = take_snapshot(client, ["system"]).system
        uptime = int(client.command("core show uptime seconds")[0].rpartition(" ")[2])
    assert system is not None
    assert system.uptime_s is not None
    assert abs(system.uptime_s - uptime) <= 2


def test_a_snapshot_has_active_calls_and_waiting_callers(server: LabServer) -> None:
    try:
        park_callers(server, 2)
        start_phone_call(server, "5551001")
        with AmiClient.connect(server.connection()) as client:
            wait_until(lambda: sum(len(queue.callers) for queue in take_snapshot(client).queues) >= 2)
            snapshot = take_snapshot(client)
    finally:
        hang_up_all(server)
    support = next(queue for queue in snapshot.queues if queue.name == "support")
    assert [caller.position for caller in support.callers] == list(range(1, support.calls + 1))
    assert {caller.uniqueid for caller in support.callers} <= {call.linkedid for call in snapshot.active_calls}
    trunk_call = next(call for call in snapshot.active_calls if call.exten == "5551001")
    assert trunk_call.caller_id == "1001"
    assert any(channel.startswith("PJSIP/carrier-") for channel in trunk_call.channels)
    assert next(trunk for trunk in snapshot.trunks if trunk.name == "carrier").channels >= 1


def test_parts_without_the_needed_rights_are_marked_denied(server: LabServer) -> None:
    with AmiClient.connect(user(server, "clerk")) as client:
        snapshot = take_snapshot(client)
        with pytest.raises(AmiDenied, match="class command"):
            client.command("core show version")
    denied = {name for name, part in snapshot.parts.items() if part.state == "denied"}
    assert denied == {"system", "extensions", "trunks", "active_calls"}
    assert [queue.name for queue in snapshot.queues] == ["billing", "desk", "sales", "support"]


@pytest.mark.parametrize("change", [{"ami_username": "fenced"}, {"ami_username": "nobody"}, {"ami_password": "wrong"}])
def test_a_refused_login_names_possible_causes(server: LabServer, change: dict[str, str]) -> None:
    connection = Connection.model_validate(server.connection().model_dump() | change)
    with pytest.raises(AmiLoginError) as caught:
        AmiClient.connect(connection)
    assert "permit=127.0.0.1/255.255.255.255" in caught.value.fix
    assert "lab-ami-secret" not in caught.value.advice


def test_tls_needs_the_ca_of_the_certificate(server: LabServer) -> None:
    connection = server.connection(tls=True)
    with AmiClient.connect(connection) as client:
        assert len(take_snapshot(client).queues) == 4
    for host in ("localhost", "127.0.0.1"):
        with AmiClient.connect(connection.model_copy(update={"host": host})) as client:
            assert client.command("core show version")[0].startswith(f"Asterisk {server.version}.")
    with pytest.raises(Unreachable, match="unknown CA"):
        AmiClient.connect(connection.model_copy(update={"ca_file": None}))
    with pytest.raises(Unreachable, match="doesn't speak TLS"):
        AmiClient.connect(connection.model_copy(update={"ami_port": server.ami_port}))


def test_a_connection_to_the_ari_port_is_reported_as_a_web_server(server: LabServer) -> None:
    wrong_port = server.connection().model_copy(update={"ami_port": server.http_port})
    with pytest.raises(AmiProtocolError, match="web server"):
        AmiClient.connect(wrong_port, timing=AmiTiming(connect_s=0.5))


def test_commands_run_and_the_longest_header_is_accepted(server: LabServer) -> None:
    with AmiClient.connect(server.connection()) as client:
        assert any("sales" in line for line in client.command("queue show"))
        with pytest.raises(AmiActionError, match="No such command"):
            client.command("no such command")
        longest = "x" * (1024 - len("Variable: \r\n"))
        reply = client.request("Getvar", [("Variable", longest)])
        assert reply.response.get("Variable") == longest
        with pytest.raises(SettingsError):
            client.request("Getvar", [("Variable", longest + "x")])
        with pytest.raises(SettingsError):
            client.command("core show version\r\nAction: Logoff")


def test_events_arrive_during_a_call(server: LabServer) -> None:
    with AmiClient.connect(server.connection(), events="call") as client, client.subscribe() as events:
        call = start_phone_call(server, "1002")
        call.hangup()
        seen: list[str] = []
        wait_until(lambda: seen.append(getattr(events.get(5), "event", "")) or {"Newchannel", "Hangup"} <= set(seen))
        assert events.dropped == 0
        assert client.request("Ping").response.get("Ping") == "Pong"


@pytest.mark.timeout(300)
@pytest.mark.parametrize("version", SERVERS)
def test_the_client_reconnects_after_a_restart_and_reports_the_gap(version: int) -> None:
    with generated_pbx(version, "ami-restart", 5300 + version) as pbx:
        fast_retry = AmiTiming(retry_s=0.2)
        with (
            AmiClient.connect(pbx.connection(), events="on", timing=fast_retry) as client,
            client.subscribe() as events,
        ):
            before = take_snapshot(client).system
            assert {part.state for part in take_snapshot(client).parts.values()} == {"ok"}
            pbx.restart()
            wait_until(lambda: bool(client.gaps) and client.connected, 60)
            after = take_snapshot(client).system
            received = [item for item in iter(lambda: events.get(0), None) if isinstance(item, Message | ConnectionGap)]
        assert before is not None
        assert after is not None
        assert before.started_at is not None
        assert after.started_at is not None
        assert before.started_at < after.started_at
        gaps = [item for item in received if isinstance(item, ConnectionGap)]
        assert gaps == list(client.gaps)
        assert gaps[0].from_at < gaps[0].to_at


WRAP_UP = """
[own]
strategy = rrmemory
member => Local/1001@agents,0,Ann,Custom:ann,no,60
member => Local/1002@agents,0,Bob,Custom:bob,no,60
[the-queues]
strategy = rrmemory
wrapuptime = 60
member => Local/1003@agents,0,Cem,Custom:cem,no
member => Local/1004@agents,0,Dee,Custom:dee,no
"""


@pytest.mark.timeout(300)
@pytest.mark.parametrize("version", SERVERS)
def test_free_agents_are_those_asterisk_would_call(version: int) -> None:
    """Members of unknown state are free. After a call a member wraps up, for their own or the queue's time."""

    def free(client: AmiClient, name: str) -> tuple[int, set[int]]:
        queue = next(one for one in take_snapshot(client, ["queues"]).queues if one.name == name)
        return queue.agents_available, {member.status for member in queue.members}

    def available(client: AmiClient, name: str) -> int:
        items = client.request("QueueSummary", [("Queue", name)]).items
        return next(int(item.get("Available")) for item in items if item.event == "QueueSummary")

    def call(client: AmiClient, name: str) -> None:
        before = [one.calls_taken for queue in take_snapshot(client, ["queues"]).queues for one in queue.members]
        target = [("Channel", "Local/1009@agents"), ("Application", "Queue"), ("Data", f"{name},,,,10")]
        client.request("Originate", [*target, ("Async", "true")])
        wait_until(lambda: any(one.in_call for queue in take_snapshot(client).queues for one in queue.members))
        client.command("channel request hangup all")
        wait_until(
            lambda: (
                before
                != [one.calls_taken for queue in take_snapshot(client, ["queues"]).queues for one in queue.members]
            )
        )

    with generated_pbx(version, "ami-wrap-up", 5310 + version) as pbx, AmiClient.connect(pbx.connection()) as client:
        with (pbx.etc / "queues.conf").open("a") as queues:
            queues.write(WRAP_UP)
        client.command("queue reload all")
        for name in ("own", "the-queues"):
            assert free(client, name) == (2, {0})
            assert available(client, name) == 2  # app_queue's own count, which ignores the wrap-up time
        call(client, "own")
        assert free(client, "own") == (1, {0})
        for member in ("cem", "dee"):
            client.request("Setvar", [("Variable", f"DEVICE_STATE(Custom:{member})"), ("Value", "NOT_INUSE")])
        wait_until(lambda: free(client, "the-queues") == (2, {1}))
        call(client, "the-queues")
        assert free(client, "the-queues") == (1, {1})
