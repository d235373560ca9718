"""Erlang B: the share of calls that find all lines busy, and the number of lines needed for an accepted share.

A. K. Erlang, 1917; the recursion is from ITU's Teletraffic Engineering Handbook. The model assumes that a call that
finds all lines busy is lost. Check: 8.108 E on 15 lines block 1.00% of calls; 33.333 E need 45 lines at 1%.
"""

MAX_LINES = 1_000_000


def blocking(traffic_erlang: float, lines: int) -> float:
    """The blocking probability: the share of calls, 0 to 1, that find all lines busy.

    B(0) = 1, B(n) = A * B(n - 1) / (n + A * B(n - 1)) for traffic A and n lines. It has no factorials or powers, so it
    works for any traffic. Raises ValueError for negative values.
    """
    if traffic_erlang < 0 or lines < 0:
        raise ValueError("traffic and lines can't be negative")
    lost = 1.0
    for line in range(1, lines + 1):
        lost = traffic_erlang * lost / (line + traffic_erlang * lost)
    return lost if traffic_erlang else float(lines == 0)


def lines_needed(traffic_erlang: float, blocked: float = 0.01) -> int:
    """The smallest number of lines that blocks at most the share `blocked` of calls; 0 without traffic.

    Raises ValueError for impossible values, and when more than MAX_LINES lines are needed.
    """
    if not 0 < blocked <= 1:
        raise ValueError("the share of blocked calls must be between 0 and 1")
    if traffic_erlang < 0:
        raise ValueError("traffic can't be negative")
    if not traffic_erlang:
        return 0
    lost = 1.0
    for line in range(MAX_LINES):
        if lost <= blocked:
            return line
        lost = traffic_erlang * lost / (line + 1 + traffic_erlang * lost)
    raise ValueError(f"more than {MAX_LINES} lines")
