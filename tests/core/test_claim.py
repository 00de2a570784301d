"""claim: the best jobs of all queues, to one holder, under leases."""

from __future__ import annotations

import pytest

from joelclaw_tasks.core.states import Word
from tests.core.conftest import SLACK_MS


def test_a_claimed_job_is_executing_under_a_lease_of_its_holder(core):
    core.admit("a", gates=("limit:resource/nas",))
    core.clock.advance(250)

    claim = core.claim(holder="w7")

    (job,) = claim.jobs
    assert (f"a#{core.clock.now - 250}#1", "q", b"payload of a", 0) == job
    assert {
        "state": "executing",
        "holder": "w7",
        "claims": "1",
        "claimed_at": str(core.clock.now),
    }.items() <= (core.text.hgetall(core.key.job("a")).items())
    assert [job.tag] == core.store.held_by("w7")
    assert [("lease|w7", core.clock.now + 15_000)] == core.text.zrange(
        core.key.timers, 0, -1, withscores=True
    )
    assert [("a", core.clock.now)] == core.text.zrange(
        core.key.running("limit:resource/nas"), 0, -1, withscores=True
    )
    assert not core.text.exists(core.key.lane("q|h|"), core.key.lane_meta("q|h|"), core.key.ready("q"))
    entry = core.entries("claim")[0]
    assert {
        "wait_ms": "250",
        "attempt": "1",
        "holder": "w7",
        "from": "available",
        "to": "executing",
    }.items() <= (entry.items())


def test_an_empty_queue_gives_nothing_and_writes_nothing(core):
    claim = core.claim("q", "other", most=5)

    assert ([], False, False, None) == (claim.jobs, claim.more, claim.inbox, claim.next_due_ms)
    assert {} == core.image()
    assert [] == core.entries()


def test_the_best_rank_over_all_queues_and_lanes_goes_first(core):
    core.admit("p3", priority=3, queue="a")
    core.admit("p1", priority=1, queue="b")
    core.admit("p2", priority=2, queue="a", lane="a|x|")
    core.admit("p0", priority=0, queue="b", lane="b|x|")

    assert ["p0", "p1", "p2", "p3"] == core.claim_ids("a", "b", most=9)


def test_only_the_queues_that_are_named_are_served(core):
    core.admit("a", queue="a")
    core.admit("b", queue="b")

    assert ["b"] == core.claim_ids("b", most=9)
    assert "available" == core.state("a")


@pytest.mark.parametrize("worse", [1, 2, 3])
def test_a_job_is_overtaken_only_within_the_difference_of_slacks(core, worse):
    core.admit("first", priority=worse)
    core.clock.advance(SLACK_MS[worse] - 1)
    core.admit("in_time", priority=0, lane="q|x|")
    core.clock.advance(2)
    core.admit("too_late", priority=0, lane="q|y|")

    assert ["in_time", "first", "too_late"] == core.claim_ids(most=9)


def test_within_a_lane_of_limit_one_jobs_run_in_order_of_rank_whatever_happens(core):
    core.store.limit({"limit:handler/h": 1}, actor="t", reason="")
    for n, priority in enumerate((2, 0, 3, 1, 2, 0)):
        core.admit(f"j{n}", priority=priority, gates=("limit:handler/h",))
        core.clock.advance(1)
    order = []
    while claim := core.claim(most=9).jobs:
        (job,) = claim
        if job.tag.split("#")[0] not in order:
            order.append(job.tag.split("#")[0])
            core.store.release([job.tag])
        else:
            core.store.complete([job.tag])

    assert ["j1", "j5", "j3", "j0", "j4", "j2"] == order


def tokens(core, queues: str = "qr") -> list[int]:
    return [core.text.llen(core.key.wake(queue)) for queue in queues]


def test_a_baton_is_left_on_each_queue_with_more(core):
    for queue in "ab":
        core.admit(queue=queue)
        core.admit(queue=queue)
    claim = core.claim("a", "b", most=1)

    assert claim.more
    assert [1, 1] == tokens(core, "ab")
    assert not core.claim("a", "b", most=9).more
    assert [0, 0] == tokens(core, "ab")


def test_the_time_to_the_next_timer_is_told(core):
    core.admit(due_ms=core.clock.now + 700)
    assert 700 == core.claim().next_due_ms
    core.clock.advance(699)
    assert 1 == core.claim().next_due_ms


def test_messages_of_stock_producers_are_moved_to_the_inbox_of_their_queue(core):
    core.text.lpush("old", "m1", "m2")
    claim = core.store.claim(["q"], 5, "w1", [("q", "old"), ("q", "old\x06\x163")])

    assert (claim.inbox, []) == (True, claim.jobs)
    assert ["m2", "m1"] == core.text.lrange(core.key.inbox("q"), 0, -1)
    assert not core.text.exists("old")
    assert 2 == core.store.queue_size("q")
    assert 2 == core.store.cancel_queue("q", actor="t", reason="")
    assert 0 == core.store.queue_size("q")


def test_messages_that_a_dead_worker_left_in_the_inbox_are_told_of(core):
    core.text.lpush(core.key.inbox("q"), "m1")
    claim = core.store.claim(["q", "r"], 5, "w1", [("r", "old"), ("q", "old2"), ("q", "old3")])

    assert (claim.inbox, []) == (True, claim.jobs)
    assert ["m1"] == core.text.lrange(core.key.inbox("q"), 0, -1)


def test_a_claim_that_takes_the_last_ready_job_leaves_no_baton_and_others_do(core):
    for job, queue, lane in (("a", "q", "q|h|"), ("b", "q", "q|x|"), ("c", "r", "r|h|"), ("d", "r", "r|h|")):
        core.admit(job, queue=queue, lane=lane)

    def taken(*queues: str, most: int) -> tuple[list[str], bool, list[int]]:
        claim = core.claim(*queues, most=most)
        ids = [job.tag.partition("#")[0] for job in claim.jobs]
        return ids, claim.more, tokens(core)

    assert (["a", "b"], False, [0, 1]) == taken("q", most=2)
    assert (["c"], True, [0, 1]) == taken("q", "r", most=1)
    assert (["d"], False, [0, 0]) == taken("q", "r", most=1)


def test_a_lane_whose_meta_was_deleted_by_hand_comes_back_with_the_rank_of_its_oldest_job(core):
    core.admit("old")
    rank = core.text.zscore(core.key.ready("q"), "q|h|")
    core.text.delete(core.key.lane_meta("q|h|"))
    assert [] == core.claim_ids()
    core.clock.advance(1_000)
    core.admit("new")

    assert rank == core.text.zscore(core.key.ready("q"), "q|h|")
    assert ["old", "new"] == core.claim_ids(most=2)


def test_a_job_whose_hash_was_deleted_by_hand_holds_up_nothing(core):
    core.admit("gone")
    core.admit("next")
    core.text.delete(core.key.job("gone"))

    assert ["next"] == core.claim_ids(most=9)
    core.text.hdel(core.key.counts, "q\nfam|2|available")


def test_a_running_job_whose_hash_was_deleted_by_hand_holds_up_nobody(core):
    core.admit("gone")
    core.admit("other")
    core.claim(most=2)
    core.text.delete(core.key.job("gone"))

    core.clock.advance(7_000)
    core.store.renew("w2", {})
    core.clock.advance(7_000)
    core.store.renew("w2", {})
    core.clock.advance(7_000)
    assert ["other"] == core.claim_ids(holder="w2")
    core.text.hset(core.key.counts, "q\nfam|2|executing", 1)


def test_a_lane_whose_meta_was_deleted_by_hand_holds_up_nobody(core):
    core.admit("lost", priority=0, lane="q|lost|")
    core.admit("other")
    core.text.delete(core.key.lane_meta("q|lost|"))

    assert ["other"] == core.claim_ids(most=9)
    core.store.admit([core.job("again", lane="q|lost|")])
    assert ["lost", "again"] == core.claim_ids(most=9)


# -- timers ---------------------------------------------------------------------------------------


def test_a_scheduled_job_is_staged_at_its_time_with_a_rank_from_then(core):
    due = core.clock.now + 5_000
    core.admit("a", due_ms=due, priority=1)
    core.clock.advance(4_999)
    assert [] == core.claim_ids()
    core.clock.advance(10_001)

    assert ["a"] == core.claim_ids()

    assert str(due + 60_000) == core.field("a", "rank")
    assert str(due) == core.field("a", "available_at")
    assert "10000" == core.entries("claim")[0]["wait_ms"]
    assert ("scheduled", "available") == (core.entries("stage")[0]["from"], core.entries("stage")[0]["to"])


def test_more_than_a_hundred_timers_due_at_the_same_millisecond_fire_in_turns(core):
    core.store.admit([core.job(f"j{n:03}", due_ms=core.clock.now + 10) for n in range(250)])
    core.clock.advance(10)

    first = core.claim(most=0)
    assert 0 == first.next_due_ms
    assert 100 == core.text.zcard(core.key.lane("q|h|"))
    claimed: list[str] = []
    while ids := core.claim_ids(most=70):
        claimed += ids
    assert 250 == len(set(claimed)) == len(claimed)


def test_a_staged_job_does_not_overtake_what_became_startable_before_it(core):
    core.admit("later", due_ms=core.clock.now + 1_000)
    core.clock.advance(500)
    core.admit("sooner")
    core.clock.advance(600)

    assert ["sooner", "later"] == core.claim_ids(most=9)


def test_a_claim_that_asks_for_nothing_still_fires_timers(core):
    core.admit("a", due_ms=core.clock.now + 1)
    core.clock.advance(1)
    assert [] == core.claim(most=0).jobs
    assert "available" == core.state("a")


def test_settle_completes_and_claims_in_one_round_trip(core):
    core.admit("a")
    core.admit("b")
    words, claim = core.store.settle([core.start(), "x#1#1"], ["q"], 5, "w1")

    assert [Word.COMPLETED, Word.LEASE_LOST] == words
    assert ["b"] == [job.tag.split("#")[0] for job in claim.jobs]
    assert ([], []) == (core.store.settle([])[0], core.store.settle([])[1].jobs)


def test_settle_claims_what_waited_for_the_place_and_wakes_nobody_for_it(core):
    core.store.limit({"limit:nas": 1}, actor="t", reason="")
    for job, queue in (("a", "q"), ("b", "q"), ("c", "q"), ("d", "r")):
        core.admit(job, queue=queue, lane=f"{queue}|h|{job}", gates=("limit:nas",))
    first = core.start("q", "r")
    assert ([], [0, 0]) == (core.claim_ids("q", "r", most=9), tokens(core))

    _, claim = core.store.settle([first], ["q"], 9, "w1")
    (second,) = claim.jobs
    assert ("b", False) == (second.tag.split("#")[0], claim.more)
    assert [0, 1] == tokens(core)  # who serves r is told: this call does not look there

    core.store.limit({"limit:nas": 2}, actor="t", reason="")
    core.text.delete(core.key.wake("q"), core.key.wake("r"))
    _, claim = core.store.settle([second.tag], ["q", "r"], 1, "w1")
    assert (["c"], True) == ([job.tag.split("#")[0] for job in claim.jobs], claim.more)
    assert [0, 1] == tokens(core)  # what it leaves


def test_a_finish_without_a_claim_wakes_whoever_serves_what_waited(core):
    core.store.limit({"limit:nas": 1}, actor="t", reason="")
    for job, queue in (("a", "q"), ("b", "q"), ("c", "r")):
        core.admit(job, queue=queue, lane=f"{queue}|h|{job}", gates=("limit:nas",))
    tag = core.start("q", "r")
    core.claim("q", "r", most=9)

    core.store.complete([tag])

    assert [1, 1] == tokens(core)
