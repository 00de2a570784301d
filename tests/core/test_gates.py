"""Gates: limits, pauses, and the place that a lane brought back must take or pass on."""

from __future__ import annotations

import pytest

from joelclaw_tasks.core.states import Word

NAS = "limit:resource/nas"


def limit(core, **limits):
    core.store.limit(
        {f"limit:{name.replace('__', '/')}": most for name, most in limits.items()}, actor="t", reason="r"
    )


def lane(core, name, *ids, queue="q", gates=(NAS,), **fields):
    """Admit jobs to a lane of their own."""
    core.store.admit(
        [
            core.job(id, queue=queue, lane=f"{queue}|{name}|", handler=name, gates=gates, **fields)
            for id in ids
        ]
    )


# -- limits ---------------------------------------------------------------------------------------


def test_no_more_jobs_run_than_the_limit_and_the_rest_wait_at_the_gate(core):
    limit(core, resource__nas=2)
    lane(core, "a", "a1", "a2")
    lane(core, "b", "b1")

    assert ["a1", "a2"] == core.claim_ids(most=9)
    assert NAS == core.gate_of("q|b|")
    assert str(core.clock.now) == core.text.hget(core.key.lane_meta("q|b|"), "parked_at")
    assert [] == core.claim_ids(most=9)


def test_a_freed_place_goes_to_the_lane_with_the_best_rank(core):
    limit(core, resource__nas=1)
    lane(core, "a", "a1")
    tag = core.start()
    lane(core, "slow", "s1", priority=3)
    lane(core, "fast", "f1", priority=0)
    assert [] == core.claim_ids(most=9)

    core.store.complete([tag])

    assert "" == core.gate_of("q|fast|")
    assert NAS == core.gate_of("q|slow|")
    assert ["f1"] == core.claim_ids(most=9)


def test_each_queue_gets_its_chance_at_a_freed_place_so_one_without_workers_holds_up_nobody(core):
    limit(core, resource__nas=1)
    lane(core, "x", "x1")
    tag = core.start()
    lane(core, "away", "away1", queue="unserved", priority=0)
    lane(core, "here", "here1", priority=3)
    assert [] == core.claim_ids("q", "unserved", most=9)

    core.store.complete([tag])

    assert ["here1"] == core.claim_ids("q")


@pytest.mark.parametrize("most", [0, 1, 2, 3, None])
def test_a_changed_limit_acts_on_queued_work_at_once(core, most):
    limit(core, resource__nas=1)
    for name in "abcd":
        lane(core, name, f"{name}1")
    core.start()
    assert [] == core.claim_ids(most=9)

    limit(core, resource__nas=most)

    assert {0: 0, 1: 0, 2: 1, 3: 2, None: 3}[most] == len(core.claim_ids(most=9))


def test_a_limit_lowered_while_jobs_run_lets_them_end_and_none_start_until_there_is_room(core):
    limit(core, resource__nas=3)
    lane(core, "a", "a1", "a2", "a3", "a4")
    tags = [one.tag for one in core.claim(most=3).jobs]
    limit(core, resource__nas=1)

    for tag in tags[:2]:
        assert [Word.COMPLETED] == core.store.complete([tag])
        assert [] == core.claim_ids()
    core.store.complete(tags[2:])
    assert ["a4"] == core.claim_ids()


def test_a_raised_limit_brings_back_no_more_lanes_than_may_start(core):
    limit(core, resource__nas=1)
    for n in range(20):
        lane(core, f"l{n:02}", f"j{n:02}")
    core.start()
    core.claim(most=99)
    limit(core, resource__nas=4)

    assert 3 == len(core.structure().of("ready")["q"])
    assert ["j01", "j02", "j03"] == core.claim_ids(most=9)


def test_the_same_limit_again_changes_nothing_and_is_not_recorded(core):
    limit(core, resource__nas=1)
    before, entries = core.image(), core.entries()

    assert 0 == core.store.limit({NAS: 1}, actor="t", reason="again")
    assert before == core.image()
    assert entries == core.entries()
    assert {"verb": "limit", "gate": NAS, "limit": "1", "actor": "t", "reason": "r"}.items() <= entries[
        -1
    ].items()


def test_a_keyed_gate_uses_the_limit_of_its_base_unless_it_has_its_own(core):
    limit(core, key__h=1)
    core.store.limit({"limit:key/h=b": 2}, actor="t", reason="")
    for key in "ab":
        lane(core, key, f"{key}1", f"{key}2", f"{key}3", gates=(f"limit:key/h={key}",))

    assert ["a1", "b1", "b2"] == core.claim_ids(most=9)

    core.store.limit({"limit:key/h=b": None}, actor="t", reason="")
    assert [] == core.claim_ids(most=9)
    limit(core, key__h=2)
    assert ["a2"] == core.claim_ids(most=9)
    limit(core, key__h=None)
    assert ["a3", "b3"] == core.claim_ids(most=9)


def test_a_base_limit_does_not_reach_gates_whose_names_only_begin_alike(core):
    limit(core, key__h=1, key__hh=1)
    lane(core, "a", "a1", "a2", gates=("limit:key/hh=a",))
    core.start()
    assert [] == core.claim_ids()
    limit(core, key__h=None)
    assert "limit:key/hh=a" == core.gate_of("q|a|")


def test_a_gate_without_a_limit_counts_who_runs_so_that_a_later_limit_holds(core):
    lane(core, "a", "a1", "a2", "a3")
    tags = [one.tag for one in core.claim(most=2).jobs]
    limit(core, resource__nas=2)
    assert [] == core.claim_ids()
    core.store.complete(tags[:1])
    assert ["a3"] == core.claim_ids()


def test_a_job_takes_all_its_gates_or_none(core):
    limit(core, resource__nas=1, resource__gpu=1)
    lane(core, "both", "both1", gates=(NAS, "limit:resource/gpu"), priority=0)
    lane(core, "gpu", "gpu1", gates=("limit:resource/gpu",), priority=0)
    lane(core, "nas", "nas1", gates=(NAS,), priority=1)
    assert ["both1"] == core.claim_ids()
    core.clock.advance(1)

    assert [] == core.claim_ids(most=9)
    assert {"nas1", "gpu1"} == {job for lanes in core.structure().of("lane").values() for job in lanes}


def test_a_limit_of_many_keyed_gates_is_changed_in_batches(core):
    limit(core, key__h=0)
    core.store.admit(
        [core.job(f"j{n:04}", lane=f"q|h|{n:04}", gates=(f"limit:key/h={n:04}",)) for n in range(2_300)]
    )
    while core.claim(most=1).more:
        pass
    assert 2_300 == len(core.structure().parked_gates)

    limit(core, key__h=1)

    assert 1_000 == len(core.structure().of("ready")["q"])
    claimed: list[str] = []
    while ids := core.claim_ids(most=100):
        claimed += ids
    assert 2_300 == len(set(claimed)) == len(claimed)


# -- the place that is passed on ------------------------------------------------------------------


def one_of_two_waits(core, **fields):
    """Lane a holds the only place; b and c wait for it, b first. Answers a's tag."""
    limit(core, resource__nas=1)
    lane(core, "a", "a1")
    tag = core.start()
    lane(core, "b", "b1", priority=1, **fields)
    lane(core, "c", "c1", priority=2, **fields)
    assert [] == core.claim_ids(most=9)
    return tag


def test_a_lane_brought_back_and_then_paused_passes_its_place_on(core):
    core.store.complete([one_of_two_waits(core)])
    core.store.pause("pause:handler/b", actor="t", reason="")

    assert ["c1"] == core.claim_ids()
    assert "pause:handler/b" == core.gate_of("q|b|")


def test_a_lane_brought_back_and_then_emptied_by_cancel_passes_its_place_on(core):
    core.store.complete([one_of_two_waits(core)])
    core.store.cancel(["b1"], actor="t", reason="")

    assert "" == core.gate_of("q|c|")
    assert ["c1"] == core.claim_ids()


def test_a_lane_brought_back_whose_first_job_is_cancelled_does_not_overtake_with_its_next(core):
    limit(core, resource__nas=1)
    lane(core, "a", "a1")
    tag = core.start()
    lane(core, "b", "b1", priority=0)
    lane(core, "b", "b2", priority=3)
    lane(core, "c", "c1", priority=2)
    core.claim(most=9)
    core.store.complete([tag])
    core.store.cancel(["b1"], actor="t", reason="")

    assert ["c1"] == core.claim_ids(most=9)


def test_a_lane_brought_back_whose_gates_the_registry_changes_passes_its_place_on(core):
    core.store.complete([one_of_two_waits(core)])
    lane(core, "b", "b2", gates=("limit:resource/gpu",))

    assert "" == core.gate_of("q|c|")


def test_a_parked_lane_whose_gates_the_registry_changes_looks_again(core):
    one_of_two_waits(core)
    lane(core, "b", "b2", gates=())

    assert ["b1", "b2"] == core.claim_ids(most=9)
    assert NAS == core.gate_of("q|c|")


def test_an_older_job_that_comes_back_does_not_undo_what_the_registry_changed(core):
    lane(core, "a", "a1", "a2", gates=())
    tag = core.start()
    lane(core, "a", "a3", gates=(NAS,))
    core.store.release([tag])

    assert NAS == core.text.hget(core.key.lane_meta("q|a|"), "gates")


def test_a_lane_that_parks_at_another_gate_passes_the_first_one_on(core):
    limit(core, resource__nas=1, resource__gpu=0)
    lane(core, "a", "a1")
    tag = core.start()
    lane(core, "b", "b1", gates=(NAS, "limit:resource/gpu"), priority=0)
    lane(core, "c", "c1")
    core.claim(most=9)
    core.store.complete([tag])

    assert ["c1"] == core.claim_ids()
    assert "limit:resource/gpu" == core.gate_of("q|b|")


def test_a_released_job_gets_its_own_place_back_before_a_worse_rank(core):
    limit(core, resource__nas=1)
    lane(core, "a", "a1", "a2", priority=0)
    tag = core.start()
    lane(core, "b", "b1", priority=3)
    core.claim(most=9)

    core.store.release([tag])

    assert ["a1"] == core.claim_ids(most=9)


def test_a_place_freed_by_an_expired_lease_is_taken(core):
    one_of_two_waits(core)
    core.store.max_kills = 1
    core.store.expire(["w1"], reason="gone")

    assert ["b1"] == core.claim_ids(holder="w2")


def test_one_claim_parks_a_bounded_number_of_lanes_and_says_that_there_is_more(core):
    core.store.admit(
        [core.job(f"j{n:03}", lane=f"q|shut|{n:03}", handler="shut", priority=0) for n in range(450)]
    )
    core.admit("open", handler="open", priority=3)
    core.store.pause("pause:handler/shut", actor="t", reason="")

    first, second = core.claim(most=5), core.claim(most=5)
    assert ([], True) == (first.jobs, first.more)
    assert ([], True) == (second.jobs, second.more)
    assert ["open"] == core.claim_ids(most=5)


# -- pauses ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("gate", ["pause:family/fam", "pause:handler/h", "pause:queue/q"])
def test_nothing_behind_a_pause_starts_and_everything_else_does(core, gate):
    core.admit("held", priority=0)
    core.admit("free", family="other", handler="other", queue="other", priority=3)

    record = core.store.pause(gate, actor="joel", reason="looks wrong")

    assert {
        "gate": gate,
        "actor": "joel",
        "reason": "looks wrong",
        "paused_at": core.clock.now,
        "control": "c1",
    } == record
    assert ["free"] == core.claim_ids("q", "other", most=9)
    assert gate == core.gate_of("q|h|")
    assert record == core.store.resume(gate, actor="joel", reason="fine")
    assert ["held"] == core.claim_ids()


def test_a_pause_lets_what_runs_go_on(core):
    core.admit("a")
    tag = core.start()
    core.store.pause("pause:queue/q", actor="t", reason="")

    assert [Word.COMPLETED] == core.store.complete([tag])


def test_resuming_what_is_not_paused_changes_nothing(core):
    core.admit("a")
    before, entries = core.image(), core.entries()

    assert core.store.resume("pause:queue/q", actor="t") is None
    assert before == core.image()
    assert entries == core.entries()


def test_a_pause_ends_by_itself_at_the_very_millisecond(core):
    core.admit("a")
    record = core.store.pause("pause:queue/q", actor="t", reason="", ttl_ms=1_000)
    assert core.clock.now + 1_000 == record["expires_at"]
    assert 1_000 == core.claim().next_due_ms

    core.clock.advance(999)
    assert [] == core.claim_ids()
    core.clock.advance(1)
    assert ["a"] == core.claim_ids()
    assert "expiry" == core.entries("resume")[0]["actor"]


def test_the_last_pause_of_a_gate_wins_with_its_own_end(core):
    core.admit("a")
    core.store.pause("pause:queue/q", actor="one", reason="", ttl_ms=1_000)
    core.store.pause("pause:queue/q", actor="two", reason="")
    core.clock.advance(100_000)
    assert [] == core.claim_ids()

    core.store.pause("pause:queue/q", actor="three", reason="", ttl_ms=10)
    core.clock.advance(10)
    assert ["a"] == core.claim_ids()


def test_a_lane_behind_two_pauses_starts_when_both_are_over(core):
    core.admit("a")
    core.store.pause("pause:queue/q", actor="t", reason="")
    core.store.pause("pause:family/fam", actor="t", reason="")
    assert [] == core.claim_ids()
    core.store.resume("pause:queue/q", actor="t")
    assert [] == core.claim_ids()
    assert "pause:family/fam" == core.gate_of("q|h|")
    core.store.resume("pause:family/fam", actor="t")
    assert ["a"] == core.claim_ids()


def paused_lanes(core, count):
    core.store.pause("pause:queue/q", actor="t", reason="")
    core.store.admit([core.job(f"j{n:04}", lane=f"q|h|{n:04}") for n in range(count)])
    while core.claim(most=1).more:
        pass
    assert count == core.text.zcard(core.key.parked("pause:queue/q\nq"))


def test_a_resumed_gate_with_thousands_of_lanes_opens_in_batches(core):
    paused_lanes(core, 2_500)

    core.store.resume("pause:queue/q", actor="t")

    assert 1_000 == core.text.zcard(core.key.ready("q"))
    claimed: list[str] = []
    while ids := core.claim_ids(most=100):
        claimed += ids
    assert 2_500 == len(set(claimed))


def test_a_gate_paused_again_while_it_opens_holds_every_lane(core):
    paused_lanes(core, 1_200)
    core.store.resume("pause:queue/q", actor="t")

    core.store.pause("pause:queue/q", actor="t", reason="again")

    while core.claim(most=1).more:
        pass
    assert [] == core.claim(most=1).jobs
    assert 1_200 == core.text.zcard(core.key.parked("pause:queue/q\nq"))
    core.store.resume("pause:queue/q", actor="t")
    total = 0
    while ids := core.claim_ids(most=100):
        total += len(ids)
    assert 1_200 == total


@pytest.mark.parametrize(
    "gate", ["", "q", "limit:resource/nas", "pause:q", "pause:node/x", "pause:queue/", "pause:queue/a\nb"]
)
def test_a_gate_that_can_not_be_paused_is_refused(core, gate):
    with pytest.raises(ValueError, match="pause:family/"):
        core.store.pause(gate, actor="t", reason="")
    assert {} == core.image()


@pytest.mark.parametrize("ttl_ms", [-1, 1.5, "60", True])
def test_a_ttl_that_is_no_number_of_milliseconds_is_refused(core, ttl_ms):
    with pytest.raises(ValueError, match="ttl_ms"):
        core.store.pause("pause:queue/q", actor="t", reason="", ttl_ms=ttl_ms)
    assert {} == core.image()


@pytest.mark.parametrize(
    ("gate", "most"),
    [
        ("nas", 1),
        ("pause:queue/q", 1),
        ("limit:", 1),
        ("limit:a\nb", 1),
        (NAS, -1),
        (NAS, 1.5),
        (NAS, "2"),
        (NAS, True),
    ],
)
def test_a_limit_that_makes_no_sense_is_refused_and_none_of_the_call_is_set(core, gate, most):
    with pytest.raises(ValueError, match="limit"):
        core.store.limit({"limit:good": 1, gate: most}, actor="t", reason="")
    assert {} == core.image()


def test_a_gate_of_a_kind_that_only_a_newer_release_knows_holds_its_lane_and_nothing_else(core):
    core.admit("future", priority=0)
    core.text.hset(core.key.lane_meta("q|h|"), "gates", "turbo:new")  # as a newer producer would
    core.admit("today", handler="other", priority=3)

    assert ["today"] == core.claim_ids(most=9)
    assert "turbo:new" == core.gate_of("q|h|")
    core.text.hset(core.key.lane_meta("q|h|"), "gates", "")
    core.text.delete(core.key.parked("turbo:new\nq"), core.key.parked_gates)
    core.text.hset(core.key.lane_meta("q|h|"), "parked", "")
    core.text.zadd(core.key.ready("q"), {"q|h|": core.field("future", "rank")})
    core.text.lpush(core.key.wake("q"), 1)
