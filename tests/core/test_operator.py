"""cancel, revive and purge: what a person may do to jobs."""

from __future__ import annotations

import pytest

from joelclaw_tasks.core.states import Word
from joelclaw_tasks.errors import CannotUndo


def in_state(core, state, **fields):
    """One job a in this state."""
    core.admit("a", due_ms=core.clock.now + 5_000 if state == "scheduled" else 0, **fields)
    if state in ("available", "scheduled"):
        return
    tag = core.start()
    if state == "retryable":
        core.store.retry(core.job("a", lease_tag=tag, due_ms=core.clock.now + 5_000))
    if state in ("retryable", "completed"):
        core.store.complete([tag])
    if state == "discarded":
        core.store.discard(tag, "broken")


@pytest.mark.parametrize("state", ["available", "scheduled", "retryable"])
def test_a_waiting_job_is_cancelled_and_never_starts(core, state):
    in_state(core, state, keep_ms=60_000)
    core.admit("other", queue="other")

    assert [Word.CANCELLED] == core.store.cancel(["a"], actor="joel", reason="not needed")

    assert ("cancelled", "available") == (core.state("a"), core.state("other"))
    entry = core.entries("cancel")[0]
    assert {
        "actor": "joel",
        "reason": "not needed",
        "from": state,
        "to": "cancelled",
    }.items() <= entry.items()
    core.clock.advance(10_000)
    assert [] == core.claim_ids()
    assert [Word.DUPLICATE] == core.store.admit([core.job("a", keep_ms=60_000)])


def test_a_cancelled_plain_job_is_forgotten(core):
    in_state(core, "available")
    core.store.cancel(["a"], actor="t", reason="")
    assert core.state("a") is None
    assert [Word.ADMITTED] == core.store.admit([core.job("a")])


@pytest.mark.parametrize("state", ["completed", "discarded"])
def test_a_job_that_is_over_is_not_cancelled(core, state):
    in_state(core, state, keep_ms=60_000)
    before, entries = core.image(), core.entries()

    assert [Word.WRONG_STATE, Word.MISSING] == core.store.cancel(["a", "nobody"], actor="t", reason="")
    assert before == core.image()
    assert entries == core.entries()


def test_a_discarded_job_is_revived_as_new(core):
    core.store.max_kills = 1
    in_state(core, "executing")
    core.store.expire(["w1"], reason="gone")
    assert "discarded" == core.state("a")
    core.clock.advance(1_000)

    assert [Word.REVIVED] == core.store.revive(["a"], actor="joel", reason="fixed")

    assert [] == core.text.zrange(core.key.dead, 0, -1)
    assert ("available", "0", None, None) == tuple(
        core.field("a", f) for f in ("state", "kills", "error", "discarded_at")
    )
    assert str(core.clock.now + 300_000) == core.field("a", "rank")
    assert {"actor": "joel", "reason": "fixed", "from": "discarded"}.items() <= core.entries("revive")[
        0
    ].items()
    assert b"payload of a" == core.claim().jobs[0].payload


@pytest.mark.parametrize("state", ["available", "scheduled", "retryable", "executing", "completed"])
def test_only_a_discarded_job_is_revived(core, state):
    in_state(core, state, keep_ms=60_000)
    before = core.image()

    assert [Word.WRONG_STATE, Word.MISSING] == core.store.revive(["a", "nobody"], actor="t", reason="")
    assert before == core.image()


def test_no_ids_at_all_is_fine(core):
    assert [] == core.store.cancel([], actor="t", reason="") == core.store.revive([], actor="t", reason="")


def test_purge_cancels_what_waits_in_one_queue_and_nothing_else(core):
    in_state(core, "retryable")
    core.admit("runs")
    tag = core.start()
    core.store.admit([core.job(lane=f"q|h|{n % 7}") for n in range(1_500)])
    core.admit(due_ms=core.clock.now + 9_000)
    core.admit("elsewhere", queue="q2")
    core.admit("later", queue="q2", due_ms=core.clock.now + 9_000)

    assert 1_502 == core.store.cancel_queue("q", actor="joel", reason="start over")

    assert 0 == core.store.queue_size("q")
    assert 2 == core.store.queue_size("q2")
    assert [Word.COMPLETED] == core.store.complete([tag])
    assert 0 == core.store.cancel_queue("q", actor="t", reason="")
    assert 0 == core.store.cancel_queue("unknown", actor="t", reason="")


def test_purge_takes_what_is_in_the_parking_lot_of_its_queue_and_leaves_the_rest_there(core):
    core.store.admit([core.job(id) for id in ("a", "b", "waits")])
    core.admit("due", due_ms=core.clock.now + 9_000)
    core.admit("elsewhere", queue="q2")
    both = core.store.shed(["a", "elsewhere"], actor="joel", reason="", target="both")[0]
    own = core.store.shed(["b", "due"], actor="ada", reason="", target="own", ttl_ms=60_000)[0]
    assert 4 == core.store.queue_size("q")

    assert 4 == core.store.cancel_queue("q", actor="t", reason="start over")

    assert (0, 1) == (core.store.queue_size("q"), core.store.queue_size("q2"))
    assert [both] == [act["id"] for act in core.store.controls()]
    with pytest.raises(CannotUndo):
        core.store.undo(own, actor="ada")
    assert 1 == core.store.undo(both, actor="joel")[1]
    assert ["elsewhere"] == core.claim_ids("q", "q2", most=9)


def test_purge_ends_although_a_hash_was_deleted_by_hand(core):
    core.admit("gone")
    core.admit("here")
    core.text.delete(core.key.job("gone"))

    assert 1 == core.store.cancel_queue("q", actor="t", reason="")
    assert [] == core.claim_ids()
    core.text.hdel(core.key.counts, "q\nfam|2|available")


def test_the_size_of_a_queue_counts_what_waits_for_whatever_it_waits(core):
    in_state(core, "retryable")
    core.admit()
    core.admit(due_ms=core.clock.now + 9)
    core.admit(queue="q2")
    core.admit(queue="q\u2028 2")
    core.store.pause("pause:queue/q", actor="t", reason="")
    core.claim()

    assert [3, 1, 0] == [core.store.queue_size(queue) for queue in ("q", "q2", "")]
