"""Trunk formulas, compared with values calculated by hand."""

import numpy as np
import pytest

from pbx.analytics.formulas.concurrency import Load
from pbx.analytics.formulas.trunks import SeizureColumns, TrunkFigures, tally_trunks

# Group, outbound, end, billsec and PDD.
HOUR = [
    (0, True, "answered", 60.0, 1.0),
    (0, True, "answered", 120.0, 3.0),
    (0, True, "busy", 0.0, 2.0),
    (0, True, "failed", 0.0, None),
    (0, True, "open", None, 9.0),  # still ringing
    (0, False, "answered", None, None),  # inbound, still talking
    (1, True, "failed", 0.0, None),
    (-1, True, "answered", 60.0, 1.0),  # before the period
]


def figures() -> list[TrunkFigures]:
    group, outbound, ended, billsec, pdd = (list(column) for column in zip(*HOUR, strict=True))
    size = len(HOUR)
    seizures = SeizureColumns(
        at_s=np.zeros(size, np.int64),
        trunk=np.zeros(size, np.int64),
        outbound=np.array(outbound, np.bool_),
        answered=np.array([end == "answered" for end in ended]),
        effective=np.array([end in ("answered", "busy") for end in ended]),
        open=np.array([end == "open" for end in ended]),
        unsure=np.array([end == "failed" for end in ended]),
        cause=np.zeros(size, np.int64),
        end_s=np.zeros(size),
        billsec_s=np.array(billsec, np.float64),
        pdd_s=np.array(pdd, np.float64),
    )
    return tally_trunks(
        seizures, np.array(group, np.int64), [Load(3, 5400.0), Load(1, 4.0), Load(0, 0.0)], [3600.0] * 3
    )


def test_an_hours_figures_equal_those_calculated_by_hand() -> None:
    hour = figures()[0]
    assert (hour.seizures, hour.open, hour.outbound) == (6, 1, 5)
    assert hour.asr.parts_text() == "3 of 5"  # the open seizure is not in any ratio yet
    assert hour.ner.parts_text() == "4 of 5"
    assert hour.acd.value == 90  # (60 + 120) / 2: the third duration is unknown
    assert hour.pdd.value == pytest.approx(15 / 4)
    assert hour.concurrency_mean.value == 1.5  # 5,400 busy seconds in an hour
    assert hour.concurrency_peak == 3


def test_figures_without_a_denominator_are_not_applicable() -> None:
    failed, empty = figures()[1:]
    assert failed.asr.percent_text() == "0.0%"
    assert failed.acd.duration_text() == "n/a"
    assert empty == TrunkFigures(period_s=3600)
    assert empty.asr.percent_text() == empty.ner.percent_text() == "n/a"
    assert empty.concurrency_mean.value == 0
