"""The demo company: its queues, trunks, agents and callers, and the calls planned for them. All names are made up.

Numbers are from the ranges that Ofcom reserves for drama, so none of them is in use.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from pbx.model.history import VisitOutcome

COMPANY = "Larkfield Garden Supplies"
ZONE = "Europe/London"
RegistrationState = Literal["Registered", "Unregistered", "Rejected"]


@dataclass(frozen=True, slots=True)
class Agent:
    """Somebody with a telephone. Agents answer queues; staff have none, but agents transfer calls to them."""

    extension: str
    name: str
    queues: tuple[str, ...]

    @property
    def interface(self) -> str:
        """The name of the telephone in queues."""
        return f"PJSIP/{self.extension}"


@dataclass(frozen=True, slots=True)
class DemoQueue:
    """A queue. Asterisk uses its `number`, people use its `name`."""

    number: str
    name: str
    service_level_s: int
    strategy: str
    dids: tuple[str, str]  # one for each trunk


@dataclass(frozen=True, slots=True)
class DemoTrunk:
    """A trunk. One that flaps loses its registration several times a day."""

    name: str
    flaps: bool


@dataclass(frozen=True, slots=True)
class PlannedRing:
    """A telephone that rings for a caller. `cancelled`: it stops because the caller hangs up."""

    agent: Agent
    at: datetime
    ring_s: float
    answered: bool
    cancelled: bool = False


@dataclass(frozen=True, slots=True)
class PlannedCall:
    """One simulated call. Times are UTC to the millisecond; numbers are as dialled, without a country code.

    In a queue call, `agent` answers at `answered_at`, and the visit to the queue ends at `left_at`. After a timeout,
    the caller hears an announcement until `ended_at`. After a transfer, the telephone of `target`, one of the staff,
    rings for `target_ring_s`, and the two talk until `ended_at`. In other calls, `agent` is the caller.
    """

    uniqueid: str  # of the caller's channel
    linkedid: str
    started_at: datetime
    direction: Literal["inbound", "outbound", "internal"]
    trunk: str
    from_number: str
    from_name: str
    to_number: str
    did: str
    queue: str
    joined_at: datetime | None
    outcome: VisitOutcome | Literal[""]
    rings: tuple[PlannedRing, ...]
    agent: Agent | None
    answered_at: datetime | None
    ended_at: datetime
    cause: int  # Q.850, of the dialled channel's hang-up
    pdd_s: float | None
    ended_by: str  # caller, agent, callee, transfer or ""
    recording: str  # the name of its sample recording, or ""
    left_at: datetime | None = None
    target: str = ""
    target_ring_s: float = 0.0

    @property
    def talk_s(self) -> float:
        """How long an agent talked with the caller; 0 if nobody answered."""
        end = self.left_at if self.left_at is not None else self.ended_at
        return (end - self.answered_at).total_seconds() if self.answered_at is not None else 0.0

    @property
    def serial(self) -> int:
        """The number after the dot of the uniqueid. The fifteen after it are reserved for the call's other channels."""
        return int(self.uniqueid.partition(".")[2])


SALES, SUPPORT, BILLING = "600", "601", "602"
QUEUES = (
    DemoQueue(SALES, "Sales", 20, "rrmemory", ("02079460600", "02079460700")),
    DemoQueue(SUPPORT, "Support", 30, "leastrecent", ("02079460601", "02079460701")),
    DemoQueue(BILLING, "Billing", 20, "fewestcalls", ("02079460602", "02079460702")),
)
TRUNKS = (DemoTrunk("albion-voice", flaps=False), DemoTrunk("harbour-sip", flaps=True))
AGENTS = (
    Agent("201", "Amelia Hart", (SALES,)),
    Agent("202", "Ben Okafor", (SALES,)),
    Agent("203", "Chloe Nairn", (SALES, BILLING)),
    Agent("204", "Dev Patel", (SUPPORT,)),
    Agent("205", "Eleri Vaughan", (SUPPORT,)),
    Agent("206", "Finlay Reid", (SUPPORT, SALES)),
    Agent("207", "Grace Adeyemi", (BILLING,)),
    Agent("208", "Harun Malik", (BILLING, SUPPORT)),
    Agent("209", "Isla Brennan", (SUPPORT, SALES)),
    Agent("210", "Jakub Nowak", (SUPPORT, SALES)),
    Agent("211", "Keira Doyle", (SUPPORT,)),
    Agent("212", "Luca Ferrari", (SUPPORT,)),
)
STAFF = (
    Agent("220", "Reception", ()),
    Agent("221", "Warehouse", ()),
    Agent("222", "Accounts", ()),
    Agent("223", "Priya Shah", ()),
)
PHONES = (*AGENTS, *STAFF)
UNUSED_PHONE = Agent("224", "Meeting room", ())  # never registered
CALLER_NAMES = (
    *("A Whitcombe", "Bracken Lodge", "C Oyelaran", "D McAllister", "E Thornbury", "F Kowalski", "G Pemberton"),
    *("Hollis & Sons", "I Rahman", "J Treharne", "K Abernathy", "L Fenwick", "M Castellano", "N Greaves"),
    *("Orchard Cottage", "P Dunmore", "Quayside Cafe", "R Lindqvist", "S Ballantyne", "T Adebayo", "U Farooq"),
)
_AREAS = ("0207946", "0113496", "0117496", "0121496", "0131496", "0141496", "0161496", "0191498")


def caller_of(index: int) -> tuple[str, str]:
    """The number and name of one of 600 callers, chosen by any integer. Most have no name; two thirds use a mobile."""
    index %= 600
    name = CALLER_NAMES[index // 5 % len(CALLER_NAMES)] if index % 5 == 0 else ""
    if index % 3:
        return f"07700900{index:03d}", name
    return f"{_AREAS[index // 3 % len(_AREAS)]}0{100 + index // 3:03d}", name
