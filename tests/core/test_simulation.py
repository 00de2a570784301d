"""Simulation: worlds small enough to know the answer by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest

from joelclaw_tasks.core.pace import Run
from joelclaw_tasks.core.simulation import Simulation
from joelclaw_tasks.core.world import Arrivals, Crew, LaneNow, Running, World, with_gates

NAS = (("limit:nas", 1),)


def lane(name: str, jobs: int, *, rank: float = 0, gates=(), queue: str = "q", **fields) -> LaneNow:
    return LaneNow(name, queue, name, name, tuple(gates), tuple(rank + n for n in range(jobs)), **fields)


def world(*lanes: LaneNow, slots: int = 1, ms: int = 100, **fields) -> World:
    runs = {each.name: (Run(ms),) for each in lanes}
    return World(lanes=lanes, crews=(Crew(None, slots),), **{"runs": runs, **fields})


def play(world: World, target=None, until_ms: float = 1e9):
    return Simulation(world, 1).play(until_ms, target)


@pytest.mark.parametrize(("slots", "drained_ms"), [(1, 1000), (2, 500), (3, 400), (20, 100)])
def test_jobs_run_as_many_at_once_as_there_are_places(slots, drained_ms):
    assert drained_ms == play(world(lane("a", 10), slots=slots)).drained_ms


def test_the_best_rank_goes_first_over_all_lanes():
    both = world(lane("late", 2, rank=1_000), lane("early", 2, rank=0))

    played = play(both)

    assert {"early": [0, 100], "late": [200, 300]} == played.waits


def test_a_limit_holds_some_lanes_back_and_lets_others_go():
    played = play(
        with_gates(
            world(lane("a", 2, gates=NAS), lane("b", 2, gates=NAS), lane("c", 2), slots=4),
            {"limit:nas": {"most": 1}},
        )
    )

    assert {"a": [0, 200], "b": [100, 300], "c": [0, 0]} == played.waits
    assert 400 == played.drained_ms


def test_a_heavy_job_waits_until_there_are_enough_places():
    heavy = lane("heavy", 1, gates=(("limit:nas", 2),), rank=5)
    light = lane("light", 1, gates=NAS, rank=0)

    played = play(with_gates(world(light, heavy, slots=4), {"limit:nas": {"most": 2}}))

    assert {"light": [0], "heavy": [100]} == played.waits


def test_a_pause_opens_at_its_end_or_never():
    two = world(lane("a", 1), lane("b", 1))

    ends = play(with_gates(two, {"pause:family/a": {"until_ms": 5_000.0}}))
    never = play(with_gates(two, {"pause:family/a": {"until_ms": None}}))

    assert {"b": [0], "a": [5_000]} == ends.waits
    assert (None, True, {"a": 1}) == (never.drained_ms, never.is_stuck, never.left)


def test_a_rate_lets_a_burst_pass_and_then_one_at_a_time():
    gates = (("rate:r", 1),)
    played = play(
        with_gates(
            world(lane("a", 5, gates=gates), slots=9, ms=10), {"rate:r": {"interval_ms": 100.0, "burst": 2.0}}
        )
    )

    assert [0, 0, 100, 200, 300] == pytest.approx(played.waits["a"])


def test_lanes_of_a_share_take_turns():
    many = lane("many", 6, gates=(("share:s=many", 1),), slack_ms=1_000, rank=0)
    few = lane("few", 2, gates=(("share:s=few", 1),), slack_ms=1_000, rank=500)

    played = play(world(many, few))

    assert [0, 200] <= played.waits["few"][:2] <= [100, 300]


def test_a_job_that_runs_again_is_not_over():
    again = world(lane("a", 1), runs={"a": (Run(100, 50),)})

    played = play(again, until_ms=1_000)

    assert played.drained_ms is None
    assert [0, 0, 0] == pytest.approx(played.waits["a"][:3])


def test_what_runs_already_takes_its_place_for_the_rest_of_its_time():
    running = replace(world(lane("a", 1)), running=(Running(0, 0, 40),))

    assert (60, 160) == (play(running).waits["a"][0], play(running).drained_ms)


def test_what_waits_for_a_clock_joins_in_when_it_is_due():
    played = play(replace(world(lane("a", 3)), due=((150.0, 0, -10_000.0),)))

    assert [0, 100, 50, 300] == played.waits["a"]


def test_what_comes_in_is_not_part_of_the_drain():
    busy = replace(world(lane("a", 10)), arrivals=(Arrivals((0,), 4.0, 300_000),))

    assert 1_000 == play(busy).drained_ms


def test_a_queue_that_nobody_serves_never_drains():
    away = replace(world(lane("a", 1)), crews=(Crew(frozenset({"other"}), 5),))

    assert (None, True) == (play(away).drained_ms, play(away).is_stuck)


def test_it_stops_as_soon_as_the_job_asked_for_has_started():
    played = play(world(lane("a", 1_000)), target=(0, 3))

    assert (300, 300) == (played.target_ms, played.ended_ms)


def test_a_hundred_thousand_jobs_are_played_within_seconds():
    lanes = [lane(f"l{n}", 100, gates=NAS if n % 2 else ()) for n in range(1_000)]

    played = play(with_gates(world(*lanes, slots=16), {"limit:nas": {"most": 4}}))

    assert played.drained_ms is not None
