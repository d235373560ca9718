"""AMI's lists of endpoints, peers and registrations become extensions and trunks."""

from dataclasses import replace

import pytest

from pbx.asterisk.ami.devices import DeviceMessages, endpoints_to_detail, parse_devices
from pbx.asterisk.ami.protocol import Message
from pbx.model.snapshot import Extension, Trunk


def message(event: str, **headers: str) -> Message:
    return Message("\r\n".join([f"Event: {event}", *(f"{key}: {value}" for key, value in headers.items())]).encode())


def endpoint(name: str, **headers: str) -> Message:
    device_names = {"Aor": name, "Auths": "", "OutboundAuths": "", "Contacts": "", "DeviceState": "Not in use"}
    return message("EndpointList", ObjectName=name, **(device_names | headers))


def registration(name: str, owner: str = "", status: str = "Registered", auth: str = "") -> Message:
    server = "sip:sip.example:5080;transport=tcp"
    return message(
        "OutboundRegistrationDetail",
        ObjectName=name,
        Endpoint=owner,
        OutboundAuth=auth,
        Status=status,
        ServerUri=server,
    )


def contact(name: str, uri: str, status: str = "Reachable") -> Message:
    return message("ContactList", Endpoint=name, Uri=uri, Status=status, RoundtripUsec="1500")


def device_names(messages: DeviceMessages) -> tuple[list[str], list[str]]:
    """The names of extensions and of trunks."""
    extensions, trunks = parse_devices(messages)
    return [one.extension for one in extensions], [one.name for one in trunks]


@pytest.mark.parametrize(
    ("listed", "is_trunk"),
    [
        (endpoint("1001", Auths="1001-auth"), False),
        (endpoint("1001"), False),
        (endpoint("alice", Auths="alice"), False),
        (endpoint("door", OutboundAuths="door"), True),
        (endpoint("4930123456", OutboundAuths="4930123456"), True),
        (endpoint("peer", Contacts="peer/sip:10.0.0.1:5060,"), True),
        (endpoint("4930123456", Contacts="4930123456/sip:10.0.0.1,"), True),
        (endpoint("1001", Auths="1001", Contacts="1001/sip:10.0.0.7,"), False),
    ],
)
def test_an_endpoint_is_an_extension_or_a_trunk(listed: Message, is_trunk: bool) -> None:
    extensions, trunks = device_names(DeviceMessages(endpoints=(listed,)))
    assert (len(extensions), len(trunks)) == (0, 1) if is_trunk else (1, 0)


def test_an_endpoint_with_a_registered_contact_is_an_extension() -> None:
    uri = "sip:alice@10.0.0.7:5060"
    messages = DeviceMessages(
        endpoints=(endpoint("alice", Contacts=f"alice/{uri},"),), contacts=(contact("alice", uri),)
    )
    extensions, trunks = parse_devices(messages)
    assert trunks == ()
    assert extensions == (
        Extension(extension="alice", tech="PJSIP", status="Not in use", contact="10.0.0.7:5060", roundtrip_ms=1.5),
    )


@pytest.mark.parametrize(
    "found", [registration("r", "main"), registration("main"), registration("r", auth="main-auth", owner="")]
)
def test_a_registration_belongs_to_its_endpoint(found: Message) -> None:
    messages = DeviceMessages(endpoints=(endpoint("main", OutboundAuths="main-auth"),), registrations=(found,))
    extensions, trunks = parse_devices(messages)
    assert extensions == ()
    assert trunks == (
        Trunk(
            name="main",
            tech="PJSIP",
            state="registered",
            status="Registered",
            server="sip.example:5080",
            registers=True,
        ),
    )


def test_a_registration_without_an_endpoint_is_a_separate_trunk() -> None:
    assert device_names(DeviceMessages(registrations=(registration("only", status="Stopped"),))) == ([], ["only"])
    assert (
        parse_devices(DeviceMessages(registrations=(registration("only", status="Stopped"),)))[1][0].state
        == "unregistered"
    )


def test_one_successful_registration_of_several_is_enough() -> None:
    registrations = (registration("a", "main", "Rejected"), registration("b", "main"))
    _, trunks = parse_devices(DeviceMessages(endpoints=(endpoint("main"),), registrations=registrations))
    assert [(trunk.name, trunk.state) for trunk in trunks] == [("main", "registered")]


def test_details_decide_whether_an_ambiguous_endpoint_is_a_trunk() -> None:
    messages = DeviceMessages(endpoints=(endpoint("1001"), endpoint("inbound"), endpoint("alice"), endpoint("pstn")))
    assert endpoints_to_detail(messages) == ["inbound", "alice", "pstn"]
    details = {
        "inbound": (message("EndpointDetail", Context="office"), message("IdentifyDetail", Match="10.0.0.1/32")),
        "alice": (message("EndpointDetail", Context="from-internal"),),
        "pstn": (message("EndpointDetail", Context="from-pstn-toheader"),),
    }
    assert device_names(replace(messages, details=details)) == (["1001", "alice"], ["inbound", "pstn"])


@pytest.mark.parametrize(
    ("status", "state"),
    [("Reachable", "reachable"), ("Unreachable", "unreachable"), ("NonQualified", "unknown"), ("Unknown", "unknown")],
)
def test_an_unregistered_trunks_state_is_that_of_its_contact(status: str, state: str) -> None:
    detail = (message("ContactStatusDetail", URI="sip:u@10.0.0.1:5060", Status=status, RoundtripUsec="900"),)
    listed = endpoint("peer", Contacts="peer/sip:u@10.0.0.1:5060,")
    _, trunks = parse_devices(DeviceMessages(endpoints=(listed,), details={"peer": detail}))
    assert trunks == (
        Trunk(name="peer", tech="PJSIP", state=state, status=status, server="10.0.0.1:5060", roundtrip_ms=0.9),  # type: ignore[arg-type]
    )
    _, without_detail = parse_devices(DeviceMessages(endpoints=(listed,)))
    assert (without_detail[0].state, without_detail[0].server) == ("unknown", "10.0.0.1:5060")


def test_each_devices_channels_are_counted() -> None:
    names = ("PJSIP/1001-0000000a", "PJSIP/1001-0000000b", "PJSIP/peer-a-00000001", "Local/1001@x-00000001;1")
    channels = tuple(message("CoreShowChannel", Channel=name) for name in names)
    listed = (endpoint("1001"), endpoint("peer-a", OutboundAuths="x"), endpoint("peer", OutboundAuths="y"))
    extensions, trunks = parse_devices(DeviceMessages(endpoints=listed, channels=channels))
    assert [one.channels for one in (*extensions, *trunks)] == [2, 0, 1]


def test_chan_sip_and_chan_iax2_peers_are_extensions_or_trunks() -> None:
    phone = {"IPaddress": "-none-", "IPport": "0", "Dynamic": "yes", "Status": "UNKNOWN"}
    carrier = {"IPaddress": "10.0.0.1", "IPport": "5060", "Dynamic": "no", "Status": "OK (12 ms)"}
    messages = DeviceMessages(
        sip_peers=(message("PeerEntry", ObjectName="201", **phone), message("PeerEntry", ObjectName="sip", **carrier)),
        sip_registry=(
            message("RegistryEntry", Host="10.0.0.1", Port="5060", Username="u", State="No Authentication"),
            message("RegistryEntry", Host="sip.example", Port="5060", Username="v", State="Request Sent"),
        ),
        iax_peers=(message("PeerEntry", ObjectName="iax", **(carrier | {"Status": "UNREACHABLE"})),),
        iax_registry=(message("RegistryEntry", Host="10.0.0.9:4569", Username="w", State="Registered"),),
    )
    extensions, trunks = parse_devices(messages)
    assert extensions == (Extension(extension="201", tech="SIP", status="UNKNOWN"),)
    assert [(one.name, one.tech, one.state, one.server, one.registers, one.roundtrip_ms) for one in trunks] == [
        ("iax", "IAX2", "unreachable", "10.0.0.1:5060", False, None),
        ("sip", "SIP", "rejected", "10.0.0.1:5060", True, 12.0),
        ("v@sip.example:5060", "SIP", "unregistered", "sip.example:5060", True, None),
        ("w@10.0.0.9:4569", "IAX2", "registered", "10.0.0.9:4569", True, None),
    ]


def test_helper_endpoints_of_pjsip_conf_are_not_devices() -> None:
    assert device_names(DeviceMessages(endpoints=(endpoint("anonymous"), endpoint("dpma_endpoint")))) == ([], [])
