"""Takes a snapshot of a PBX: its system, extensions, trunks, queues and active calls, or some of these.

All lists are requested together. A second batch then requests what the lists call for (each trunk's contact, the PBX's
UTC offset when it started). So a snapshot takes two round trips, whatever the size of the PBX.
"""

import re
import time
from collections.abc import Iterable
from concurrent.futures import Future
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from pbx.asterisk.ami.client import AmiClient
from pbx.asterisk.ami.devices import DeviceMessages, endpoints_to_detail, parse_devices, peers_to_detail
from pbx.asterisk.ami.protocol import Headers, Message
from pbx.asterisk.ami.reply import AmiReply
from pbx.asterisk.ami.snapshot import (
    may_wrap_up,
    parse_active_calls,
    parse_queues,
    parse_start,
    parse_system,
    with_wrap_up,
)
from pbx.asterisk.ami.values import integer, utc_offset
from pbx.errors import AmiActionError, AmiDenied, AmiProtocolError, Deadline, SettingsError, Unreachable
from pbx.model.snapshot import ActiveCall, Extension, PartName, Queue, Snapshot, SnapshotPart, System, Trunk

# The actions that each part needs. A missing module is fine as long as another one returns something.
PART_ACTIONS: dict[PartName, tuple[str, ...]] = {
    "system": ("CoreSettings", "CoreStatus"),
    "extensions": ("PJSIPShowEndpoints", "PJSIPShowContacts", "SIPpeers", "IAXpeerlist"),
    "trunks": ("PJSIPShowRegistrationsOutbound", "PJSIPShowEndpoints", "SIPshowregistry", "IAXregistry"),
    "queues": ("QueueStatus",),
    "active_calls": ("CoreShowChannels",),
}
# IAXpeerlist, because the items of IAXpeers carry no ActionID (observed on 16 and 22).
_DEVICES = (
    *PART_ACTIONS["extensions"],
    "PJSIPShowRegistrationsOutbound",
    "SIPshowregistry",
    "IAXregistry",
    "CoreShowChannels",
)
_PLAIN_NAME = re.compile(r"[\w.-]{1,80}")  # of a queue, safe as an argument of a dialplan function
_CLOCK = "the PBX's clock"
_ZONE = "STRFTIME({},,%z %s)"  # a dialplan function: UTC offset and epoch, for an epoch or, when empty, for now

SNAPSHOT_TIMEOUT_S = 120.0  # deadline of a complete snapshot
MAX_DETAILS = 2000  # devices, and queues, that need an action of their own

ActionOutcome = AmiReply | Deadline | AmiProtocolError
ActionRequest = tuple[str, Headers]


def take_snapshot(
    client: AmiClient, parts: Iterable[PartName] = tuple(PART_ACTIONS), *, deadline_s: float = SNAPSHOT_TIMEOUT_S
) -> Snapshot:
    """Take a snapshot of the PBX, or of some parts of it, within `deadline_s` seconds.

    The snapshot's `parts` report what is missing and why: no permission, a missing module, or a late or unusable reply.
    The other parts are complete. Raises Unreachable when the connection is lost, Deadline or AmiProtocolError when no
    action is answered.
    """
    wanted = list(parts)
    begun_at, begun = datetime.now(UTC), time.monotonic()
    end = begun + deadline_s
    actions = dict.fromkeys(action for part in wanted for action in PART_ACTIONS[part])
    devices = "extensions" in wanted or "trunks" in wanted
    actions |= dict.fromkeys(_DEVICES if devices else ())
    requests: dict[str, ActionRequest] = {action: (action, ()) for action in actions}
    if "system" in wanted or "queues" in wanted:
        requests[_CLOCK] = ("Getvar", [("Variable", _ZONE.format(""))])
    outcomes = _request_all(client, requests, end)
    clock = outcomes.pop(_CLOCK, None)
    failed = [outcome for outcome in outcomes.values() if not isinstance(outcome, AmiReply)]
    if failed and len(failed) == len(outcomes):
        raise failed[0]
    messages = _device_messages(outcomes) if devices else DeviceMessages()
    pjsip, sip = endpoints_to_detail(messages)[:MAX_DETAILS], peers_to_detail(messages)[:MAX_DETAILS]
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
    replies = _request_optional(client, more, end)
    messages.details = {name: _items(replies.get(f"PJSIP/{name}")) for name in pjsip}
    messages.sip_details = {
        name: found.response
        for name in sip
        if isinstance(found := replies.get(f"SIP/{name}"), AmiReply) and not found.failed
    }
    extensions, trunks = parse_devices(messages)
    return Snapshot(
        taken_at=begun_at,
        took_ms=round((time.monotonic() - begun) * 1000),
        system=_system(client, outcomes, offset_now, replies.get(_CLOCK), pbx_now) if "system" in wanted else None,
        extensions=extensions if "extensions" in wanted else (),
        trunks=trunks if "trunks" in wanted else (),
        queues=tuple(_with_ready(queue, replies.get(f"queue/{queue.name}"), pbx_now) for queue in queues),
        active_calls=parse_active_calls(_items(outcomes.get("CoreShowChannels"))) if "active_calls" in wanted else (),
        parts={part: _judge(outcomes[action] for action in PART_ACTIONS[part]) for part in wanted},
    )


def _request_all(client: AmiClient, requests: dict[str, ActionRequest], end: float) -> dict[str, ActionOutcome]:
    """Send all requests together, and return their outcomes.

    A reply that ends the connection (because it is too large, say) also ends the other requests; these are sent again
    after the reconnect. Raises Unreachable when the connection is lost for another reason.
    """
    outcomes: dict[str, ActionOutcome] = {}
    while left := [key for key in requests if key not in outcomes]:
        futures = {}
        for key in left:
            try:
                futures[key] = _submit(client, *requests[key], end)
            except SettingsError as error:  # a name from the PBX that an action can't contain
                outcomes[key] = AmiProtocolError(str(error))
        lost: Unreachable | None = None
        reply_unusable = False
        for key, future in futures.items():
            try:
                outcomes[key] = future.result()
            except Deadline as error:
                outcomes[key] = error
            except AmiProtocolError as error:
                outcomes[key], reply_unusable = error, True
            except Unreachable as error:
                lost = error
        if lost is not None and not (reply_unusable and client.wait_connected(end - time.monotonic())):
            raise lost
    return outcomes


def _request_optional(client: AmiClient, requests: dict[str, ActionRequest], end: float) -> dict[str, ActionOutcome]:
    """As `_request_all`, for optional details: returns nothing when the connection is lost."""
    try:
        return _request_all(client, requests, end)
    except Unreachable:
        return {}


def _submit(client: AmiClient, action: str, headers: Headers, end: float) -> Future[AmiReply]:
    return client.submit(action, headers, within_s=end - time.monotonic())


def fetch_system(client: AmiClient) -> System:
    """Version, start, uptime. Raises as `take_snapshot`, and AmiDenied or AmiActionError for this part."""
    system = _fetch(client, "system").system
    if system is None:
        raise AmiActionError("Asterisk sent no information about its system.")
    return system


def fetch_extensions(client: AmiClient) -> tuple[Extension, ...]:
    """PJSIP, SIP and IAX2 devices that aren't trunks. Raises as `fetch_system`."""
    return _fetch(client, "extensions").extensions


def fetch_trunks(client: AmiClient) -> tuple[Trunk, ...]:
    """Trunks: connections to other phone systems. Raises as `fetch_system`."""
    return _fetch(client, "trunks").trunks


def fetch_queues(client: AmiClient) -> tuple[Queue, ...]:
    """Queues with members and waiting callers. Raises as `fetch_system`."""
    return _fetch(client, "queues").queues


def fetch_active_calls(client: AmiClient) -> tuple[ActiveCall, ...]:
    """Calls in progress, one per linkedid. Raises as `fetch_system`."""
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
    contacts_known = isinstance(
        outcomes["PJSIPShowContacts"], AmiReply
    )  # without them every contact of a phone would look static
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
    return with_wrap_up(queue, integer(ready), pbx_now) if ready.isdecimal() else queue


def _guessed_start(outcomes: dict[str, ActionOutcome], offset_now: timedelta | None) -> int | None:
    """Roughly when Asterisk started, in seconds since 1970; None where it isn't known.

    CoreStatus has the local time only, and the UTC offset may have been different then.
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
    """The system, with the PBX's own UTC offsets, or those of the configured time zone where Getvar is denied."""
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
    """The state of a part: the worst of its actions; absent only if none of them is available."""
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
