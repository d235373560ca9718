"""How long-running work reports its progress, and how to stop it."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

Progress = Callable[[int, int | None], None]  # units done, and the total (None if it isn't known yet)


class Stop(threading.Event):
    """A request to stop a job. Setting it also closes whatever the job is waiting for, so that the wait ends."""

    def __init__(self) -> None:
        super().__init__()
        self._closers: list[Callable[[], object]] = []
        self._guard = threading.Lock()

    @contextmanager
    def closing(self, close: Callable[[], object]) -> Iterator[None]:
        """Call `close` if the stop is set during the `with` block, on another thread.

        If the stop is set already, call it immediately, on this thread.
        """
        with self._guard:
            self._closers.append(close)
        if self.is_set():
            close()
        try:
            yield
        finally:
            with self._guard:
                self._closers.remove(close)

    def set(self) -> None:
        super().set()
        with self._guard:
            closers = list(self._closers)
        for close in closers:  # on threads, so that a `close` that hangs doesn't block the caller
            threading.Thread(target=close, name="closer", daemon=True).start()
