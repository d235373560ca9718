"""Visits to queues, rings in vain and agents' changes, from what app_queue tells live. Pure: messages in, facts out.

Asterisk publishes QueueCallerAbandon when a caller hangs up, and when the time is over or the agents are gone too.
Which of them it was the variable QUEUESTATUS tells, of which only a user with the class `dialplan` hears. For others a
request to hang up, heard before, tells the abandoned from those who were sent on: their time was over, most likely.
Visits left this way are settled by the next word on the caller's channel, or after `SETTLE_S`.
"""

from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable
from dataclasses import replace
from datetime import datetime, timedelta

from pbx.asterisk.ami.protocol import Message
from pbx.asterisk.ami.values import integer, known, span_s
from pbx.asterisk.formats.transfers import handed_over
from pbx.live.legs import begun_before
from pbx.live.open_visit import OpenVisit, not_before, remember, visit_of, with_agent
from pbx.model.history import AgentEvent, Ring, Visit, VisitOutcome

SETTLE_S = 1.5
_STATUS: dict[str, VisitOutcome] = {
    "TIMEOUT": "timeout",
    "LEAVEEMPTY": "exit_empty",
    "LEAVEUNAVAIL": "exit_empty",
    "WITHDRAW": "withdrawn",
}


class LiveVisits:
    """Takes events in the order they came; `visits`, `rings` and `changes` gather what they told until they are taken.

    `told_status`: whether QUEUESTATUS is heard of. `did_of` tells which number the caller of a channel had called.
    """

    def __init__(self) -> None:
        self.told_status = False
        self.did_of: Callable[[str], str] = lambda uniqueid: ""
        self.visits: dict[tuple[str, str, datetime], Visit] = {}
        self.rings: list[Ring] = []
        self.changes: list[AgentEvent] = []
        self._open: dict[str, dict[str, OpenVisit]] = {}  # by the caller's channel, by queue
        self._leaving: dict[tuple[str, str], OpenVisit] = {}
        self._absent: set[tuple[str, str]] = set()  # at the look before
        self._ended: OrderedDict[tuple[str, str], Visit] = OrderedDict()
        self._gave_up: OrderedDict[str, str] = OrderedDict()  # queues, by the channel of who hung up in one
        self._rung: OrderedDict[tuple[str, str, str], None] = OrderedDict()
        self._transferred: OrderedDict[str, Visit] = OrderedDict()  # by the caller's channel
        self._changed: OrderedDict[tuple[str, str], None] = OrderedDict()  # pairs of channels that changed places
        self._targets: OrderedDict[str, str] = OrderedDict()  # of transfers, by the channel passed on
        self.handlers: dict[str, Callable[[Message, datetime], None]] = {
            "QueueCallerJoin": self._join,
            "QueueCallerLeave": self._leave,
            "QueueCallerAbandon": self._give_up,
            "AgentConnect": self._connect,
            "AgentComplete": self._complete,
            "AgentRingNoAnswer": self._ring,
            "QueueMemberAdded": self._add_member,
            "QueueMemberRemoved": self._remove_member,
            "QueueMemberPause": self._pause,
            "HangupRequest": self._ask_hangup,
            "SoftHangupRequest": self._ask_hangup,
            "Hangup": self._hang_up,
            "VarSet": self._status,
            "BlindTransfer": self._transfer,
            "AttendedTransfer": self._transfer,
        }

    @property
    def open(self) -> list[Visit]:
        """The visits that go on."""
        return [held.visit for queues in self._open.values() for held in queues.values()]

    def queue_of(self, uniqueid: str) -> str:
        """The queue in which this caller is, or in which he has hung up; "" for none."""
        return next(iter(self._open.get(uniqueid, ())), self._gave_up.get(uniqueid, ""))

    def add_known(self, visits: Iterable[Visit]) -> None:
        """Visits that are stored as in progress; one of which the end was heard is told again."""
        for visit in visits:
            ended = self._ended.get((visit.uniqueid, visit.queue))
            if ended is not None:
                self._tell(ended)
            else:
                self._open.setdefault(visit.uniqueid, {}).setdefault(visit.queue, OpenVisit(visit.uniqueid, visit))

    def resume(self, asked_at: datetime, entries: Iterable[Message], channels: frozenset[str]) -> None:
        """After a time in which nothing was heard: what QueueStatus and the uniqueids of all channels showed.

        A visit that isn't there any more is `unknown`, without an end; one that nobody knew of is begun by its wait.
        """
        waiting = {(entry.get("Uniqueid"), entry.get("Queue")): entry for entry in entries}
        for held in [held for queues in self._open.values() for held in queues.values()]:
            visit = held.visit
            there = held.key in waiting or (held.connected and held.uniqueid in channels)
            if not there and begun_before(visit.joined_at, asked_at):
                self._close(held, replace(visit, outcome="unknown"))
        for (uniqueid, queue), entry in waiting.items():
            if queue not in self._open.get(uniqueid, {}) and (uniqueid, queue) not in self._ended:
                joined_at = asked_at - timedelta(seconds=span_s(entry.get("Wait")) or 0.0)
                self._begin(visit_of(entry, joined_at))

    def lose_absent(self, queues: Collection[str], there: Collection[tuple[str, str]], before: datetime) -> None:
        """Of who waits since before a moment and was in none of two looks nobody heard how the visit ended: `unknown`.

        `queues`: those that a look showed, `there`: the callers in them, by uniqueid and queue.
        """
        absent = {
            held.key: held
            for visits in self._open.values()
            for held in visits.values()
            if not held.connected and held.left_at is None and held.visit.joined_at < before
        }
        absent = {key: held for key, held in absent.items() if key not in there and key[1] in queues}
        for key, held in absent.items():
            if key in self._absent:
                self._close(held, replace(held.visit, outcome="unknown"))
        self._absent = set(absent)

    def settle(self, at: datetime) -> None:
        """End the visits that were left `SETTLE_S` ago or before, with what is known of how."""
        for held in list(self._leaving.values()):
            if held.left_at is not None and (at - held.left_at).total_seconds() >= SETTLE_S:
                self._settle(held)

    def retell(self) -> None:
        """Tell of all that goes on once more."""
        for visit in self.open:
            self._tell(visit)

    def _join(self, message: Message, at: datetime) -> None:
        uniqueid, queue = message.get("Uniqueid"), message.get("Queue")
        held = self._open.get(uniqueid, {}).get(queue)
        position = integer(message.get("Position")) or None
        if held is not None and held.left_at is None and not held.connected:  # heard twice, or seen by a look before
            if held.visit.original_position is None:
                self._update(held, replace(held.visit, original_position=position))
            return
        if held is not None:
            self._settle(held)
        self._ended.pop((uniqueid, queue), None)
        self._begin(replace(visit_of(message, at, position), did=self.did_of(uniqueid)))

    def _leave(self, message: Message, at: datetime) -> None:
        held = self._held(message)
        if held is None or held.connected or held.left_at is not None:
            return
        held.left_at = at
        self._leaving[held.key] = held
        if held.given_up and held.hanging_up:
            self._settle(held)

    def _give_up(self, message: Message, at: datetime) -> None:
        held = self._held(message, begun_before_s=span_s(message.get("HoldTime")) or 0.0, at=at)
        if held is None or held.given_up:
            return
        held.given_up = True
        self._update(
            held,
            replace(
                held.visit,
                position=integer(message.get("Position")) or None,
                original_position=integer(message.get("OriginalPosition")) or held.visit.original_position,
                wait_s=span_s(message.get("HoldTime")),
            ),
        )

    def _connect(self, message: Message, at: datetime) -> None:
        """AgentConnect: HoldTime and RingTime in seconds (app_queue.c, 13 to 22)."""
        held = self._held(message, begun_before_s=span_s(message.get("HoldTime")) or 0.0, at=at)
        if held is None or held.connected:
            return
        held.left_at = None
        self._leaving.pop(held.key, None)
        visit = with_agent(held.visit, message)
        self._update(held, replace(visit, connected_at=not_before(at, visit.joined_at, visit.wait_s)))

    def _complete(self, message: Message, at: datetime) -> None:
        """AgentComplete: HoldTime and TalkTime in seconds, Reason is caller, agent or transfer.

        Asterisk 16 names no channel in it when the caller's is gone already: then queue and agent tell whose it is.
        """
        talk_s = span_s(message.get("TalkTime"))
        before_s = (span_s(message.get("HoldTime")) or 0.0) + (talk_s or 0.0)
        held = self._served(message)
        if held is None and message.get("Uniqueid"):
            held = self._held(message, begun_before_s=before_s, at=at)
        if held is None:
            return
        visit, reason = with_agent(held.visit, message), message.get("Reason")
        connected_at = visit.connected_at or max(at - timedelta(seconds=talk_s or 0.0), visit.joined_at)
        visit = replace(
            visit,
            connected_at=connected_at,
            ended_at=not_before(held.left_at or at, connected_at, talk_s),
            talk_s=talk_s,
            outcome="transferred" if reason == "transfer" else "answered",
            ended_by=reason,
            target=self._targets.pop(visit.uniqueid, "") if reason == "transfer" else "",
        )
        self._close(held, visit)

    def _ring(self, message: Message, at: datetime) -> None:
        """AgentRingNoAnswer: RingTime in milliseconds."""
        key = (message.get("Uniqueid"), message.get("DestUniqueid"), message.get("Interface"))
        if key in self._rung:
            return
        remember(self._rung, key, None)
        ring_s = integer(message.get("RingTime")) / 1000
        held = self._held(message)
        uniqueid = held.visit.uniqueid if held else key[0]
        self.rings.append(Ring(at, message.get("MemberName"), message.get("Queue"), uniqueid, ring_s))

    def _add_member(self, message: Message, at: datetime) -> None:
        agent, queue = message.get("MemberName"), message.get("Queue")
        self.changes.append(AgentEvent(at, agent, queue, "login"))
        if message.get("Paused") == "1":
            self.changes.append(AgentEvent(at, agent, queue, "pause", message.get("PausedReason")))

    def _remove_member(self, message: Message, at: datetime) -> None:
        self.changes.append(AgentEvent(at, message.get("MemberName"), message.get("Queue"), "logout"))

    def _pause(self, message: Message, at: datetime) -> None:
        kind = "pause" if message.get("Paused") == "1" else "unpause"
        reason = message.get("PausedReason") or message.get("Reason")  # Reason: up to Asterisk 13
        queue = message.get("Queue")
        self.changes.append(AgentEvent(at, message.get("MemberName"), queue, kind, reason))  # type: ignore[arg-type]

    def _ask_hangup(self, message: Message, at: datetime) -> None:
        for held in self._open.get(message.get("Uniqueid"), {}).values():
            held.hanging_up = held.hanging_up or held.left_at is None

    def _hang_up(self, message: Message, at: datetime) -> None:
        for held in list(self._open.get(message.get("Uniqueid"), {}).values()):
            if held.connected:  # AgentComplete may follow
                held.left_at = held.left_at or at
                self._leaving[held.key] = held
                continue
            if held.left_at is None and not held.given_up:
                # Whoever hangs up leaves the queue before; a channel that did not may have been put in another's place.
                held.hanging_up, held.left_at = True, at
                self._leaving[held.key] = held
                continue
            held.hanging_up = held.hanging_up or held.left_at is None
            held.left_at = held.left_at or at
            self._settle(held)
        self._targets.pop(message.get("Uniqueid"), None)

    def _status(self, message: Message, at: datetime) -> None:
        """QUEUESTATUS comes after the end; ABANDONED, before an end without an agent: variables are heard of, then."""
        variable = message.get("Variable")
        self.told_status = self.told_status or variable in ("QUEUESTATUS", "ABANDONED")
        if variable != "QUEUESTATUS":
            return
        outcome = _STATUS.get(message.get("Value"))
        for held in list(self._open.get(message.get("Uniqueid"), {}).values()):
            if outcome and held.left_at is not None and not held.connected:
                self._settle(held, outcome)

    def _transfer(self, message: Message, at: datetime) -> None:
        """Where the caller was passed on to, as queue_log has it: heard before or after AgentComplete."""
        uniqueid, target = message.get("TransfereeUniqueid"), message.get("Extension")
        if message.event == "AttendedTransfer":
            self._put_into_queue(message)
            target = message.get("DestApp") or known(
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
                self._tell(self._ended[key])
                break

    def _held(
        self, message: Message, *, begun_before_s: float | None = None, at: datetime | None = None
    ) -> OpenVisit | None:
        """The open visit of an event. One whose end nobody saw goes on with it; one never heard of begins before it."""
        uniqueid, queue = message.get("Uniqueid"), message.get("Queue")
        held = self._open.get(uniqueid, {}).get(queue)
        if held is not None or at is None or begun_before_s is None or not uniqueid:
            return held
        ended = self._ended.get((uniqueid, queue))
        if ended is None:
            ended = visit_of(message, at - timedelta(seconds=begun_before_s))
        elif ended.outcome != "unknown":  # heard twice
            return None
        self._ended.pop((uniqueid, queue), None)
        return self._begin(replace(ended, outcome="in_progress"))

    def _served(self, message: Message) -> OpenVisit | None:
        """The visit that an agent has served: the channel's own, or one that was begun with another channel.

        Asterisk names no channel that is gone; and a caller whom the agent himself has put into a queue has changed
        channels with him, before or after this is told. An agent talks in a queue with one caller, after one wait.
        """
        uniqueid, queue = message.get("Uniqueid"), message.get("Queue")
        own = self._open.get(uniqueid, {}).get(queue)
        if own is not None and own.connected:
            return own
        found = [
            held
            for queues in self._open.values()
            for held in queues.values()
            if held.connected and (held.visit.queue, held.visit.interface) == (queue, message.get("Interface"))
        ]
        if uniqueid:
            found = [held for held in found if held.visit.wait_s == span_s(message.get("HoldTime"))]
        else:
            found = [held for held in found if held.left_at is not None]
        return found[0] if found else None

    def _put_into_queue(self, message: Message) -> None:
        """An attended transfer to somebody who waits in a queue: caller and agent have changed channels.

        From now on the caller's channel is the one in the queue (asterisk/asterisk#759, seen on 16 and 22).
        """
        caller = message.get("TransfereeUniqueid") or message.get("TransferTargetUniqueid")
        pairs = ((message.get(f"{which}TransfererUniqueid"), caller) for which in ("Second", "Orig"))
        pair = next(
            (pair for pair in pairs if any(not held.connected for held in self._open.get(pair[0], {}).values())), None
        )
        if pair is None or not caller or pair in self._changed:
            return
        remember(self._changed, pair, None)
        there, here = (self._open.pop(uniqueid, {}) for uniqueid in pair)
        talked = next((held.visit for held in here.values() if held.connected), self._transferred.get(caller))
        for uniqueid, queues in zip(pair, (here, there), strict=True):
            for held in queues.values():
                self._leaving.pop(held.key, None)
                held.uniqueid = uniqueid
                if held.left_at is not None and held.connected:
                    self._leaving[held.key] = held
                elif not held.connected:
                    held.left_at, held.hanging_up = None, False
                    if talked is not None:
                        self._update(held, handed_over(held.visit, talked))
            if queues:
                self._open[uniqueid] = queues

    def _begin(self, visit: Visit) -> OpenVisit:
        held = self._open.setdefault(visit.uniqueid, {})[visit.queue] = OpenVisit(visit.uniqueid, visit)
        self._tell(visit)
        return held

    def _update(self, held: OpenVisit, visit: Visit) -> None:
        held.visit = visit
        self._tell(visit)

    def _settle(self, held: OpenVisit, outcome: VisitOutcome | None = None) -> None:
        """End a visit that was left without an agent, or without AgentComplete."""
        visit, ended_at = held.visit, held.left_at
        if visit.connected_at is not None and ended_at is not None:
            ended_at = max(ended_at, visit.connected_at)
            talk_s = float(round((ended_at - visit.connected_at).total_seconds()))
            self._close(held, replace(visit, outcome="answered", ended_at=ended_at, talk_s=talk_s))
            return
        if outcome is None:
            outcome = self._outcome(held)
        wait_s = visit.wait_s
        if ended_at is not None:
            ended_at = not_before(ended_at, visit.joined_at, wait_s)
            wait_s = float(int((ended_at - visit.joined_at).total_seconds())) if wait_s is None else wait_s
        by = "caller" if outcome in ("abandoned", "exit_key") else ""
        self._close(held, replace(visit, outcome=outcome, ended_at=ended_at, wait_s=wait_s, ended_by=by))

    def _outcome(self, held: OpenVisit) -> VisitOutcome:
        if held.hanging_up:
            return "abandoned"
        if self.told_status:  # then silence tells too: no status is set for who hangs up or presses a key
            return "abandoned" if held.given_up else "exit_key"
        return "timeout" if held.given_up else "unknown"

    def _close(self, held: OpenVisit, visit: Visit) -> None:
        queues = self._open.get(held.uniqueid, {})
        queues.pop(visit.queue, None)
        if not queues:
            self._open.pop(held.uniqueid, None)
        self._leaving.pop(held.key, None)
        remember(self._ended, held.key, visit)
        if visit.outcome == "transferred":
            remember(self._transferred, held.uniqueid, visit)
        if visit.outcome == "abandoned":
            remember(self._gave_up, held.uniqueid, visit.queue)
        self._tell(visit)

    def _tell(self, visit: Visit) -> None:
        self.visits[visit.uniqueid, visit.queue, visit.joined_at] = visit
