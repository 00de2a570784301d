"""complete, release, discard and retry: how a running job ends."""

from __future__ import annotations

import pytest

from joelclaw_tasks.core.states import Word

GATE = "limit:resource/nas"


def running(core, id="a", **fields):
    """A job that runs for 40 ms after 60 ms of waiting; answers its tag."""
    core.admit(id, gates=(GATE,), trace="t1", **fields)
    core.clock.advance(60)
    tag = core.start()
    core.clock.advance(40)
    return tag


def test_a_completed_plain_job_leaves_nothing(core):
    tag = running(core)
    assert [Word.COMPLETED] == core.store.complete([tag])

    assert {"counts", "queues", "timers"} == {name.removeprefix("{jc}:") for name in core.image()}
    assert "1" == core.text.hget(core.key.counts, "q\nfam|2|completed")
    assert {"wait_ms": "60", "run_ms": "40", "trace": "t1", "attempt": "1"}.items() <= core.entries()[
        -1
    ].items()


def test_a_completed_job_with_keep_ms_is_remembered_without_its_message(core):
    core.store.complete([running(core, keep_ms=60_000)])

    assert "completed" == core.state("a")
    assert core.field("a", "payload") is None
    assert 50_000 < core.text.pttl(core.key.job("a")) <= 60_000


def test_many_tags_are_answered_in_order(core):
    for id in "ab":
        core.admit(id)
    a, b = (job.tag for job in core.claim(most=2).jobs)

    assert [Word.COMPLETED, Word.LEASE_LOST, Word.COMPLETED, Word.LEASE_LOST] == core.store.complete(
        [a, a, b, "c#1#1"]
    )
    assert [] == core.store.complete([])


def test_a_released_job_keeps_its_rank_and_its_count_of_kills(core):
    tag = running(core)
    rank = core.field("a", "rank")
    assert [Word.RELEASED] == core.store.release([tag], reason="worker stopped")

    assert ("available", rank, "0", "1") == tuple(
        core.field("a", f) for f in ("state", "rank", "kills", "claims")
    )
    assert "worker stopped" == core.entries("release")[0]["reason"]
    assert not core.text.exists(core.key.running(GATE))
    assert core.start().endswith("#2")
    assert [] == core.store.release([])


def test_a_discarded_job_is_kept_whole_in_the_dead_letter_with_its_error(core):
    assert Word.DISCARDED == core.store.discard(running(core, keep_ms=1), "ValueError: no")

    assert [("a", core.clock.now)] == core.text.zrange(core.key.dead, 0, -1, withscores=True)
    assert ("discarded", "ValueError: no", "payload of a") == tuple(
        core.field("a", f) for f in ("state", "error", "payload")
    )
    assert -1 == core.text.pttl(core.key.job("a"))
    assert not core.text.exists(core.key.running(GATE))


@pytest.mark.parametrize(
    "error", ["", "é" * 300, "x" + "☃" * 300, "😀" * 300, "\ud800 half a character", "a\nb\x00c", "z" * 10**6]
)
def test_any_error_text_can_be_discarded_and_read(core, error):
    assert Word.DISCARDED == core.store.discard(running(core), error)

    assert core.field("a", "error")[:7] == error[:7].encode(errors="backslashreplace").decode()[:7]
    assert len(core.field("a", "error")) <= 10_010
    assert len(core.entries("discard")[0].get("reason", "").encode()) <= 200
    assert core.store.inspect("a")["error"].startswith(core.field("a", "error")[:20])


def test_a_retry_changes_nothing_but_what_comes_next_until_the_job_ends(core):
    tag = running(core)
    before = core.image()
    assert Word.SUCCEEDED == core.store.retry(core.job("a", lease_tag=tag, payload="second", retries=1))

    after = core.image()
    job = after[core.key.job("a")]
    assert "second" == job.pop("next_payload")
    assert "1" in job.pop("next")
    assert before == after


def test_a_retry_due_later_waits_for_its_time_with_a_new_rank(core):
    tag = running(core)
    due = core.clock.now + 9_000
    core.store.retry(core.job("a", lease_tag=tag, payload="second", retries=1, due_ms=due, gates=(GATE,)))

    assert [Word.RETRIED] == core.store.complete([tag])

    assert "retryable" == core.state("a")
    assert due == core.text.zscore(core.key.timers, "job|a")
    assert {"from": "executing", "to": "retryable", "due_at": str(due)}.items() <= core.entries("retry")[
        0
    ].items()
    assert not core.text.exists(core.key.running(GATE))
    core.clock.advance(9_000)
    (again,) = core.claim().jobs
    assert (b"second", "2") == (again.payload, again.tag.rsplit("#", 1)[1])
    assert str(due + 300_000) == core.field("a", "rank")
    assert "1" == core.field("a", "retries")


@pytest.mark.parametrize("end", ["complete", "release", "killed", "discard", "expire"])
def test_a_job_with_a_successor_goes_on_as_it_however_it_ends(core, end):
    tag = running(core)
    core.store.retry(core.job("a", lease_tag=tag, payload="second", retries=1))

    word = {
        "complete": lambda: core.store.complete([tag])[0],
        "release": lambda: core.store.release([tag])[0],
        "killed": lambda: core.store.release([tag], killed=True)[0],
        "discard": lambda: core.store.discard(tag, "no"),
        "expire": lambda: core.store.expire(["w1"], reason="gone") == 1 and Word.RETRIED,
    }[end]()

    assert Word.RETRIED == word
    assert ("available", "0", "second") == tuple(core.field("a", f) for f in ("state", "kills", "payload"))
    assert str(core.clock.now + 300_000) == core.field("a", "rank")
    assert b"second" == core.claim().jobs[0].payload


def test_a_successor_may_have_another_queue_family_priority_and_gates(core):
    tag = running(core, keep_ms=60_000)
    core.store.retry(
        core.job(
            "a",
            queue="q2",
            family="fam2",
            handler="h2",
            priority=0,
            gates=("limit:x",),
            lease_tag=tag,
            retries=1,
        )
    )
    core.store.complete([tag])

    counts = {name: n for name, n in core.text.hgetall(core.key.counts).items() if n != "0"}
    assert {"q2\nfam2|0|available": "1"} == counts
    assert ["a"] == [job["id"] for job in core.store.list_jobs()]
    assert [] == core.claim_ids("q")
    tag = core.start("q2")
    assert {"limit:x"} == set(core.structure().of("running"))
    core.store.complete([tag])
    assert "completed" == core.state("a")  # keep_ms stays


def test_the_last_successor_wins(core):
    tag = running(core)
    for n in (1, 2):
        core.store.retry(core.job("a", lease_tag=tag, payload=f"number {n}", retries=n))
    core.store.complete([tag])
    assert b"number 2" == core.claim().jobs[0].payload


def test_a_due_time_far_in_the_future_is_kept(core):
    far = 253_402_300_799_000  # the last second of the year 9999
    core.store.admit([core.job("b", due_ms=far)])
    assert far == core.text.zscore(core.key.timers, "job|b")
    tag = running(core)
    core.store.retry(core.job("a", lease_tag=tag, due_ms=far))
    core.store.complete([tag])
    assert abs(far - core.text.zscore(core.key.timers, "job|a")) < 10
    core.store.expire(["w1"], reason="no lease is due before")
    assert far - core.clock.now == core.claim().next_due_ms
