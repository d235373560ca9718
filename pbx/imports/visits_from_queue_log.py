"""Folds queue_log events into visits, missed rings and agent events. Pure; only open visits are kept in memory.

The data of each event are those of app_queue.c, versions 1.4 to 22; older versions omit the last fields. Where a field
may contain a `|` (a URL, a caller's name, a reason), the data are split from the side of the numeric fields.
"""

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from pbx.asterisk.formats.queue_log import NO_NAMES, QueueEvent, number, numbers
from pbx.asterisk.formats.transfers import is_older_channel, with_caller_of
from pbx.model.history import AgentEvent, AgentEventKind, Ring, Visit, VisitOutcome

LOST_AFTER_S = 86_400  # a visit without any event for this long has ended unrecorded
_SLACK_S = 2  # tolerance between moments in integer seconds
_REMEMBERED = 10_000  # calls whose DID or transfer is kept after their visit
_SILENT = frozenset({"CONFIGRELOAD", "RINGCANCELED", "AGENTDUMP", "PENALTY"})  # they change no visit or agent
_CHANGES: dict[str, AgentEventKind] = {
    "ADDMEMBER": "login",
    "AGENTLOGIN": "login",
    "AGENTCALLBACKLOGIN": "login",
    "REMOVEMEMBER": "logout",
    "AGENTLOGOFF": "logout",
    "AGENTCALLBACKLOGOFF": "logout",
    "PAUSE": "pause",
    "PAUSEALL": "pause",
    "UNPAUSE": "unpause",
    "UNPAUSEALL": "unpause",
}
_EXITS: dict[str, VisitOutcome] = {
    "ABANDON": "abandoned",
    "EXITWITHTIMEOUT": "timeout",
    "EXITEMPTY": "exit_empty",
    "EXITWITHKEY": "exit_key",
    "WITHDRAW": "withdrawn",
}


class FoldedHistory(NamedTuple):
    """The results of folding a part of queue_log. `visits` includes visits in progress with their state so far."""

    visits: list[Visit]
    rings: list[Ring]
    agent_events: list[AgentEvent]


_VisitKey = tuple[str, str]  # the callid of a visit's events, and its queue


class _UnfinishedVisit:
    """A visit in progress, the time of its last event, and whether it changed since it was last handed out."""

    __slots__ = ("changed", "key", "last_s", "visit")

    def __init__(self, key: _VisitKey, visit: Visit, last_s: int, *, changed: bool = True) -> None:
        self.key, self.visit, self.last_s, self.changed = key, visit, last_s, changed

    @property
    def connected(self) -> bool:
        """Whether an agent took the call."""
        return self.visit.connected_at is not None


class QueueLogFold:
    """Processes events in the order in which they were written; `take` returns the results since the last call.

    A visit is returned when it has ended, and before that whenever it changed; a later version replaces an earlier one.
    Events of unknown types are counted by name in `unknown`, and aren't an error.
    """

    def __init__(self, in_progress: Iterable[Visit] = ()) -> None:
        self.unknown: Counter[str] = Counter()
        self._open: dict[_VisitKey, _UnfinishedVisit] = {}
        for visit in in_progress:
            key, joined_s = (visit.uniqueid, visit.queue), int(visit.joined_at.timestamp())
            self._open[key] = _UnfinishedVisit(key, visit, joined_s, changed=False)
        self._dids: dict[str, str] = {}
        self._transferred: dict[str, Visit] = {}  # by callid
        self._visits: list[Visit] = []
        self._rings: list[Ring] = []
        self._changes: list[AgentEvent] = []
        self._now_s = 0
        self._pause_all: AgentEvent | None = None  # PAUSEALL, until it is clear whether events of single queues follow
        self._handlers: dict[str, Callable[[QueueEvent], None]] = {
            "ENTERQUEUE": self._enter,
            "CONNECT": self._connect,
            "COMPLETECALLER": self._complete,
            "COMPLETEAGENT": self._complete,
            "TRANSFER": self._transfer,
            "BLINDTRANSFER": self._transfer,
            "ATTENDEDTRANSFER": self._transfer,
            "RINGNOANSWER": self._ring,
            "DID": self._did,
            "QUEUESTART": self._restart,
            "SYSCOMPAT": self._part,
            **dict.fromkeys(_EXITS, self._exit),
            **dict.fromkeys(_CHANGES, self._change),
            **dict.fromkeys(_SILENT, lambda event: None),
        }

    def add(self, event: QueueEvent) -> None:
        """Process one event."""
        handler = self._handlers.get(event.name)
        if handler is None:
            self.unknown[event.name[:40]] += 1
            return
        self._now_s = event.at_s
        handler(event)

    def take(self, *, at_end: bool = False) -> FoldedHistory:
        """The results since the last call. `at_end`: no events follow, so results that were held back are included."""
        if at_end:
            self._settle_pause_all()
        self._close_old()
        for current in self._open.values():
            if current.changed:
                current.changed = False
                self._visits.append(current.visit)
        results = FoldedHistory(self._visits, self._rings, self._changes)
        self._visits, self._rings, self._changes = [], [], []
        return results

    def _enter(self, event: QueueEvent) -> None:
        """ENTERQUEUE url|callerid|position; the URL may hold anything, releases before 1.6 wrote no position."""
        if event.callid in NO_NAMES:
            return
        key = (event.callid, event.queue)
        joined_at = _moment(event.at_s)
        before = self._open.get(key)
        if before is not None and before.visit.joined_at != joined_at:  # its end is missing
            self._close(before, "unknown")
        fields = event.data.split("|")
        position = _int(number(fields.pop())) if len(fields) > 2 else None
        caller = fields[-1] if len(fields) > 1 else ""
        visit = Visit(
            uniqueid=event.callid,
            queue=event.queue,
            joined_at=joined_at,
            caller=caller,
            did=self._dids.get(event.callid, ""),
            original_position=position,
        )
        self._open[key] = _UnfinishedVisit(key, visit, event.at_s)

    def _connect(self, event: QueueEvent) -> None:
        """CONNECT hold|channel|ring."""
        hold, *others = numbers(event.data)
        ring = others[-1] if len(others) > 1 else None
        current = self._current_visit(event, hold, connected=False)
        if current is None:
            return
        current.visit = replace(
            current.visit,
            connected_at=_moment_after(event.at_s, current.visit.joined_at, hold),
            wait_s=_waited_s(hold, current.visit, event.at_s),
            ring_s=ring,
            agent=event.agent,
        )
        current.last_s, current.changed = event.at_s, True

    def _complete(self, event: QueueEvent) -> None:
        """COMPLETECALLER and COMPLETEAGENT hold|talk|original position."""
        hold, talk, position = [*numbers(event.data), None, None, None][:3]
        ended_by = "caller" if event.name == "COMPLETECALLER" else "agent"
        self._end_answered(event, "answered", hold, talk, position, ended_by)

    def _transfer(self, event: QueueEvent) -> None:
        """BLINDTRANSFER, TRANSFER exten|context|hold|talk|position; ATTENDEDTRANSFER how|to…|hold|talk|position.

        Asterisk 1.4 wrote no position.
        """
        fields = event.data.split("|")
        hold = talk = position = None
        if len(fields) > 3:
            figures = 2 if event.name == "TRANSFER" and len(fields) == 4 else 3
            hold, talk, position = [*numbers("|".join(fields[-figures:])), None][:3]
            fields = fields[:-figures]
        if event.name == "ATTENDEDTRANSFER":
            target = "" if fields[0] == "BRIDGE" else " ".join(fields[1:])  # a bridge's id means nothing to a reader
        else:
            target = "@".join(fields)
        self._end_answered(event, "transferred", hold, talk, position, "transfer", target)

    def _end_answered(
        self,
        event: QueueEvent,
        outcome: VisitOutcome,
        hold: float | None,
        talk: float | None,
        position: float | None,
        ended_by: str,
        target: str = "",
    ) -> None:
        current = self._current_visit(event, (hold or 0) + (talk or 0), connected=True, hold_s=hold)
        if current is None:
            return
        visit = current.visit
        if hold is None:
            hold = visit.wait_s
        connected_at = visit.connected_at or _moment(int(visit.joined_at.timestamp() + (hold or 0)))
        if talk is None:
            talk = max(event.at_s - connected_at.timestamp(), 0.0)
        current.visit = replace(
            visit,
            connected_at=connected_at,
            outcome=outcome,
            ended_at=_moment_after(event.at_s, connected_at, talk),
            wait_s=hold,
            talk_s=talk,
            agent=event.agent if event.agent not in NO_NAMES else visit.agent,
            original_position=_int(position) or visit.original_position,
            ended_by=ended_by,
            target=target,
        )
        self._close(current, outcome)

    def _exit(self, event: QueueEvent) -> None:
        """ABANDON, EXITEMPTY, EXITWITHTIMEOUT, WITHDRAW position|original|wait; EXITWITHKEY key| before them."""
        fields = event.data.split("|")
        target = fields.pop(0) if event.name == "EXITWITHKEY" else ""
        position, original, wait = [*map(number, fields), None, None, None][:3]
        current = self._current_visit(event, wait, connected=False)
        if current is None:
            return
        visit = current.visit
        current.visit = replace(
            visit,
            outcome=_EXITS[event.name],
            ended_at=_moment_after(event.at_s, visit.joined_at, wait),
            wait_s=_waited_s(wait, visit, event.at_s),
            position=_int(position),
            original_position=_int(original) or visit.original_position,
            ended_by="caller" if event.name in ("ABANDON", "EXITWITHKEY") else "",
            target=target,
        )
        self._close(current, _EXITS[event.name])

    def _ring(self, event: QueueEvent) -> None:
        """RINGNOANSWER milliseconds."""
        ring_ms = numbers(event.data)[0] or 0
        current = self._open.get((event.callid, event.queue))
        callid = current.visit.uniqueid if current else event.callid
        self._rings.append(Ring(_moment(event.at_s), event.agent, event.queue, callid, ring_ms / 1000))
        if current is not None:
            current.last_s = event.at_s

    def _change(self, event: QueueEvent) -> None:
        """ADDMEMBER [PAUSED], PAUSE reason …; the reason keeps every |. A queue of NONE is all of them."""
        if event.agent in NO_NAMES:
            return
        kind = _CHANGES[event.name]
        queue = "" if event.queue in NO_NAMES else event.queue
        reason = event.data if kind in ("pause", "unpause") else ""
        change = AgentEvent(_moment(event.at_s), event.agent, queue, kind, reason)
        if event.name in ("PAUSEALL", "UNPAUSEALL"):
            self._settle_pause_all()
            self._pause_all = change
            return
        if queue and kind in ("pause", "unpause"):
            self._settle_pause_all(change)
        self._changes.append(change)
        if event.name == "ADDMEMBER" and event.data == "PAUSED":
            self._changes.append(replace(change, kind="pause"))

    def _settle_pause_all(self, follows: AgentEvent | None = None) -> None:
        """Report PAUSEALL unless events of single queues follow: it names the interface, they name the agent."""
        of_all, self._pause_all = self._pause_all, None
        if of_all is None:
            return
        repeated = follows is not None and follows.kind == of_all.kind
        if not (repeated and follows and abs((follows.happened_at - of_all.happened_at).total_seconds()) <= 1):
            self._changes.append(of_all)

    def _did(self, event: QueueEvent) -> None:
        """DID number, which a dialplan writes before or after the caller joins; it applies to the entire call."""
        if event.callid in NO_NAMES or not event.data:
            return
        for (callid, _), current in self._open.items():
            if callid == event.callid and current.visit.did != event.data:
                current.visit, current.changed = replace(current.visit, did=event.data), True
        self._dids[event.callid] = event.data
        _forget_old(self._dids)

    def _part(self, event: QueueEvent) -> None:
        """SYSCOMPAT: agent and caller have no codec in common, and the caller leaves the queue."""
        current = self._current_visit(event, None, connected=False)
        if current is not None:
            current.visit = replace(current.visit, ended_at=_moment_after(event.at_s, current.visit.joined_at, None))
            self._close(current, "unknown")

    def _restart(self, event: QueueEvent) -> None:
        """QUEUESTART: Asterisk restarted, so all visits have ended at an unknown time.

        A reload writes CONFIGRELOAD instead and keeps the callers in their queues.
        """
        for current in list(self._open.values()):
            if current.last_s <= event.at_s:
                self._close(current, "unknown")

    def _close_old(self) -> None:
        for current in list(self._open.values()):
            if current.last_s < self._now_s - LOST_AFTER_S:
                self._close(current, "unknown")

    def _current_visit(
        self, event: QueueEvent, since_s: float | None, *, connected: bool, hold_s: float | None = None
    ) -> _UnfinishedVisit | None:
        """The open visit of an event. If the file lacks its start, a visit is started `since_s` before the event.

        `connected`: whether the event belongs to a visit with an agent. `hold_s`: the wait of that visit.
        """
        if event.callid in NO_NAMES:
            return None
        key = (event.callid, event.queue)
        current = self._open.get(key)
        if current is None or (connected and not current.connected):
            current = self._find_by_other_id(event, since_s, connected=connected, hold_s=hold_s) or current
        if current is None:
            joined_at = _moment(event.at_s - min(int(since_s or 0), LOST_AFTER_S))
            visit = Visit(event.callid, event.queue, joined_at, did=self._dids.get(event.callid, ""))
            current = self._open[key] = _UnfinishedVisit(key, visit, event.at_s)
        return current

    def _find_by_other_id(
        self, event: QueueEvent, since_s: float | None, *, connected: bool, hold_s: float | None
    ) -> _UnfinishedVisit | None:
        """The open visit of an event whose callid differs from that of the visit's start.

        After an attended transfer to an agent who waits in a queue, caller and agent have swapped channels, so each
        visit continues under the other's callid (asterisk/asterisk#759). A Local channel that is optimized away is
        replaced by its other channel. A visit with an agent is found by queue, agent and wait; one without by queue
        and start, and because its channel is the newer one.
        """
        began_s = event.at_s - (since_s or 0)
        found = [
            current
            for current in self._open.values()
            if current.key[1] == event.queue
            and current.key[0] != event.callid
            and current.connected == connected
            and abs(current.visit.joined_at.timestamp() - began_s) <= _SLACK_S
            and (
                (current.visit.agent, current.visit.wait_s) == (event.agent, hold_s)
                if connected
                else since_s is not None and is_older_channel(event.callid, current.key[0])
            )
        ]
        if len(found) != 1:
            return None
        self._swap(found[0].key[0], event.callid)
        return found[0]

    def _swap(self, one: str, other: str) -> None:
        """Swap the callids of two calls' visits; the caller of the agent who waited is now the one who waits."""
        swapped = {one: other, other: one}
        moved = [current for current in self._open.values() if current.key[0] in swapped]
        for current in moved:
            del self._open[current.key]
        talked = next((current.visit for current in moved if current.connected), self._transferred.get(other))
        for current in moved:
            current.key = (swapped[current.key[0]], current.key[1])
            self._open[current.key] = current
            if talked is not None and not current.connected:
                current.visit = with_caller_of(current.visit, talked)
                current.changed = True

    def _close(self, current: _UnfinishedVisit, outcome: VisitOutcome) -> None:
        del self._open[current.key]
        self._visits.append(replace(current.visit, outcome=outcome))
        if outcome == "transferred":
            self._transferred[current.key[0]] = current.visit
            _forget_old(self._transferred)


def _forget_old(memory: dict[str, Any]) -> None:
    if len(memory) > _REMEMBERED:
        del memory[next(iter(memory))]


def _moment(at_s: int) -> datetime:
    return datetime.fromtimestamp(at_s, UTC)


def _moment_after(at_s: int, earlier: datetime, lasted_s: float | None) -> datetime:
    """A moment after an earlier one; calculated from the time in between where the clock was set back."""
    at = _moment(at_s)
    return at if at >= earlier else earlier + timedelta(seconds=lasted_s or 0)


def _waited_s(logged_s: float | None, visit: Visit, at_s: int) -> float:
    """The wait that Asterisk logged, or the time since the start where an old release logs none."""
    return logged_s if logged_s is not None else max(at_s - visit.joined_at.timestamp(), 0.0)


def _int(value: float | None) -> int | None:
    return None if value is None else int(value)
