"""Armed faults happen as often as armed, at their path only, also with concurrent requests."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.simulator.faults import Fault, Faults


def test_a_fault_happens_as_often_as_armed() -> None:
    faults = Faults()
    faults.arm(Fault("cut", after_bytes=7), times=2)
    assert [faults.take("cut", "ami/Ping") for _ in range(3)] == [Fault("cut", after_bytes=7)] * 2 + [None]
    assert faults.taken == {"cut": 2}
    assert faults.armed == ()


def test_a_fault_happens_only_for_its_kind_and_paths() -> None:
    faults = Faults()
    download = Fault("server_error", "ari/recordings/stored/*/file", status=503)
    faults.arm(download)
    assert faults.take("server_error", "ari/recordings/stored") is None
    assert faults.take("cut", "ari/recordings/stored/a%2Fb/file") is None
    assert faults.take("server_error", "ari/recordings/stored/a%2Fb/file") == download


def test_the_oldest_fault_comes_first_and_a_lasting_one_stays_until_cleared() -> None:
    faults = Faults()
    lasting, later = Fault("stall", "ami*", seconds=1), Fault("stall", seconds=2)
    faults.arm(lasting, times=None)
    faults.arm(later)
    assert [faults.take("stall", "ami/events") for _ in range(3)] == [lasting] * 3
    assert faults.take("stall", "ari") == later
    faults.clear()
    assert faults.take("stall", "ami/events") is None


def test_arming_a_fault_zero_times_is_an_error() -> None:
    with pytest.raises(ValueError, match="at least once"):
        Faults().arm(Fault("mute"), times=0)


def test_concurrent_requests_share_the_armed_faults() -> None:
    faults = Faults()
    faults.arm(Fault("refuse", "ari"), times=500)
    with ThreadPoolExecutor(8) as threads:
        taken = list(threads.map(lambda _: faults.take("refuse", "ari"), range(2000)))
    assert sum(fault is not None for fault in taken) == 500
    assert faults.taken == {"refuse": 500}
