"""What a server may say in Retry-After, and what is made of it."""

from __future__ import annotations

import time
from email.utils import formatdate

import pytest

from joelclaw_tasks.retry_after import LONGEST_S, read_retry_after_s


@pytest.mark.parametrize(
    ("said", "wait_s"),
    [
        ("120", 120), (" 7 ", 7), ("1.5", 1.5), ("0", 0),
        ("9" * 40, LONGEST_S), ("inf", LONGEST_S), ("-5", None), ("nan", None),
        ("soon", None), ("", None), (None, None), ("Mon, 99 Jan 2026 00:00:00 GMT", None),
        ("Thu, 01 Jan 1970 00:00:00 GMT", 0), ("Fri, 31 Dec 9999 23:59:59 GMT", LONGEST_S),
    ],
)  # fmt: skip
def test_a_number_or_a_date_is_read_within_a_day_and_nothing_else(said, wait_s):
    assert wait_s == read_retry_after_s(said)


def test_a_date_is_counted_from_now():
    assert read_retry_after_s(formatdate(time.time() + 90, usegmt=True)) == pytest.approx(90, abs=2)
