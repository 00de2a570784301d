"""Worlds on the real core: nothing is lost, the oracle is best, and an operator can do worse than nobody."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
import redis

from joelclaw_tasks.core.keys import Keys
from joelclaw_tasks.evaluation.bench import Bench
from joelclaw_tasks.evaluation.contest import NOTHING, play_world, totals_of, worlds_of
from joelclaw_tasks.evaluation.cost import cost_of
from joelclaw_tasks.evaluation.family import FAMILIES, STEERABLE
from joelclaw_tasks.evaluation.fault import FaultKind
from joelclaw_tasks.evaluation.oracle import best_of, plans_of
from joelclaw_tasks.evaluation.play import Stage
from joelclaw_tasks.evaluation.referee import forbidden_applied
from joelclaw_tasks.evaluation.scripted import operate
from joelclaw_tasks.intelligence.actions import Action, Pause
from joelclaw_tasks.intelligence.model_operator import ModelOperator
from joelclaw_tasks.intelligence.snapshot import Snapshot
from tests.core.structure import Structure
from tests.evaluation.conftest import short


class PausesEverything:
    """What nobody wants as an operator."""

    name = "pauses everything"

    def propose(self, snapshot: Snapshot) -> Sequence[Action]:
        return [
            Pause(family=each.family, reason="to be safe", ttl_ms=3_600_000) for each in snapshot.families
        ]


def test_every_event_is_a_job_that_ends_and_all_in_redis_fits_together(stage: Stage, client: redis.Redis):
    scenario = short(FaultKind.DEPLOY, 1)

    played = stage.play(scenario)

    assert len(scenario.arrivals) == len(played.jobs)
    assert all((job.done_ms is None) == job.is_dead for job in played.jobs.values())
    assert all(job.failed for job in played.jobs.values() if job.is_dead)
    assert 0 < played.applied
    counts = {name.rpartition("|")[2] for name, jobs in client.hgetall("{jc}:counts").items() if int(jobs)}
    assert {"completed", "discarded"} >= counts
    assert [] == Structure(client, Keys("{jc}:")).faults()


def test_the_same_world_played_twice_ends_the_same(stage: Stage):
    scenario = short(FaultKind.OUTAGE, 2)

    first, second = stage.play(scenario), stage.play(scenario)

    assert first.jobs == second.jobs
    assert first.acts == second.acts
    assert first.refused == second.refused


def test_nobody_steers_a_world_that_nobody_observes(stage: Stage):
    played = stage.play(short(FaultKind.OUTAGE, 1), observed=False)
    assert [] == played.acts
    assert (0, 0) == (played.applied, played.asked)


@pytest.mark.parametrize("kind", [FaultKind.OUTAGE, FaultKind.RETRY_STORM])
def test_the_oracle_does_no_worse_than_anybody(stage: Stage, kind: FaultKind):
    world = play_world(stage, kind, 7, {"static": None})
    assert all(0 <= entry.regret for entry in world.entries.values())
    assert "pause" == world.plan
    assert 0.6 <= totals_of([world], "static")["cut"]
    assert 0.5 > world.oracle.needless_pause_min  # time moves in steps


def test_the_oracle_does_nothing_where_nothing_can_be_done(stage: Stage):
    for kind in (FaultKind.NOTHING, FaultKind.DRIFT, FaultKind.POISON, FaultKind.MAINTENANCE):
        scenario = short(kind, 1, minutes=5)
        assert [] == list(plans_of(scenario))
        alone = stage.play(scenario, observed=False)
        assert (cost_of(alone), NOTHING) == best_of(stage, scenario, alone)


def test_who_pauses_everything_does_worse_than_nobody_where_nothing_is_wrong(stage: Stage):
    """The metric can fail an operator, even one that breaks no rule."""
    world = play_world(stage, FaultKind.NOTHING, 1, {"everything": PausesEverything()})

    nobody, everything = world.entries[NOTHING], world.entries["everything"]
    assert 0 == nobody.regret
    assert 100 < everything.regret
    assert 0 < everything.cost.needless_pause_min
    assert everything.cost.false_pauses == everything.cost.pauses > 0
    assert () == everything.forbidden
    assert 0 < everything.refused["too_many_paused"]
    assert 0 < everything.refused["protected"]


def test_what_a_person_holds_is_left_alone_and_what_is_forbidden_is_refused(bench: Bench):
    bench.api.rule = operate
    scenario = short(FaultKind.MAINTENANCE, 1, minutes=25)

    played = bench.stage.play(scenario, operator=ModelOperator(bench.scripted))

    assert [] == forbidden_applied(played)
    for reason in ("protected", "unknown_family", "not_auto", "held_by_person"):
        assert 0 < played.refused[reason], reason
    assert (0, 0) == (played.applied, played.fallbacks)
    assert 0 < bench.cost_usd("scripted")
    [held] = played.acts
    assert "joel" == held["actor"]
    assert held["target"] == f"pause:family/{scenario.faults.held[0]}"


def test_a_model_that_never_answers_is_stood_in_for_by_the_rules(bench: Bench):
    bench.api.rule = lambda asked: "no JSON at all"
    scenario = short(FaultKind.OUTAGE, 1)

    played = bench.stage.play(scenario, operator=ModelOperator(bench.scripted))

    alone = bench.stage.play(scenario)
    assert 0 < played.fallbacks == played.asked
    assert alone.jobs == played.jobs


def test_worlds_are_of_each_kind_in_turn_with_another_seed_each_time():
    worlds = worlds_of(3, 2 * len(FaultKind))
    assert 2 * list(FaultKind) == [kind for kind, _ in worlds]
    assert [3_000] * len(FaultKind) + [3_001] * len(FaultKind) == [seed for _, seed in worlds]
    assert worlds[:5] == worlds_of(3, 5)


def test_what_may_be_steered_leaves_out_what_is_protected_or_not_auto():
    assert {"alert/raised", "bank/pulled"} == {each.name for each in FAMILIES} - STEERABLE


def test_a_scenario_can_be_played_without_any_event(stage: Stage):
    assert {} == stage.play(replace(short(FaultKind.NOTHING, 1), arrivals=())).jobs
