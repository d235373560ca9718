"""How long work reports its progress, and how it learns that it should stop."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

Progress = Callable[[int, int | None], None]  # units done, and in total (None while that isn't known)


class Stop(threading.Event):
    """Tells a job to stop. Set, it also closes what the job waits for, so that it does."""

    def __init__(self) -> None:
        super().__init__()
        self._closers: list[Callable[[], object]] = []
        self._guard = threading.Lock()

    @contextmanager
    def closing(self, close: Callable[[], object]) -> Iterator[None]:
        """Have `close` called when the stop is set meanwhile. It runs on another thread."""
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
        for close in closers:  # one that hangs must not hold up who sets the stop
            threading.Thread(target=close, name="closer", daemon=True).start()
