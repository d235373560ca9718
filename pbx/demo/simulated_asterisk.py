"""A simulated Asterisk: its state at any moment and its AMI events between two, computed from the history. Pure."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from pbx.demo.call_events import call_steps
from pbx.demo.channels import (
    DEVICE_IDLE,
    DEVICE_IN_USE,
    DEVICE_RINGING,
    DEVICE_UNAVAILABLE,
    RING,
    RINGING,
    UP,
    Channel,
    EventHeaders,
)
from pbx.demo.company import AGENTS, TRUNKS, UNUSED_PHONE, ZONE, Agent, DemoQueue, PlannedCall
from pbx.demo.queue_counters import Boot, QueueCounters, counters_at, is_waiting, seconds_between
from pbx.demo.shifts_and_outages import DayClock, Shift, seeded_random, shifts_of_day
from pbx.demo.simulated_history import agent_changes_of_day, days_between, local_day, trunk_changes_of_day
from pbx.model.history import AgentEvent

_WEEKLY_BOOT_HOUR = 4
_BY_NAME = {agent.name: agent for agent in AGENTS}


@dataclass(frozen=True, slots=True)
class AmiEvent:
    """An event as AMI sends it. `group` is its class; `headers` are those after Event and Privilege."""

    at: datetime
    name: str
    group: str
    headers: EventHeaders


@dataclass(frozen=True, slots=True)
class Member:
    """An agent in a queue, with the fields of QueueMember."""

    agent: Agent
    queue: str
    login_at: datetime
    paused: bool
    reason: str
    last_pause_at: datetime | None
    calls_taken: int
    last_call_at: datetime | None
    in_call: bool
    status: int


@dataclass(frozen=True, slots=True)
class WaitingCaller:
    """A caller who is waiting in a queue."""

    channel: Channel
    position: int
    wait_s: int


@dataclass(frozen=True, slots=True)
class QueueState:
    """A queue with its members, sorted by extension, and its waiting callers in their order."""

    queue: DemoQueue
    counters: QueueCounters
    members: tuple[Member, ...]
    callers: tuple[WaitingCaller, ...]


def last_regular_boot(at: datetime) -> datetime:
    """When the demo PBX last restarted before a moment: it restarts on Sundays at four in the morning."""
    local = at.astimezone(ZoneInfo(ZONE))
    day = local.date() - timedelta(days=(local.weekday() + 1) % 7)
    booted_at = DayClock(day).at(DayClock(day).second_of(_WEEKLY_BOOT_HOUR))
    if booted_at <= at:
        return booted_at
    day -= timedelta(days=7)
    return DayClock(day).at(DayClock(day).second_of(_WEEKLY_BOOT_HOUR))


def device_state(extension: str, channels: tuple[Channel, ...]) -> int:
    """The state of a telephone that has some of these channels."""
    if extension == UNUSED_PHONE.extension:
        return DEVICE_UNAVAILABLE
    states = {channel.state for channel in channels if channel.endpoint == extension}
    if states & {UP, RING}:
        return DEVICE_IN_USE
    return DEVICE_RINGING if RINGING in states else DEVICE_IDLE


def registrations_at(at: datetime) -> dict[str, str]:
    """The registration state of each trunk by its name."""
    states = {trunk.name: "Registered" for trunk in TRUNKS}
    for changed_at, name, state in trunk_changes_of_day(local_day(at)):
        if changed_at <= at:
            states[name] = state
    return states


def roundtrip_us(endpoint: str, at: datetime) -> int:
    """The round-trip time of an endpoint's last qualify request. Asterisk sends one each minute."""
    random = seeded_random(endpoint, int(at.timestamp()) // 60)
    trunk = any(trunk.name == endpoint for trunk in TRUNKS)
    return round(random.lognormvariate(0, 0.25) * (14_000 if trunk else 4_000))


@dataclass(frozen=True)
class SimulatedAsterisk(Boot):
    """Asterisk from one start on. It has only the calls that start after it."""

    def channels_at(self, at: datetime) -> tuple[Channel, ...]:
        """The channels at a moment, call by call in the order of their start."""
        found: list[Channel] = []
        for call in self.calls_between(at, at + timedelta(milliseconds=1)):
            done = [step for step in call_steps(call, self) if step.at <= at]
            found += done[-1].channels if done else ()
        return tuple(found)

    # Queues

    def queue(self, queue: DemoQueue, at: datetime) -> QueueState:
        """A queue at a moment."""
        channels = self.channels_at(at)
        found = (self.member(agent, queue.number, at, device_state(agent.extension, channels)) for agent in AGENTS)
        calls = [call for call in self.calls_between(at, at + timedelta(milliseconds=1)) if call.queue == queue.number]
        callers = sorted((call for call in calls if is_waiting(call, at)), key=_joined_at)
        named = {channel.uniqueid: channel for channel in channels}
        return QueueState(
            queue=queue,
            counters=counters_at(self, queue.number, at),
            members=tuple(member for member in found if member is not None),
            callers=tuple(
                WaitingCaller(named[call.uniqueid], position, seconds_between(_joined_at(call), at))
                for position, call in enumerate(callers, start=1)
            ),
        )

    def member(self, agent: Agent, queue: str, at: datetime, status: int) -> Member | None:
        """An agent in a queue, or None while they aren't logged in to it."""
        day = local_day(at)
        shift = next((one for one in shifts_of_day(day) if one.agent == agent), None)
        second = (at - DayClock(day).start_at).total_seconds()
        if queue not in agent.queues or shift is None or not shift.from_s <= second < shift.to_s:
            return None
        return self._member(shift, queue, at, second, status)

    def _member(self, shift: Shift, queue: str, at: datetime, second: float, status: int) -> Member:
        agent, clock = shift.agent, DayClock(local_day(at))
        login_at = max(clock.at(shift.from_s), self.booted_at)
        pauses = [pause for pause in shift.pauses if pause.from_s <= second and clock.at(pause.from_s) >= login_at]
        paused = bool(pauses) and second < pauses[-1].to_s
        answered = [
            call
            for call in self.calls_between(login_at, at + timedelta(milliseconds=1))
            if call.queue == queue and call.agent == agent and call.answered_at is not None and call.answered_at <= at
        ]
        ended = [call.left_at for call in answered if call.left_at is not None and login_at < call.left_at <= at]
        return Member(
            agent=agent,
            queue=queue,
            login_at=login_at,
            paused=paused,
            reason=pauses[-1].reason if paused else "",
            last_pause_at=clock.at(pauses[-1].from_s) if pauses else None,
            calls_taken=len(ended),
            last_call_at=max(ended, default=None),
            in_call=any(call.left_at is not None and call.left_at > at for call in answered),
            status=status,
        )

    # Events

    def events_between(self, from_at: datetime, to_at: datetime) -> tuple[AmiEvent, ...]:
        """The events after `from_at` up to `to_at`, in their order, without those before the start of Asterisk."""
        from_at = max(from_at, self.booted_at - timedelta(milliseconds=1))
        events: list[AmiEvent] = []
        for call in self.calls_between(from_at, to_at):
            for step in call_steps(call, self):
                if not from_at < step.at <= to_at:
                    continue
                if step.device is None:
                    events.append(AmiEvent(step.at, step.name, step.group, step.headers))
                else:
                    events += self._device_events(step.device.endpoint, step.device.status, step.at)
        for day in days_between(from_at, to_at):
            for change in agent_changes_of_day(day):
                if from_at < change.happened_at <= to_at:
                    events.append(self.agent_event(change))
            for at, trunk, state in trunk_changes_of_day(day):
                if from_at < at <= to_at:
                    events.append(AmiEvent(at, "Registry", "system", _registry(trunk, state)))
        return tuple(sorted(events, key=lambda event: event.at))

    def _device_events(self, extension: str, status: int, at: datetime) -> list[AmiEvent]:
        agent = next((agent for agent in AGENTS if agent.extension == extension), None)
        members = (self.member(agent, queue, at, status) for queue in agent.queues) if agent else ()
        return [
            AmiEvent(at, "QueueMemberStatus", "agent", member_headers(member))
            for member in members
            if member is not None
        ]

    def agent_event(self, change: AgentEvent) -> AmiEvent:
        """The event by which a queue reports that an agent logs in or out, pauses or resumes."""
        agent, at = _BY_NAME[change.agent], change.happened_at
        device = device_state(agent.extension, self.channels_at(at))
        # The event of a logout describes the member as it was before.
        before = timedelta(milliseconds=1) if change.kind == "logout" else timedelta()
        member = self.member(agent, change.queue, at - before, device)
        headers = member_headers(member) if member is not None else ()
        names = {"login": "QueueMemberAdded", "logout": "QueueMemberRemoved"}
        if change.kind == "pause":
            headers += (("Reason", change.reason),)
        return AmiEvent(at, names.get(change.kind, "QueueMemberPause"), "agent", headers)


def member_headers(member: Member) -> EventHeaders:
    """The headers that describe a member in the events of app_queue."""
    interface = member.agent.interface
    return (
        ("Queue", member.queue),
        ("MemberName", member.agent.name),
        ("Interface", interface),
        ("StateInterface", interface),
        ("Membership", "dynamic"),
        ("Penalty", "0"),
        ("CallsTaken", str(member.calls_taken)),
        ("LastCall", _epoch(member.last_call_at)),
        ("LastPause", _epoch(member.last_pause_at)),
        ("LoginTime", _epoch(member.login_at)),
        ("InCall", str(int(member.in_call))),
        ("Status", str(member.status)),
        ("Paused", str(int(member.paused))),
        ("PausedReason", member.reason),
        ("Ringinuse", "0"),
        ("Wrapuptime", "30"),
    )


def _epoch(at: datetime | None) -> str:
    return str(int(at.timestamp())) if at is not None else "0"


def _registry(trunk: str, state: str) -> EventHeaders:
    host = f"sip:{trunk}.example:5060"
    return (
        ("ChannelType", "PJSIP"),
        ("Username", f"sip:larkfield@{trunk}.example:5060"),
        ("Domain", host),
        ("Status", state),
    )


def _joined_at(call: PlannedCall) -> datetime:
    return call.joined_at or call.started_at
