"""The state of a phone system at one moment, as typed classes that contain no secrets."""

from datetime import datetime
from typing import Literal

from pydantic import BaseModel, ConfigDict

IDLE = (0, 1)  # Status of QueueMember: unknown, not in use (member_status_available in app_queue)

PartName = Literal["system", "extensions", "trunks", "queues", "active_calls"]
TrunkState = Literal["registered", "unregistered", "rejected", "reachable", "unreachable", "unknown"]


class Row(BaseModel):
    """The immutable base of all classes in a snapshot."""

    model_config = ConfigDict(frozen=True)


class System(Row):
    """The PBX itself, from CoreSettings and CoreStatus. `utc_offset_s`: its UTC offset now, as used in file names."""

    version: str
    ami_version: str = ""
    system_name: str = ""
    started_at: datetime | None = None
    reloaded_at: datetime | None = None
    uptime_s: int | None = None
    utc_offset_s: int | None = None
    channels: int = 0


class Extension(Row):
    """A device that is not a trunk. `status` is Asterisk's own device state text ("Not in use")."""

    extension: str
    tech: str
    status: str
    contact: str = ""
    roundtrip_ms: float | None = None
    channels: int = 0


class Trunk(Row):
    """A connection to a provider or another PBX, whether it registers or is reached by its address.

    `state` is the state of its registration if it has one, otherwise whether its contact responds. `status` is
    Asterisk's own text for this state.
    """

    name: str
    tech: str
    state: TrunkState
    status: str = ""
    server: str = ""
    registers: bool = False
    roundtrip_ms: float | None = None
    channels: int = 0


class QueueMember(Row):
    """An agent in a queue. `status` is the code of AMI's QueueMember: 0 unknown, 1 not in use ... 8 on hold.

    `wrapping_up`: still in the wrap-up time after their last call, their own (`wrapup_s`) or else the queue's.
    """

    name: str
    interface: str
    status: int
    paused: bool = False
    pause_reason: str = ""
    in_call: bool = False
    penalty: int = 0
    calls_taken: int = 0
    last_call_at: datetime | None = None
    wrapup_s: int = 0
    wrapping_up: bool = False

    @property
    def available(self) -> bool:
        """Whether the next call could ring this agent, as in app_queue (is_member_available, Asterisk 16 to 22).

        As in app_queue, a device in an unknown state (IAX2, DAHDI, Custom) counts as idle.
        """
        return self.status in IDLE and not self.paused and not self.wrapping_up


class QueueCaller(Row):
    """A caller waiting in a queue (QueueEntry)."""

    position: int
    caller_id: str
    caller_name: str = ""
    wait_s: int = 0
    uniqueid: str = ""


class Queue(Row):
    """A queue with its members and waiting callers. `hold_time_s` and `talk_time_s` are moving averages."""

    name: str
    strategy: str = ""
    calls: int = 0
    longest_wait_s: int = 0
    hold_time_s: int = 0
    talk_time_s: int = 0
    completed: int = 0
    abandoned: int = 0
    service_level_s: int = 0
    service_level_perf: float = 0.0
    service_level_perf2: float | None = None
    members: tuple[QueueMember, ...] = ()
    callers: tuple[QueueCaller, ...] = ()

    @property
    def agents_available(self) -> int:
        """The number of agents whom the next call could ring."""
        return sum(member.available for member in self.members)


class ActiveCall(Row):
    """A call in progress: all channels of one linkedid. The caller is that of the first leg."""

    linkedid: str
    channel: str
    caller_id: str
    caller_name: str = ""
    connected_to: str = ""
    exten: str = ""
    state: str = ""
    application: str = ""
    duration_s: int = 0
    channels: tuple[str, ...] = ()


class SnapshotPart(Row):
    """Whether a part of the snapshot is complete and, if not, the reason."""

    state: Literal["ok", "denied", "absent", "failed"] = "ok"
    reason: str = ""


class Snapshot(Row):
    """The state of the PBX at one moment. A part that isn't `ok` in `parts` is empty or incomplete."""

    taken_at: datetime
    took_ms: int = 0
    system: System | None = None
    extensions: tuple[Extension, ...] = ()
    trunks: tuple[Trunk, ...] = ()
    queues: tuple[Queue, ...] = ()
    active_calls: tuple[ActiveCall, ...] = ()
    parts: dict[PartName, SnapshotPart] = {}
