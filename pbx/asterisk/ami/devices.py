"""Tells extensions from trunks among endpoints and peers, and reads their states. Pure: messages in, values out.

AMI has no word for "trunk". These rules decide, PJSIP first; each device is listed once:

1. an endpoint that an outbound registration belongs to, or that has an outbound auth, is a trunk;
2. an endpoint with a static contact is a trunk, unless its name is a number and it has an inbound auth: that is a desk
   or door phone with a fixed address. A contact is static when PJSIPShowEndpoints shows it and PJSIPShowContacts, which
   lists registered ones only, doesn't;
3. an endpoint with none of these and a name that isn't a number may be a trunk for inbound calls only.
   PJSIPShowEndpoint shows it: it is a trunk if it is identified by address, or if its dialplan context is FreePBX's for
   trunks (`from-pstn`, `from-trunk`). FreePBX's extensions are numbers, so this action is rarely needed;
4. everything else is an extension. FreePBX's extensions are numbers with their own auth and AOR and no static contact.

chan_sip and chan_iax2: a peer with a fixed host (`Dynamic: no`) is a trunk.
A registration that belongs to no endpoint or peer is a trunk of its own.
"""

import ipaddress
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from pbx.asterisk.ami.protocol import Message
from pbx.asterisk.ami.values import integer, roundtrip_ms, without_placeholder
from pbx.model.snapshot import Extension, Trunk, TrunkState

# Asterisk's and Digium's helpers in pjsip.conf, not devices.
_NOT_DEVICES = {"anonymous", "dpma_endpoint"}
_TRUNK_CONTEXTS = ("from-pstn", "from-trunk")
_STATES: dict[str, TrunkState] = {
    "registered": "registered",
    "rejected": "rejected",
    "no authentication": "rejected",
    "reachable": "reachable",
    "ok": "reachable",
    "lagged": "reachable",
    "unreachable": "unreachable",
    "unknown": "unknown",
    "nonqualified": "unknown",
    "unmonitored": "unknown",
}
_HOST_PORT = re.compile(r"(\[[^\]]*\]|[^:]*):(\d{1,5})")
_ADDRESS = re.compile(r"(?:sips?:)?(?:[^@;]*@)?(\[[^\]]+\]|[^:;>]+)(?::(\d+))?")


@dataclass
class DeviceMessages:
    """The items of all actions that list devices; empty for a module that isn't loaded."""

    endpoints: tuple[Message, ...] = ()
    contacts: tuple[Message, ...] = ()
    registrations: tuple[Message, ...] = ()
    details: dict[str, tuple[Message, ...]] = field(default_factory=dict)  # PJSIPShowEndpoint, by endpoint
    sip_peers: tuple[Message, ...] = ()
    sip_registry: tuple[Message, ...] = ()
    sip_details: dict[str, Message] = field(default_factory=dict)  # SIPshowpeer, by peer
    iax_peers: tuple[Message, ...] = ()
    iax_registry: tuple[Message, ...] = ()
    channels: tuple[Message, ...] = ()

    def busy(self) -> Counter[str]:
        """The number of channels of each device, such as `PJSIP/1001`.

        It is counted from the channels, because ActiveChannels of EndpointList is empty up to Asterisk 22.4.
        """
        names = (one.get("Channel") for one in self.channels if one.event == "CoreShowChannel")
        return Counter(name.rpartition("-")[0] for name in names)


@dataclass
class _Endpoint:
    """One PJSIP endpoint, as it is in the lists."""

    name: str
    listed: Message
    contacts: list[Message]
    registrations: list[Message]

    @property
    def static_contacts(self) -> list[str]:
        """The URIs of its contacts that aren't registrations."""
        registered = {contact.get("Uri") for contact in self.contacts}
        shown = (part.partition("/")[2] for part in self.listed.get("Contacts").split(",") if part)
        return [uri for uri in shown if uri not in registered]

    @property
    def surely_trunk(self) -> bool:
        """Whether the lists alone show that it is a trunk (rules 1 and 2)."""
        if self.registrations or self.listed.get("OutboundAuths"):
            return True
        fixed_phone = self.name.isdecimal() and bool(self.listed.get("Auths"))
        return bool(self.static_contacts) and not fixed_phone

    def is_trunk(self, detail: Iterable[Message]) -> bool:
        """Whether it is a trunk, with the items of PJSIPShowEndpoint (rule 3)."""
        return self.surely_trunk or any(
            message.event == "IdentifyDetail" or message.get("Context").startswith(_TRUNK_CONTEXTS)
            for message in detail
        )


def endpoints_to_detail(messages: DeviceMessages) -> list[str]:
    """The endpoints for which PJSIPShowEndpoint is needed: trunks, for their contact's state, and undecided ones."""
    return [one.name for one in _endpoints(messages) if one.surely_trunk or not one.name.isdecimal()]


def parse_devices(messages: DeviceMessages) -> tuple[tuple[Extension, ...], tuple[Trunk, ...]]:
    """Extensions and trunks, each sorted by name. Every device is in one of the two."""
    busy = messages.busy()
    extensions: list[Extension] = []
    trunks: list[Trunk] = []
    for endpoint in _endpoints(messages):
        detail = messages.details.get(endpoint.name, ())
        channels = busy[f"PJSIP/{endpoint.name}"]
        if endpoint.is_trunk(detail):
            trunks.append(_pjsip_trunk(endpoint, detail, channels))
        else:
            extensions.append(_pjsip_extension(endpoint, channels))
    for one in _registrations(messages).get("", []):
        trunks.append(_registered_trunk(one.get("ObjectName"), "PJSIP", _address(one.get("ServerUri")), one))
    sip = messages.sip_peers, messages.sip_registry, messages.sip_details
    _parse_peers("SIP", *sip, busy, extensions, trunks)
    _parse_peers("IAX2", messages.iax_peers, messages.iax_registry, {}, busy, extensions, trunks)
    return (
        tuple(sorted(extensions, key=lambda one: (len(one.extension), one.extension, one.tech))),
        tuple(sorted(trunks, key=lambda one: (one.name, one.tech))),
    )


def _endpoints(messages: DeviceMessages) -> list[_Endpoint]:
    contacts: dict[str, list[Message]] = {}
    for contact in messages.contacts:
        contacts.setdefault(contact.get("Endpoint"), []).append(contact)
    registrations = _registrations(messages)
    return [
        _Endpoint(name, one, contacts.get(name, []), registrations.get(name, []))
        for one in messages.endpoints
        if one.event == "EndpointList" and (name := one.get("ObjectName")) not in _NOT_DEVICES
    ]


def _registrations(messages: DeviceMessages) -> dict[str, list[Message]]:
    """Outbound registrations by endpoint; "" for those without one."""
    listed = [one for one in messages.endpoints if one.event == "EndpointList"]
    names = {one.get("ObjectName") for one in listed}
    by_auth = {one.get("OutboundAuths"): one.get("ObjectName") for one in listed if one.get("OutboundAuths")}
    found: dict[str, list[Message]] = {}
    for one in messages.registrations:
        if one.event == "OutboundRegistrationDetail":
            owner = one.get("Endpoint") or one.get("ObjectName")  # without line=yes only name or auth shows it
            found.setdefault(owner if owner in names else by_auth.get(one.get("OutboundAuth"), ""), []).append(one)
    return found


def _pjsip_extension(endpoint: _Endpoint, channels: int) -> Extension:
    best = min(endpoint.contacts, key=lambda contact: contact.get("Status") != "Reachable", default=None)
    static = next(iter(endpoint.static_contacts), "")
    return Extension(
        extension=endpoint.name,
        tech="PJSIP",
        status=endpoint.listed.get("DeviceState"),
        contact=_address(best.get("Uri") if best else static),
        roundtrip_ms=roundtrip_ms(best.get("RoundtripUsec")) if best else None,
        channels=channels,
    )


def _pjsip_trunk(endpoint: _Endpoint, detail: Iterable[Message], channels: int) -> Trunk:
    contacts = [message for message in detail if message.event == "ContactStatusDetail"]
    contact = min(contacts, key=lambda one: one.get("Status") != "Reachable", default=None)
    roundtrip = roundtrip_ms(contact.get("RoundtripUsec")) if contact else None
    if endpoint.registrations:  # one registration of several is enough for calls
        registration = min(endpoint.registrations, key=lambda one: one.get("Status") != "Registered")
        server = _address(registration.get("ServerUri"))
        trunk = _registered_trunk(endpoint.name, "PJSIP", server, registration)
        return trunk.model_copy(update={"roundtrip_ms": roundtrip, "channels": channels})
    status = contact.get("Status") if contact else ""
    uri = contact.get("URI") if contact else next(iter(endpoint.static_contacts), "")
    return Trunk(
        name=endpoint.name,
        tech="PJSIP",
        state=_STATES.get(status.lower(), "unknown"),
        status=status or "Unknown",
        server=_address(uri),
        roundtrip_ms=roundtrip,
        channels=channels,
    )


def _registered_trunk(name: str, tech: str, server: str, registration: Message) -> Trunk:
    """A trunk whose state is that of its registration; `server` is its host and port."""
    status = registration.get("Status") or registration.get("State")
    state = _STATES.get(status.lower(), "unregistered")  # Request Sent, Timeout, Stopped, …
    return Trunk(name=name, tech=tech, state=state, status=status, server=server, registers=True)


def _parse_peers(
    tech: str,
    peers: Iterable[Message],
    registry: Iterable[Message],
    details: Mapping[str, Message],
    busy: Counter[str],
    extensions: list[Extension],
    trunks: list[Trunk],
) -> None:
    """Sort the peers of chan_sip or chan_iax2, adding to `extensions` and `trunks`.

    A registration that belongs to no peer is a trunk; its name is made of user and host.
    """
    owned, others = _pair(peers, registry, details)
    for peer in (one for one in peers if one.event == "PeerEntry"):
        name, status = peer.get("ObjectName"), peer.get("Status")
        address = _joined(*_peer_address(peer))
        measured = {"roundtrip_ms": roundtrip_ms(status), "channels": busy[f"{tech}/{name}"]}
        if peer.get("Dynamic") != "no":
            extension = Extension(extension=name, tech=tech, status=status, contact=address)
            extensions.append(extension.model_copy(update=measured))
            continue
        if registration := owned.get(name):
            server = address or _joined(*_registry_address(registration))
            trunk = _registered_trunk(name, tech, server, registration)
        else:
            state = _STATES.get(status.partition(" ")[0].lower(), "unknown")
            trunk = Trunk(name=name, tech=tech, state=state, status=status, server=address)
        trunks.append(trunk.model_copy(update=measured))
    for entry in others:
        server = _joined(*_registry_address(entry))
        name = "@".join(part for part in (entry.get("Username"), server) if part)
        trunks.append(_registered_trunk(name, tech, server, entry))


def _pair(
    peers: Iterable[Message], registry: Iterable[Message], details: Mapping[str, Message], *, surely: bool = False
) -> tuple[dict[str, Message], list[Message]]:
    """The registrations by the peer they belong to, and those that belong to no peer.

    chan_sip reads the host of a registration as the name of a peer's section if there is one. Otherwise RegistryEntry
    shows the configured host and PeerEntry the address it resolved to, and the peer's configured host, from SIPshowpeer
    (ToHost), connects the two. Where that isn't known, a single remaining registration is assigned to a single
    remaining peer, unless `surely`.
    """
    owned: dict[str, Message] = {}
    left = [one for one in registry if one.event == "RegistryEntry"]
    static = [one for one in peers if one.event == "PeerEntry" and one.get("Dynamic") == "no"]
    for entry in sorted(left, key=lambda one: one.get("State") == "Registered"):  # of several, the registered one wins
        for peer in static:
            if peer.get("ObjectName").lower() == entry.get("Host").lower():
                owned[peer.get("ObjectName")] = entry
                left = [one for one in left if one.get("Host") != entry.get("Host")]

    def same_user(peer: Message, entry: Message) -> bool:
        user, name = entry.get("Username"), peer.get("ObjectName")
        if detail := details.get(name):
            return bool(user) and user == detail.get("Default-Username")
        fixed = _is_address(_registry_address(entry)[0]) and bool(_peer_address(peer)[0])  # another host
        return bool(user) and user == name and not fixed

    def same_address(peer: Message, entry: Message) -> bool:
        host, port = _peer_address(peer)
        return bool(host) and (host, port) == _registry_address(entry)

    def same_host(peer: Message, entry: Message) -> bool:
        detail = details.get(peer.get("ObjectName"))
        hosts = {_peer_address(peer)[0], _plain_host(detail.get("ToHost")) if detail else ""} - {""}
        return bool(hosts & {_registry_address(entry)[0], _plain_host(entry.get("Domain"))})

    def same_user_and_host(peer: Message, entry: Message) -> bool:
        detail, user = details.get(peer.get("ObjectName")), entry.get("Username")
        names = {peer.get("ObjectName"), detail.get("Default-Username") if detail else ""}
        return user in names - {""} and same_host(peer, entry)

    for belongs in (same_user_and_host, same_address, same_host, same_user):
        for entry in list(left):
            fits = [one for one in static if one.get("ObjectName") not in owned and belongs(one, entry)]
            if fits:
                owned[fits[0].get("ObjectName")] = entry
                left.remove(entry)
    unsure = [
        name for one in static if (name := one.get("ObjectName")) not in {*owned, *details} and not name.isdecimal()
    ]
    named = [one for one in left if (host := _registry_address(one)[0]) and not _is_address(host)]
    if not surely and len(unsure) == len(named) == 1:
        owned[unsure[0]] = named[0]
        left.remove(named[0])
    return owned, left


def peers_to_detail(messages: DeviceMessages) -> list[str]:
    """The peers of chan_sip for which SIPshowpeer is needed, to find their registrations."""
    owned, left = _pair(messages.sip_peers, messages.sip_registry, {}, surely=True)
    if all(_is_address(_registry_address(one)[0]) for one in left):
        return []
    static = [one for one in messages.sip_peers if one.event == "PeerEntry" and one.get("Dynamic") == "no"]
    return [name for one in static if (name := one.get("ObjectName")) not in owned]


def _peer_address(peer: Message) -> tuple[str, str]:
    """A peer's host and port; ("", "") while the address isn't known."""
    host = _plain_host(without_placeholder(peer.get("IPaddress")))
    return (host, without_placeholder(peer.get("IPport") or peer.get("Port"))) if host else ("", "")


def _registry_address(entry: Message) -> tuple[str, str]:
    """A registration's host and port, which chan_iax2 writes as one. An IPv6 address has no brackets."""
    host, port = without_placeholder(entry.get("Host")), entry.get("Port")
    if not port and (match := _HOST_PORT.fullmatch(host)):
        host, port = match[1], match[2]
    return _plain_host(host), port if integer(port) else ""


def _plain_host(host: str) -> str:
    """A host in its canonical form: a name in lower case, an address in its shortest notation without brackets."""
    host = host.strip("[]").rstrip(".").lower()
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return str(mapped or address)


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _joined(host: str, port: str) -> str:
    """Host and port as one text, with an IPv6 address in brackets."""
    host = f"[{host}]" if ":" in host else host
    return f"{host}:{port}" if host and port else host


def _address(uri: str) -> str:
    """Host and port of a SIP URI, without its user and parameters."""
    match = _ADDRESS.match(uri)
    if not match:
        return ""
    return f"{match[1]}:{match[2]}" if match[2] else match[1]
