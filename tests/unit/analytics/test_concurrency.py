"""Concurrent calls, compared with values calculated by hand and with a count of every second."""

import numpy as np

from pbx.analytics.formulas.concurrency import Load, changes_of_groups, levels, levels_of, sweep


def loads(calls: list[tuple[float, float]], edges: list[int]) -> list[Load]:
    starts, ends = (np.array(times, dtype=np.float64) for times in (zip(*calls, strict=True) if calls else ((), ())))
    return sweep(levels(starts, ends), np.array(edges, dtype=np.int64))


def test_loads_equal_those_calculated_by_hand() -> None:
    #   0    10   20   30   40        calls
    #   |----a----|                   0–20
    #        |----b----|              10–30
    #             |c|                 20–24: starts when a ends
    #                  |----d----...  30–50: starts when b ends
    calls = [(0, 20), (10, 30), (20, 24), (30, 50)]
    assert loads(calls, [0, 10, 20, 30, 40]) == [
        Load(1, 10),  # a
        Load(2, 20),  # a and b
        Load(2, 14),  # b and c
        Load(1, 10),  # d
    ]


def test_a_call_longer_than_an_interval_counts_within_it() -> None:
    assert loads([(-100, 500), (95, 105)], [0, 100, 200]) == [Load(2, 105), Load(2, 105)]


def test_an_interval_without_changes_keeps_its_level() -> None:
    assert loads([(5, 35), (5, 36)], [0, 10, 20, 30, 40, 50]) == [
        Load(2, 10),
        Load(2, 20),
        Load(2, 20),
        Load(2, 11),
        Load(0, 0),
    ]


def test_no_calls_and_calls_of_0_s_are_no_load() -> None:
    assert loads([], [0, 10, 20]) == [Load(0, 0), Load(0, 0)]
    assert loads([(5, 5), (7, 7)], [0, 10]) == [Load(0, 0)]
    assert loads([(5, 6)], [0]) == []


def test_a_call_at_the_edges_of_an_interval_counts_in_it_only() -> None:
    assert loads([(10, 20)], [0, 10, 20, 30]) == [Load(0, 0), Load(1, 10), Load(0, 0)]


def test_the_sweep_equals_a_count_of_every_second() -> None:
    random = np.random.default_rng(1)
    starts = random.integers(-50, 400, 300)
    ends = starts + random.integers(0, 60, 300)
    edges = np.array([0, 37, 38, 120, 300, 401])
    level = np.array([((starts <= s) & (s < ends)).sum() for s in range(401)])
    found = sweep(levels(starts.astype(float), ends.astype(float)), edges)
    for load, first, last in zip(found, edges, edges[1:], strict=False):
        assert load == Load(level[first:last].max(), level[first:last].sum())


def test_each_groups_levels_equal_those_of_its_calls_alone() -> None:
    random = np.random.default_rng(2)
    starts = random.integers(0, 400, 300).astype(float)
    ends = starts + random.integers(0, 60, 300)
    group, edges = random.integers(0, 3, 300), np.array([0, 37, 120, 401])
    each = changes_of_groups(starts, ends, group, 4)
    for number, changes in enumerate(each):  # no call is in the last group
        alone = levels(starts[group == number], ends[group == number])
        assert sweep(levels_of(changes), edges) == sweep(alone, edges)
