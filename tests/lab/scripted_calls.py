"""Twelve calls on a lab server, with all that tests compare: live events, queue_log, CDR and Asterisk's counters."""

import fcntl
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

from tests.lab.ami_session import Ami, Message
from tests.lab.calls import (
    PlacedCall,
    place_internal_call,
    place_trunk_call,
    session,
    start_inbound_call,
    start_queue_call,
)
from tests.lab.process import wait_until
from tests.lab.provision import lab_dir
from tests.lab.servers import LabServer

DESK = "desk"  # no other test sends calls to this queue
PAUSED_AGENT, PAUSE_REASON = "Local/5010@agents/n", "Coffee"
ADDED_AGENT, ADDED_AGENT_NAME = "Local/5011@agents/n", "Wanda Kern"
TRANSFER_TARGET = {"Exten": "100", "Context": "elsewhere"}
# Who ends each call, and when: at least two seconds before or after the desk's service level target of four.
QUEUE_CALLS: dict[str, dict[str, float | str]] = {
    "soon": {"ANSWER_S": 1, "TALK_S": 3},
    "late": {"ANSWER_S": 7, "TALK_S": 3},
    "gone_soon": {"ANSWER_S": 60, "PATIENCE_S": 2},
    "gone_late": {"ANSWER_S": 60, "PATIENCE_S": 8},
    "timeout": {"ANSWER_S": 60, "TIMEOUT_S": 2},
    "blind": {},
    "attended": {},
}


@dataclass(frozen=True)
class ScriptedCalls:
    """The calls that were placed, and what Asterisk recorded about them.

    `calls` has them by name. `counters` is the desk's QueueParams event after the calls; they were reset before.
    """

    server: LabServer
    calls: dict[str, PlacedCall]
    uniqueids: frozenset[str]  # of all channels of these calls
    counters: Message
    since: datetime
    until: datetime

    @property
    def linkedids(self) -> set[str]:
        return {call.uniqueid for call in self.calls.values()}

    def write_queue_log(self, into: Path) -> Path:
        """Write the desk's lines of queue_log since the first call, and return the path."""
        lines = (self.server.logs / "queue_log").read_text().splitlines(keepends=True)
        desk_lines = (line for line in lines if line.split("|")[2] == DESK)
        into.write_text("".join(line for line in desk_lines if int(line.split("|")[0]) >= int(self.since.timestamp())))
        return into

    def write_cdr(self, into: Path) -> Path:
        """Write the lines of Master.csv about these calls, and return the path."""
        lines = (self.server.logs / "cdr-csv/Master.csv").read_text().splitlines(keepends=True)
        into.write_text("".join(line for line in lines if line.rsplit(",", 2)[1].strip('"') in self.uniqueids))
        return into


@contextmanager
def exclusive_desk(server: LabServer) -> Iterator[None]:
    """Keep other tests on this machine away from the desk for the duration of the block."""
    with (lab_dir() / f"{server.name}-{DESK}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def place_scripted_calls(server: LabServer, meanwhile: Callable[[], object]) -> ScriptedCalls:
    """Place eight calls to the desk, one of them over the trunk, and three outbound calls and an internal one.

    `meanwhile` runs while the calls are in progress.
    """
    since = datetime.now(UTC)
    server.cli(f"queue reset stats {DESK}")
    server.cli(f'queue add member {ADDED_AGENT} to {DESK} penalty 1 as "{ADDED_AGENT_NAME}"')
    server.cli(f"queue pause member {PAUSED_AGENT} queue {DESK} reason {PAUSE_REASON}")
    placers: dict[str, Callable[[], PlacedCall]] = {
        name: partial(_queue_call, server, name, settings) for name, settings in QUEUE_CALLS.items()
    }
    placers |= {
        "inbound": lambda: _after_end(start_inbound_call(server, DESK, seconds=5)),
        "internal": lambda: place_internal_call(server, 3),
        "out": lambda: place_trunk_call(server, "answered", 3),
        "busy": lambda: place_trunk_call(server, "busy", 3),
        "noanswer": lambda: place_trunk_call(server, "noanswer", 3),
    }
    with session(server, events="call") as ami:
        with ThreadPoolExecutor(len(placers)) as pool:
            placed = {name: pool.submit(place) for name, place in placers.items()}
            meanwhile()
            calls = {name: future.result() for name, future in placed.items()}
        uniqueids = _uniqueids_of(ami, {call.uniqueid for call in calls.values()})
    server.cli(f"queue unpause member {PAUSED_AGENT} queue {DESK}")
    server.cli(f"queue remove member {ADDED_AGENT} from {DESK}")
    placed_calls = ScriptedCalls(
        server, calls, uniqueids, _queue_counters(server), since, datetime.now(UTC) + timedelta(seconds=1)
    )
    wait_until("the CDR is written", lambda: all(call.disposition for call in calls.values()), 20)
    return placed_calls


def _queue_call(server: LabServer, name: str, settings: dict[str, Any]) -> PlacedCall:
    call = start_queue_call(server, DESK, name, **settings)
    if name in ("blind", "attended"):
        wait_until(f"somebody answers {name}", lambda: "CONNECT" in call.queue_events)
        time.sleep(1.5)  # so that there is talk time to count
        _transfer(call, attended=name == "attended")
    return _after_end(call)


def _after_end(call: PlacedCall) -> PlacedCall:
    call.wait_end()
    return call


def _transfer(call: PlacedCall, *, attended: bool) -> None:
    """Let the agent transfer the caller. If attended, the agent talks to the target first."""
    with session(call.server) as ami:
        items = {item["Channel"]: item for item in ami.action("CoreShowChannels") if "Channel" in item}
        bridge = items[call.channel]["BridgeId"]
        agent = next(name for name, item in items.items() if item["BridgeId"] == bridge and name != call.channel)
        action = "Atxfer" if attended else "BlindTransfer"
        ami.action(action, {"Channel": agent, **TRANSFER_TARGET})
        if attended:
            time.sleep(1.5)
            ami.action("Hangup", {"Channel": agent})


def _uniqueids_of(ami: Ami, linkedids: set[str]) -> frozenset[str]:
    """The uniqueids of all channels of these calls. Master.csv has no linkedid to find them by."""
    ami.action("Ping")
    channel_events = [event for event in ami.events if event.get("Uniqueid")]
    return frozenset(event["Uniqueid"] for event in channel_events if event.get("Linkedid") in linkedids)


def _queue_counters(server: LabServer) -> Message:
    with session(server) as ami:
        items = ami.action("QueueStatus", {"Queue": DESK})
    return next(item for item in items if item.get("Event") == "QueueParams")
