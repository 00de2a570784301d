"""History: the transitions stream, read by time, by job and by verb, page by page."""

from __future__ import annotations

import pytest
import redis

from joelclaw_tasks.errors import CoreUnreachable


def moves(core, **chosen):
    return [(entry.verb, entry.job) for entry in core.store.history.read(**chosen)]


def test_an_empty_stream_has_no_history(core):
    assert [] == list(core.store.history.read())
    assert [] == list(core.store.history.read(newest_first=True))
    assert [] == core.store.history.tail()
    assert (0, None, None, False) == core.store.history.extent()


def test_entries_are_typed(core):
    core.admit("a", actor="joel@cli")
    core.clock.advance(40)
    tag = core.start()
    core.clock.advance(7)
    core.store.complete([tag])

    admitted, claimed, completed = core.store.history.read()

    assert ("admit", "a", "fam", "", "available", "joel@cli", None) == (
        admitted.verb, admitted.job, admitted.family, admitted.from_state, admitted.to_state, admitted.actor,
        admitted.run_ms,
    )  # fmt: skip
    assert (core.clock.now - 7, 40, "w1") == (claimed.at, claimed.wait_ms, claimed.text("holder"))
    assert (core.clock.now, 7) == (completed.at, completed.run_ms)


def test_a_field_that_is_no_number_is_none(core):
    core.text.xadd(core.key.transitions, {"verb": "claim", "at": "5", "wait_ms": "soon", "run_ms": "1e999"})

    [entry] = core.store.history.read()

    assert (None, None, None) == (entry.wait_ms, entry.run_ms, entry.number("attempt"))


def test_pages_join_without_a_gap_in_either_direction(core):
    ids = [core.admit() for _ in range(23)]

    for page in (1, 5, 23, 100):
        assert [("admit", id) for id in ids] == moves(core, page=page)
        assert [("admit", id) for id in reversed(ids)] == moves(core, page=page, newest_first=True)


def test_a_span_of_time_includes_both_its_ends(core):
    for id in ("a", "b", "c", "d"):
        core.admit(id)
        core.clock.advance(1_000)
    start = core.clock.now - 4_000

    span = {"since_at": start + 1_000, "until_at": start + 2_000}

    assert [("admit", "b"), ("admit", "c")] == moves(core, **span)
    assert [("admit", "c"), ("admit", "b")] == moves(core, **span, newest_first=True)


def test_entries_of_a_clock_that_was_moved_back_are_found_by_their_own_time(core):
    core.admit("a")
    core.clock.advance(-60_000)
    core.admit("b")

    assert [("admit", "b")] == moves(core, until_at=core.clock.now)
    assert [("admit", "a")] == moves(core, since_at=core.clock.now + 1)


def test_the_moves_of_one_job_are_found_among_many(core):
    core.admit("mine")
    core.clock.advance(1)
    for _ in range(40):
        core.admit()
    tag = core.start()
    core.store.release([tag], reason="for now")

    for page in (3, 500):
        assert [("admit", "mine"), ("claim", "mine"), ("release", "mine")] == moves(
            core, job="mine", page=page
        )
    assert [("release", "mine")] == moves(core, job="mine", verbs=["release", "cancel"])


def test_verbs_are_chosen_wherever_they_are(core):
    core.store.pause("pause:family/fam", actor="joel", reason="why", ttl_ms=60_000)
    core.admit("a")
    core.store.resume("pause:family/fam", actor="joel")

    pause, resume = core.store.history.read(verbs=["pause", "resume"])

    assert ("pause", "pause:family/fam", "joel", "why") == (
        pause.verb, pause.text("gate"), pause.actor, pause.text("reason"),
    )  # fmt: skip
    assert core.clock.now + 60_000 == pause.number("expires_at")
    assert "resume" == resume.verb


def test_acts_are_what_is_about_no_single_job(core):
    core.admit("a")
    core.store.limit({"limit:x": 3}, actor="joel", reason="")
    core.store.cancel(["a"], actor="joel", reason="")

    assert [("limit", "")] == moves(core, acts=True)
    assert [] == moves(core, acts=True, verbs=["cancel"])


def test_what_is_added_while_reading_is_not_part_of_it(core):
    core.admit("a")
    core.admit("b")
    reading = core.store.history.read(page=1)

    first = next(reading)
    core.admit("c")

    assert ["a", "b"] == [first.job, *(entry.job for entry in reading)]


def test_a_stream_that_is_trimmed_while_it_is_read_goes_on_behind_the_gap(core):
    ids = [core.admit() for _ in range(10)]
    reading = core.store.history.read(page=2)

    first = [next(reading).job, next(reading).job]
    core.text.xtrim(core.key.transitions, maxlen=4, approximate=False)

    assert ids[:2] + ids[6:] == first + [entry.job for entry in reading]


def test_the_tail_is_the_newest_entries(core):
    for id in ("a", "b", "c"):
        core.admit(id)

    assert ["c", "b", "a"] == [entry.job for entry in core.store.history.tail()]
    assert ["c"] == [entry.job for entry in core.store.history.tail(1)]


def test_the_extent_says_whether_older_entries_are_gone(core):
    core.admit("a")
    core.clock.advance(500)
    core.admit("b")
    assert (2, core.clock.now - 500, core.clock.now, False) == core.store.history.extent()

    core.text.xtrim(core.key.transitions, maxlen=1, approximate=False)
    core.store.history._transitions_max = 1

    assert (1, core.clock.now, core.clock.now, True) == core.store.history.extent()


def test_text_of_strangers_is_read_whatever_it_is(core, redis_url):
    reason = 'a "quote" \\ \x00 \x1b[2J ü 🦀 \n'
    core.store.pause("pause:queue/q", actor="joel", reason=reason)
    core.store.client.xadd(core.key.transitions, {"verb": "pause", "at": "1", "reason": b"\xff\xfe"})

    first, second = core.store.history.read()

    assert reason == first.text("reason")
    assert "\ufffd\ufffd" == second.text("reason")


def test_reading_changes_nothing(core):
    core.admit("a")
    before, length = core.image(), core.text.xlen(core.key.transitions)

    list(core.store.history.read(job="a", newest_first=True))
    core.store.history.extent()

    assert (before, length) == (core.image(), core.text.xlen(core.key.transitions))


def test_a_redis_that_goes_away_is_unreachable(core, monkeypatch):
    core.admit("a")
    core.admit("b")
    reading = core.store.history.read(page=1)
    next(reading)

    def run(*_, **__):
        raise redis.ConnectionError

    monkeypatch.setattr(core.store._wire, "run", run)
    with pytest.raises(CoreUnreachable):
        next(reading)
