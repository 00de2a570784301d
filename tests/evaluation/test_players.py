"""Calls in processes of their own: answers in order, and a clear word when one of them dies."""

from __future__ import annotations

import os
from typing import Any

import pytest

from joelclaw_tasks.errors import FleetError
from joelclaw_tasks.evaluation.bench import Bench
from joelclaw_tasks.evaluation.players import side_by_side

pytestmark = pytest.mark.timeout(120)


def number_of(bench: Bench, number: int) -> tuple[int, int]:
    return number, os.getpid()


def die(bench: Bench) -> Any:
    os._exit(9)


def test_answers_come_in_the_order_of_the_calls_and_a_group_stays_together():
    groups = [[(number_of, (1,)), (number_of, (2,))], [(number_of, (3,))], [(number_of, (4,))]]

    answers = list(side_by_side(groups))

    assert [1, 2, 3, 4] == [number for number, _ in answers]
    assert answers[0][1] == answers[1][1]
    assert os.getpid() not in {process for _, process in answers}


def test_a_process_that_dies_is_said_so_and_nothing_hangs():
    with pytest.raises(FleetError, match="has died"):
        list(side_by_side([[(die, ())], [(number_of, (1,))]]))
