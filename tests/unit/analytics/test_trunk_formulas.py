"""Trunk formulas, compared with values calculated by hand. test_trunks counts and sums seizures."""

import pytest

from pbx.analytics.formulas.trunks import TrunkFigures

# Three answered calls (60 s, 120 s and of unknown length), a busy one, a failed one and one that is still ringing.
# The PDD of four outbound calls: 1, 3, 2 and 9 s.
HOUR = TrunkFigures(
    seizures=6,
    open=1,
    answered=3,
    effective=4,
    unsure=1,
    outbound=5,
    billsec_s=180.0,
    billed=2,
    pdd_s=15.0,
    pdds=4,
    concurrency_peak=3,
    busy_s=5400.0,
    period_s=3600.0,
)


def test_an_hours_figures_equal_those_calculated_by_hand() -> None:
    assert HOUR.asr.parts_text() == "3 of 5"  # the open seizure is not in any ratio yet
    assert HOUR.ner.parts_text() == "4 of 5"
    assert HOUR.acd.value == 90  # (60 + 120) / 2: the third duration is unknown
    assert HOUR.pdd.value == pytest.approx(15 / 4)
    assert HOUR.concurrency_mean.value == 1.5  # 5,400 busy seconds in an hour
    assert HOUR.ner_upper.parts_text() == "5 of 5"


def test_figures_without_a_denominator_are_not_applicable() -> None:
    failed, empty = TrunkFigures(seizures=1, unsure=1), TrunkFigures(period_s=3600)
    assert failed.asr.percent_text() == "0.0%"
    assert failed.acd.duration_text() == "n/a"
    assert empty.asr.percent_text() == empty.ner.percent_text() == "n/a"
    assert empty.concurrency_mean.value == 0
