"""Explain: the gate that holds a job, its place, and where its time went."""

from __future__ import annotations

import pytest

from joelclaw_tasks.core.explain import Explainer
from joelclaw_tasks.core.rate import Rate
from joelclaw_tasks.core.rules import Batch, Debounce, Rules
from joelclaw_tasks.errors import UnknownJob

NAS = "limit:resource/nas"


def explain(core, job_id):
    return Explainer(core.store).job(job_id)


def limit(core, most, gate=NAS):
    core.store.limit({gate: most}, actor="t", reason="r")


def test_a_job_behind_a_pause_names_who_shut_it_why_and_when_it_opens(core):
    core.admit("j")
    core.store.pause("pause:family/fam", actor="joel", reason="the NAS moves", ttl_ms=60_000)
    paused_at = core.clock.now
    core.clock.advance(5_000)
    assert [] == core.claim_ids()

    waits = explain(core, "j")["waiting_on"]

    assert {
        "gate": "pause:family/fam",
        "kind": "pause",
        "since": paused_at,
        "opens_when": "its time is over, or somebody resumes it",
        "opens_at": paused_at + 60_000,
        "actor": "joel",
        "reason": "the NAS moves",
        "parked_since": core.clock.now,
    } == waits


@pytest.mark.parametrize(("kind", "name"), [("family", "fam"), ("handler", "h"), ("queue", "q")])
def test_a_shut_gate_that_no_worker_has_looked_at_yet_is_named_all_the_same(core, kind, name):
    core.admit("j")
    core.store.pause(f"pause:{kind}/{name}", actor="joel", reason="")

    found = explain(core, "j")

    assert f"pause:{kind}/{name}" == found["waiting_on"]["gate"]
    assert found["waiting_on"]["parked_since"] is None
    assert "" == core.gate_of("q|h|")


def test_a_job_at_a_full_limit_says_how_many_run_and_since_when_it_is_full(core):
    limit(core, 2)
    for job_id in "abcd":
        core.admit(job_id, gates=(NAS,))
    core.claim()
    core.clock.advance(1_000)
    core.claim()
    full_at = core.clock.now
    core.clock.advance(1_000)
    core.claim()

    waits = explain(core, "c")["waiting_on"]

    assert (NAS, "limit", full_at, 2, 2) == tuple(
        waits[name] for name in ("gate", "kind", "since", "limit", "running")
    )
    assert "1 of the 2 places that are taken is given back" == waits["opens_when"]
    assert waits["opens_at"] is None
    assert core.clock.now == waits["parked_since"]


@pytest.mark.parametrize(
    ("most", "says"),
    [(0, "somebody raises its limit, which is 0"), (1, "2 of the 2 places that are taken are given back")],
)
def test_a_limit_that_was_lowered_says_what_must_happen(core, most, says):
    limit(core, 2)
    for job_id in "abc":
        core.admit(job_id, gates=(NAS,))
    core.claim(most=9)
    limit(core, most)

    assert says == explain(core, "c")["waiting_on"]["opens_when"]


def test_a_job_that_is_not_the_first_of_its_lane_says_so_beside_the_gate(core):
    limit(core, 1)
    for job_id in "abc":
        core.admit(job_id, gates=(NAS,))
    core.claim()

    found = explain(core, "c")

    assert NAS == found["waiting_on"]["gate"]
    assert {"in_lane": 2, "lane_jobs": 2, "in_queue": 2, "lanes_ahead": 0} == found["position"]
    assert {"jobs": 1, "of_its_lane": 1, "first_of_its_lane": "b"} == found["behind"]


def test_a_job_that_waits_its_turn_counts_the_jobs_of_every_ready_lane_before_it(core):
    core.admit("slow", priority=3, lane="q|a|")
    core.admit("mine", priority=2, lane="q|b|")
    for n in range(3):
        core.admit(f"fast{n}", priority=1, lane="q|c|")
    core.admit("same", priority=1, lane="q|b|")
    core.admit("elsewhere", queue="other", priority=0)

    found = explain(core, "mine")

    assert found["waiting_on"] is None
    assert 5 == found["position"]["in_queue"]
    assert {"jobs": 4, "of_its_lane": 1, "first_of_its_lane": "same"} == found["behind"]
    assert 0 == found["workers"]["count"]
    assert {"at": None, "basis": "no worker serves the queue q now"} == {
        name: found["estimated_start"][name] for name in ("at", "basis")
    }


def test_a_scheduled_job_waits_for_its_clock(core):
    due_ms = core.clock.now + 90_000
    core.admit("j", due_ms=due_ms)
    core.admit("other")
    core.claim()

    found = explain(core, "j")

    assert "scheduled" == found["state"]
    assert ("clock", "scheduled", due_ms) == tuple(
        found["waiting_on"][name] for name in ("gate", "kind", "opens_at")
    )
    assert due_ms == found["estimated_start"]["at"]


def test_a_running_job_names_its_worker_its_lease_and_the_usual_run(core):
    for n in range(20):
        core.admit(f"done{n}")
        tag = core.start()
        core.clock.advance(1_000 + n)
        core.store.complete([tag])
    core.admit("j")
    core.start(holder="w7")
    started_at = core.clock.now
    core.clock.advance(3_000)

    running = explain(core, "j")["running"]

    assert ("w7", started_at, 3_000) == tuple(running[name] for name in ("holder", "since", "ran_ms"))
    assert started_at + core.store.lease_ms == running["lease_until"]
    assert {"p50": 1_009, "p95": 1_018} == running["typical_run_ms"]


def test_the_estimate_is_the_time_until_the_running_job_ends_as_measured(core):
    limit(core, 1)
    for n in range(5):
        core.admit(f"done{n}", gates=(NAS,))
        tag = core.start()
        core.clock.advance(2_000)
        core.store.complete([tag])
    for job_id in "abc":
        core.admit(job_id, gates=(NAS,))
    core.claim()
    started_at = core.clock.now
    core.clock.advance(500)

    estimate = explain(core, "c")["estimated_start"]

    assert started_at + 4_000 == estimate["at"] == estimate["earliest_at"] == estimate["latest_at"]
    assert (
        "5 runs of h, 2 s in the mean, 1 job at once, 1 ahead; the middle of 9 simulated runs"
        == (estimate["basis"])
    )


def test_a_pause_without_end_has_no_estimate_and_says_what_it_waits_for(core):
    core.admit("done")
    core.store.complete([core.start()])
    core.admit("j")
    core.store.pause("pause:queue/q", actor="joel", reason="")

    estimate = explain(core, "j")["estimated_start"]

    assert estimate["at"] is None
    assert estimate["basis"].startswith("not before somebody resumes it")


def test_a_finished_job_says_where_its_time_went(core):
    limit(core, 1)
    core.admit("other", gates=(NAS,), lane="q|o|", handler="o")
    core.admit("j", gates=(NAS,), due_ms=core.clock.now + 10_000, keep_ms=60_000)
    tag = core.start()
    core.clock.advance(10_000)
    assert [] == core.claim_ids()
    core.clock.advance(4_000)
    core.store.complete([tag])
    core.store.pause("pause:family/fam", actor="joel", reason="")
    core.clock.advance(2_000)
    core.store.resume("pause:family/fam", actor="joel")
    core.clock.advance(1_000)
    tag = core.start()
    core.clock.advance(3_000)
    core.store.complete([tag])

    found = explain(core, "j")

    assert "completed" == found["state"]
    assert [
        ("scheduled", None, 10_000),
        ("parked", NAS, 4_000),
        ("running", None, 3_000),
        ("parked", "pause:family/fam", 2_000),
        ("queued", None, 1_000),
    ] == [(one["what"], one["gate"], one["ms"]) for one in found["spent"]]
    assert 1.0 == pytest.approx(sum(one["share"] for one in found["spent"]))


def test_a_wait_in_the_queue_says_whose_jobs_went_first(core):
    core.admit("j", priority=3)
    for n in range(3):
        core.admit(f"fast{n}", priority=0, handler="quick")
    for _ in range(3):
        tag = core.start()
        core.clock.advance(1_000)
        core.store.complete([tag])
    core.store.complete([core.start()])

    [queued, *_] = explain(core, "j")["spent"]

    assert ("queued", 3_000, {"quick": 3}) == (queued["what"], queued["ms"], queued["behind"])


def test_a_plain_task_that_left_no_hash_is_explained_from_the_stream(core):
    core.admit("j", priority=1)
    core.clock.advance(700)
    tag = core.start()
    core.clock.advance(300)
    core.store.complete([tag])
    assert core.state("j") is None

    found = explain(core, "j")

    assert ("completed", "fam", "q", "P1") == tuple(
        found[name] for name in ("state", "family", "queue", "priority")
    )
    assert {"queued": 700, "running": 300} == {one["what"]: one["ms"] for one in found["spent"]}


def test_of_an_id_that_was_sent_twice_only_the_last_life_counts(core):
    for _ in range(2):
        core.admit("j")
        core.clock.advance(500)
        core.store.complete([core.start()])

    assert [("queued", 500)] == [(one["what"], one["ms"]) for one in explain(core, "j")["spent"] if one["ms"]]


def test_when_it_expires_and_that_it_was_asked_to_stop_is_said(core):
    core.admit("waits", rules=Rules(expires_at=core.clock.now + 5_000).encode())
    core.admit("runs", priority=0)
    core.start()
    core.store.cancel(["runs"], actor="joel", reason="")

    assert core.clock.now + 5_000 == explain(core, "waits")["expires_at"]
    assert core.clock.now == explain(core, "runs")["running"]["cancel_asked_at"]


def test_a_discarded_job_says_what_it_failed_with(core):
    core.admit("j")
    core.store.discard(core.start(), "ValueError: no")

    assert "ValueError: no" in explain(core, "j")["error"]


def test_a_family_is_summed_up_by_gate_with_the_answer_for_its_next_job(core):
    limit(core, 1)
    core.admit("runs", gates=(NAS,), lane="q|a|")
    core.claim()
    for n in range(3):
        core.admit(f"a{n}", gates=(NAS,), lane="q|a|")
    core.admit("b0", lane="q|b|", priority=3)
    core.admit("other", family="else", lane="q|c|")

    found = Explainer(core.store).family("fam")

    assert [(NAS, 3, 1), (None, 1, 1)] == [
        (one["gate"], one["jobs"], one["lanes"]) for one in found["by_gate"]
    ]
    assert "b0" == found["next"]["id"]
    assert 4 == found["by_state"]["available"]


def test_nobody_knows_a_job_or_a_family_that_never_was(core):
    for ask in (Explainer(core.store).job, Explainer(core.store).family):
        with pytest.raises(UnknownJob):
            ask("nothing")


def test_to_explain_changes_nothing(core):
    limit(core, 1)
    for job_id in "abc":
        core.admit(job_id, gates=(NAS,))
    core.claim()
    before = core.image()

    for job_id in "abc":
        explain(core, job_id)
    Explainer(core.store).family("fam")

    assert before == core.image()


# -- every kind of gate ---------------------------------------------------------------------------


def waits_on(core, job_id):
    return explain(core, job_id)["waiting_on"]


def test_a_job_at_an_empty_rate_says_when_the_next_token_comes(core):
    gate = "rate:handler/h"
    core.store.rate({gate: Rate(1, 10_000, 2)}, actor="t", reason="r")
    for job_id in "abcd":
        core.admit(job_id, gates=(gate,))
    for tag in [one.tag for one in core.claim(most=9).jobs]:
        core.clock.advance(1_000)
        core.store.complete([tag])
    started_at = core.clock.now - 2_000

    found = explain(core, "d")

    assert (gate, "rate", started_at + 10_000) == tuple(
        found["waiting_on"][name] for name in ("gate", "kind", "opens_at")
    )
    assert started_at + 20_000 == pytest.approx(found["estimated_start"]["at"], abs=2)
    assert [("parked", gate)] == [(one["what"], one["gate"]) for one in found["spent"]]


def test_a_heavy_job_says_how_many_places_it_lacks(core):
    limit(core, 3)
    core.admit("light", gates=(NAS,), lane="q|light|")
    core.claim()
    core.admit("heavy", gates=(f"{NAS}\t3",), lane="q|heavy|")
    core.admit("too heavy", gates=(f"{NAS}\t4",), lane="q|4|")

    assert "the one place that is taken is given back" == waits_on(core, "heavy")["opens_when"]
    assert "somebody raises its limit, which is 3; it needs 4" == waits_on(core, "too heavy")["opens_when"]


def test_a_light_job_behind_a_heavy_one_of_a_better_rank_says_so(core):
    limit(core, 2)
    core.admit("runs", gates=(NAS,), lane="q|a|")
    core.claim()
    core.admit("heavy", gates=(f"{NAS}\t2",), lane="q|heavy|", priority=0)
    core.claim()
    core.admit("light", gates=(NAS,), lane="q|light|", priority=3)

    assert (
        "a job that needs more places and has waited longer has started"
        == (waits_on(core, "light")["opens_when"])
    )


def test_a_second_singleton_waits_for_the_first(core):
    gate = "limit:singleton/s"
    core.admit("a", gates=(gate,), lane="q|1|")
    core.admit("b", gates=(gate,), lane="q|2|")
    core.claim()

    assert (gate, 1) == (waits_on(core, "b")["gate"], waits_on(core, "b")["limit"])


def test_a_batch_and_a_debounce_say_that_they_gather(core):
    core.admit("call", rules=Rules(batch=Batch("k", 3, 5_000)).encode())
    core.admit("typed", rules=Rules(debounce=Debounce("k", 2_000, 9_000)).encode(), lane="q|other|")

    batch, debounce = waits_on(core, "batch:call"), waits_on(core, "typed")

    assert ("batch", 1, core.clock.now + 5_000) == (batch["kind"], batch["gathered"], batch["opens_at"])
    assert ("debounce", core.clock.now + 2_000) == (debounce["kind"], debounce["opens_at"])


def test_a_call_that_became_part_of_a_batch_leads_to_the_batch(core):
    core.admit("call", rules=Rules(batch=Batch("k", 3, 5_000)).encode())

    found = explain(core, "call")

    assert ("call", "batch:call", "batch:call") == (found["asked_for"], found["merged_into"], found["id"])


def test_a_shed_job_names_who_put_it_away_and_until_when(core):
    core.admit("j")
    core.store.shed(["j"], actor="joel", reason="not today", target="j", ttl_ms=3_600_000)

    waits = waits_on(core, "j")

    assert ("shed", "joel", "not today") == tuple(waits[name] for name in ("kind", "actor", "reason"))
    assert core.clock.now + 3_600_000 == waits["opens_at"]


def test_a_job_that_is_drained_past_its_pause_waits_only_its_turn(core):
    core.admit("old")
    core.store.pause("pause:family/fam", actor="joel", reason="")
    core.claim()
    core.store.drain("pause:family/fam", actor="joel", reason="", ttl_ms=60_000)
    core.clock.advance(1_000)
    core.admit("new", lane="q|new|")

    assert waits_on(core, "old") is None
    assert "pause:family/fam" == waits_on(core, "new")["gate"]


def test_a_retry_waits_for_its_next_try(core):
    core.admit("j")
    tag = core.start()
    core.store.retry(core.job("j", lease_tag=tag, retries=1, due_ms=core.clock.now + 4_000))
    core.store.complete([tag])

    waits = waits_on(core, "j")

    assert ("clock", "retryable", core.clock.now + 4_000) == tuple(
        waits[name] for name in ("gate", "kind", "opens_at")
    )
