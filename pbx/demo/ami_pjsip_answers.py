"""The demo PBX's answers to AMI's PJSIP actions, which list telephones and trunks. Pure."""

import hashlib

from pbx.demo.ami_messages import PbxMoment, ReceivedAction, list_answer, list_item, message_text, refuse, reply
from pbx.demo.call_events import INTERNAL_CONTEXT, TRUNK_CONTEXT
from pbx.demo.channels import DEVICE_IDLE, DEVICE_IN_USE, DEVICE_STATES, Channel
from pbx.demo.company import PHONES, TRUNKS, UNUSED_PHONE, Agent
from pbx.demo.simulated_asterisk import device_state, registrations_at, roundtrip_us

_USER_AGENT = "Yealink SIP-T54W 96.86.0.70"
_TRUNK_USER = "larkfield"
_SECRET = "made-up-and-of-no-use"  # noqa: S105 - Asterisk sends one in each AuthDetail; the app must drop it


def _address(phone: Agent) -> str:
    return f"10.20.0.{phone.extension[-2:].lstrip('0')}"


def _md5(name: str) -> str:
    return hashlib.md5(name.encode(), usedforsecurity=False).hexdigest()


def _endpoint_fields(endpoint: str, channels: tuple[Channel, ...]) -> dict[str, str]:
    """The fields in which endpoints differ, for all of their templates."""
    trunk = any(trunk.name == endpoint for trunk in TRUNKS)
    active = sum(1 for channel in channels if channel.endpoint == endpoint)
    state = (DEVICE_IN_USE if active else DEVICE_IDLE) if trunk else device_state(endpoint, channels)
    phone = next((one for one in (*PHONES, UNUSED_PHONE) if one.extension == endpoint), None)
    return {
        "ObjectName": endpoint,
        "Transport": "0.0.0.0-udp",
        "Aor": endpoint,
        "Aors": endpoint,
        "Auth": "" if trunk else f"{endpoint}-auth",
        "Auths": "" if trunk else f"{endpoint}-auth",
        "OutboundAuth": endpoint if trunk else "",
        "OutboundAuths": endpoint if trunk else "",
        "Contacts": f"{endpoint}/{_uri(endpoint)}," if _uri(endpoint) else "",
        "DeviceState": DEVICE_STATES[state],
        "ActiveChannels": str(active),
        "Context": TRUNK_CONTEXT if trunk else INTERNAL_CONTEXT,
        "DeviceStateBusyAt": "0" if trunk else "1",
        "Callerid": f'"{phone.name}" <{endpoint}>' if phone else "<unknown>",
        "FromUser": _TRUNK_USER if trunk else "",
    }


def _uri(endpoint: str) -> str:
    phone = next((phone for phone in PHONES if phone.extension == endpoint), None)
    if phone is not None:
        return f"sip:{endpoint}@{_address(phone)}:5060"
    return f"sip:{endpoint}.example:5060" if any(trunk.name == endpoint for trunk in TRUNKS) else ""


def _endpoint_names() -> tuple[str, ...]:
    phones = (*PHONES, UNUSED_PHONE)
    return (*(trunk.name for trunk in TRUNKS), *(phone.extension for phone in phones))


def endpoints(action: ReceivedAction, moment: PbxMoment) -> str:
    """Answer PJSIPShowEndpoints."""
    channels = moment.asterisk.channels_at(moment.at)
    items = [
        list_item(action, moment, "EndpointList", _endpoint_fields(endpoint, channels))
        for endpoint in _endpoint_names()
    ]
    message = "A listing of Endpoints follows, presented as EndpointList events"
    return list_answer(action, message, "EndpointListComplete", items)


def contacts(action: ReceivedAction, moment: PbxMoment) -> str:
    """Answer PJSIPShowContacts, which lists the contacts of telephones but not the static ones of trunks."""
    items = []
    for phone in PHONES:
        endpoint = phone.extension
        values = {
            "ObjectName": f"{endpoint};@{_md5(endpoint)}",
            "ViaAddr": _address(phone),
            "ViaPort": "5060",
            "CallId": f"{_md5(endpoint)[:16]}@{_address(phone)}",
            "Endpoint": endpoint,
            "Uri": _uri(endpoint),
            "UserAgent": _USER_AGENT,
            "ExpirationTime": str(int(moment.clock_at.timestamp()) // 3600 * 3600 + 3600),
            "Status": "Reachable",
            "RoundtripUsec": str(roundtrip_us(endpoint, moment.at)),
        }
        items.append(list_item(action, moment, "ContactList", values))
    message = "A listing of Contacts follows, presented as ContactList events"
    return list_answer(action, message, "ContactListComplete", items)


def one_endpoint(action: ReceivedAction, moment: PbxMoment) -> str:
    """Answer PJSIPShowEndpoint."""
    endpoint = action.get("endpoint")
    if not endpoint:
        return refuse(action, "PJSIPShowEndpoint requires an endpoint name\n")
    if endpoint not in _endpoint_names():
        return refuse(action, f"Unable to retrieve endpoint {endpoint}\n")
    trunk, uri = any(trunk.name == endpoint for trunk in TRUNKS), _uri(endpoint)
    phone = next((phone for phone in PHONES if phone.extension == endpoint), None)
    values = _endpoint_fields(endpoint, moment.asterisk.channels_at(moment.at))
    aor = {"ObjectName": endpoint, "EndpointName": endpoint, "Contacts": f"{endpoint}/{uri}" if uri else ""}
    aor |= {"TotalContacts": str(int(bool(uri))), "ContactsRegistered": str(int(phone is not None))}
    aor |= {"MaxContacts": "0", "RemoveExisting": "false"} if trunk else {}
    items = [
        list_item(action, moment, "EndpointDetail", values),
        list_item(action, moment, "AuthDetail", _auth(endpoint, trunk=trunk)),
        list_item(action, moment, "TransportDetail", {"ObjectName": "0.0.0.0-udp", "EndpointName": endpoint}),
        list_item(action, moment, "AorDetail", aor),
    ]
    if uri:
        contact = {
            "AOR": endpoint,
            "URI": uri,
            "UserAgent": _USER_AGENT if phone else "",
            "RegExpire": str(int(moment.clock_at.timestamp()) // 3600 * 3600 + 3600) if phone else "0",
            "ViaAddress": f"{_address(phone)}:5060" if phone else "",
            "CallID": f"{_md5(endpoint)[:16]}@{_address(phone)}" if phone else "",
            "Status": "Reachable",
            "RoundtripUsec": str(roundtrip_us(endpoint, moment.at)),
            "EndpointName": endpoint,
            "ID": f"{endpoint};@{_md5(endpoint)}" if phone else f"{endpoint}@@{_md5(endpoint)}",
        }
        omit = () if phone else ("ViaAddress", "CallID")
        items.append(list_item(action, moment, "ContactStatusDetail", contact, omit))
    message = "Following are Events for each object associated with the Endpoint"
    return list_answer(action, message, "EndpointDetailComplete", items)


def _auth(endpoint: str, *, trunk: bool) -> dict[str, str]:
    username = _TRUNK_USER if trunk else endpoint
    name = endpoint if trunk else f"{endpoint}-auth"
    return {"ObjectName": name, "Username": username, "Password": _SECRET, "EndpointName": endpoint}


def registrations(action: ReceivedAction, moment: PbxMoment) -> str:
    """Answer PJSIPShowRegistrationsOutbound. Of its items, only registrations are counted."""
    states, items = registrations_at(moment.at), []
    for trunk in TRUNKS:
        host = f"{trunk.name}.example:5060"
        values = {
            "ObjectName": trunk.name,
            "ClientUri": f"sip:{_TRUNK_USER}@{host}",
            "ServerUri": f"sip:{host}",
            "Transport": "0.0.0.0-udp",
            "ContactUser": _TRUNK_USER,
            "Endpoint": trunk.name,
            "OutboundAuth": trunk.name,
            "Status": states[trunk.name],
        }
        items.append(list_item(action, moment, "OutboundRegistrationDetail", values))
        items.append(list_item(action, moment, "AuthDetail", _auth(trunk.name, trunk=True), ("EndpointName",)))
    registered = sum(1 for state in states.values() if state == "Registered")
    message = "Following are Events for each Outbound registration"
    start = reply(action, "Success", ("EventList", "start"), ("Message", message))
    end = (
        ("ListItems", str(len(TRUNKS))),
        ("Registered", str(registered)),
        ("NotRegistered", str(len(states) - registered)),
    )
    done = (("Event", "OutboundRegistrationDetailComplete"), *action.id_line, ("EventList", "Complete"), *end)
    return start + "".join(message_text(item) for item in items) + message_text(done)
