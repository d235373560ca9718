"""The AMI client: actions and their replies, events, keep-alive and reconnect.

One thread owns the socket. So it is always read (Asterisk disconnects a slow reader after `writetimeout`, 100 ms), and
TLS is never used from two threads. Callers get futures. Each action has a total and an idle deadline, and each reply a
maximum size.
"""

import contextlib
import math
import random
import secrets
import selectors
import socket
import ssl
import threading
import time
from collections import deque
from concurrent.futures import Future
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import count

from pbx.asterisk.ami.connection import CHUNK_BYTES, AmiConnection, open_link
from pbx.asterisk.ami.pending_action import PendingAction, over_limit, too_large
from pbx.asterisk.ami.protocol import Headers, Message, encode_action
from pbx.asterisk.ami.reply import AmiReply
from pbx.asterisk.ami.subscription import ConnectionGap, Subscription
from pbx.errors import AmiLoginError, AmiProtocolError, Deadline, PbxError, Unreachable
from pbx.settings import Connection

MAX_RETRY_S = 60.0
TOO_LARGE_PAUSE_S = 60.0  # how long an action isn't sent again after its reply was too large
MAX_UNANSWERED = 100  # actions past their deadline whose reply may still come


@dataclass(frozen=True)
class AmiTiming:
    """The time limits of a client, in seconds.

    `connect_s`: the longest time to connect and log in. `deadline_s` and `idle_s` are the defaults of each action: its
    longest total time, and the longest time without any part of a reply. After `keepalive_s` of silence the client
    sends a ping and expects a reply. `retry_s`: the first pause before a reconnect, doubled each time up to a minute.
    """

    connect_s: float = 10.0
    deadline_s: float = 60.0
    idle_s: float = 15.0
    keepalive_s: float = 20.0
    retry_s: float = 1.0


DEFAULT_TIMING = AmiTiming()


class AmiClient:
    """A logged-in connection that reconnects automatically. Use it as a context manager; it is thread-safe.

    `gaps` holds the latest times without a connection. An action is sent only once: actions in flight when the
    connection is lost fail with Unreachable, and so do actions submitted before it is restored.
    """

    def __init__(self, connection: Connection, link: AmiConnection, *, events: str, timing: AmiTiming) -> None:
        self.gaps: deque[ConnectionGap] = deque(maxlen=1000)
        self.ami_version = link.ami_version
        self.connection = connection
        self._link = link
        self._events = events
        self._timing = timing
        self._lock = threading.Lock()  # guards the next six attributes
        self._calls: dict[str, PendingAction] = {}
        self._outbox = bytearray()
        self._subscriptions: list[Subscription] = []
        self._lost_because = ""  # empty while connected
        self._too_large: dict[str, float] = {}  # actions, and until when they aren't sent again
        self._progress_at = self._received_at = time.monotonic()
        self._ids = map(f"{secrets.token_hex(4)}-{{}}".format, count(1))
        self._ping: Future[AmiReply] | None = None
        self._stop = threading.Event()
        self._settled = threading.Event()  # connected, or closed for good
        self._settled.set()
        self._wake_out, self._wake_in = socket.socketpair()
        self._wake_out.setblocking(False)
        self._wake_in.setblocking(False)
        self._thread = threading.Thread(target=self._run, name=f"ami-{connection.host}", daemon=True)
        self._thread.start()

    @classmethod
    def connect(cls, connection: Connection, *, events: str = "off", timing: AmiTiming = DEFAULT_TIMING) -> "AmiClient":
        """Connect and log in. `events`: Asterisk's event mask, `off`, `on`, or classes such as `call,agent`.

        Raises SettingsError, Unreachable, Deadline, AmiProtocolError or AmiLoginError.
        """
        link = open_link(connection, deadline_s=timing.connect_s, events=events)
        return cls(connection, link, events=events, timing=timing)

    @property
    def connected(self) -> bool:
        """Whether there is a connection at present."""
        return not self._lost_because

    def wait_connected(self, timeout_s: float) -> bool:
        """Wait until there is a connection, and return whether there is one."""
        self._settled.wait(timeout_s)
        return self.connected

    def submit(
        self,
        action: str,
        headers: Headers = (),
        *,
        deadline_s: float | None = None,
        idle_s: float | None = None,
        within_s: float = math.inf,
    ) -> Future[AmiReply]:
        """Send an action without waiting; several may be in flight. The reply may be a refusal, see AmiReply.

        The future fails with Deadline, Unreachable, AmiTooLarge or AmiProtocolError. Its callbacks run on the reader's
        thread and must not block. `within_s`: the time the caller has left, if that is less than the deadlines. An
        action whose reply was too large is not sent again for a minute.
        Raises SettingsError, before anything is sent, for a line break in a value or a line Asterisk would cut.
        """
        now = time.monotonic()
        most_s = min(deadline_s or self._timing.deadline_s, within_s)
        call = PendingAction(action, now + most_s, idle_s or self._timing.idle_s, now)
        call.future.set_running_or_notify_cancel()  # from here on only the reader ends it
        action_id = next(self._ids)
        payload = encode_action(action, headers, action_id)
        with self._lock:
            if self._lost_because:
                call.future.set_exception(self._unreachable(action, "was not sent"))
                return call.future
            if self._too_large.get(action, 0.0) > now:
                call.future.set_exception(too_large(action))
                return call.future
            self._calls[action_id] = call
            self._outbox += payload
        self._wake()
        return call.future

    def request(
        self, action: str, headers: Headers = (), *, deadline_s: float | None = None, idle_s: float | None = None
    ) -> AmiReply:
        """Send an action and wait for its complete reply.

        Raises SettingsError, Unreachable, Deadline, AmiProtocolError, AmiDenied, AmiActionError. An empty
        list is not an error.
        """
        return self.submit(action, headers, deadline_s=deadline_s, idle_s=idle_s).result().check()

    def command(self, text: str) -> list[str]:
        """Run a command of Asterisk's CLI and return the lines it printed.

        Raises as `request`; AmiActionError has Asterisk's message. The AMI user needs the class `command`.
        """
        return self.request("Command", [("Command", text)]).output

    def subscribe(self, limit: int = 10_000) -> Subscription:
        """Receive every unsolicited event from now on. When `limit` events are waiting, more are dropped and counted.

        The parameter `events` of `connect` decides which classes of events there are.
        """
        subscription = Subscription(limit)
        with self._lock:
            if self._stop.is_set():
                subscription.close()
            self._subscriptions.append(subscription)
        return subscription

    def close(self) -> None:
        """Close the connection; calls in flight fail with Unreachable, subscriptions end."""
        self._stop.set()
        self._wake()
        self._thread.join(self._timing.connect_s + 1)

    def __enter__(self) -> "AmiClient":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _wake(self) -> None:
        with contextlib.suppress(OSError):  # full: the reader is already awake; closed: it has ended
            self._wake_out.send(b"\0")

    def _unreachable(self, action: str, fate: str) -> Unreachable:
        where = f"{self.connection.host}:{self.connection.ami_port}"
        return Unreachable(
            f"{action} {fate}: the connection to {where} is lost ({self._lost_because}).",
            "The client reconnects, but doesn't send the action again. Check the PBX's state, then try again.",
        )

    # The reader's thread

    def _run(self) -> None:
        link: AmiConnection | None = self._link
        try:
            while link:
                lost_at, reason = self._serve(link)
                self._drop_calls(reason)
                link = self._reconnect(lost_at, reason)
        finally:
            self._drop_calls("it was closed")
            self._settled.set()
            with self._lock:
                for subscription in self._subscriptions:
                    subscription.close()
            self._wake_in.close()
            self._wake_out.close()

    def _serve(self, link: AmiConnection) -> tuple[datetime, str]:
        """Read and write until the connection is lost or the client closed; return when and why."""
        link.sock.setblocking(False)
        self._received_at = time.monotonic()
        self._ping = None
        with link.sock, selectors.DefaultSelector() as selector:
            selector.register(link.sock, selectors.EVENT_READ)
            selector.register(self._wake_in, selectors.EVENT_READ)
            try:
                self._dispatch([message.raw for message in link.messages])
                more = True  # TLS may have buffered data that came with the login
                while not self._stop.is_set():
                    writes = selectors.EVENT_WRITE if self._outbox else 0
                    selector.modify(link.sock, selectors.EVENT_READ | writes)
                    wait_s = 0 if more else self._next_due() - time.monotonic()
                    ready = {key.fileobj for key, _ in selector.select(wait_s)}
                    if self._wake_in in ready:
                        self._wake_in.recv(4096)
                    if more or link.sock in ready:
                        more = self._read(link)
                    self._write(link)
                    self._expire()
                    self._keep_alive()
            except TimeoutError as error:  # events since the last received data are missing
                silent_s = time.monotonic() - self._received_at
                return datetime.now(UTC) - timedelta(seconds=silent_s), str(error)
            except AmiProtocolError as error:
                return datetime.now(UTC), str(error)
            except OSError as error:
                return datetime.now(UTC), error.strerror or type(error).__name__
        return datetime.now(UTC), "it was closed"

    def _read(self, link: AmiConnection) -> bool:
        """Read what has arrived; returns True where there may be more, so that writes and deadlines get their turn."""
        for _ in range(32):
            try:
                data = link.sock.recv(CHUNK_BYTES)
            except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
                return False
            if not data:
                raise ConnectionError(None, "Asterisk closed it")
            self._received_at = time.monotonic()
            self._dispatch(link.parser.feed_frames(data))
            if len(data) < CHUNK_BYTES and not (isinstance(link.sock, ssl.SSLSocket) and link.sock.pending()):
                return False
        return True

    def _write(self, link: AmiConnection) -> None:
        with self._lock:
            if not self._outbox:
                return
            with contextlib.suppress(BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
                del self._outbox[: link.sock.send(self._outbox)]

    def _dispatch(self, frames: list[bytes]) -> None:
        """Give messages to their actions and subscriptions. Raises AmiTooLarge when a reply is too large."""
        finished: list[PendingAction] = []
        with self._lock:
            subscriptions = self._subscriptions = [one for one in self._subscriptions if not one.closed]
            unsolicited = [] if self._calls else frames
            for message in map(Message, frames if self._calls else ()):
                call = self._calls.get(message.action_id)
                if call is None:
                    unsolicited.append(message.raw)
                    continue
                self._progress_at = time.monotonic()
                if call.take(message):
                    finished.append(self._calls.pop(message.action_id))
            oversized = over_limit(self._calls.values())
            if oversized is not None:
                self._too_large[oversized.action] = time.monotonic() + TOO_LARGE_PAUSE_S
        for call in finished:
            call.end()
        if max(unsolicited, default=b"") > b"F":  # late responses to actions past their deadline
            unsolicited = [frame for frame in unsolicited if frame.startswith(b"Event: ")]
        if unsolicited:
            for subscription in subscriptions:
                subscription.offer(unsolicited)
        if oversized is not None:
            error = too_large(oversized.action)
            if not oversized.future.done():
                oversized.future.set_exception(error)
            raise error

    def _next_due(self) -> float:
        with self._lock:
            dues = [call.due_at(self._progress_at) for call in self._calls.values() if not call.future.done()]
        if self._ping is None:
            dues.append(self._received_at + self._timing.keepalive_s)
        return min(dues)  # a ping in flight is an action too

    def _expire(self) -> None:
        """Fail actions past their deadline. Raises AmiProtocolError when too many were never answered."""
        now = time.monotonic()
        with self._lock:
            late = [call for call in self._calls.values() if not call.future.done()]
            late = [call for call in late if call.due_at(self._progress_at) <= now]
        for call in late:
            call.forget()
            waited = f"after {now - call.sent_at:.1f} s"
            call.future.set_exception(
                Deadline(
                    f"Asterisk has not answered {call.action} in full {waited}.", "Is the PBX overloaded? Try again."
                )
            )
        with self._lock:
            unanswered = sum(call.future.done() for call in self._calls.values()) if late else 0
        if unanswered > MAX_UNANSWERED:
            raise AmiProtocolError(f"{MAX_UNANSWERED} actions were never answered")

    def _keep_alive(self) -> None:
        """Send a ping after a silence. Raises TimeoutError when it isn't answered: the connection is lost."""
        if self._ping is not None and self._ping.done():
            if self._ping.exception() is not None:
                raise TimeoutError(f"no answer to a ping within {self._timing.idle_s:g} s")
            self._ping = None
        if self._ping is None and time.monotonic() >= self._received_at + self._timing.keepalive_s:
            self._ping = self.submit("Ping", deadline_s=self._timing.idle_s)

    def _drop_calls(self, reason: str) -> None:
        with self._lock:
            self._lost_because = reason
            self._settled.clear()
            calls, self._calls = list(self._calls.values()), {}
            self._outbox.clear()
        for call in calls:
            if not call.future.done():
                call.future.set_exception(self._unreachable(call.action, "may or may not have been carried out"))

    def _reconnect(self, lost_at: datetime, reason: str) -> AmiConnection | None:
        """Connect again, and report the gap to subscribers; None when the client is closed before."""
        pause_s = self._timing.retry_s
        while not self._stop.wait(pause_s * random.uniform(0.75, 1.25)):  # noqa: S311 - spreads the clients, no secret
            try:
                link = open_link(self.connection, deadline_s=self._timing.connect_s, events=self._events)
            except PbxError as error:  # the PBX logs refused logins and may ban this machine, so wait long
                pause_s = MAX_RETRY_S if isinstance(error, AmiLoginError) else min(pause_s * 2, MAX_RETRY_S)
                continue
            gap = ConnectionGap(lost_at, datetime.now(UTC), reason)
            self.gaps.append(gap)
            self.ami_version = link.ami_version
            with self._lock:
                self._lost_because = ""
                for subscription in self._subscriptions:
                    subscription.report(gap)
            self._settled.set()
            return link
        return None
