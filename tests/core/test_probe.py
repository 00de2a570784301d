"""What the observer needs of the core: one job past a pause, why a job is retried, passes that begin once."""

from __future__ import annotations

from joelclaw_tasks.core.passes import Passes

FAM = "pause:family/fam"
OBSERVER = {"actor": "observer", "reason": "circuit"}


def test_a_drain_of_one_job_lets_out_that_job_and_no_other(core):
    for id in ("a", "b", "c"):
        core.admit(id)
    core.store.pause(FAM, **OBSERVER)
    assert [] == core.claim_ids()  # its lane is parked

    core.store.drain(FAM, job="b", lanes=["q|h|"], ttl_ms=60_000, **OBSERVER)

    assert ["b"] == core.claim_ids(most=5)
    assert [] == core.claim_ids(most=5)
    assert [] == core.structure().faults()


def test_a_drain_of_a_job_that_is_gone_lets_nothing_out(core):
    core.admit("a")
    core.store.pause(FAM, **OBSERVER)
    assert [] == core.claim_ids()

    core.store.drain(FAM, job="gone", lanes=["q|h|"], ttl_ms=60_000, **OBSERVER)

    assert [] == core.claim_ids()
    assert FAM == core.gate_of("q|h|")


def test_why_a_job_is_retried_is_in_the_stream(core):
    core.admit("a")
    tag = core.start()

    core.store.retry(core.job("a", lease_tag=tag, retries=1), reason="RateLimited: 429")
    core.store.complete([tag])

    (entry,) = core.entries("retry")
    assert "RateLimited: 429" == entry["reason"]
    assert None is core.field("a", "reason")


def test_of_two_observers_one_begins_the_pass(core):
    first, second = Passes(core.store).look(54_000), Passes(core.store).look(54_000)
    core.clock.advance(54_000)
    third = Passes(core.store).look(54_000)

    assert [(True, 1), (False, 1), (True, 2)] == [(one.began, one.number) for one in (first, second, third)]
    assert not Passes(core.store).is_newest(1)


def test_a_look_alone_changes_nothing(core):
    core.admit("a")
    before = core.image()

    sight = Passes(core.store).look()

    assert (False, 0, (("q", "fam", 2, "available", 1),)) == (sight.began, sight.number, sight.counts)
    assert before == core.image()


def test_a_clock_that_was_moved_back_does_not_stop_the_passes(core):
    Passes(core.store).look(54_000)
    core.clock.advance(-3_600_000)

    assert Passes(core.store).look(54_000).began
