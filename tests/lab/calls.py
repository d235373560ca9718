"""Places real calls on the lab's servers. Each is recorded as FreePBX does it and identified by its uniqueid."""

import csv
import itertools
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tests.lab.ami_session import Ami, Message
from tests.lab.process import wait_until
from tests.lab.provision import LabError
from tests.lab.servers import CARRIER, SERVERS, Asterisk, LabServer

QueueOutcome = Literal["answered", "abandoned", "timeout"]
TrunkOutcome = Literal["answered", "busy", "noanswer", "inbound"]

QUEUES = {"sales": "6001", "support": "6002", "billing": "6003", "desk": "6004"}
NUMBERS = {"answered": "5551001", "busy": "5552001", "noanswer": "5553001"}
DIDS = {"sales": "5550100", "1001": "5550101", "announcement": "5550102", "desk": "5550103", "outside": "5550104"}
NAMES = itertools.cycle(["Mara Lindqvist", "Zoë Čapek", "José Núñez", "Anna-Lena Groß", "Pat O'Hara"])
SERIAL = itertools.count(int(time.time()) % 100_000 * 10)


def new_caller() -> str:
    """Return a caller ID, `Name <number>`, that no other call of this run has."""
    return f"{next(NAMES)} <+4930{next(SERIAL):07d}>"


def session(server: Asterisk, events: str = "off") -> Ami:
    """Return an AMI session that is logged in. Raises LabError if the login fails."""
    ami = Ami(server.host, server.ami_port)
    answer = ami.login(server.ami_username, server.ami_secret, events)
    if answer[0]["Response"] != "Success":
        raise LabError(f"{server.name} refused the lab's own login: {answer[0]}")
    return ami


@dataclass(frozen=True)
class PlacedCall:
    """A call that the lab placed. `uniqueid` is that of the first leg, so it is also the call's linkedid."""

    server: LabServer
    kind: Literal["queue", "outbound", "inbound", "internal"]
    outcome: str
    caller: str
    number: str
    queue: str | None
    channel: str
    uniqueid: str

    @property
    def recording(self) -> str | None:
        """The recording's name as ARI lists it (below `monitor`, without extension), or None before the file exists."""
        found = list(self.server.monitor.glob(f"*/*/*/*-{self.uniqueid}.wav"))
        return str(found[0].relative_to(self.server.monitor)).removesuffix(".wav") if found else None

    @property
    def recording_file(self) -> Path:
        """The recording's path. Raises LabError if there is no recording."""
        if self.recording is None:
            raise LabError(f"No recording of call {self.uniqueid}.")
        return self.server.monitor / f"{self.recording}.wav"

    @property
    def recorded_bytes(self) -> int:
        """The recording's size so far, or 0 if there is no recording."""
        return self.recording_file.stat().st_size if self.recording else 0

    @property
    def queue_events(self) -> list[str]:
        """The call's events in queue_log, in order: ENTERQUEUE, CONNECT ..."""
        lines = (self.server.logs / "queue_log").read_text().splitlines()
        return [fields[4] for line in lines if (fields := line.split("|"))[1] == self.uniqueid]

    @property
    def disposition(self) -> str:
        """The disposition of the first leg in the CDR: ANSWERED, BUSY, NO ANSWER, FAILED. Empty until the call ends."""
        with (self.server.logs / "cdr-csv/Master.csv").open(newline="") as file:
            words = [row[14] for row in csv.reader(file) if row[16] == self.uniqueid]
        return words[0] if words else ""

    def is_up(self) -> bool:
        """Whether any channel of the call is still up."""
        with session(self.server) as ami:
            return any(item.get("Linkedid") == self.uniqueid for item in ami.action("CoreShowChannels"))

    def hangup(self) -> None:
        """Hang up the first leg, if it is still up, and wait until the call ends."""
        with session(self.server) as ami:
            ami.action("Hangup", {"Channel": self.channel})
        self.wait_end()

    def wait_end(self, deadline_s: float = 60) -> None:
        wait_until(f"call {self.uniqueid} ends", lambda: not self.is_up(), deadline_s)


def originate(
    server: Asterisk, channel: str, to: str, caller: str, variables: dict[str, float | str] | None = None
) -> Message:
    """Call `channel` and connect it to `to` (exten@context) when it answers. Return the OriginateResponse event."""
    exten, _, context = to.partition("@")
    settings = "\n".join(f"__{name}={value}" for name, value in (variables or {}).items())
    fields = {
        "Channel": channel,
        "Context": context,
        "Exten": exten,
        "Priority": "1",
        "CallerID": caller,
        "Async": "true",
    }
    with session(server, events="call") as ami:
        answer = ami.action("Originate", fields | ({"Variable": settings} if settings else {}))
        if answer[0]["Response"] != "Success":
            raise LabError(f"{server.name} refused to call {channel}: {answer[0]}")
        return ami.wait_event(Event="OriginateResponse", ActionID=ami.last_id)


def start_queue_call(
    server: LabServer, queue: str, outcome: str = "waiting", caller: str = "", **variables: float | str
) -> PlacedCall:
    """Send a caller to a queue.

    The variables say who ends the call and after how many seconds: `TALK_S` the agent, `PATIENCE_S` the caller,
    `TIMEOUT_S` the queue. Agents of `desk` answer after `ANSWER_S`.
    """
    caller = caller or new_caller()
    response = originate(server, "Local/s@caller/n", f"{QUEUES[queue]}@from-internal", caller, variables)
    return PlacedCall(server, "queue", outcome, caller, QUEUES[queue], queue, response["Channel"], response["Uniqueid"])


def place_queue_call(server: LabServer, outcome: QueueOutcome, seconds: float = 3, caller: str = "") -> PlacedCall:
    """Place a complete queue call: answered in `sales`, or abandoned or timed out in `support`, after `seconds`."""
    variable = {"answered": "TALK_S", "abandoned": "PATIENCE_S", "timeout": "TIMEOUT_S"}[outcome]
    queue = "sales" if outcome == "answered" else "support"
    call = start_queue_call(server, queue, outcome, caller, **{variable: seconds})
    call.wait_end()
    return call


def park_callers(server: LabServer, count: int, queue: str = "support") -> list[PlacedCall]:
    """Send callers to a queue, where they wait until you hang them up."""
    with ThreadPoolExecutor(8) as pool:
        calls = list(pool.map(lambda _: start_queue_call(server, queue), range(count)))
    wait_until("the callers are in the queue", lambda: all(call.queue_events for call in calls))
    return calls


def start_phone_call(server: LabServer, number: str, outcome: str = "answered", **variables: float | str) -> PlacedCall:
    """Let phone 1001 call `number` (1002, or 555... through the carrier) and stay on the line until you hang up."""
    kind: Literal["outbound", "internal"] = "outbound" if number.startswith("555") else "internal"
    caller = "Ana Ruiz <1001>"
    response = originate(server, "PJSIP/1001", f"{number}@from-internal", caller, variables)
    return PlacedCall(server, kind, outcome, caller, number, None, response["Channel"], response["Uniqueid"])


def place_internal_call(server: LabServer, seconds: float = 3) -> PlacedCall:
    """Let 1001 talk with 1002 for `seconds`."""
    call = start_phone_call(server, "1002")
    time.sleep(seconds)
    call.hangup()
    return call


def place_trunk_call(server: LabServer, outcome: TrunkOutcome, seconds: float = 3) -> PlacedCall:
    """Place a complete call over the trunk `carrier`. `seconds`: the talk time, or the ring time if unanswered."""
    if outcome == "inbound":
        call = start_inbound_call(server, seconds=seconds)
    else:
        call = start_phone_call(server, NUMBERS[outcome], outcome, RING_S=seconds)
        if outcome == "answered":
            time.sleep(seconds)
            call.hangup()
    call.wait_end()
    return call


def start_inbound_call(server: LabServer, to: str = "sales", seconds: float = 600, caller: str = "") -> PlacedCall:
    """The carrier calls one of the PBX's DIDS for somebody outside, who hangs up after `seconds`."""
    caller, did = caller or new_caller(), DIDS[to]
    number = caller.partition("<")[2].rstrip(">")
    with session(server, events="call") as ami:
        originate(CARRIER, f"PJSIP/{did}@pbx{server.version}", "s@world", caller, {"PATIENCE_S": seconds})
        leg = ami.wait_event(Event="Newchannel", CallerIDNum=number, Exten=did)
    queue = to if to in QUEUES else None
    return PlacedCall(server, "inbound", "answered", caller, did, queue, leg["Channel"], leg["Uniqueid"])


def hang_up_all(server: Asterisk) -> None:
    """End every call of a server."""
    server.cli("channel request hangup all")
    wait_until("all calls end", lambda: "0 active channels" in server.cli("core show channels count").splitlines())


def place_all(server: LabServer) -> list[PlacedCall]:
    """Place one call of every kind, all at the same time."""
    placers: list[Callable[[], PlacedCall]] = [
        *(
            lambda outcome=outcome: place_queue_call(server, outcome)
            for outcome in ("answered", "abandoned", "timeout")
        ),
        *(lambda outcome=outcome: place_trunk_call(server, outcome) for outcome in (*NUMBERS, "inbound")),
        lambda: place_internal_call(server),
    ]
    with ThreadPoolExecutor(len(placers)) as pool:
        return [future.result() for future in [pool.submit(place_call) for place_call in placers]]


def calls() -> None:
    """Place one call of every kind on both PBXes and print how each one ended."""
    for server in SERVERS.values():
        for call in place_all(server):
            events = " ".join(call.queue_events) or call.disposition
            print(f"{server.name} {call.kind:9} {call.outcome:10} {call.uniqueid:16} {events:40} {call.recording}")
