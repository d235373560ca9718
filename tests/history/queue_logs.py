"""queue_log as text, read and folded."""

from pbx.history.queue_log import parse_line
from pbx.history.queue_visits import Folded, QueueLogFold

T = 1_795_262_830  # 2026-11-21 12:07:10 UTC


def lines(*events: str) -> list[bytes]:
    """Lines from `offset|callid|queue|agent|event|data…`, the offset in seconds after T."""
    found = []
    for event in events:
        offset, _, rest = event.partition("|")
        found.append(f"{T + int(offset)}|{rest}".encode())
    return found


def fold(*events: str, into: QueueLogFold | None = None, at_end: bool = True) -> Folded:
    """What the events tell."""
    into = into or QueueLogFold()
    for line in lines(*events):
        event = parse_line(line)
        assert event is not None
        into.add(event)
    return into.take(at_end=at_end)
