"""admit: nothing becomes available, scheduled or discarded; what is known is a duplicate."""

from __future__ import annotations

import pytest

from joelclaw_tasks.core.states import Word
from joelclaw_tasks.errors import InvalidJob


def test_a_job_is_available_in_its_lane_with_a_rank_of_now_plus_slack(core):
    words = core.store.admit([core.job("a", priority=1, gates=("limit:handler/h",), trace="t", actor="joel")])

    assert [Word.ADMITTED] == words
    job = core.text.hgetall(core.key.job("a"))
    assert "available" == job["state"]
    assert str(core.clock.now + 60_000) == job["rank"]
    assert str(core.clock.now) == job["admitted_at"] == job["available_at"]
    assert "payload of a" == job["payload"]
    assert [("a", core.clock.now + 60_000)] == core.text.zrange(core.key.lane("q|h|"), 0, -1, withscores=True)
    assert [("q|h|", core.clock.now + 60_000)] == core.text.zrange(
        core.key.ready("q"), 0, -1, withscores=True
    )
    assert {"q\nfam|1|available": "1"} == core.text.hgetall(core.key.counts)
    assert 1 == core.text.llen(core.key.wake("q"))
    assert [
        {
            "verb": "admit", "at": str(core.clock.now), "job": "a", "family": "fam", "handler": "h",
            "queue": "q", "lane": "q|h|", "trace": "t", "to": "available", "actor": "joel", "priority": "1",
        }
    ] == core.entries()  # fmt: skip


def test_a_job_with_a_due_time_waits_in_no_lane(core):
    words = core.store.admit([core.job("a", due_ms=core.clock.now + 5_000)])

    assert [Word.SCHEDULED] == words
    assert "scheduled" == core.state("a")
    assert [("job|a", core.clock.now + 5_000)] == core.text.zrange(core.key.timers, 0, -1, withscores=True)
    assert not core.text.exists(core.key.lane("q|h|"), core.key.ready("q"))
    assert [str(core.clock.now + 5_000)] == [entry["due_at"] for entry in core.entries("admit")]


@pytest.mark.parametrize("due_in_ms", [0, -1, -10_000_000])
def test_a_due_time_that_is_not_in_the_future_means_at_once(core, due_in_ms):
    assert [Word.ADMITTED] == core.store.admit([core.job(due_ms=core.clock.now + due_in_ms)])


def test_a_due_time_below_zero_is_counted_from_now_by_the_clock_of_redis(core):
    assert [Word.SCHEDULED] == core.store.admit([core.job("a", due_ms=-5_000)])
    assert [str(core.clock.now + 5_000)] == [entry["due_at"] for entry in core.entries("admit")]
    assert [("job|a", core.clock.now + 5_000)] == core.text.zrange(core.key.timers, 0, -1, withscores=True)
    core.clock.advance(4_999)
    assert [] == core.claim().jobs
    core.clock.advance(1)
    assert ["a"] == [claimed.tag.partition("#")[0] for claimed in core.claim().jobs]


def test_a_soon_due_job_wakes_a_worker_that_sleeps_until_a_later_timer(core):
    core.admit(due_ms=core.clock.now + 2_000)
    assert 0 == core.text.llen(core.key.wake("q"))
    core.admit(due_ms=core.clock.now + 1_999)
    assert 1 == core.text.llen(core.key.wake("q"))


def test_all_jobs_of_one_call_are_answered_in_order(core):
    words = core.store.admit(
        [
            core.job("a"),
            core.job("b", due_ms=core.clock.now + 1),
            core.job("a"),
            core.job("c", refusal="unreadable"),
        ]
    )

    assert [Word.ADMITTED, Word.SCHEDULED, Word.DUPLICATE, Word.REFUSED] == words


def test_several_batches_go_in_one_round_trip(core):
    words = core.store.admit_many([[core.job("a"), core.job("b")], [core.job("a")], [core.job("c")]])

    assert [[Word.ADMITTED, Word.ADMITTED], [Word.DUPLICATE], [Word.ADMITTED]] == words


def test_no_job_at_all_is_fine(core):
    assert [] == core.store.admit([])
    assert [] == core.store.admit_many([])
    assert {} == core.image()


@pytest.mark.parametrize(
    "state", ["available", "scheduled", "executing", "retryable", "discarded", "completed"]
)
def test_the_same_id_again_is_a_duplicate_in_every_state_and_changes_nothing(core, state):
    core.admit("a", keep_ms=60_000, due_ms=core.clock.now + 1_000 if state == "scheduled" else 0)
    if state not in ("available", "scheduled"):
        tag = core.start()
        if state == "retryable":
            core.store.retry(core.job("a", lease_tag=tag, due_ms=core.clock.now + 9_000))
        if state in ("retryable", "completed"):
            core.store.complete([tag])
        if state == "discarded":
            core.store.discard(tag, "broken")
    assert state == core.state("a")
    before = core.image()

    words = core.store.admit([core.job("a", keep_ms=60_000, priority=0, payload="another", queue="other")])

    assert [Word.DUPLICATE] == words
    assert before == core.image()
    assert "duplicate" == core.entries("admit")[-1]["reason"]


def test_a_completed_job_is_a_duplicate_for_keep_ms_and_not_after(core, client):
    from tests.conftest import wait_until

    core.admit("a", keep_ms=150)
    core.store.complete([core.start()])
    assert [Word.DUPLICATE] == core.store.admit([core.job("a", keep_ms=150)])
    wait_until(lambda: not client.exists(core.key.job("a")), "the memory of the job expires")

    assert [Word.ADMITTED] == core.store.admit([core.job("a", keep_ms=150)])


def test_a_plain_job_that_is_over_may_be_sent_again_under_its_id(core):
    core.admit("a")
    core.store.complete([core.start()])
    assert core.state("a") is None

    assert [Word.ADMITTED] == core.store.admit([core.job("a")])
    assert ["a"] == core.claim_ids()


def test_a_discarded_plain_job_that_is_sent_again_leaves_the_dead_letter(core):
    core.admit("a", family="old")
    core.store.discard(core.start(), "broken")

    assert [Word.ADMITTED] == core.store.admit([core.job("a", family="new")])

    assert [] == core.text.zrange(core.key.dead, 0, -1)
    assert core.field("a", "error") is None
    assert "0" == core.text.hget(core.key.counts, "q\nold|2|discarded")


def test_a_call_without_a_tag_but_with_more_retries_is_the_successor_of_the_running_job(core):
    core.admit("a", retries=0)
    tag = core.start()
    before = core.image()

    assert [Word.DUPLICATE] == core.store.admit([core.job("a", retries=0)])
    assert before == core.image()
    assert [Word.SUCCEEDED] == core.store.admit([core.job("a", retries=1, payload="second")])

    assert "executing" == core.state("a")
    assert [Word.RETRIED] == core.store.complete([tag])
    assert b"second" == core.claim().jobs[0].payload


def test_a_refused_job_is_in_the_dead_letter_with_its_reason_and_can_not_be_revived(core):
    assert [Word.REFUSED] == core.store.admit([core.job("a", refusal="undecodable message: no body")])

    assert "discarded" == core.state("a")
    assert "undecodable message: no body" == core.field("a", "error") == core.entries()[-1]["reason"]
    assert [Word.WRONG_STATE] == core.store.revive(["a"], actor="joel", reason="try")
    assert [] == core.claim_ids()


def test_the_same_refused_job_twice_is_one_dead_letter(core):
    core.store.admit([core.job("a", refusal="no")])
    core.store.admit([core.job("a", refusal="no")])

    assert ["a"] == core.text.zrange(core.key.dead, 0, -1)
    assert "1" == core.text.hget(core.key.counts, "q\nfam|2|discarded")


@pytest.mark.parametrize(
    "name", ["per%cent %d %s", "a|b|c", "k=v=w", "x:y::z", "#1#2", "*?[a]", "ünï — ☃", "'\"\\", " "]
)
def test_unusual_names_are_kept_as_they_are_through_a_whole_life(core, name):
    fields = {"family": name, "handler": name, "queue": name, "gates": (f"limit:key/h={name}",)}
    core.store.limit({"limit:key/h": 1}, actor="t", reason="")
    core.store.admit([core.job(f"a{name}", **fields), core.job(f"b{name}", **fields)])

    first = core.claim(name, most=5)
    assert [f"a{name}"] == [one.tag.rsplit("#", 2)[0] for one in first.jobs]
    snapshot = core.store.snapshot()
    assert {name: {"available": 1, "executing": 1}} == snapshot["queues"]
    assert [name] == [family["family"] for family in snapshot["families"]]
    assert [Word.COMPLETED] == core.store.complete([one.tag for one in first.jobs])
    second = core.claim(name, most=5)
    assert [name] == [one.queue for one in second.jobs]
    assert [Word.RELEASED] == core.store.release([one.tag for one in second.jobs])
    assert [Word.CANCELLED] == core.store.cancel([f"b{name}"], actor="t", reason="")
    assert 0 == core.store.snapshot()["total"]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("id", ""), ("id", 7), ("id", "a\nb"), ("queue", ""), ("queue", None), ("queue", "a\nb"),
        ("family", "a\x00b"), ("handler", "a\nb"),
        ("handler", ["h"]), ("lane", ""), ("lane", "x\ny"), ("gates", ("limit:a\nb",)), ("gates",
        ("nas",)), ("gates", ("rate:",)), ("gates", ("limit:x\t0",)),
        ("gates", ("rate:x\t2",)), ("gates", ("limit:x", "share:y")), ("gates", ("limit:",)), ("gates", (7,)),
        ("gates", "limit:x"), ("priority", 4), ("priority", -1), ("priority", "1"), ("priority", True),
        ("priority", None), ("slack_ms", -1), ("slack_ms", 1.5), ("due_ms", "soon"), ("due_ms",
        -1.0), ("keep_ms", "1d"), ("keep_ms", -1), ("retries", -1), ("retries", None), ("payload",
        None), ("payload", {"a": 1}),
        ("payload", "a\0b"), ("payload", b"a\0b"), ("trace", None), ("actor", 3), ("id", "x" * 1025),
    ],
)  # fmt: skip
def test_a_malformed_job_is_refused_before_anything_is_written(core, field, value):
    with pytest.raises(InvalidJob, match=field):
        core.job(**{"id": "a", "lane": "l", field: value})

    assert {} == core.image()


def test_a_message_in_another_encoding_is_kept_in_the_dead_letter_as_it_came(core):
    payload = '{"task": "x"}'.encode("utf-16")
    assert [Word.REFUSED] == core.store.admit([core.job("a", payload=payload, refusal="undecodable")])
    assert payload == core.store.client.hget(core.key.job("a"), "payload")
    core.text.hset(core.key.job("a"), "payload", "")  # the look at the end reads text


def test_the_body_of_a_chord_that_replaced_a_running_task_is_its_successor(core):
    # Its id is that of the task, and it may be sent before the end of the task has been told.
    core.admit("a", payload='{"body": "W1sxXV0=", "headers": {}}')
    tag = core.claim("q", "w1").jobs[0].tag

    same = core.job("a", payload='{"body": "W1sxXV0=", "headers": {"sent": "again"}}')
    other = core.job("a", payload='{"body": "W1syXV0=", "headers": {}}')
    assert [Word.DUPLICATE, Word.SUCCEEDED] == core.store.admit([same, other])

    assert [Word.RETRIED] == core.store.complete([tag])
    assert [other.payload.encode()] == [job.payload for job in core.claim("q", "w1").jobs]
