"""Questions to a PBX: one snapshot of everything, or one part of it.

All lists are asked for at once, then what they call for (each trunk's contact, the PBX's zone when it started): a
snapshot takes two round trips whatever the size of the PBX.
"""

import time
from collections.abc import Iterable
from concurrent.futures import Future
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from pbx.ami.client import AmiClient
from pbx.ami.devices import DeviceMessages, endpoints_to_ask, parse_devices
from pbx.ami.protocol import Message
from pbx.ami.reply import Reply
from pbx.ami.snapshot import (
    ActiveCall,
    Extension,
    Part,
    PartName,
    Queue,
    Snapshot,
    System,
    Trunk,
    parse_active_calls,
    parse_queues,
    parse_start,
    parse_system,
)
from pbx.ami.values import integer, utc_offset
from pbx.errors import AmiActionError, AmiDenied, Deadline

# What each part can't be whole without; an absent module is fine as long as another brings something.
NEEDS: dict[PartName, tuple[str, ...]] = {
    "system": ("CoreSettings", "CoreStatus"),
    "extensions": ("PJSIPShowEndpoints", "PJSIPShowContacts", "SIPpeers", "IAXpeerlist"),
    "trunks": ("PJSIPShowRegistrationsOutbound", "PJSIPShowEndpoints", "SIPshowregistry", "IAXregistry"),
    "queues": ("QueueStatus",),
    "active_calls": ("CoreShowChannels",),
}
# IAXpeerlist, as the items of IAXpeers carry no ActionID (seen on 16 and 22).
_DEVICES = (
    *NEEDS["extensions"],
    "PJSIPShowRegistrationsOutbound",
    "SIPshowregistry",
    "IAXregistry",
    "CoreShowChannels",
)
_ZONE = "STRFTIME({},,%z %s)"  # a dialplan function: the PBX's offset from UTC, and the epoch, its own clock when empty

Outcome = Reply | Deadline


def take_snapshot(client: AmiClient, parts: Iterable[PartName] = tuple(NEEDS)) -> Snapshot:
    """Look at the whole PBX, or at some parts of it.

    What the user's rights or a missing module forbid is named in the snapshot's `parts`; the rest stands.
    Raises Unreachable when the connection is lost, Deadline when nothing at all is answered in time.
    """
    wanted = list(parts)
    begun_at, begun = datetime.now(UTC), time.monotonic()
    actions = dict.fromkeys(action for part in wanted for action in NEEDS[part])
    devices = "extensions" in wanted or "trunks" in wanted
    actions |= dict.fromkeys(_DEVICES if devices else ())
    first = {action: client.submit(action) for action in actions}
    clock = client.submit("Getvar", [("Variable", _ZONE.format(""))]) if "system" in wanted else None
    outcomes = {action: _outcome(future) for action, future in first.items()}
    late = [outcome for outcome in outcomes.values() if isinstance(outcome, Deadline)]
    if late and len(late) == len(outcomes):
        raise late[0]
    messages = _device_messages(outcomes) if devices else DeviceMessages()
    details = {name: client.submit("PJSIPShowEndpoint", [("Endpoint", name)]) for name in endpoints_to_ask(messages)}
    system = _system(client, outcomes, _outcome(clock), begun_at) if clock else None
    messages.details = {name: _items(_outcome(future)) for name, future in details.items()}
    extensions, trunks = parse_devices(messages)
    return Snapshot(
        taken_at=begun_at,
        took_ms=round((time.monotonic() - begun) * 1000),
        system=system,
        extensions=extensions if "extensions" in wanted else (),
        trunks=trunks if "trunks" in wanted else (),
        queues=parse_queues(_items(outcomes.get("QueueStatus"))),
        active_calls=parse_active_calls(_items(outcomes.get("CoreShowChannels"))) if "active_calls" in wanted else (),
        parts={part: _judge(outcomes[action] for action in NEEDS[part]) for part in wanted},
    )


def fetch_system(client: AmiClient) -> System:
    """Version, start, uptime. Raises as `take_snapshot`, and AmiDenied or AmiActionError for this part."""
    system = _fetch(client, "system").system
    if system is None:
        raise AmiActionError("Asterisk told nothing of its system.")
    return system


def fetch_extensions(client: AmiClient) -> tuple[Extension, ...]:
    """PJSIP, SIP and IAX2 devices that are no trunks. Raises as `fetch_system`."""
    return _fetch(client, "extensions").extensions


def fetch_trunks(client: AmiClient) -> tuple[Trunk, ...]:
    """Lines to other systems. Raises as `fetch_system`."""
    return _fetch(client, "trunks").trunks


def fetch_queues(client: AmiClient) -> tuple[Queue, ...]:
    """Queues with members and waiting callers. Raises as `fetch_system`."""
    return _fetch(client, "queues").queues


def fetch_active_calls(client: AmiClient) -> tuple[ActiveCall, ...]:
    """Calls going on, one for each linkedid. Raises as `fetch_system`."""
    return _fetch(client, "active_calls").active_calls


def _fetch(client: AmiClient, name: PartName) -> Snapshot:
    snapshot = take_snapshot(client, [name])
    part = snapshot.parts[name]
    if part.state == "denied":
        raise AmiDenied(part.reason, "Add the class to write= of that user in manager.conf and reload the manager.")
    if part.state != "ok":
        raise AmiActionError(part.reason)
    return snapshot


def _outcome(future: Future[Reply]) -> Outcome:
    try:
        return future.result()
    except Deadline as error:
        return error


def _items(outcome: Outcome | None) -> tuple[Message, ...]:
    return outcome.items if isinstance(outcome, Reply) else ()


def _device_messages(outcomes: dict[str, Outcome]) -> DeviceMessages:
    contacts_known = isinstance(outcomes["PJSIPShowContacts"], Reply)  # without them every phone's would look static
    return DeviceMessages(
        endpoints=_items(outcomes["PJSIPShowEndpoints"]) if contacts_known else (),
        contacts=_items(outcomes["PJSIPShowContacts"]),
        registrations=_items(outcomes["PJSIPShowRegistrationsOutbound"]),
        sip_peers=_items(outcomes["SIPpeers"]),
        sip_registry=_items(outcomes["SIPshowregistry"]),
        iax_peers=_items(outcomes["IAXpeerlist"]),
        iax_registry=_items(outcomes["IAXregistry"]),
        channels=_items(outcomes["CoreShowChannels"]),
    )


def _system(client: AmiClient, outcomes: dict[str, Outcome], clock: Outcome, now: datetime) -> System | None:
    """CoreStatus tells the start in local time: ask the PBX for its offset then, which may not be today's."""
    settings, status = outcomes["CoreSettings"], outcomes["CoreStatus"]
    if not (isinstance(settings, Reply) and isinstance(status, Reply)) or settings.failed or status.failed:
        return None
    local = parse_start(status.response)
    offset_now, epoch = _zone(clock)
    offset_then = offset_now
    if offset_now is None and client.connection.timezone:  # may not be asked: the settings' zone
        zone = ZoneInfo(client.connection.timezone)
        offset_now = now.astimezone(zone).utcoffset()
        offset_then = local.replace(tzinfo=zone).utcoffset() if local else None
    elif offset_now is not None and local:
        guess = int((local - offset_now).replace(tzinfo=UTC).timestamp())
        offset_then, _ = _zone(_outcome(client.submit("Getvar", [("Variable", _ZONE.format(guess))])))
    return parse_system(
        settings.response,
        status.response,
        offset_then,
        offset_now,
        datetime.fromtimestamp(epoch, UTC) if epoch else now,
    )


def _zone(outcome: Outcome) -> tuple[timedelta | None, int]:
    if not isinstance(outcome, Reply):
        return None, 0
    offset, _, epoch = outcome.response.get("Value").partition(" ")
    return utc_offset(offset), integer(epoch)


def _judge(outcomes: Iterable[Outcome]) -> Part:
    """The worst of what a part needs; absent only if nothing of it is there."""
    failed, denied, absent, ok = [], [], [], 0
    for outcome in outcomes:
        if isinstance(outcome, Deadline):
            failed.append(str(outcome))
        elif outcome.denied:
            denied.append(outcome.reason)
        elif outcome.absent:
            absent.append(outcome.reason)
        elif outcome.failed:
            failed.append(outcome.reason)
        else:
            ok += 1
    if failed or denied:
        return Part(state="failed" if failed else "denied", reason=" ".join([*failed, *denied]))
    return Part() if ok else Part(state="absent", reason=" ".join(absent))
