"""Builds queue visits, missed rings and agent events from the live events of app_queue. Pure: messages in, rows out.

Asterisk sends QueueCallerAbandon when a caller hangs up, but also on a timeout or when no agents are left. The variable
QUEUESTATUS shows which it was, but only AMI users with the class `dialplan` receive it. For other users, a preceding
hangup request shows that the caller abandoned; without one, the visit most likely timed out. The next event of
the caller's channel decides the outcome of such a visit, or `SETTLE_S` do.
"""

from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable
from dataclasses import replace
from datetime import datetime, timedelta

from pbx.asterisk.ami.protocol import Message
from pbx.asterisk.ami.values import duration_s, integer, without_placeholder
from pbx.asterisk.formats.transfers import with_caller_of
from pbx.live.legs import began_before
from pbx.live.visit_in_progress import OpenVisit, not_before, remember, visit_of, with_agent
from pbx.model.history import AgentEvent, Ring, Visit, VisitOutcome

SETTLE_S = 1.5
_STATUS: dict[str, VisitOutcome] = {
    "TIMEOUT": "timeout",
    "LEAVEEMPTY": "exit_empty",
    "LEAVEUNAVAIL": "exit_empty",
    "WITHDRAW": "withdrawn",
}


class LiveVisits:
    """Processes events in order; `visits`, `rings` and `agent_events` collect results until the caller empties them.

    `status_heard`: whether QUEUESTATUS is received. `did_of` returns the DID that the caller of a channel dialled.
    """

    def __init__(self) -> None:
        self.status_heard = False
        self.did_of: Callable[[str], str] = lambda uniqueid: ""
        self.visits: dict[tuple[str, str, datetime], Visit] = {}
        self.rings: list[Ring] = []
        self.agent_events: list[AgentEvent] = []
        self._open: dict[str, dict[str, OpenVisit]] = {}  # by the caller's channel, by queue
        self._leaving: dict[tuple[str, str], OpenVisit] = {}
        self._absent: set[tuple[str, str]] = set()  # in the previous snapshot
        self._ended: OrderedDict[tuple[str, str], Visit] = OrderedDict()
        self._abandoned_in: OrderedDict[str, str] = OrderedDict()  # the queue in which a channel's caller abandoned
        self._rung: OrderedDict[tuple[str, str, str], None] = OrderedDict()
        self._transferred: OrderedDict[str, Visit] = OrderedDict()  # by the caller's channel
        self._swapped: OrderedDict[tuple[str, str], None] = OrderedDict()  # pairs of channels that were swapped
        self._targets: OrderedDict[str, str] = OrderedDict()  # of transfers, by the transferred channel
        self.handlers: dict[str, Callable[[Message, datetime], None]] = {
            "QueueCallerJoin": self._join,
            "QueueCallerLeave": self._leave,
            "QueueCallerAbandon": self._abandon,
            "AgentConnect": self._connect,
            "AgentComplete": self._complete,
            "AgentRingNoAnswer": self._ring,
            "QueueMemberAdded": self._add_member,
            "QueueMemberRemoved": self._remove_member,
            "QueueMemberPause": self._pause,
            "HangupRequest": self._request_hangup,
            "SoftHangupRequest": self._request_hangup,
            "Hangup": self._hang_up,
            "VarSet": self._status,
            "BlindTransfer": self._transfer,
            "AttendedTransfer": self._transfer,
        }

    @property
    def open(self) -> list[Visit]:
        """The visits in progress."""
        return [current.visit for queues in self._open.values() for current in queues.values()]

    def queue_of(self, uniqueid: str) -> str:
        """The queue that a caller is in, or in which they abandoned; "" for none."""
        return next(iter(self._open.get(uniqueid, ())), self._abandoned_in.get(uniqueid, ""))

    def add_stored(self, visits: Iterable[Visit]) -> None:
        """Add visits stored as in progress; one whose end was received is reported again."""
        for visit in visits:
            ended = self._ended.get((visit.uniqueid, visit.queue))
            if ended is not None:
                self._report(ended)
            else:
                self._open.setdefault(visit.uniqueid, {}).setdefault(visit.queue, OpenVisit(visit.uniqueid, visit))

    def resume(self, requested_at: datetime, entries: Iterable[Message], channels: frozenset[str]) -> None:
        """Continue after a time without events, from the items of QueueStatus and the uniqueids of all channels.

        A visit that isn't there any more becomes `unknown`, without an end. The start of a new one follows from its
        wait.
        """
        waiting = {(entry.get("Uniqueid"), entry.get("Queue")): entry for entry in entries}
        for current in [current for queues in self._open.values() for current in queues.values()]:
            visit = current.visit
            there = current.key in waiting or (current.connected and current.uniqueid in channels)
            if not there and began_before(visit.joined_at, requested_at):
                self._close(current, replace(visit, outcome="unknown"))
        for (uniqueid, queue), entry in waiting.items():
            if queue not in self._open.get(uniqueid, {}) and (uniqueid, queue) not in self._ended:
                joined_at = requested_at - timedelta(seconds=duration_s(entry.get("Wait")) or 0.0)
                self._begin(visit_of(entry, joined_at))

    def close_absent(self, queues: Collection[str], there: Collection[tuple[str, str]], before: datetime) -> None:
        """End visits as `unknown` whose end was missed: waiting ones that two snapshots in a row don't contain.

        `queues`: the queues in the snapshot. `there`: the callers in them, by uniqueid and queue. Visits that joined
        after `before` are left alone.
        """
        absent = {
            current.key: current
            for visits in self._open.values()
            for current in visits.values()
            if not current.connected and current.left_at is None and current.visit.joined_at < before
        }
        absent = {key: current for key, current in absent.items() if key not in there and key[1] in queues}
        for key, current in absent.items():
            if key in self._absent:
                self._close(current, replace(current.visit, outcome="unknown"))
        self._absent = set(absent)

    def settle(self, at: datetime) -> None:
        """End the visits that the caller left `SETTLE_S` ago or earlier, with the most likely outcome."""
        for current in list(self._leaving.values()):
            if current.left_at is not None and (at - current.left_at).total_seconds() >= SETTLE_S:
                self._settle(current)

    def repeat_open(self) -> None:
        """Report every visit in progress again."""
        for visit in self.open:
            self._report(visit)

    def _join(self, message: Message, at: datetime) -> None:
        uniqueid, queue = message.get("Uniqueid"), message.get("Queue")
        current = self._open.get(uniqueid, {}).get(queue)
        position = integer(message.get("Position")) or None
        if (
            current is not None and current.left_at is None and not current.connected
        ):  # received twice, or added by `resume`
            if current.visit.original_position is None:
                self._update(current, replace(current.visit, original_position=position))
            return
        if current is not None:
            self._settle(current)
        self._ended.pop((uniqueid, queue), None)
        self._begin(replace(visit_of(message, at, position), did=self.did_of(uniqueid)))

    def _leave(self, message: Message, at: datetime) -> None:
        current = self._current_visit(message)
        if current is None or current.connected or current.left_at is not None:
            return
        current.left_at = at
        self._leaving[current.key] = current
        if current.abandoned and current.hanging_up:
            self._settle(current)

    def _abandon(self, message: Message, at: datetime) -> None:
        current = self._current_visit(message, began_before_s=duration_s(message.get("HoldTime")) or 0.0, at=at)
        if current is None or current.abandoned:
            return
        current.abandoned = True
        self._update(
            current,
            replace(
                current.visit,
                position=integer(message.get("Position")) or None,
                original_position=integer(message.get("OriginalPosition")) or current.visit.original_position,
                wait_s=duration_s(message.get("HoldTime")),
            ),
        )

    def _connect(self, message: Message, at: datetime) -> None:
        """AgentConnect: HoldTime and RingTime in seconds (app_queue.c, 13 to 22)."""
        current = self._current_visit(message, began_before_s=duration_s(message.get("HoldTime")) or 0.0, at=at)
        if current is None or current.connected:
            return
        current.left_at = None
        self._leaving.pop(current.key, None)
        visit = with_agent(current.visit, message)
        self._update(current, replace(visit, connected_at=not_before(at, visit.joined_at, visit.wait_s)))

    def _complete(self, message: Message, at: datetime) -> None:
        """AgentComplete: HoldTime and TalkTime in seconds, Reason is caller, agent or transfer.

        Asterisk 16 names no channel when the caller's is already gone; then queue and agent identify the visit.
        """
        talk_s = duration_s(message.get("TalkTime"))
        before_s = (duration_s(message.get("HoldTime")) or 0.0) + (talk_s or 0.0)
        current = self._served(message)
        if current is None and message.get("Uniqueid"):
            current = self._current_visit(message, began_before_s=before_s, at=at)
        if current is None:
            return
        visit, reason = with_agent(current.visit, message), message.get("Reason")
        connected_at = visit.connected_at or max(at - timedelta(seconds=talk_s or 0.0), visit.joined_at)
        visit = replace(
            visit,
            connected_at=connected_at,
            ended_at=not_before(current.left_at or at, connected_at, talk_s),
            talk_s=talk_s,
            outcome="transferred" if reason == "transfer" else "answered",
            ended_by=reason,
            target=self._targets.pop(visit.uniqueid, "") if reason == "transfer" else "",
        )
        self._close(current, visit)

    def _ring(self, message: Message, at: datetime) -> None:
        """AgentRingNoAnswer: RingTime in milliseconds."""
        key = (message.get("Uniqueid"), message.get("DestUniqueid"), message.get("Interface"))
        if key in self._rung:
            return
        remember(self._rung, key, None)
        ring_s = integer(message.get("RingTime")) / 1000
        current = self._current_visit(message)
        uniqueid = current.visit.uniqueid if current else key[0]
        self.rings.append(Ring(at, message.get("MemberName"), message.get("Queue"), uniqueid, ring_s))

    def _add_member(self, message: Message, at: datetime) -> None:
        agent, queue = message.get("MemberName"), message.get("Queue")
        self.agent_events.append(AgentEvent(at, agent, queue, "login"))
        if message.get("Paused") == "1":
            self.agent_events.append(AgentEvent(at, agent, queue, "pause", message.get("PausedReason")))

    def _remove_member(self, message: Message, at: datetime) -> None:
        self.agent_events.append(AgentEvent(at, message.get("MemberName"), message.get("Queue"), "logout"))

    def _pause(self, message: Message, at: datetime) -> None:
        kind = "pause" if message.get("Paused") == "1" else "unpause"
        reason = message.get("PausedReason") or message.get("Reason")  # Reason: up to Asterisk 13
        queue = message.get("Queue")
        self.agent_events.append(AgentEvent(at, message.get("MemberName"), queue, kind, reason))  # type: ignore[arg-type]

    def _request_hangup(self, message: Message, at: datetime) -> None:
        for current in self._open.get(message.get("Uniqueid"), {}).values():
            current.hanging_up = current.hanging_up or current.left_at is None

    def _hang_up(self, message: Message, at: datetime) -> None:
        for current in list(self._open.get(message.get("Uniqueid"), {}).values()):
            if current.connected:  # AgentComplete may follow
                current.left_at = current.left_at or at
                self._leaving[current.key] = current
                continue
            if current.left_at is None and not current.abandoned:
                # A caller who hangs up leaves the queue first; a channel that didn't may have been swapped.
                current.hanging_up, current.left_at = True, at
                self._leaving[current.key] = current
                continue
            current.hanging_up = current.hanging_up or current.left_at is None
            current.left_at = current.left_at or at
            self._settle(current)
        self._targets.pop(message.get("Uniqueid"), None)

    def _status(self, message: Message, at: datetime) -> None:
        """QUEUESTATUS comes after the end. ABANDONED, before an end without an agent, shows that VarSet is received."""
        variable = message.get("Variable")
        self.status_heard = self.status_heard or variable in ("QUEUESTATUS", "ABANDONED")
        if variable != "QUEUESTATUS":
            return
        outcome = _STATUS.get(message.get("Value"))
        for current in list(self._open.get(message.get("Uniqueid"), {}).values()):
            if outcome and current.left_at is not None and not current.connected:
                self._settle(current, outcome)

    def _transfer(self, message: Message, at: datetime) -> None:
        """Where the caller was transferred, written as in queue_log. It comes before or after AgentComplete."""
        uniqueid, target = message.get("TransfereeUniqueid"), message.get("Extension")
        if message.event == "AttendedTransfer":
            self._swap_channels(message)
            target = message.get("DestApp") or without_placeholder(
                message.get("SecondTransfererConnectedLineNum") or message.get("TransferTargetCallerIDNum")
            )
        elif target and message.get("Context"):
            target = f"{target}@{message.get('Context')}"
        if not uniqueid or not target:
            return
        remember(self._targets, uniqueid, target)
        for key, visit in reversed(self._ended.items()):
            if key[0] == uniqueid and visit.outcome == "transferred" and not visit.target:
                self._ended[key] = replace(visit, target=target)
                self._report(self._ended[key])
                break

    def _current_visit(
        self, message: Message, *, began_before_s: float | None = None, at: datetime | None = None
    ) -> OpenVisit | None:
        """The open visit of an event.

        With `began_before_s`, an event of a visit that ended as unknown reopens it, and an event without any visit
        starts one that many seconds earlier.
        """
        uniqueid, queue = message.get("Uniqueid"), message.get("Queue")
        current = self._open.get(uniqueid, {}).get(queue)
        if current is not None or at is None or began_before_s is None or not uniqueid:
            return current
        ended = self._ended.get((uniqueid, queue))
        if ended is None:
            ended = visit_of(message, at - timedelta(seconds=began_before_s))
        elif ended.outcome != "unknown":  # received twice
            return None
        self._ended.pop((uniqueid, queue), None)
        return self._begin(replace(ended, outcome="in_progress"))

    def _served(self, message: Message) -> OpenVisit | None:
        """The visit that an agent completed: that of the channel, or one that began with another channel.

        Asterisk doesn't name a channel that is gone. And when the agent transferred the caller into a queue, caller and
        agent swapped channels, before or after this event. Queue, agent and wait identify the visit then, because an
        agent talks to one caller at a time.
        """
        uniqueid, queue = message.get("Uniqueid"), message.get("Queue")
        own = self._open.get(uniqueid, {}).get(queue)
        if own is not None and own.connected:
            return own
        found = [
            current
            for queues in self._open.values()
            for current in queues.values()
            if current.connected and (current.visit.queue, current.visit.interface) == (queue, message.get("Interface"))
        ]
        if uniqueid:
            found = [current for current in found if current.visit.wait_s == duration_s(message.get("HoldTime"))]
        else:
            found = [current for current in found if current.left_at is not None]
        return found[0] if found else None

    def _swap_channels(self, message: Message) -> None:
        """Handle an attended transfer to a party that waits in a queue: caller and agent have swapped channels.

        From now on the caller's channel is the one in the queue (asterisk/asterisk#759, observed on 16 and 22).
        """
        caller = message.get("TransfereeUniqueid") or message.get("TransferTargetUniqueid")
        pairs = ((message.get(f"{which}TransfererUniqueid"), caller) for which in ("Second", "Orig"))
        pair = next(
            (pair for pair in pairs if any(not current.connected for current in self._open.get(pair[0], {}).values())),
            None,
        )
        if pair is None or not caller or pair in self._swapped:
            return
        remember(self._swapped, pair, None)
        waiting, talking = (self._open.pop(uniqueid, {}) for uniqueid in pair)
        talked = next(
            (current.visit for current in talking.values() if current.connected), self._transferred.get(caller)
        )
        for uniqueid, queues in zip(pair, (talking, waiting), strict=True):
            for current in queues.values():
                self._leaving.pop(current.key, None)
                current.uniqueid = uniqueid
                if current.left_at is not None and current.connected:
                    self._leaving[current.key] = current
                elif not current.connected:
                    current.left_at, current.hanging_up = None, False
                    if talked is not None:
                        self._update(current, with_caller_of(current.visit, talked))
            if queues:
                self._open[uniqueid] = queues

    def _begin(self, visit: Visit) -> OpenVisit:
        current = self._open.setdefault(visit.uniqueid, {})[visit.queue] = OpenVisit(visit.uniqueid, visit)
        self._report(visit)
        return current

    def _update(self, current: OpenVisit, visit: Visit) -> None:
        current.visit = visit
        self._report(visit)

    def _settle(self, current: OpenVisit, outcome: VisitOutcome | None = None) -> None:
        """End a visit that the caller left without an agent, or without AgentComplete."""
        visit, ended_at = current.visit, current.left_at
        if visit.connected_at is not None and ended_at is not None:
            ended_at = max(ended_at, visit.connected_at)
            talk_s = float(round((ended_at - visit.connected_at).total_seconds()))
            self._close(current, replace(visit, outcome="answered", ended_at=ended_at, talk_s=talk_s))
            return
        if outcome is None:
            outcome = self._outcome(current)
        wait_s = visit.wait_s
        if ended_at is not None:
            ended_at = not_before(ended_at, visit.joined_at, wait_s)
            wait_s = float(int((ended_at - visit.joined_at).total_seconds())) if wait_s is None else wait_s
        by = "caller" if outcome in ("abandoned", "exit_key") else ""
        self._close(current, replace(visit, outcome=outcome, ended_at=ended_at, wait_s=wait_s, ended_by=by))

    def _outcome(self, current: OpenVisit) -> VisitOutcome:
        if current.hanging_up:
            return "abandoned"
        if self.status_heard:  # no status means that the caller hung up or pressed a key
            return "abandoned" if current.abandoned else "exit_key"
        return "timeout" if current.abandoned else "unknown"

    def _close(self, current: OpenVisit, visit: Visit) -> None:
        queues = self._open.get(current.uniqueid, {})
        queues.pop(visit.queue, None)
        if not queues:
            self._open.pop(current.uniqueid, None)
        self._leaving.pop(current.key, None)
        remember(self._ended, current.key, visit)
        if visit.outcome == "transferred":
            remember(self._transferred, current.uniqueid, visit)
        if visit.outcome == "abandoned":
            remember(self._abandoned_in, current.uniqueid, visit.queue)
        self._report(visit)

    def _report(self, visit: Visit) -> None:
        self.visits[visit.uniqueid, visit.queue, visit.joined_at] = visit
