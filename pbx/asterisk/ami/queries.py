"""Questions to a PBX: one snapshot of everything, or one part of it.

All lists are asked for at once, then what they call for (each trunk's contact, the PBX's zone when it started): a
snapshot takes two round trips whatever the size of the PBX.
"""

import re
import time
from collections.abc import Iterable
from concurrent.futures import Future
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from pbx.asterisk.ami.client import AmiClient
from pbx.asterisk.ami.devices import DeviceMessages, endpoints_to_ask, parse_devices, peers_to_ask
from pbx.asterisk.ami.protocol import Headers, Message
from pbx.asterisk.ami.reply import AmiReply
from pbx.asterisk.ami.snapshot import (
    may_wrap_up,
    parse_active_calls,
    parse_queues,
    parse_start,
    parse_system,
    with_ready,
)
from pbx.asterisk.ami.values import integer, utc_offset
from pbx.errors import AmiActionError, AmiDenied, AmiProtocolError, Deadline, SettingsError, Unreachable
from pbx.model.snapshot import ActiveCall, Extension, PartName, Queue, Snapshot, SnapshotPart, System, Trunk

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
_PLAIN_NAME = re.compile(r"[\w.-]{1,80}")  # of a queue, that a dialplan function takes as it is
_CLOCK = "the PBX's clock"
_ZONE = "STRFTIME({},,%z %s)"  # a dialplan function: the PBX's offset from UTC, and the epoch, its own clock when empty

SNAPSHOT_S = 120.0  # all of a snapshot together, at most
MAX_DETAILS = 2000  # devices, and queues, that are asked for one by one

ActionOutcome = AmiReply | Deadline | AmiProtocolError
ActionRequest = tuple[str, Headers]


def take_snapshot(
    client: AmiClient, parts: Iterable[PartName] = tuple(NEEDS), *, deadline_s: float = SNAPSHOT_S
) -> Snapshot:
    """Look at the whole PBX, or at some parts of it, within `deadline_s` seconds.

    What the user's rights or a missing module forbid, and what is answered too late or in a way that can't be used, is
    named in the snapshot's `parts`; the rest stands.
    Raises Unreachable when the connection is lost, Deadline or AmiProtocolError when nothing at all is answered.
    """
    wanted = list(parts)
    begun_at, begun = datetime.now(UTC), time.monotonic()
    end = begun + deadline_s
    actions = dict.fromkeys(action for part in wanted for action in NEEDS[part])
    devices = "extensions" in wanted or "trunks" in wanted
    actions |= dict.fromkeys(_DEVICES if devices else ())
    asks: dict[str, ActionRequest] = {action: (action, ()) for action in actions}
    if "system" in wanted or "queues" in wanted:
        asks[_CLOCK] = ("Getvar", [("Variable", _ZONE.format(""))])
    outcomes = _ask_all(client, asks, end)
    clock = outcomes.pop(_CLOCK, None)
    failed = [outcome for outcome in outcomes.values() if not isinstance(outcome, AmiReply)]
    if failed and len(failed) == len(outcomes):
        raise failed[0]
    messages = _device_messages(outcomes) if devices else DeviceMessages()
    pjsip, sip = endpoints_to_ask(messages)[:MAX_DETAILS], peers_to_ask(messages)[:MAX_DETAILS]
    more: dict[str, ActionRequest] = {f"PJSIP/{name}": ("PJSIPShowEndpoint", [("Endpoint", name)]) for name in pjsip}
    more |= {f"SIP/{name}": ("SIPshowpeer", [("Peer", name)]) for name in sip}
    offset_now, epoch = _zone(clock)
    pbx_now = datetime.fromtimestamp(epoch, UTC) if epoch > 0 else begun_at
    queues = parse_queues(_items(outcomes.get("QueueStatus")), pbx_now)
    for queue in queues[:MAX_DETAILS]:
        if any(may_wrap_up(member, pbx_now) for member in queue.members) and _PLAIN_NAME.fullmatch(queue.name):
            more[f"queue/{queue.name}"] = ("Getvar", [("Variable", f"QUEUE_MEMBER({queue.name},ready)")])
    guess = _guessed_start(outcomes, offset_now)
    if guess is not None:
        more[_CLOCK] = ("Getvar", [("Variable", _ZONE.format(guess))])
    told = _ask_more(client, more, end)
    messages.details = {name: _items(told.get(f"PJSIP/{name}")) for name in pjsip}
    messages.sip_details = {
        name: found.response
        for name in sip
        if isinstance(found := told.get(f"SIP/{name}"), AmiReply) and not found.failed
    }
    extensions, trunks = parse_devices(messages)
    return Snapshot(
        taken_at=begun_at,
        took_ms=round((time.monotonic() - begun) * 1000),
        system=_system(client, outcomes, offset_now, told.get(_CLOCK), pbx_now) if "system" in wanted else None,
        extensions=extensions if "extensions" in wanted else (),
        trunks=trunks if "trunks" in wanted else (),
        queues=tuple(_with_ready(queue, told.get(f"queue/{queue.name}"), pbx_now) for queue in queues),
        active_calls=parse_active_calls(_items(outcomes.get("CoreShowChannels"))) if "active_calls" in wanted else (),
        parts={part: _judge(outcomes[action] for action in NEEDS[part]) for part in wanted},
    )


def _ask_all(client: AmiClient, asks: dict[str, ActionRequest], end: float) -> dict[str, ActionOutcome]:
    """Ask all at once. After an answer that ended the connection, too large an answer say, what it took with it is
    asked again. Raises Unreachable when the connection is lost for another reason."""
    outcomes: dict[str, ActionOutcome] = {}
    while left := [key for key in asks if key not in outcomes]:
        futures = {}
        for key in left:
            try:
                futures[key] = _submit(client, *asks[key], end)
            except SettingsError as error:  # the PBX told of a name that can't be asked for
                outcomes[key] = AmiProtocolError(str(error))
        lost: Unreachable | None = None
        spoilt = False
        for key, future in futures.items():
            try:
                outcomes[key] = future.result()
            except Deadline as error:
                outcomes[key] = error
            except AmiProtocolError as error:
                outcomes[key], spoilt = error, True
            except Unreachable as error:
                lost = error
        if lost is not None and not (spoilt and client.wait_connected(end - time.monotonic())):
            raise lost
    return outcomes


def _ask_more(client: AmiClient, asks: dict[str, ActionRequest], end: float) -> dict[str, ActionOutcome]:
    """As `_ask_all`, of what is only good to know besides: without the connection nothing of it."""
    try:
        return _ask_all(client, asks, end)
    except Unreachable:
        return {}


def _submit(client: AmiClient, action: str, headers: Headers, end: float) -> Future[AmiReply]:
    return client.submit(action, headers, within_s=end - time.monotonic())


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


def _items(outcome: ActionOutcome | None) -> tuple[Message, ...]:
    return outcome.items if isinstance(outcome, AmiReply) else ()


def _device_messages(outcomes: dict[str, ActionOutcome]) -> DeviceMessages:
    contacts_known = isinstance(outcomes["PJSIPShowContacts"], AmiReply)  # without them every phone's would look static
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


def _with_ready(queue: Queue, outcome: ActionOutcome | None, pbx_now: datetime) -> Queue:
    ready = outcome.response.get("Value") if isinstance(outcome, AmiReply) else ""
    return with_ready(queue, integer(ready), pbx_now) if ready.isdecimal() else queue


def _guessed_start(outcomes: dict[str, ActionOutcome], offset_now: timedelta | None) -> int | None:
    """About when Asterisk started, as an epoch: CoreStatus has it in local time, and the offset may have been another.

    None where it isn't known.
    """
    status = outcomes.get("CoreStatus")
    local = parse_start(status.response) if isinstance(status, AmiReply) else None
    if local is None or offset_now is None:
        return None
    return int((local - offset_now).replace(tzinfo=UTC).timestamp())


def _system(
    client: AmiClient,
    outcomes: dict[str, ActionOutcome],
    offset_now: timedelta | None,
    clock_then: ActionOutcome | None,
    now: datetime,
) -> System | None:
    """The system, with the PBX's own offsets, or by the settings' zone where it may not be asked for them."""
    settings, status = outcomes["CoreSettings"], outcomes["CoreStatus"]
    if not (isinstance(settings, AmiReply) and isinstance(status, AmiReply)) or settings.failed or status.failed:
        return None
    offset_then = offset_now if clock_then is None else _zone(clock_then)[0]
    if offset_now is None and client.connection.timezone:
        zone, local = ZoneInfo(client.connection.timezone), parse_start(status.response)
        offset_now = now.astimezone(zone).utcoffset()
        offset_then = local.replace(tzinfo=zone).utcoffset() if local else None
    return parse_system(settings.response, status.response, offset_then, offset_now, now)


def _zone(outcome: ActionOutcome | None) -> tuple[timedelta | None, int]:
    if not isinstance(outcome, AmiReply):
        return None, 0
    offset, _, epoch = outcome.response.get("Value").partition(" ")
    return utc_offset(offset), integer(epoch)


def _judge(outcomes: Iterable[ActionOutcome]) -> SnapshotPart:
    """The worst of what a part needs; absent only if nothing of it is there."""
    failed, denied, absent, ok = [], [], [], 0
    for outcome in outcomes:
        if not isinstance(outcome, AmiReply):
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
        return SnapshotPart(state="failed" if failed else "denied", reason=" ".join([*failed, *denied]))
    return SnapshotPart() if ok else SnapshotPart(state="absent", reason=" ".join(absent))
