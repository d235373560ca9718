"""Keys of telephone numbers, by which calls from and to one party are found."""

import pytest

from pbx.analytics.rows_to_columns import number_key


@pytest.mark.parametrize("written", ["+49 30 1234567", "030/1234567", "000493012345 67", "(030) 123 45 67"])
def test_different_notations_of_a_number_have_one_key(written: str) -> None:
    assert number_key(written) == number_key("+49301234567")


def test_different_numbers_have_different_keys() -> None:
    keys = [number_key(written) for written in ("1001", "11001", "01001", "100", "4930123456", "4930123457")]
    assert len(set(keys)) == len(keys)
    assert number_key("") == number_key("anonymous") == 0
