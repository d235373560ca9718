"""Asterisk 22: how its messages differ from those of Asterisk 16, as which the demo PBX answers."""

from datetime import datetime
from pathlib import Path

from pbx.demo.ami_answers import ACTIONS
from pbx.demo.ami_messages import END, PbxMoment, ReceivedAction, Release, refuse
from pbx.demo.asterisk_16 import ASTERISK_16
from pbx.demo.channels import EventHeaders
from pbx.demo.simulated_asterisk import AmiEvent, SimulatedAsterisk

_REMOVED_ACTIONS = ("sippeers", "sipshowregistry")  # with chan_sip, in Asterisk 21
_SIP_STATUSES = {"1": "404", "17": "486", "34": "503"}  # by the cause with which the far end refused a call


class SimulatedAsterisk22(SimulatedAsterisk):
    """The simulated Asterisk with the events of Asterisk 22."""

    def events_between(self, from_at: datetime, to_at: datetime) -> tuple[AmiEvent, ...]:
        return tuple(map(_event_of_22, super().events_between(from_at, to_at)))


def _event_of_22(event: AmiEvent) -> AmiEvent:
    """The event as Asterisk 22 sends it.

    A call that the far end refused ends with the SIP status as TechCause; other requests to hang up have no Cause. A
    pause has no Reason beside its PausedReason.
    """
    headers = event.headers
    if event.name in ("HangupRequest", "Hangup"):
        sip_status = _SIP_STATUSES.get(dict(headers)["Cause"])
        if sip_status is not None:
            headers += (("TechCause", sip_status),)
        elif event.name == "HangupRequest":
            headers = _without(headers, "Cause")
    elif event.name == "QueueMemberPause":
        headers = _without(headers, "Reason")
    return AmiEvent(event.at, event.name, event.group, headers)


def _without(headers: EventHeaders, name: str) -> EventHeaders:
    return tuple(header for header in headers if header[0] != name)


def _core_settings(action: ReceivedAction, moment: PbxMoment) -> str:
    return _with_field(ACTIONS["coresettings"](action, moment), "SoundsSearchCustomDir", "No")


def _core_status(action: ReceivedAction, moment: PbxMoment) -> str:
    processed = sum(1 for _ in moment.asterisk.calls_between(moment.asterisk.booted_at, moment.at))
    return _with_field(ACTIONS["corestatus"](action, moment), "CoreProcessedCalls", str(processed))


def _with_field(answer: str, name: str, value: str) -> str:
    """The answer with one more field at its end."""
    return f"{answer.removesuffix(END)}{name}: {value}{END}{END}"


def refuse_empty_filter(action: ReceivedAction) -> str | None:
    """The error for a Filter action without an expression, which Asterisk 16 accepts; None for any other action."""
    if action.get("operation").lower() != "add" or action.get("filter"):
        return None
    return refuse(action, "Filter was formatted incorrectly.  Check the syntax of the filter given.")


ASTERISK_22 = Release(
    version="22.10.1",
    ami_version="11.0.0",
    list_items=Path(__file__).with_name("asterisk_22_list_items.txt"),
    empty_fields=frozenset(),
    actions={name: answer for name, answer in ACTIONS.items() if name not in _REMOVED_ACTIONS}
    | {"coresettings": _core_settings, "corestatus": _core_status},
    asterisk_class=SimulatedAsterisk22,
)
RELEASES = {16: ASTERISK_16, 22: ASTERISK_22}
