"""renew, expire and fencing: a lease belongs to a delivery tag, and lost leases change nothing."""

from __future__ import annotations

import pytest

from joelclaw_tasks.core.states import Word

LEASE_MS = 15_000


def every_verb(core, tag):
    """What a worker may still send for a tag, and what it is told."""
    return [
        *core.store.complete([tag]), *core.store.release([tag]), *core.store.release([tag], killed=True),
        core.store.discard(tag, "late"), core.store.retry(core.job(tag.split("#")[0], lease_tag=tag)),
    ]  # fmt: skip


def lose_by_expiry(core, tag):
    core.store.expire(["w1"], reason="gone")


def lose_by_release(core, tag):
    core.store.release([tag])


def lose_and_start_again(core, tag):
    core.store.release([tag])
    core.claim(holder="w2")


def lose_by_completion(core, tag):
    core.store.complete([tag])


def lose_by_discard(core, tag):
    core.store.discard(tag, "broken")


def lose_to_a_new_life(core, tag):
    core.store.release([tag])
    core.store.complete([core.start(holder="w2")])
    core.clock.advance(1)
    core.admit("a", gates=("limit:resource/nas",))
    core.claim(holder="w2")  # its first claim in this life, as the lost tag was in the other


@pytest.mark.parametrize(
    "lose",
    [
        lose_by_expiry,
        lose_by_release,
        lose_and_start_again,
        lose_by_completion,
        lose_by_discard,
        lose_to_a_new_life,
    ],
)
def test_a_lost_tag_answers_lease_lost_to_every_verb_and_changes_nothing(core, lose):
    core.admit("a", gates=("limit:resource/nas",))
    tag = core.start()
    lose(core, tag)
    before, entries = core.image(), core.entries()

    assert [Word.LEASE_LOST] * 5 == every_verb(core, tag)

    assert before == core.image()
    assert entries == core.entries()


@pytest.mark.parametrize("tag", ["", "a", "#", "a#1", "a#b#c", "nobody#1#1", "a#1#1#1", "#1#1"])
def test_a_malformed_tag_is_a_lost_lease(core, tag):
    core.admit("a")
    core.start()
    before = core.image()

    assert {Word.LEASE_LOST} == {
        *core.store.complete([tag]),
        *core.store.release([tag]),
        core.store.discard(tag, ""),
    }
    assert before == core.image()


def test_renewing_keeps_the_leases_of_a_holder(core):
    core.admit("a")
    tag = core.start()
    for _ in range(10):
        core.clock.advance(LEASE_MS // 3)
        assert 1 == core.store.renew("w1", {"pid": 7})
    assert {"w1": {"pid": 7}} == core.store.holders()
    assert [Word.COMPLETED] == core.store.complete([tag])
    assert 0 == core.store.renew("w1", {"pid": 7})


def expire_w1(core):
    """Time passes while only w2 renews."""
    for _ in range(3):
        core.clock.advance(LEASE_MS // 3)
        core.store.renew("w2", {})


def test_a_lease_that_nobody_renews_expires_at_its_millisecond_with_the_old_rank(core):
    core.admit("a")
    rank = core.field("a", "rank")
    core.start()
    for ms in (5_000, 5_000, 4_999):
        core.clock.advance(ms)
        core.store.renew("w2", {})
    assert "executing" == core.state("a")
    core.clock.advance(1)
    core.store.renew("w2", {})

    assert ("available", rank, "1") == (core.state("a"), core.field("a", "rank"), core.field("a", "kills"))
    entry = core.entries("expire")[0]
    assert {
        "reason": "lease expired",
        "holder": "w1",
        "kills": "1",
        "run_ms": "15000",
        "to": "available",
    }.items() <= (entry.items())
    assert not core.text.exists(core.key.leases("w1"))
    assert "w1" not in core.store.holders()


def test_a_holder_that_slept_renews_its_own_leases_before_any_timer_fires(core):
    core.admit("a")
    tag = core.start()
    core.clock.advance(7_000)
    core.store.renew("w2", {})
    core.clock.advance(7_000)
    core.store.renew("w2", {})
    core.clock.advance(2_000)  # w1's lease is over, and w1 comes first

    assert 1 == core.store.renew("w1", {})
    core.clock.advance(7_400)
    core.store.renew("w2", {})
    core.clock.advance(7_400)
    core.store.renew("w2", {})
    core.clock.advance(300)
    core.claim("other", holder="w1")  # the same by a claim
    assert [Word.COMPLETED] == core.store.complete([tag])


def test_after_a_silence_no_lease_expires_before_its_holder_had_time_to_come_back(core):
    core.admit("a")
    core.store.renew("w1", {})
    tag = core.start()
    core.clock.advance(LEASE_MS * 10)
    core.store.renew("w2", {})
    assert "executing" == core.state("a")
    for _ in range(2):
        core.clock.advance(LEASE_MS // 3)
        core.store.renew("w2", {})
    assert [Word.COMPLETED] == core.store.complete([tag])


def test_after_a_silence_a_lease_that_was_not_yet_due_gets_time_too(core):
    core.admit("a")
    core.store.renew("w1", {})
    tag = core.start()
    core.clock.advance(LEASE_MS - 1_000)
    core.store.renew("w2", {})
    core.clock.advance(5_000)
    core.store.renew("w2", {})
    assert [Word.COMPLETED] == core.store.complete([tag])


def test_after_a_silence_leases_behind_hundreds_of_due_timers_get_time_too(core):
    core.store.admit([core.job(due_ms=core.clock.now + 1, queue="other") for _ in range(300)])
    core.admit("a")
    core.store.renew("w1", {})
    tag = core.start()
    core.clock.advance(LEASE_MS * 2)
    for _ in range(5):
        core.store.renew("w2", {})
    assert [Word.COMPLETED] == core.store.complete([tag])


def test_after_a_silence_a_holder_that_never_comes_back_loses_its_leases_a_lease_later(core):
    core.admit("a")
    core.store.renew("w1", {})
    core.start()
    core.clock.advance(LEASE_MS * 2)
    core.store.renew("w2", {})
    expire_w1(core)
    assert "available" == core.state("a")


def test_a_claim_after_a_silence_gives_time_too_to_all_holders(core):
    tags = {}
    for holder, after_ms in (("w1", 0), ("w2", 1_000)):
        core.clock.advance(after_ms)
        core.admit(holder, queue=holder)
        core.store.renew(holder, {})
        tags[holder] = core.start(holder, holder=holder)
    core.clock.advance(LEASE_MS - 1_000)  # w1's lease is over, w2's is not yet

    core.claim("other", holder="w3")
    core.clock.advance(LEASE_MS - 1)
    core.claim("other", holder="w3")

    assert [Word.COMPLETED] * 2 == core.store.complete([tags["w1"], tags["w2"]])


def test_a_second_silence_right_after_the_first_gives_time_again(core):
    core.admit("a")
    core.store.renew("w1", {})
    tag = core.start()
    for _ in range(2):
        core.clock.advance(LEASE_MS)
        core.claim("other", holder="w2")  # all that gets through before Redis is away again

    assert [Word.COMPLETED] == core.store.complete([tag])


def test_claims_alone_end_the_lease_of_a_holder_that_is_gone(core):
    core.admit("a")
    core.store.renew("w1", {})
    core.start()
    for _ in range(15):
        core.clock.advance(LEASE_MS // 15)
        core.claim("other", holder="w2")

    assert "available" == core.state("a")


def test_expire_takes_back_every_job_of_the_named_holders_and_of_no_other(core):
    for id in "abc":
        core.admit(id)
    core.claim(most=2, holder="w1")
    core.claim(most=1, holder="w2")
    core.store.renew("w1", {})

    assert 2 == core.store.expire(["w1", "nobody"], reason="its process is gone")

    assert ["available", "available", "executing"] == [core.state(id) for id in "abc"]
    assert "its process is gone" == core.entries("expire")[0]["reason"]
    assert {} == core.store.holders()
    assert 0 == core.store.expire(["w1"], reason="again")
    assert 0 == core.store.expire([], reason="nobody")


def test_a_holder_of_hundreds_of_jobs_is_expired_in_turns(core):
    core.store.admit([core.job() for _ in range(250)])
    assert 250 == len(core.claim(most=250).jobs)

    assert 100 == core.store.expire(["w1"], reason="gone")
    assert 150 == core.text.zcard(core.key.leases("w1"))
    core.store.renew("w2", {})
    core.store.renew("w2", {})
    assert 0 == core.text.zcard(core.key.leases("w1"))
    assert 250 == len(core.claim(most=300, holder="w2").jobs)


def test_a_job_whose_worker_died_too_often_is_discarded_with_the_reason(core):
    core.admit("a", gates=("limit:resource/nas",))
    for kills in (1, 2):
        assert kills - 1 == core.claim().jobs[0].kills
        core.store.expire(["w1"], reason="gone")
        assert "available" == core.state("a")
    core.start()
    core.store.expire(["w1"], reason="gone")

    assert "discarded" == core.state("a")
    assert "its worker died under it 3 times" == core.field("a", "error") == core.entries()[-1]["reason"]
    assert "discard" == core.entries()[-1]["verb"]
    assert [] == core.claim_ids()


def test_a_job_given_back_in_good_order_is_never_killed(core):
    core.admit("a")
    for _ in range(5):
        core.store.release([core.start()], reason="worker stopped")
    assert "0" == core.field("a", "kills")
    assert [Word.RELEASED] == core.store.release([core.start()], killed=True)
    assert "1" == core.field("a", "kills")


def test_the_tags_of_a_holder_are_those_it_was_given(core):
    for id in ("a", "b#2", "c"):
        core.admit(id)
    tags = {job.tag for job in core.claim(most=9).jobs}

    assert tags == set(core.store.held_by("w1"))
    assert [] == core.store.held_by("w2")
    assert [Word.COMPLETED] * 3 == core.store.complete(sorted(tags))
