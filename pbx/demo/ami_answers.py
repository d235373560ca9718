"""The demo PBX's answers to AMI actions, byte for byte as Asterisk 16 writes them. Pure."""

from datetime import datetime
from zoneinfo import ZoneInfo

from pbx.demo.ami_messages import AmiAnswer, PbxMoment, ReceivedAction, empty_list_answer, list_answer, refuse, reply
from pbx.demo.ami_pjsip_answers import contacts, endpoints, one_endpoint, registrations
from pbx.demo.channels import DEVICE_IDLE, UNKNOWN, Channel, EventHeaders
from pbx.demo.company import QUEUES, ZONE
from pbx.demo.simulated_asterisk import Member, QueueState, member_headers

# The system


def _ping(action: ReceivedAction, moment: PbxMoment) -> str:
    return reply(action, "Success", ("Ping", "Pong"), ("Timestamp", f"{moment.clock_at.timestamp():.6f}"))


def _core_settings(action: ReceivedAction, moment: PbxMoment) -> str:
    fields = {
        "AMIversion": moment.release.ami_version,
        "AsteriskVersion": moment.release.version,
        "SystemName": "",
        "CoreMaxCalls": "0",
        "CoreMaxLoadAvg": "0.000000",
        "CoreRunUser": "asterisk",
        "CoreRunGroup": "asterisk",
        "CoreMaxFilehandles": "0",
        "CoreRealTimeEnabled": "No",
        "CoreCDRenabled": "Yes",
        "CoreHTTPenabled": "Yes",
    }
    return reply(action, "Success", *fields.items())


def _core_status(action: ReceivedAction, moment: PbxMoment) -> str:
    asterisk = moment.asterisk
    started = (asterisk.booted_at + (moment.clock_at - moment.at)).astimezone(ZoneInfo(ZONE))
    fields = [
        (f"Core{what}{part}", f"{started:{form}}")
        for what in ("Startup", "Reload")
        for part, form in (("Date", "%Y-%m-%d"), ("Time", "%H:%M:%S"))
    ]
    fields.append(("CoreCurrentCalls", str(len(asterisk.channels_at(moment.at)))))
    return reply(action, "Success", *fields)


def _getvar(action: ReceivedAction, moment: PbxMoment) -> str:
    """Answer Getvar for the function STRFTIME(epoch,zone,format). Global variables are empty."""
    name = action.get("variable")
    if not name:
        return refuse(action, "No variable specified")
    value = ""
    if name.startswith("STRFTIME(") and name.endswith(")"):
        epoch, _, form = (*name[9:-1].split(",", 2), "", "")[:3]
        at = datetime.fromtimestamp(float(epoch), ZoneInfo("UTC")) if epoch.isdecimal() else moment.clock_at
        form = form.replace("%s", str(int(at.timestamp()))).replace("%3q", f"{at.microsecond // 1000:03d}")
        value = at.astimezone(ZoneInfo(ZONE)).strftime(form)
    return reply(action, "Success", ("Variable", name), ("Value", value))


def _command(action: ReceivedAction, moment: PbxMoment) -> str:
    """Answer Command for the CLI command `core show version`, the only one that the demo knows."""
    command, follows = action.get("command"), ("Message", "Command output follows")
    if not command:
        return refuse(action, "No command provided")
    if command == "core show version":
        version = f"Asterisk {moment.release.version} built by nobody @ demo on a x86_64 running Linux on"
        return reply(action, "Success", follows, ("Output", f"{version} 2024-01-04 17:58:50 UTC"))
    similar = f"(type 'core show help {' '.join(command.split()[:2])}' for other possible commands)"
    return reply(action, "Error", follows, ("Output", f"No such command '{command}' {similar}"))


def _channels(action: ReceivedAction, moment: PbxMoment) -> str:
    def item(channel: Channel) -> EventHeaders:
        age_s = max(int((moment.at - channel.created_at).total_seconds()), 0)
        blank = {UNKNOWN: ""}
        headers = tuple((name, blank.get(value, value)) for name, value in channel.headers())
        return (
            ("Event", "CoreShowChannel"),
            *action.id_line,
            *headers,
            ("Application", channel.application),
            ("ApplicationData", channel.data),
            ("Duration", f"{age_s // 3600:02d}:{age_s // 60 % 60:02d}:{age_s % 60:02d}"),
            ("BridgeId", channel.bridge),
        )

    channels = moment.asterisk.channels_at(moment.at)
    return list_answer(action, "Channels will follow", "CoreShowChannelsComplete", map(item, reversed(channels)))


# Queues


def _queue_status(action: ReceivedAction, moment: PbxMoment) -> str:
    items: list[EventHeaders] = []
    wanted, member = action.get("queue"), action.get("member")
    if wanted in ("", "default"):
        items.append(_params(action, None))
    for queue in QUEUES:
        if wanted in ("", queue.number):
            state = moment.asterisk.queue(queue, moment.at)
            items.append(_params(action, state))
            found = (one for one in state.members if member in ("", one.agent.interface))
            items += [_member(action, one) for one in found]
            items += _entries(action, state)
    return list_answer(action, "Queue status will follow", "QueueStatusComplete", items)


def _params(action: ReceivedAction, state: QueueState | None) -> EventHeaders:
    """The parameters of a queue. None: FreePBX's unused queue `default`."""
    counted = state.counters if state else None
    return (
        ("Event", "QueueParams"),
        ("Queue", state.queue.number if state else "default"),
        ("Max", "0"),
        ("Strategy", state.queue.strategy if state else "ringall"),
        ("Calls", str(len(state.callers) if state else 0)),
        ("Holdtime", str(counted.hold_s if counted else 0)),
        ("TalkTime", str(counted.talk_s if counted else 0)),
        ("Completed", str(counted.completed if counted else 0)),
        ("Abandoned", str(counted.abandoned if counted else 0)),
        ("ServiceLevel", str(state.queue.service_level_s if state else 0)),
        ("ServicelevelPerf", f"{counted.service_level_perf if counted else 0.0:.1f}"),
        ("ServicelevelPerf2", f"{counted.service_level_perf2 if counted else 0.0:.1f}"),
        ("Weight", "0"),
        *action.id_line,
    )


def _member(action: ReceivedAction, member: Member) -> EventHeaders:
    names = {"MemberName": "Name", "Interface": "Location"}
    headers = tuple((names.get(name, name), value) for name, value in member_headers(member) if name != "Ringinuse")
    return (("Event", "QueueMember"), *headers, *action.id_line)


def _entries(action: ReceivedAction, state: QueueState) -> list[EventHeaders]:
    found: list[EventHeaders] = []
    for waiter in state.callers:
        fields = dict(waiter.channel.headers())
        who = tuple((name, fields[name]) for name in ("Channel", "Uniqueid", "CallerIDNum", "CallerIDName"))
        connected = tuple((name, fields[name]) for name in ("ConnectedLineNum", "ConnectedLineName"))
        position = (("Queue", state.queue.number), ("Position", str(waiter.position)))
        rest = (("Wait", str(waiter.wait_s)), ("Priority", "0"), *action.id_line)
        found.append((("Event", "QueueEntry"), *position, *who, *connected, *rest))
    return found


def _queue_summary(action: ReceivedAction, moment: PbxMoment) -> str:
    items: list[EventHeaders] = []
    for queue in (None, *QUEUES):
        name = queue.number if queue else "default"
        if action.get("queue") not in ("", name):
            continue
        state = moment.asterisk.queue(queue, moment.at) if queue else None
        members, callers = (state.members, state.callers) if state else ((), ())
        free = sum(1 for member in members if member.status == DEVICE_IDLE and not member.paused)
        fields = {
            "Queue": name,
            "LoggedIn": len(members),
            "Available": free,
            "Callers": len(callers),
            "HoldTime": state.counters.hold_s if state else 0,
            "TalkTime": state.counters.talk_s if state else 0,
            "LongestHoldTime": max((waiter.wait_s for waiter in callers), default=0),
        }
        headers = tuple((key, str(value)) for key, value in fields.items())
        items.append((("Event", "QueueSummary"), *headers, *action.id_line))
    return list_answer(action, "Queue summary will follow", "QueueSummaryComplete", items)


ACTIONS: dict[str, AmiAnswer] = {
    "ping": _ping,
    "coresettings": _core_settings,
    "corestatus": _core_status,
    "getvar": _getvar,
    "command": _command,
    "coreshowchannels": _channels,
    "pjsipshowendpoints": endpoints,
    "pjsipshowendpoint": one_endpoint,
    "pjsipshowcontacts": contacts,
    "pjsipshowregistrationsoutbound": registrations,
    "queuestatus": _queue_status,
    "queuesummary": _queue_summary,
    "iaxpeerlist": empty_list_answer("IAX Peer status list will follow", "PeerlistComplete"),
    "iaxregistry": empty_list_answer("Registrations will follow", "RegistrationsComplete"),
    "sippeers": empty_list_answer("Peer status list will follow", "PeerlistComplete"),
    "sipshowregistry": empty_list_answer("Registrations will follow", "RegistrationsComplete"),
}


def answer_action(action: ReceivedAction, moment: PbxMoment) -> str:
    """The complete answer to an action of a logged-in client."""
    answer = moment.release.actions.get(action.action.lower())
    if answer is None:
        message = f"Invalid/unknown command: {action.action}. Use Action: ListCommands to show available commands."
        return refuse(action, message)
    return answer(action, moment)
