"""Each SIP and IAX2 registration belongs to the trunk that it registers, as in replies that real PBXs sent."""

import pytest

from pbx.asterisk.ami.client import AmiClient
from pbx.asterisk.ami.devices import DeviceMessages, parse_devices, peers_to_detail
from pbx.asterisk.ami.protocol import Message
from pbx.asterisk.ami.queries import take_snapshot
from pbx.model.snapshot import Trunk
from tests.unit.asterisk.ami.replay_server import empty_pbx_with, replay, reported_answers


def trunks_of(answers: dict[str, bytes]) -> tuple[Trunk, ...]:
    with (
        replay(empty_pbx_with(answers), version=16, prefix="bare-") as server,
        AmiClient.connect(server.connection()) as client,
    ):
        return take_snapshot(client, ["trunks"]).trunks


def summary(trunk: Trunk) -> tuple[str, str, str, bool]:
    return trunk.name, trunk.state, trunk.server, trunk.registers


def test_a_registration_by_host_name_belongs_to_its_peer_and_ipv6_servers_are_complete() -> None:
    assert list(map(summary, trunks_of(reported_answers("02-sip-register-by-hostname.ami")))) == [
        ("MovistarOut", "registered", "203.0.113.9:5060", True),
        ("sixtrunk", "registered", "[2001:db8::5]:5060", True),
    ]


def test_a_registration_by_a_peers_name_belongs_to_that_peer() -> None:
    answers = reported_answers("02b-sip-register-by-peername.ami")
    assert list(map(summary, trunks_of(answers))) == [("sip0", "rejected", "203.0.113.9:5060", True)]


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


def peer_detail(user: str, host: str) -> Message:
    return Message(f"Response: Success\r\nToHost: {host}\r\nDefault-Username: {user}".encode())


def trunk_states(
    peers: list[Message], entries: list[Message], details: dict[str, Message] | None = None
) -> dict[str, str]:
    messages = DeviceMessages(sip_peers=tuple(peers), sip_registry=tuple(entries), sip_details=details or {})
    _, trunks = parse_devices(messages)
    return {trunk.name: trunk.state for trunk in trunks}


ALPHA, BETA = peer("alpha", "203.0.113.9"), peer("beta", "203.0.113.10")


def test_registrations_at_two_providers_are_matched_by_the_peers_hosts() -> None:
    entries = [entry("1", "SIP.beta.example"), entry("2", "sip.alpha.example", state="Rejected")]
    assert peers_to_detail(DeviceMessages(sip_peers=(ALPHA, BETA), sip_registry=tuple(entries))) == ["alpha", "beta"]
    details = {"alpha": peer_detail("2", "sip.alpha.example"), "beta": peer_detail("1", "sip.beta.example.")}
    assert trunk_states([ALPHA, BETA], entries, details) == {"alpha": "rejected", "beta": "registered"}


def test_two_accounts_at_one_provider_are_matched_by_their_users() -> None:
    peers = [peer("north", "203.0.113.9"), peer("south", "203.0.113.9")]
    entries = [entry("south", "203.0.113.9", state="Rejected"), entry("north", "203.0.113.9")]
    assert trunk_states(peers, entries) == {"north": "registered", "south": "rejected"}
    renamed = [entry("222", "sip.example", state="Rejected"), entry("111", "sip.example")]
    details = {"north": peer_detail("111", "sip.example"), "south": peer_detail("222", "sip.example")}
    assert trunk_states(peers, renamed, details) == {"north": "registered", "south": "rejected"}


def test_a_registration_whose_registrar_differs_from_the_proxy_is_matched_by_its_user() -> None:
    details = {"alpha": peer_detail("49301", "proxy.alpha.example"), "beta": peer_detail("49302", "proxy.beta.example")}
    entries = [entry("49302", "reg.beta.example", state="No Authentication"), entry("49301", "reg.alpha.example")]
    assert trunk_states([ALPHA, BETA], entries, details) == {"alpha": "registered", "beta": "rejected"}


def test_a_registration_without_a_matching_peer_is_a_separate_trunk() -> None:
    details = {"alpha": peer_detail("7", "203.0.113.9")}
    other = entry("49301", "sip.other.example")
    assert trunk_states([ALPHA], [other], details) == {
        "alpha": "reachable",
        "49301@sip.other.example:5060": "registered",
    }
    by_address = entry("49301", "198.51.100.7")
    assert trunk_states([ALPHA], [by_address]) == {"alpha": "reachable", "49301@198.51.100.7:5060": "registered"}
    both = [other, entry("49302", "sip.third.example")]
    assert set(trunk_states([ALPHA, BETA], both)) == {
        "alpha",
        "beta",
        "49301@sip.other.example:5060",
        "49302@sip.third.example:5060",
    }


def test_several_accounts_at_one_address_without_a_peer_are_separate_trunks() -> None:
    entries = [entry("1", "198.51.100.7"), entry("2", "198.51.100.7", state="Rejected")]
    assert trunk_states([], entries) == {"1@198.51.100.7:5060": "registered", "2@198.51.100.7:5060": "rejected"}


def test_one_successful_registration_of_a_peers_several_is_enough() -> None:
    entries = [entry("1", "alpha"), entry("2", "ALPHA", state="Rejected")]
    assert trunk_states([ALPHA], entries) == {"alpha": "registered"}
    assert trunk_states([ALPHA], entries[::-1]) == {"alpha": "registered"}


@pytest.mark.parametrize(
    ("listed", "registered"),
    [
        ("2001:db8::5", "2001:db8:0:0:0:0:0:5"),
        ("2001:db8::5", "[2001:DB8::5]"),
        ("203.0.113.9", "::ffff:203.0.113.9"),
    ],
)
def test_addresses_match_in_every_notation(listed: str, registered: str) -> None:
    messages = DeviceMessages(sip_peers=(peer("one", listed),), sip_registry=(entry("u", registered),))
    _, trunks = parse_devices(messages)
    server = f"[{listed}]:5060" if ":" in listed else f"{listed}:5060"
    assert list(map(summary, trunks)) == [("one", "registered", server, True)]


def test_a_tls_peer_matches_a_registration_on_another_port() -> None:
    assert trunk_states([peer("alpha", "203.0.113.9", "5061")], [entry("u", "203.0.113.9", "5060")]) == {
        "alpha": "registered"
    }


def test_iax2_registrations_match_ipv6_peers_and_may_have_no_host_yet() -> None:
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
    assert [summary(trunk) for trunk in trunks] == [
        ("six", "rejected", "[2001:db8::7]:4569", True),
        ("v", "unregistered", "", True),
        ("w", "unregistered", "", True),
    ]


def test_a_phones_ipv6_address_is_shown_completely() -> None:
    extensions, _ = parse_devices(DeviceMessages(sip_peers=(peer("201", "2001:db8::9", dynamic="yes"),)))
    assert extensions[0].contact == "[2001:db8::9]:5060"
