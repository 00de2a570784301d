"""The dead letter: grouped by signature, revived as new, purged, and never trimmed silently."""

from __future__ import annotations

import json

import pytest

from joelclaw_tasks.core.failure import Failure
from joelclaw_tasks.core.states import Word

DAY_MS = 86_400_000


def failure(text: str = "no card", place: str = "shop/tasks.py:charge") -> Failure:
    return Failure.of("ValueError", text, place=place)


def discarded(core, id, text="no card", **fields) -> str:
    """One job that failed; answers its id."""
    core.admit(id, **fields)
    assert Word.DISCARDED == core.store.discard(core.start(), failure(text))
    return id


def test_a_discarded_job_keeps_its_payload_and_how_it_failed(core):
    core.admit("a", payload='{"x": 1}')
    why = Failure.of("ValueError", "order 7", traceback="Traceback …", place="p")
    core.store.discard(core.start(), why)

    job = core.store.inspect("a")
    assert '{"x": 1}' == job["payload"]
    assert (why.error, why.signature, "Traceback …", 1) == tuple(
        job[name] for name in ("error", "signature", "traceback", "claims")
    )
    assert {"reason": "ValueError: order 7", "signature": why.signature}.items() <= core.entries("discard")[
        0
    ].items()


def test_failures_that_are_alike_form_one_group(core):
    discarded(core, "a", "order 1")
    core.clock.advance(1_000)
    discarded(core, "b", "order 2")
    discarded(core, "c", "timeout")

    groups = {group["error"]: group for group in core.store.dead.groups()}
    assert {"ValueError: order 2", "ValueError: timeout"} == set(groups)
    assert {
        "signature": failure("order 3").signature,
        "count": 2,
        "first_at": core.clock.now - 1_000,
        "last_at": core.clock.now,
        "place": "shop/tasks.py:charge",
        "error": "ValueError: order 2",
        "sample": "b",
    } == groups["ValueError: order 2"]
    assert 3 == core.store.dead.count()
    assert ["a", "b"] == core.store.dead.ids(failure("order 3").signature)


def test_the_group_that_failed_last_comes_first(core):
    for n, text in enumerate(("one", "two", "three")):
        core.clock.advance(n)
        discarded(core, text, text)
    assert ["three", "two"] == [group["sample"] for group in core.store.dead.groups(2)]
    assert [] == core.store.dead.groups(0)


@pytest.mark.parametrize("verb", ["revive", "purge"])
def test_a_group_is_gone_with_its_last_job(core, verb):
    discarded(core, "a")
    discarded(core, "b")

    getattr(core.store, verb)(["b"], actor="t", reason="")
    (group,) = core.store.dead.groups()
    assert (1, "a") == (group["count"], group["sample"])

    getattr(core.store, verb)(["a"], actor="t", reason="")
    assert [] == core.store.dead.groups()
    assert ([], 0) == (core.store.dead.signatures(), core.store.dead.count())


def test_a_job_sent_again_under_its_id_leaves_its_group(core):
    discarded(core, "a")
    discarded(core, "b")
    assert [Word.ADMITTED] == core.store.admit([core.job("a")])
    assert ["b"] == core.store.dead.ids(failure().signature)


def test_a_revived_job_that_fails_again_is_back_in_its_group(core):
    discarded(core, "a", "order 1")
    discarded(core, "b", "order 2")
    core.store.revive(["a"], actor="t", reason="")
    core.clock.advance(5_000)
    core.store.discard(core.start(), failure("order 3"))

    (group,) = core.store.dead.groups()
    assert (2, core.clock.now, "a", "ValueError: order 3") == tuple(
        group[name] for name in ("count", "last_at", "sample", "error")
    )


def test_a_worker_that_died_too_often_has_a_signature_for_each_handler(core):
    core.store.max_kills = 1
    for handler in ("h", "h", "other"):
        core.admit(handler=handler)
        core.start()
        core.store.expire(["w1"], reason="gone")

    groups = core.store.dead.groups()
    assert {("h", 2), ("other", 1)} == {(group["place"], group["count"]) for group in groups}
    assert all(group["signature"].startswith("WorkerDied-") for group in groups)
    assert {"its worker died under it 1 times"} == {group["error"] for group in groups}


def test_what_was_refused_has_a_signature_and_is_not_revived_but_purged(core):
    for n, reason in enumerate(("bad JSON at char 7", "bad JSON at char 9", "no 'name' in it")):
        core.store.admit([core.job(f"bad{n}", refusal=reason)])

    assert {2, 1} == {group["count"] for group in core.store.dead.groups()}
    assert all(name.startswith("Refused-") for name in core.store.dead.signatures())
    assert [Word.WRONG_STATE] == core.store.revive(["bad0"], actor="t", reason="")
    assert [Word.PURGED] == core.store.purge(["bad0"], actor="t", reason="")


def test_a_job_revived_has_all_its_retries_again_and_does_not_expire(core):
    headers = {
        "task": "t", "argsrepr": '"retries": 7, "expires": "2020"', "expires": "2020-01-01T00:00:00+00:00",
        "retries": 3, "own": {"retries": 5, "expires": "x"},
    }  # fmt: skip
    message = {"body": "", "headers": headers, "properties": {}}
    discarded(core, "a", payload=json.dumps(message), retries=3)
    core.store.revive(["a"], actor="t", reason="")

    headers.update(retries=0, expires=None)
    assert message == json.loads(core.claim().jobs[0].payload)
    assert "0" == core.field("a", "retries")
    assert [Word.SUCCEEDED] == core.store.admit([core.job("a", retries=1)])


@pytest.mark.parametrize("payload", ["", "no JSON", '{"headers":{"retries":0,"expires":null}}'])
def test_whatever_the_payload_is_it_comes_back_as_it_was(core, payload):
    discarded(core, "a", payload=payload)
    assert [Word.REVIVED] == core.store.revive(["a"], actor="t", reason="")
    assert payload.encode() == core.claim().jobs[0].payload


def test_a_purged_job_is_recorded_and_known_as_a_duplicate(core):
    discarded(core, "a", keep_ms=60_000)
    discarded(core, "b")
    core.admit("waits")

    words = core.store.purge(["a", "nobody", "waits"], actor="joel", reason="not worth it")

    assert [Word.PURGED, Word.MISSING, Word.WRONG_STATE] == words
    assert {"actor": "joel", "reason": "not worth it", "from": "discarded", "to": "cancelled"}.items() <= (
        core.entries("purge")[0].items()
    )
    assert ("cancelled", "discarded", "available") == tuple(core.state(id) for id in ("a", "b", "waits"))
    assert None is core.field("a", "payload") is core.field("a", "traceback")
    assert [Word.DUPLICATE] == core.store.admit([core.job("a", keep_ms=60_000)])
    assert [] == core.store.purge([], actor="t", reason="")


def test_what_is_too_old_is_trimmed_with_an_entry_for_each(core):
    discarded(core, "old")
    core.clock.advance(30 * DAY_MS)
    discarded(core, "edge")
    core.clock.advance(1)

    core.store.dead_max = 100
    assert 1 == core.store.trim_dead()

    assert ["edge"] == core.store.dead.ids()
    (entry,) = core.entries("purge")
    assert {"job": "old", "actor": "retention", "reason": "kept for 720 h"}.items() <= entry.items()
    assert 0 == core.store.trim_dead()


def test_of_too_many_the_oldest_go_a_batch_at_a_time(core):
    for n in range(9):
        core.clock.advance(1)
        discarded(core, f"d{n}")

    core.store.dead_keep_ms, core.store.dead_max = 0, 4
    assert [3, 2, 0] == [core.store.trim_dead(at_once=3) for _ in range(3)]

    assert ["d5", "d6", "d7", "d8"] == core.store.dead.ids()
    assert {"more than 4 in the dead letter"} == {entry["reason"] for entry in core.entries("purge")}
    assert 5 == len(core.entries("purge"))


def test_without_bounds_nothing_is_trimmed(core):
    discarded(core, "a")
    core.clock.advance(10_000 * DAY_MS)
    core.store.dead_keep_ms, core.store.dead_max = 0, 0
    assert 0 == core.store.trim_dead()
    assert ["a"] == core.store.dead.ids()


def test_a_job_that_failed_again_meanwhile_is_not_trimmed(core):
    discarded(core, "a")
    seen = core.store.dead.overdue(1, 0, 9)
    assert [] == seen
    core.clock.advance(10)
    [(ids, until_ms, _)] = core.store.dead.overdue(5, 0, 9)
    core.store.revive(ids, actor="t", reason="")
    core.store.discard(core.start(), failure())

    assert [Word.WRONG_STATE] == core.store.purge(ids, actor="retention", reason="", until_ms=until_ms)
    assert "discarded" == core.state("a")


def test_trimming_ends_although_a_hash_was_deleted_by_hand(core):
    for id in ("gone", "here"):
        discarded(core, id, id)
    core.clock.advance(10)
    core.text.delete(core.key.job("gone"))

    core.store.dead_keep_ms = 5
    assert 1 == core.store.trim_dead()
    assert [] == core.store.dead.ids() == core.store.dead.overdue(5, 0, 9)
    core.text.delete(core.key.dead_jobs(failure("gone").signature))
    core.text.hdel(core.key.dead_groups, failure("gone").signature)
    core.text.hdel(core.key.counts, "q\nfam|2|discarded")


def test_jobs_are_listed_with_what_a_person_needs(core):
    discarded(core, "a", family="mail", handler="mail.send", priority=1, slack_ms=60_000)
    core.admit("waits")

    (line,) = core.store.dead.jobs(["a", "waits", "nobody"])
    assert {
        "id": "a", "family": "mail", "handler": "mail.send", "queue": "q", "priority": "P1", "claims": 1,
        "retries": 0, "kills": 0, "error": "ValueError: no card", "signature": failure().signature,
        "admitted_at": core.clock.now, "discarded_at": core.clock.now, "refused": False,
    } == line  # fmt: skip
    assert [b"payload of a"] == [job["payload"] for job in core.store.dead.jobs(["a"], payload=True)]


def test_hostile_errors_neither_stop_a_script_nor_a_reader(core):
    for n, text in enumerate(("\ud800 \0 \u202e", "ü" * 5_000, '"}{', "")):
        core.admit(f"h{n}")
        core.store.discard(core.start(), Failure.of("\ud800", text, traceback="\ud800", place="\n"))
    assert 4 == len(core.store.dead.groups()) == len(list(core.store.dead.jobs(core.store.dead.ids())))
    assert all(core.store.inspect(f"h{n}")["error"] for n in range(4))


def test_the_dead_letter_can_be_emptied_and_revived_from_when_redis_is_full(core):
    for id in "abc":
        discarded(core, id)
    core.text.config_set("maxmemory", "1mb")
    try:
        assert [Word.PURGED] == core.store.purge(["a"], actor="t", reason="")
        assert [Word.REVIVED] == core.store.revive(["b"], actor="t", reason="")
        core.clock.advance(31 * DAY_MS)
        assert 1 == core.store.trim_dead()
    finally:
        core.text.config_set("maxmemory", "0")


def test_a_million_of_one_group_cost_no_more_than_one_to_bury(core):
    """The record of a group is of bounded size whatever is in it."""
    for n in range(50):
        discarded(core, f"d{n}", "x" * 5_000)
    assert len(core.text.hget(core.key.dead_groups, failure("x" * 5_000).signature)) < 600
