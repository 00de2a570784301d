"""Limits with weights, rates, and whose they are: the code's, or a person's over it."""

from __future__ import annotations

import pytest

from joelclaw_tasks.core.rate import Rate
from joelclaw_tasks.core.states import Word
from joelclaw_tasks.errors import InvalidGate

NAS, GPU = "limit:resource/nas", "limit:resource/gpu"
MAIL = "rate:handler/mail"


def lane(core, name, *ids, queue="q", gates=(), **fields):
    """Admit jobs to a lane of their own."""
    core.store.admit(
        [
            core.job(id, queue=queue, lane=f"{queue}|{name}|", handler=name, gates=gates, **fields)
            for id in ids
        ]
    )


def limit(core, gate, most):
    core.store.limit({gate: most}, actor="t", reason="r")


def rate(core, *numbers, gate=MAIL):
    core.store.rate({gate: Rate(*numbers) if numbers else None}, actor="t", reason="r")


# -- weight ---------------------------------------------------------------------------------------


def test_a_job_takes_as_many_places_as_it_weighs_and_gives_all_of_them_back(core):
    limit(core, NAS, 3)
    lane(core, "heavy", "h1", "h2", gates=(f"{NAS}\t2",))
    lane(core, "light", "l1", "l2", gates=(NAS,), priority=3)

    assert ["h1", "l1"] != core.claim_ids(most=9)  # one heavy job, and no light one past the next heavy one
    assert 2 == core.text.zcard(core.key.running(NAS))
    assert f"{NAS}\t2" == core.gate_of("q|heavy|")


def test_light_jobs_of_a_better_rank_pass_while_a_heavy_one_waits_and_those_of_a_worse_one_do_not(core):
    limit(core, NAS, 2)
    lane(core, "first", "f1", gates=(NAS,), priority=0)
    tag = core.start()
    lane(core, "heavy", "h1", gates=(f"{NAS}\t2",), priority=1)
    lane(core, "worse", "w1", gates=(NAS,), priority=2)
    assert [] == core.claim_ids(most=9)
    lane(core, "better", "b1", gates=(NAS,), priority=0)
    assert ["b1"] == core.claim_ids(most=9)

    core.store.complete([tag])
    assert [] == core.claim_ids(most=9)
    core.store.complete(core.store.held_by("w1"))

    assert ["h1"] == core.claim_ids(most=9)
    core.store.complete(core.store.held_by("w1"))
    assert ["w1"] == core.claim_ids(most=9)


def test_a_heavy_job_that_ends_brings_as_many_light_lanes_back_as_it_had_places(core):
    limit(core, NAS, 3)
    lane(core, "heavy", "h1", gates=(f"{NAS}\t3",), priority=0)
    tag = core.start()
    for name in "abcd":
        lane(core, name, f"{name}1", gates=(NAS,))
        lane(core, name, f"{name}2", gates=(NAS,), priority=3)
    assert [] == core.claim_ids(most=9)

    core.store.complete([tag])

    assert {"a1", "b1", "c1"} == set(core.claim_ids(most=9))


def test_a_heavy_job_that_is_cancelled_lets_those_behind_it_pass(core):
    limit(core, NAS, 2)
    lane(core, "first", "f1", gates=(NAS,), priority=0)
    core.start()
    lane(core, "heavy", "h1", gates=(f"{NAS}\t2",), priority=1)
    lane(core, "light", "l1", gates=(NAS,), priority=2)
    assert [] == core.claim_ids(most=9)

    core.store.cancel(["h1"], actor="t", reason="")

    assert ["l1"] == core.claim_ids(most=9)


def test_a_limit_lowered_below_a_weight_holds_that_job_and_nobody_behind_it(core):
    limit(core, NAS, 2)
    lane(core, "heavy", "h1", gates=(f"{NAS}\t2",), priority=0)
    lane(core, "light", "l1", "l2", gates=(NAS,))
    limit(core, NAS, 1)

    assert ["l1"] == core.claim_ids(most=9)
    assert f"{NAS}\t2" == core.gate_of("q|heavy|")

    limit(core, NAS, 3)
    assert ["h1"] == core.claim_ids(most=9)


def test_a_place_that_is_freed_goes_past_a_lane_that_needs_more_than_there_are(core):
    limit(core, NAS, 1)
    lane(core, "first", "f1", gates=(NAS,), priority=0)
    tag = core.start()
    lane(core, "heavy", "h1", gates=(f"{NAS}\t2",), priority=0)
    lane(core, "light", "l1", gates=(NAS,))
    assert [] == core.claim_ids(most=9)

    core.store.complete([tag])

    assert ["l1"] == core.claim_ids(most=9)


def test_a_heavy_job_of_a_queue_without_workers_holds_up_no_other_queue(core):
    limit(core, NAS, 2)
    lane(core, "first", "f1", gates=(NAS,), priority=0)
    core.start()
    lane(core, "heavy", "h1", queue="away", gates=(f"{NAS}\t2",), priority=0)
    assert [] == core.claim_ids("away", most=9)
    lane(core, "light", "l1", gates=(NAS,), priority=3)

    assert ["l1"] == core.claim_ids(most=9)


@pytest.mark.parametrize("how", ["complete", "release", "discard", "expire"])
def test_every_way_to_stop_gives_all_places_of_all_gates_back(core, how):
    limit(core, NAS, 2)
    limit(core, GPU, 4)
    lane(core, "a", "a1", gates=(f"{NAS}\t2", f"{GPU}\t3"))
    tag = core.start()
    assert (2, 3) == (core.text.zcard(core.key.running(NAS)), core.text.zcard(core.key.running(GPU)))

    if how == "expire":
        core.store.expire(["w1"], reason="gone")
    elif how == "discard":
        core.store.discard(tag, "broken")
    else:
        getattr(core.store, how)([tag])

    assert (0, 0) == (core.text.zcard(core.key.running(NAS)), core.text.zcard(core.key.running(GPU)))


# -- rate -----------------------------------------------------------------------------------------


def starts(core, seconds, step_ms=7, **claims):
    """When a job started, for as long as there is something to do at full pressure."""
    began, found = core.clock.now, []
    while core.clock.now < began + seconds * 1000:
        claim = core.claim(most=50, **claims)
        found += [core.clock.now] * len(claim.jobs)
        core.store.complete([job.tag for job in claim.jobs])
        core.clock.advance(step_ms)
    return found


def test_a_rate_is_never_exceeded_in_any_window_and_hardly_anything_of_it_is_wasted(core):
    rate(core, 100, 10_000, 20)
    lane(core, "mail", *[f"m{n:04}" for n in range(700)], gates=(MAIL,))

    found = starts(core, 60)

    allowed = 20 + 60_000 * 100 / 10_000
    assert 0.97 * allowed <= len(found) <= allowed
    assert 20 == found.count(found[0])
    for first in range(len(found)):
        for last in range(first, len(found)):
            assert last - first + 1 <= 20 + (found[last] - found[first]) * 100 / 10_000 + 1e-6


def test_a_lane_at_its_rate_does_not_hold_up_another_and_says_when_it_is_due(core):
    rate(core, 1, 10_000)
    lane(core, "mail", "m1", "m2", "m3", gates=(MAIL,), priority=0)
    lane(core, "other", "o1", "o2", priority=3)

    assert ["m1", "o1", "o2"] == core.claim_ids(most=9)
    assert MAIL == core.gate_of("q|mail|")
    claim = core.claim(most=9)
    assert ([], 10_000) == (claim.jobs, claim.next_due_ms)
    core.clock.advance(9_999)
    assert [] == core.claim_ids(most=9)
    core.clock.advance(1)
    assert ["m2"] == core.claim_ids(most=9)


def test_a_claim_that_parks_a_lane_answers_the_timer_that_it_has_set(core):
    rate(core, 10, 1_000)
    lane(core, "mail", "m1", "m2", gates=(MAIL,))

    claim = core.claim(most=9)

    assert (1, 100) == (len(claim.jobs), claim.next_due_ms)


def test_a_worker_that_is_full_wakes_an_idle_one_when_a_lane_is_soon_due(core):
    rate(core, 10, 1_000)
    lane(core, "mail", "m1", "m2", gates=(MAIL,))
    core.claim(most=9)
    lane(core, "other", "o1")

    core.claim(most=1)

    assert 1 == core.text.llen(core.key.wake("q"))


def test_many_lanes_share_one_rate_and_each_key_has_its_own(core):
    rate(core, 1, 1_000, 2)
    rate(core, 1, 1_000, gate="rate:key/mail")
    for name in "abcd":
        lane(core, name, f"{name}1", f"{name}2", gates=(MAIL, f"rate:key/mail={name}"))

    assert ["a1", "b1"] == core.claim_ids(most=9)
    core.clock.advance(1_000)
    assert 1 == len(core.claim_ids(most=9))
    rate(core)
    core.clock.advance(1_000)
    assert {"b2", "c1", "d1"} == set(core.claim_ids(most=9))


def test_a_token_is_taken_only_when_a_job_starts(core):
    rate(core, 1, 60_000)
    limit(core, NAS, 0)
    lane(core, "a", "a1", gates=(NAS, MAIL), priority=0)
    lane(core, "b", "b1", gates=(MAIL,), priority=1)

    assert ["b1"] == core.claim_ids(most=9)
    assert NAS == core.gate_of("q|a|")


@pytest.mark.parametrize(("numbers", "after_ms"), [((1, 1_000), 0), ((1, 20_000), 20_000), ((), 0)])
def test_a_changed_rate_acts_on_queued_work_at_once(core, numbers, after_ms):
    rate(core, 1, 60_000)
    lane(core, "mail", "m1", "m2", gates=(MAIL,))
    core.claim(most=9)
    core.clock.advance(5_000)
    assert [] == core.claim_ids(most=9)

    rate(core, *numbers)

    if numbers == (1, 1_000):
        core.clock.advance(1_000)  # the new bucket is empty, not 55 s in debt
    if after_ms:
        assert [] == core.claim_ids(most=9)
        core.clock.advance(after_ms)
    assert ["m2"] == core.claim_ids(most=9)


def test_a_clock_that_goes_back_an_hour_shuts_a_rate_for_no_longer_than_a_full_bucket(core):
    rate(core, 1, 1_000, 3)
    lane(core, "mail", *"abcdef", gates=(MAIL,))
    core.claim(most=3)
    core.clock.advance(-3_600_000)

    core.claim(most=9)
    core.clock.advance(1_000)

    assert 1 == len(core.claim_ids(most=9))


def test_a_rate_leaves_nothing_behind_but_its_bucket_which_goes_by_itself(core):
    rate(core, 1, 1_000, gate="rate:key/mail")
    core.store.admit([core.job(f"j{n}", lane=f"q|{n}", gates=(f"rate:key/mail={n}",)) for n in range(50)])

    core.store.complete([job.tag for job in core.claim(most=99).jobs])

    left = {key.removeprefix("{jc}:").partition(":")[0] for key in core.text.keys("*")}
    assert {
        "rates",
        "tat",
        "transitions",
        "queues",
        "counts",
        "seen_at",
        "timers",
        "wake",
        "controls",
        "acts",
    } >= left
    assert all(0 < core.text.pttl(key) <= 11_000 for key in core.text.keys("*tat:*"))


@pytest.mark.parametrize("numbers", [(0, 1), (1, 0), (1, 1, 0), (1.5, 1), ("1", 1), (True, 1), (101, 1)])
def test_a_rate_that_makes_no_sense_is_refused(numbers):
    with pytest.raises(InvalidGate, match="rate"):
        Rate(*numbers)


def test_a_rate_for_what_is_no_rate_gate_is_refused_and_none_of_the_call_is_set(core):
    with pytest.raises(InvalidGate, match="only rate:<name>"):
        core.store.rate({MAIL: Rate(1, 1), NAS: Rate(1, 1)}, actor="t", reason="")
    assert {} == core.image()


def test_what_is_seen_of_gates_names_weights_rates_and_shares(core):
    rate(core, 1, 60_000)
    limit(core, NAS, 2)
    gates = ("share:h=ann\t3", f"{NAS}\t2", MAIL)
    lane(core, "mail", "m1", "m2", gates=gates)
    core.claim(most=9)

    seen = {gate["gate"]: gate for gate in core.store.snapshot()["gates"]}

    assert {NAS, MAIL} == set(seen)
    assert (True, 2, 2, 1) == tuple(seen[NAS][name] for name in ("shut", "limit", "running", "parked_lanes"))
    assert {"limit": 1, "period_ms": 60_000, "burst": 1} == seen[MAIL]["rate"]
    job = core.store.inspect("m2")
    assert (NAS, [NAS, MAIL], {NAS: 2}, "h=ann") == (job["gate"], job["gates"], job["places"], job["share"])
    assert NAS == core.store.list_jobs()[0]["gate"]


# -- what code declares ---------------------------------------------------------------------------


def test_what_the_registry_names_no_more_loses_its_limit_and_its_rate(core):
    limit(core, GPU, 7)
    core.store.limit({NAS: 1, "limit:handler/h": 2}, actor="registry", reason="v1")
    core.store.rate({MAIL: Rate(1, 1_000)}, actor="registry", reason="v1")

    assert 1 == core.store.limit({NAS: 1}, actor="registry", reason="v2")
    assert 1 == core.store.rate({}, actor="registry", reason="v2")

    assert {NAS: "1", GPU: "7"} == core.text.hgetall(core.key.limits)
    assert {} == core.text.hgetall(core.key.rates)
    assert "" == core.entries("limit")[-1].get("limit", "")
    assert 0 == core.store.limit({NAS: 1}, actor="registry", reason="v2")


def test_apps_declare_beside_each_other(core):
    core.store.limit({NAS: 1}, actor="registry:one", reason="")
    core.store.limit({GPU: 2}, actor="registry:two", reason="")
    core.store.limit({}, actor="registry:one", reason="")

    assert {GPU: "2"} == core.text.hgetall(core.key.limits)


def test_what_a_person_has_set_outlives_a_restart_of_the_workers(core):
    core.store.limit({NAS: 2}, actor="registry", reason="")
    limit(core, NAS, 5)
    core.store.limit({NAS: 2}, actor="registry", reason="")
    assert {NAS: "5"} == core.text.hgetall(core.key.limits)


# -- fair share -----------------------------------------------------------------------------------


def tenants(core, **counts):
    """Admit jobs of tenants: name -> (weight, jobs)."""
    for name, (weight, jobs) in counts.items():
        line = f"share:h={name}" + (f"\t{weight}" if weight > 1 else "")
        ids = [f"{name}{n:03}" for n in range(jobs)]
        core.store.admit([core.job(id, lane=f"q|h|{name}", gates=(line,)) for id in ids])
        core.clock.advance(1)


def served(core, count):
    """Whose jobs start, one after the other."""
    whose = []
    for _ in range(count):
        claim = core.claim()
        whose += [job.tag[0] for job in claim.jobs]
        core.store.complete([job.tag for job in claim.jobs])
        core.clock.advance(10)
    return "".join(whose)


def test_tenants_take_turns_however_many_jobs_one_of_them_has(core):
    tenants(core, a=(1, 50), b=(1, 3), c=(1, 3))
    assert "abcabcabcaaa" == served(core, 12)


def test_a_newcomer_waits_for_one_round_at_most(core):
    tenants(core, a=(1, 50), b=(1, 50))
    assert "abababa" == served(core, 7)
    tenants(core, c=(1, 2))
    assert "c" in served(core, 3)


def test_weights_are_jobs_of_a_turn(core):
    tenants(core, a=(3, 60), b=(1, 60), c=(2, 60))
    found = served(core, 60)
    assert {"a": 30, "b": 10, "c": 20} == {name: found.count(name) for name in "abc"}


def test_all_lanes_of_one_tenant_have_one_turn_together(core):
    for n in range(4):
        core.store.admit([core.job(f"a{n}{m}", lane=f"q|h|a{n}", gates=("share:h=a",)) for m in range(10)])
    tenants(core, b=(1, 20))
    found = served(core, 20)
    assert {"a": 10, "b": 10} == {name: found.count(name) for name in "ab"}


def test_taking_turns_holds_behind_a_limit_as_well(core):
    limit(core, NAS, 1)
    for name, count in (("a", 30), ("b", 5), ("c", 5)):
        ids = [f"{name}{n:02}" for n in range(count)]
        core.store.admit([core.job(id, lane=f"q|h|{name}", gates=(f"share:h={name}", NAS)) for id in ids])
        core.clock.advance(1)
    assert "abcabcabc" == served(core, 9)


def test_a_place_for_which_a_lane_comes_back_out_of_turn_goes_to_whose_turn_it_is(core):
    limit(core, NAS, 1)
    lane(core, "x", "x1", gates=(NAS,))
    tag = core.start()
    for name in ("a1", "a2", "b1"):
        ids = [f"{name}{n}" for n in range(3)]
        gates = (f"share:h={name[0]}", NAS)
        core.store.admit([core.job(id, lane=f"q|h|{name}", gates=gates) for id in ids])
        core.clock.advance(1)
    assert [] == core.claim_ids(most=9)
    core.store.complete([tag])
    assert "abababaaa" == served(core, 9)


def test_other_handlers_are_neither_held_up_nor_pushed_ahead_by_those_that_share(core):
    tenants(core, a=(1, 5), b=(1, 5))
    core.admit("x1", handler="other")
    core.clock.advance(1)
    assert "abxab" == served(core, 5)


def test_an_urgent_job_goes_before_the_other_tenants_even_after_a_turn(core):
    tenants(core, a=(1, 5), b=(1, 5))
    served(core, 2)
    core.admit("a999", lane="q|h|a", gates=("share:h=a",), priority=0)
    assert ["a999"] == core.claim_ids()


def test_tenants_without_jobs_leave_nothing_behind(core):
    core.store.admit([core.job(f"j{n}", lane=f"q|h|{n}", gates=(f"share:h={n}",)) for n in range(300)])
    while tags := [job.tag for job in core.claim(most=50).jobs]:
        assert {Word.COMPLETED} == set(core.store.complete(tags))
    left = {key.removeprefix("{jc}:").partition(":")[0] for key in core.text.keys("*")}
    assert {"turns", "transitions", "queues", "counts", "seen_at", "wake", "timers"} >= left
    assert all(0 < core.text.pttl(key) <= 60_000 for key in core.text.keys("*turns:*"))
