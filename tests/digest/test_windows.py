"""Windows have names that people can type, and lie on a grid."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from joelclaw_tasks.routines.digest.window import DAY_MS, HOUR_MS, UnknownWindow, Window, ended_windows


@given(st.integers(0, 2_000_000), st.sampled_from([5, 10, 30, 60, 360, 720, 1440]))
def test_a_name_names_its_window(number: int, minutes: int):
    window = Window(number * minutes * 60_000, (number + 1) * minutes * 60_000)

    assert window == Window.of_name(window.name)


def test_names_are_those_that_people_write():
    assert "2026-11-28T07" == Window(1_795_849_200_000, 1_795_849_200_000 + HOUR_MS).name
    assert "2026-11-28" == Window(1_795_824_000_000, 1_795_824_000_000 + DAY_MS).name
    assert "2026-11-28T0730+30m" == Window.of_name("2026-11-28T0730+30m").name


@pytest.mark.parametrize(
    "name", ["", "yesterday", "2026-13-01", "2026-11-28T25", "2026-11-28+0m", "2026-11-28T07+1500m", "../etc"]
)
def test_what_is_no_name_is_refused(name: str):
    with pytest.raises(UnknownWindow):
        Window.of_name(name)


def test_windows_that_have_ended_are_listed_from_the_first_that_began_in_time():
    found = [window.start_at for window in ended_windows(4 * HOUR_MS + 1, HOUR_MS, since_at=HOUR_MS + 1)]

    assert [2 * HOUR_MS, 3 * HOUR_MS] == found
    assert [] == list(ended_windows(2 * HOUR_MS - 1, HOUR_MS, since_at=HOUR_MS))
