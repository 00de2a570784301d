"""Worlds come from a seed, and every kind of fault befalls what an operator may act on."""

from __future__ import annotations

import pytest

from joelclaw_tasks.evaluation.downstream import Downstream
from joelclaw_tasks.evaluation.family import FAMILIES, STEERABLE, family
from joelclaw_tasks.evaluation.fault import FaultKind
from joelclaw_tasks.evaluation.scenario import ARRIVALS_UNTIL_MS, LENGTH_MS, SLOTS, make_scenario

SEEDS = range(20)


@pytest.mark.parametrize("kind", FaultKind)
def test_the_same_seed_makes_the_same_world_and_another_seed_another(kind: FaultKind) -> None:
    assert make_scenario(kind, 5) == make_scenario(kind, 5)
    assert make_scenario(kind, 5) != make_scenario(kind, 6)


@pytest.mark.parametrize("kind", FaultKind)
def test_faults_begin_after_a_calm_time_and_end_long_before_the_world(kind: FaultKind) -> None:
    for seed in SEEDS:
        for window in make_scenario(kind, seed).faults.windows:
            assert 5 * 60_000 < window.begins_ms < window.ends_ms < LENGTH_MS - 8 * 60_000
            assert window.family in STEERABLE


def test_where_nothing_is_wrong_there_is_no_fault_of_any_kind() -> None:
    for seed in SEEDS:
        faults = make_scenario(FaultKind.NOTHING, seed).faults
        assert ((), None, None, None, None, None) == (
            faults.windows, faults.slow, faults.poison, faults.congested, faults.held, faults.flooded,
        )  # fmt: skip


def test_the_workers_have_room_for_all_that_comes_in_when_nothing_is_wrong() -> None:
    busy = sum(each.per_minute * each.run_ms for each in FAMILIES) / 60_000
    assert 0.4 * SLOTS < busy < 0.8 * SLOTS


def test_events_come_in_order_with_names_of_their_own_and_in_time() -> None:
    for kind in FaultKind:
        arrivals = make_scenario(kind, 1).arrivals
        assert sorted(each.at_ms for each in arrivals) == [each.at_ms for each in arrivals]
        assert len(arrivals) == len({each.id for each in arrivals})
        assert arrivals[-1].at_ms < ARRIVALS_UNTIL_MS


def test_a_run_has_the_same_luck_whoever_operates_and_however_often_one_asks() -> None:
    scenario = make_scenario(FaultKind.NOTHING, 3)
    mail = family("mail/queued")

    first = [Downstream(scenario).run(mail, f"job{each}", 0, 1_000) for each in range(300)]
    again = [Downstream(scenario).run(mail, f"job{each}", 0, 1_000) for each in reversed(range(300))]

    assert first == again[::-1]
    assert 0 < sum(bool(run.error) for run in first) < 15  # one of a hundred fails by chance
    assert first != [Downstream(scenario).run(mail, f"job{each}", 1, 1_000) for each in range(300)]


def test_a_downstream_that_is_jammed_by_retries_is_well_again_once_it_is_left_alone() -> None:
    scenario = make_scenario(FaultKind.RETRY_STORM, 1)
    window, most = scenario.faults.windows[0], scenario.faults.congested[1]
    downstream, search = Downstream(scenario), family("search/reindex")

    crowd = [downstream.run(search, f"job{each}", 0, window.ends_ms + each) for each in range(most + 5)]
    alone = downstream.run(search, "later", 1, window.ends_ms + 70_000)

    assert 5 <= sum(run.error == "ServiceUnavailable: 503" for run in crowd) <= 7
    assert 5 == len(downstream.jammed_ms)
    assert "ServiceUnavailable: 503" != alone.error
