"""Attended transfers into a queue: an agent waits in a queue and then hands the place to the caller on hold. Pure.

Asterisk swaps the two channels then, so the events of each visit continue under the other's uniqueid
(asterisk/asterisk#759, observed on 16 and 22).
"""

from dataclasses import replace

from pbx.asterisk.formats.queue_log import callid_epoch_s
from pbx.model.history import Visit


def with_caller_of(waiting: Visit, talked: Visit) -> Visit:
    """The visit of an agent who waited in a queue, after the caller that the agent talked to took the agent's place."""
    caller, name = (talked.caller, talked.caller_name) if talked.caller else (waiting.caller, waiting.caller_name)
    return replace(waiting, caller=caller, caller_name=name, did=talked.did or waiting.did)


def is_older_channel(callid: str, other: str) -> bool:
    """Whether the first channel is older than the other one, by their uniqueids."""
    one, two = _age(callid), _age(other)
    return one is not None and two is not None and one < two


def _age(callid: str) -> tuple[float, int] | None:
    begun_s, serial = callid_epoch_s(callid), callid.rpartition(".")[2]
    return None if begun_s is None or not serial.isdecimal() else (begun_s, int(serial[:20]))
