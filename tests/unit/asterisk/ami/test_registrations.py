"""What real PBXes sent, and its kin: who is free in a queue, and which registration is which trunk's."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest

from pbx.asterisk.ami.client import AmiClient
from pbx.asterisk.ami.devices import DeviceMessages, parse_devices, peers_to_detail
from pbx.asterisk.ami.protocol import Message
from pbx.asterisk.ami.queries import take_snapshot
from pbx.asterisk.ami.snapshot import parse_queues, with_wrap_up
from pbx.model.snapshot import Queue, QueueMember, Trunk
from tests.unit.asterisk.ami.replay_server import FIXTURES, Session, replay

EMPTY = (
    b"Response: Success\r\nActionID: x\r\nEventList: start\r\n\r\n"
    b"Event: Done\r\nActionID: x\r\nEventList: Complete\r\n\r\n"
)


def field(name: str) -> dict[str, bytes]:
    """The answers of a file, by action."""
    sections = (FIXTURES / "field" / name).read_bytes().replace(b"\n", b"\r\n").split(b"### ")[1:]
    parts = (section.partition(b"\r\n") for section in sections)
    return {action.decode(): answer.strip() + b"\r\n\r\n" for action, _, answer in parts}


def answering(answers: dict[str, bytes]) -> Callable[[Session], None]:
    """A PBX that answers these; all else as the captured one without anything does."""

    def serve(session: Session) -> None:
        session.log_in()
        for action in session.actions():
            name = action["Action"]
            if name in answers:
                session.reply(action, answers[name])
            elif name in ("SIPshowpeer", "PJSIPShowEndpoint"):
                session.reply(action, b"Response: Error\r\nActionID: x\r\nMessage: Peer not found\r\n\r\n")
            elif name in ("IAXpeerlist", "QueueStatus", "SIPpeers", "SIPshowregistry"):
                session.reply(action, EMPTY)
            else:
                session.answer(action)

    return serve


def queue_of(answers: dict[str, bytes]) -> Queue:
    with (
        replay(answering(answers), version=16, prefix="bare-") as server,
        AmiClient.connect(server.connection()) as client,
    ):
        (queue,) = take_snapshot(client, ["queues"]).queues
    return queue


def test_a_member_of_unknown_state_is_free_and_one_wrapping_up_is_not() -> None:
    """The replayed PBX's clock shows 1795250400, five seconds after Eve's last call."""
    queue = queue_of(field("01-queue-status-zero.ami"))
    assert {member.name: member.available for member in queue.members} == {"Outside Desk, Berlin": True, "Eve": False}
    assert queue.agents_available == 1


def member(**headers: object) -> Message:
    values = {"Queue": "1", "Location": "DAHDI/1", "Status": 1, "Paused": 0, "LastCall": 0, "Wrapuptime": 0} | headers
    return Message("\r\n".join(["Event: QueueMember", *(f"{key}: {value}" for key, value in values.items())]).encode())


@pytest.mark.parametrize(
    ("headers", "free"),
    [  # is_member_available of app_queue.c, 16 and 22
        *(({"Status": status}, status in (0, 1)) for status in range(9)),
        ({"Status": 0, "Paused": 1}, False),
        ({"Status": 1, "Paused": 1}, False),
        ({"LastCall": 941, "Wrapuptime": 60}, False),
        ({"LastCall": 940, "Wrapuptime": 60}, True),
        ({"LastCall": 999, "Wrapuptime": 0}, True),
        ({"LastCall": 0, "Wrapuptime": 60}, True),
        ({"LastCall": 1500, "Wrapuptime": 60}, False),  # the clock was set back since
        ({"LastCall": 1500}, True),
        ({"LastCall": 999, "Wrapuptime": -60}, True),
        ({"LastCall": 999, "Wrapuptime": "9" * 5000}, True),
        ({"LastCall": 995, "Wrapuptime": 60, "Status": 0}, False),
    ],
)
def test_who_is_free_is_what_app_queue_says(headers: dict[str, object], free: bool) -> None:
    queue_params = Message(b"Event: QueueParams\r\nQueue: 1")
    (queue,) = parse_queues([queue_params, member(**headers)], datetime.fromtimestamp(1000, UTC))
    assert queue.members[0].available is free


def trunks_of(answers: dict[str, bytes]) -> tuple[Trunk, ...]:
    with (
        replay(answering(answers), version=16, prefix="bare-") as server,
        AmiClient.connect(server.connection()) as client,
    ):
        return take_snapshot(client, ["trunks"]).trunks


def short(trunk: Trunk) -> tuple[str, str, str, bool]:
    return trunk.name, trunk.state, trunk.server, trunk.registers


def test_a_registration_by_host_name_is_its_peers_and_an_ipv6_server_stays_whole() -> None:
    assert list(map(short, trunks_of(field("02-sip-register-by-hostname.ami")))) == [
        ("MovistarOut", "registered", "203.0.113.9:5060", True),
        ("sixtrunk", "registered", "[2001:db8::5]:5060", True),
    ]


def test_a_registration_by_a_peers_own_name_is_that_peers() -> None:
    answers = field("02b-sip-register-by-peername.ami")
    assert list(map(short, trunks_of(answers))) == [("sip0", "rejected", "203.0.113.9:5060", True)]


def peer(name: str, host: str, port: str = "5060", dynamic: str = "no", status: str = "OK (20 ms)") -> Message:
    return Message(
        f"Event: PeerEntry\r\nObjectName: {name}\r\nIPaddress: {host}\r\nIPport: {port}\r\nDynamic: {dynamic}\r\n"
        f"Status: {status}".encode()
    )


def entry(user: str, host: str, port: str = "5060", state: str = "Registered", domain: str = "") -> Message:
    return Message(
        f"Event: RegistryEntry\r\nHost: {host}\r\nPort: {port}\r\nUsername: {user}\r\nDomain: {domain or host}\r\n"
        f"State: {state}".encode()
    )


def shown(user: str, host: str) -> Message:
    return Message(f"Response: Success\r\nToHost: {host}\r\nDefault-Username: {user}".encode())


def found(peers: list[Message], entries: list[Message], details: dict[str, Message] | None = None) -> dict[str, str]:
    messages = DeviceMessages(sip_peers=tuple(peers), sip_registry=tuple(entries), sip_details=details or {})
    _, trunks = parse_devices(messages)
    return {trunk.name: trunk.state for trunk in trunks}


A, B = peer("alpha", "203.0.113.9"), peer("beta", "203.0.113.10")


def test_two_providers_by_host_name_are_told_apart_by_the_peers_own_hosts() -> None:
    entries = [entry("1", "SIP.beta.example"), entry("2", "sip.alpha.example", state="Rejected")]
    assert peers_to_detail(DeviceMessages(sip_peers=(A, B), sip_registry=tuple(entries))) == ["alpha", "beta"]
    details = {"alpha": shown("2", "sip.alpha.example"), "beta": shown("1", "sip.beta.example.")}
    assert found([A, B], entries, details) == {"alpha": "rejected", "beta": "registered"}


def test_two_accounts_at_one_provider_are_told_apart_by_their_users() -> None:
    peers = [peer("north", "203.0.113.9"), peer("south", "203.0.113.9")]
    entries = [entry("south", "203.0.113.9", state="Rejected"), entry("north", "203.0.113.9")]
    assert found(peers, entries) == {"north": "registered", "south": "rejected"}
    renamed = [entry("222", "sip.example", state="Rejected"), entry("111", "sip.example")]
    details = {"north": shown("111", "sip.example"), "south": shown("222", "sip.example")}
    assert found(peers, renamed, details) == {"north": "registered", "south": "rejected"}


def test_a_registrar_of_another_name_than_the_proxy_is_known_by_the_user() -> None:
    details = {"alpha": shown("49301", "proxy.alpha.example"), "beta": shown("49302", "proxy.beta.example")}
    entries = [entry("49302", "reg.beta.example", state="No Authentication"), entry("49301", "reg.alpha.example")]
    assert found([A, B], entries, details) == {"alpha": "registered", "beta": "rejected"}


def test_a_registration_that_is_nobodys_stays_a_trunk_of_its_own() -> None:
    details = {"alpha": shown("7", "203.0.113.9")}
    other = entry("49301", "sip.other.example")
    assert found([A], [other], details) == {"alpha": "reachable", "49301@sip.other.example:5060": "registered"}
    by_address = entry("49301", "198.51.100.7")
    assert found([A], [by_address]) == {"alpha": "reachable", "49301@198.51.100.7:5060": "registered"}
    both = [other, entry("49302", "sip.third.example")]
    assert set(found([A, B], both)) == {"alpha", "beta", "49301@sip.other.example:5060", "49302@sip.third.example:5060"}


def test_several_accounts_at_one_address_without_a_peer_are_each_a_trunk() -> None:
    entries = [entry("1", "198.51.100.7"), entry("2", "198.51.100.7", state="Rejected")]
    assert found([], entries) == {"1@198.51.100.7:5060": "registered", "2@198.51.100.7:5060": "rejected"}


def test_of_several_registrations_with_one_peer_section_one_that_is_up_is_enough() -> None:
    entries = [entry("1", "alpha"), entry("2", "ALPHA", state="Rejected")]
    assert found([A], entries) == {"alpha": "registered"}
    assert found([A], entries[::-1]) == {"alpha": "registered"}


@pytest.mark.parametrize(
    ("listed", "registered"),
    [
        ("2001:db8::5", "2001:db8:0:0:0:0:0:5"),
        ("2001:db8::5", "[2001:DB8::5]"),
        ("203.0.113.9", "::ffff:203.0.113.9"),
    ],
)
def test_an_address_is_the_same_however_it_is_written(listed: str, registered: str) -> None:
    messages = DeviceMessages(sip_peers=(peer("one", listed),), sip_registry=(entry("u", registered),))
    _, trunks = parse_devices(messages)
    server = f"[{listed}]:5060" if ":" in listed else f"{listed}:5060"
    assert list(map(short, trunks)) == [("one", "registered", server, True)]


def test_a_tls_peer_on_another_port_than_the_registry_shows_is_the_same() -> None:
    assert found([peer("alpha", "203.0.113.9", "5061")], [entry("u", "203.0.113.9", "5060")]) == {"alpha": "registered"}


def test_ipv6_of_iax2_and_hosts_that_are_not_known_yet() -> None:
    iax = Message(
        b"Event: PeerEntry\r\nObjectName: six\r\nIPaddress: 2001:db8::7\r\nPort: 4569\r\nDynamic: no\r\n"
        b"Status: Unmonitored"
    )
    registry = (
        Message(b"Event: RegistryEntry\r\nHost: [2001:db8::7]:4569\r\nUsername: u\r\nState: Rejected"),
        Message(b"Event: RegistryEntry\r\nHost: (null)\r\nUsername: v\r\nState: Unregistered"),
        Message(b"Event: RegistryEntry\r\nHost: (null)\r\nUsername: w\r\nState: Unregistered"),
    )
    _, trunks = parse_devices(DeviceMessages(iax_peers=(iax,), iax_registry=registry))
    assert [short(trunk) for trunk in trunks] == [
        ("six", "rejected", "[2001:db8::7]:4569", True),
        ("v", "unregistered", "", True),
        ("w", "unregistered", "", True),
    ]


def test_a_phone_with_an_ipv6_address_shows_it_whole() -> None:
    extensions, _ = parse_devices(DeviceMessages(sip_peers=(peer("201", "2001:db8::9", dynamic="yes"),)))
    assert extensions[0].contact == "[2001:db8::9]:5060"


def idle(name: str, called_s: int | None, **more: object) -> QueueMember:
    called = None if called_s is None else NOW - timedelta(seconds=called_s)
    values = {"name": name, "interface": name, "status": 1, "last_call_at": called} | more
    return QueueMember.model_validate(values)


NOW = datetime(2026, 11, 30, 12, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("ready", "free"),
    [(3, {"a", "b", "c", "d"}), (2, {"b", "c"}), (1, {"c"}), (0, {"c"}), (9, {"a", "b", "c", "d"})],
)
def test_a_queues_own_wrap_up_time_is_seen_by_how_many_are_ready(ready: int, free: set[str]) -> None:
    """d, whose state is unknown, was called after a; c had no call, so that c can't be wrapping up."""
    members = (idle("a", 9), idle("b", 50), idle("c", None), idle("d", 5, status=0))
    queue = with_wrap_up(Queue(name="q", members=members), ready, NOW)
    assert {member.name for member in queue.members if member.available} == free


def test_who_has_an_own_wrap_up_time_or_was_not_called_for_long_is_judged_by_no_count() -> None:
    members = (idle("own", 9, wrapup_s=5), idle("long ago", 4000), idle("paused", 9, paused=True))
    queue = Queue(name="q", members=members)
    assert with_wrap_up(queue, 0, NOW) == queue
