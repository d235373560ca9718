"""Erlang B: how many calls find all lines busy, and how many lines are needed so that hardly any do.

Erlang, A. K., 1917; the recursion is that of ITU's Teletraffic Engineering Handbook. Calls that find no line are lost.
"""

MOST_LINES = 1_000_000


def blocking(traffic_erlang: float, lines: int) -> float:
    """The share of calls, 0 to 1, that find all lines busy.

    B(0) = 1, B(n) = A * B(n - 1) / (n + A * B(n - 1)): no factorial and no power, so any traffic can be asked for.
    """
    if traffic_erlang < 0 or lines < 0:
        raise ValueError("traffic and lines can't be negative")
    lost = 1.0
    for line in range(1, lines + 1):
        lost = traffic_erlang * lost / (line + traffic_erlang * lost)
    return lost if traffic_erlang else float(lines == 0)


def lines_needed(traffic_erlang: float, blocked: float = 0.01) -> int:
    """The fewest lines at which at most the share `blocked` of calls is lost; 0 without traffic."""
    if not 0 < blocked <= 1:
        raise ValueError("the share of blocked calls lies between 0 and 1")
    if traffic_erlang < 0:
        raise ValueError("traffic can't be negative")
    if not traffic_erlang:
        return 0
    lost = 1.0
    for line in range(MOST_LINES):
        if lost <= blocked:
            return line
        lost = traffic_erlang * lost / (line + 1 + traffic_erlang * lost)
    raise ValueError(f"more than {MOST_LINES} lines")
