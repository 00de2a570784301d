"""Rules of admission: dedup, throttle, singleton, debounce, batch, topics, expiry."""

from __future__ import annotations

import json

import pytest

from joelclaw_tasks.core.reply import Decision
from joelclaw_tasks.core.rules import Batch, Debounce, Rules, Singleton, Triage, Window
from joelclaw_tasks.core.states import Word
from joelclaw_tasks.errors import InvalidJob

DEDUP = Rules(dedup=Window("h=k", 60_000))
SKIP = Rules(singleton=Singleton("h=k"))
CANCEL = Rules(singleton=Singleton("h=k", cancel=True))
DEBOUNCE = Rules(debounce=Debounce("h=k", 1_000, 5_000))
BATCH = Rules(batch=Batch("h=k", 3, 5_000))


def admit(core, id, rules, **fields):
    """The decision for one call."""
    fields.setdefault("payload", json.dumps({"id": id}))
    [decision] = core.store.admit([core.job(id, rules=rules.encode(), **fields)])
    return decision


def batch_of(payload):
    return [element["id"] for element in json.loads(payload)["jc_batch"]]


# -- dedup and throttle ---------------------------------------------------------------------------


@pytest.mark.parametrize(("rule", "word"), [("dedup", Word.DUPLICATE), ("throttle", Word.THROTTLED)])
def test_the_first_call_of_a_window_goes_on_and_the_others_name_it(core, rule, word):
    rules = Rules(**{rule: Window("h=k", 60_000)})

    assert Word.ADMITTED == admit(core, "a", rules)
    core.clock.advance(59_999)
    assert Decision(word, "a") == admit(core, "b", rules)
    assert Word.ADMITTED == admit(core, "other", Rules(**{rule: Window("h=other", 60_000)}))
    core.clock.advance(1)
    assert Word.ADMITTED == admit(core, "c", rules)

    assert ["a", "other", "c"] == core.claim_ids(most=9)
    assert not core.text.exists(core.key.job("b"))
    assert {"job": "b", "of": "a"}.items() <= core.entries("admit")[1].items()


def test_a_window_outlives_its_job_and_a_call_that_is_sent_again_is_its_own_duplicate(core):
    admit(core, "a", DEDUP)
    assert Word.DUPLICATE == admit(core, "a", DEDUP)
    core.store.complete([core.start()])

    assert Decision(Word.DUPLICATE, "a") == admit(core, "a", DEDUP)
    assert Decision(Word.DUPLICATE, "a") == admit(core, "b", DEDUP)


def test_what_one_rule_drops_opens_no_window_of_another(core):
    admit(core, "a", Rules(throttle=Window("h=t", 60_000)))
    both = Rules(dedup=Window("h=k", 60_000), throttle=Window("h=t", 60_000))

    assert Decision(Word.THROTTLED, "a") == admit(core, "b", both)
    assert Word.ADMITTED == admit(core, "c", DEDUP)


def test_a_window_that_began_in_the_future_is_void_after_the_clock_was_moved_back(core):
    admit(core, "a", DEDUP)
    core.clock.advance(-1)
    assert Word.ADMITTED == admit(core, "b", DEDUP)
    assert Decision(Word.DUPLICATE, "b") == admit(core, "c", DEDUP)


# -- singleton ------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", ["available", "scheduled", "executing", "retryable"])
def test_a_singleton_is_skipped_while_another_waits_or_runs(core, state):
    admit(core, "a", SKIP, due_ms=core.clock.now + 1_000 if state == "scheduled" else 0)
    tag = core.start() if state in ("executing", "retryable") else ""
    if state == "retryable":
        core.store.retry(core.job("a", lease_tag=tag, due_ms=core.clock.now + 9_000))
        core.store.complete([tag])
    assert state == core.state("a")

    assert Decision(Word.SKIPPED, "a") == admit(core, "b", SKIP)
    assert not core.text.exists(core.key.job("b"))


@pytest.mark.parametrize("end", ["complete", "discard", "cancel"])
def test_the_next_singleton_is_admitted_once_the_other_is_over(core, end):
    admit(core, "a", SKIP, keep_ms=60_000)
    if end == "cancel":
        core.store.cancel(["a"], actor="t", reason="")
    else:
        tag = core.start()
        assert core.store.complete([tag]) if end == "complete" else core.store.discard(tag, "no")

    assert not core.text.exists(core.key.rule("singleton|h=k"))
    assert Word.ADMITTED == admit(core, "b", SKIP)


def test_a_newer_singleton_cancels_what_waits(core):
    admit(core, "a", CANCEL, keep_ms=60_000)
    assert Word.ADMITTED == admit(core, "b", CANCEL)

    assert ("cancelled", "available") == (core.state("a"), core.state("b"))
    assert ["b"] == core.claim_ids(most=9)
    assert {"job": "a", "actor": "singleton"}.items() <= core.entries("cancel")[0].items()


def test_a_newer_singleton_asks_what_runs_to_stop_and_waits_for_its_end(core):
    gates = {"gates": ("limit:singleton/h=k",), "lane": "q|h|k"}
    admit(core, "a", CANCEL, keep_ms=60_000, **gates)
    tag = core.start()
    admit(core, "b", CANCEL, **gates)

    assert [tag] == core.store.asked("w1")
    assert [] == core.claim_ids()
    assert [Word.CANCELLED] == core.store.complete([tag])
    assert "cancelled" == core.state("a")
    assert [] == core.store.asked("w1")
    assert ["b"] == core.claim_ids()


# -- cancel of what runs --------------------------------------------------------------------------


@pytest.mark.parametrize("end", ["complete", "retry", "discard", "release", "kill", "expire"])
def test_what_was_asked_to_stop_ends_as_cancelled_however_it_ends(core, end):
    core.admit("a", keep_ms=60_000, gates=("limit:handler/h",))
    tag = core.start()
    assert [Word.ASKED, Word.MISSING] == core.store.cancel(["a", "x"], actor="joel", reason="wrong")
    assert [Word.ASKED] == core.store.cancel(["a"], actor="later", reason="")
    assert "executing" == core.state("a")
    assert str(core.clock.now) == core.field("a", "cancel_asked_at")
    assert [tag] == core.store.asked("w1")

    if end == "discard":
        assert Word.CANCELLED == core.store.discard(tag, "terminated")
    elif end in ("release", "kill"):
        assert [Word.CANCELLED] == core.store.release([tag], killed=end == "kill")
    elif end == "expire":
        core.store.expire(["w1"], reason="gone")
    else:
        if end == "retry":
            core.store.retry(core.job("a", lease_tag=tag, retries=1))
        assert [Word.CANCELLED] == core.store.complete([tag])

    assert "cancelled" == core.state("a")
    assert [] == core.store.asked("w1")
    assert [] == core.claim_ids()
    assert {"actor": "joel", "reason": "wrong", "to": "cancelled"}.items() <= core.entries("cancel")[
        -1
    ].items()
    assert [Word.LEASE_LOST] == core.store.complete([tag])


# -- debounce -------------------------------------------------------------------------------------


def test_the_last_call_of_a_debounce_runs_once_it_has_been_quiet(core):
    assert Word.SCHEDULED == admit(core, "a", DEBOUNCE)
    core.clock.advance(900)
    assert Decision(Word.DEBOUNCED, "a") == admit(core, "b", DEBOUNCE, priority=0)
    core.clock.advance(999)
    assert [] == core.claim_ids()
    core.clock.advance(1)

    [job] = core.claim().jobs
    assert {"id": "b"} == json.loads(job.payload)
    assert "a" == job.tag.split("#")[0]
    assert "0" == core.field("a", "priority")
    assert Word.SCHEDULED == admit(core, "c", DEBOUNCE)


def test_a_debounce_waits_no_longer_than_its_max(core):
    admit(core, "a", DEBOUNCE)
    for _ in range(9):
        core.clock.advance(550)
        admit(core, None, DEBOUNCE)
    assert [] == core.claim_ids()
    core.clock.advance(50)
    assert ["a"] == core.claim_ids()


def test_a_call_that_was_merged_is_a_duplicate_when_it_is_sent_again(core):
    admit(core, "a", DEBOUNCE)
    admit(core, "b", DEBOUNCE)
    before = core.image()

    assert Decision(Word.DUPLICATE, "a") == admit(core, "b", DEBOUNCE)
    assert before == core.image()


@pytest.mark.parametrize(("at_in_ms", "due_in_ms"), [(-9_000, 1_000), (500, 1_000), (8_000, 8_000)])
def test_a_debounced_call_starts_neither_before_its_quiet_time_nor_before_its_own(core, at_in_ms, due_in_ms):
    assert Word.SCHEDULED == admit(core, "a", DEBOUNCE, due_ms=core.clock.now + at_in_ms)
    assert str(core.clock.now + due_in_ms) == core.field("a", "due_at")


def test_a_debounce_after_the_clock_was_moved_back_waits_from_the_new_time(core):
    admit(core, "a", DEBOUNCE)
    core.clock.advance(-3_600_000)
    admit(core, "b", DEBOUNCE)
    core.clock.advance(1_000)
    assert ["a"] == core.claim_ids()


# -- batch ----------------------------------------------------------------------------------------


def test_a_batch_opens_at_its_size(core):
    for id in ("a", "b"):
        assert Decision(Word.BATCHED, "batch:a") == admit(core, id, BATCH)
    assert [] == core.claim_ids()
    admit(core, "c", BATCH)
    admit(core, "d", BATCH)

    [job] = core.claim(most=9).jobs
    assert ["a", "b", "c"] == batch_of(job.payload)
    assert "batch:a" == job.tag.split("#")[0]
    assert ["batch:d"] == list(core.text.hkeys(core.key.elements("batch:d")) and ["batch:d"])


def test_a_call_that_was_merged_is_known_though_it_wants_only_a_score_now(core):
    for id in ("a", "b"):
        admit(core, id, BATCH)
    assert Decision(Word.DUPLICATE, "batch:a") == admit(core, "b", Rules(triage=Triage(2_000)))
    assert core.state("b") is None
    assert {"a", "b"} == set(core.text.hkeys(core.key.elements("batch:a")))


def test_a_batch_opens_when_its_first_element_has_waited_long_enough(core):
    admit(core, "a", BATCH)
    core.clock.advance(4_999)
    admit(core, "b", BATCH)
    assert [] == core.claim_ids()
    core.clock.advance(1)

    [job] = core.claim().jobs
    assert ["a", "b"] == batch_of(job.payload)
    core.store.complete([job.tag])
    assert [] == core.text.keys(core.key.elements("*"))


def test_a_batch_of_one_opens_at_once_and_other_keys_and_lanes_have_their_own(core):
    assert Decision(Word.BATCHED, "batch:a") == admit(core, "a", Rules(batch=Batch("h=1", 1, 5_000)))
    assert ["batch:a"] == core.claim_ids()
    admit(core, "b", BATCH)
    assert Decision(Word.BATCHED, "batch:c") == admit(core, "c", BATCH, lane="another")


def test_an_element_that_is_sent_again_is_in_its_batch_once(core):
    admit(core, "a", BATCH)
    assert Decision(Word.DUPLICATE, "batch:a") == admit(core, "a", BATCH)
    admit(core, "b", BATCH)
    admit(core, "c", BATCH)
    [job] = core.claim().jobs
    assert ["a", "b", "c"] == batch_of(job.payload)
    assert Decision(Word.DUPLICATE, "batch:a") == admit(core, "b", BATCH)


def test_elements_leave_a_batch_that_gathers_and_the_last_one_takes_it_along(core):
    admit(core, "a", BATCH)
    admit(core, "b", BATCH)
    assert [Word.CANCELLED] == core.store.cancel(["a"], actor="t", reason="")
    admit(core, "c", BATCH)
    assert [] == core.claim_ids()
    assert [Word.CANCELLED, Word.CANCELLED] == core.store.cancel(["b", "c"], actor="t", reason="")

    assert core.state("batch:a") is None
    core.clock.advance(10_000)
    assert [] == core.claim_ids()
    assert Decision(Word.BATCHED, "batch:d") == admit(core, "d", BATCH)


def test_an_element_that_failed_runs_alone_and_only_once(core):
    for id in ("a", "b", "c"):
        admit(core, id, BATCH)
    tag = core.start()
    alone = Rules(split_from="batch:a")
    assert Word.ADMITTED == admit(core, "b", alone, retries=1)
    assert Word.DUPLICATE == admit(core, "b", alone, retries=1)
    assert Word.REFUSED == admit(core, "c", Rules(split_from="batch:a", error="Broken: c"))
    core.store.complete([tag])

    assert ["b"] == core.claim_ids(most=9)
    assert ("discarded", "Broken: c") == (core.state("c"), core.field("c", "error"))
    assert [Word.REVIVED] == core.store.revive(["c"], actor="t", reason="")


def test_a_batch_is_as_urgent_as_its_most_urgent_element_and_expires_with_its_last(core):
    late = core.clock.now + 60_000
    batch = Batch("h=k", 2, 5_000)
    admit(core, "a", Rules(batch=batch, expires_at=late), priority=3)
    admit(core, "b", Rules(batch=batch, expires_at=late + 1), priority=1)
    assert "1" == core.field("batch:a", "priority")
    core.clock.advance(60_000)
    assert ["batch:a"] == core.claim_ids()


def test_no_element_starts_before_its_own_time(core):
    batch = Rules(batch=Batch("h=k", 2, 1_000))
    admit(core, "a", batch, due_ms=core.clock.now + 7_000)
    admit(core, "b", batch)
    core.clock.advance(6_999)
    assert [] == core.claim_ids()
    core.clock.advance(1)
    assert ["batch:a"] == core.claim_ids()


def test_a_call_that_became_part_of_a_job_is_found_there(core):
    admit(core, "a", BATCH)
    admit(core, "b", BATCH)
    found = core.store.inspect("b")
    assert ("b", "batch:a", ["a", "b"]) == (found["call"], found["id"], sorted(found["elements"]))


# -- topics and expiry ----------------------------------------------------------------------------


def test_an_event_cancels_what_waits_under_its_topic_and_asks_what_runs(core):
    topic = Rules(topics=("h|x=1",))
    for id in ("runs", "waits", "scheduled"):
        core.clock.advance(1)
        admit(core, id, topic, keep_ms=60_000, due_ms=core.clock.now + 9_000 * (id == "scheduled"))
    core.clock.advance(1)
    admit(core, "other", Rules(topics=("h|x=2",)))
    tag = core.start()

    core.clock.advance(1)
    admit(core, "x", Rules(cancels=("h|x=1",)), family="x", actor="joel", queue="elsewhere")

    assert ["executing", "cancelled", "cancelled", "available"] == [
        core.state(id) for id in ("runs", "waits", "scheduled", "other")
    ]
    assert [tag] == core.store.asked("w1")
    assert ("joel", "event x") == tuple(core.entries("cancel")[0][f] for f in ("actor", "reason"))
    admit(core, "later", topic)
    assert ["other", "later"] == core.claim_ids(most=9)
    core.store.complete([tag])
    assert {"later", "other"} == {
        id for key in core.text.keys(core.key.topic("*")) for id in core.text.smembers(key)
    }


def test_an_event_cancels_elements_of_a_batch_that_gathers(core):
    rules = Rules(batch=BATCH.batch, topics=("h|x=1",))
    admit(core, "a", rules)
    admit(core, "b", Rules(batch=BATCH.batch, topics=("h|x=2",)))
    admit(core, "x", Rules(cancels=("h|x=1",)), queue="elsewhere")
    core.clock.advance(5_000)
    [job] = core.claim().jobs
    assert ["b"] == batch_of(job.payload)


def test_more_jobs_than_one_script_may_touch_are_cancelled_by_a_timer(core):
    topic = Rules(topics=("h|x=1",)).encode()
    core.store.admit([core.job(rules=topic) for _ in range(2_500)])
    admit(core, "x", Rules(cancels=("h|x=1",)), queue="elsewhere")
    admit(core, "later", Rules(topics=("h|x=1",)))
    while core.store.claim(["nothing"], 1, "w").next_due_ms == 0:
        pass

    assert ["later"] == core.claim_ids(most=9)


def test_a_job_never_starts_after_it_has_expired(core):
    assert Word.EXPIRED == admit(core, "late", Rules(expires_at=core.clock.now))
    admit(core, "a", Rules(expires_at=core.clock.now + 1_000), keep_ms=60_000, gates=("limit:handler/h",))
    admit(core, "b", Rules(expires_at=core.clock.now + 1_001), gates=("limit:handler/h",))
    core.clock.advance(1_000)

    assert ["b"] == core.claim_ids(most=9)
    assert "cancelled" == core.state("a")
    assert {"job": "a", "actor": "expiry", "reason": "expired"}.items() <= core.entries("cancel")[0].items()


def test_a_revived_job_holds_its_rules_again_and_expires_no_more(core):
    rules = Rules(singleton=SKIP.singleton, topics=("h|x=1",), expires_at=core.clock.now + 1_000)
    admit(core, "a", rules)
    core.store.discard(core.start(), "broken")
    assert [] == core.text.keys(core.key.topic("*"))
    core.clock.advance(5_000)

    core.store.revive(["a"], actor="t", reason="")

    assert Decision(Word.SKIPPED, "a") == admit(core, "b", SKIP)
    assert ["a"] == core.claim_ids()
    admit(core, "x", Rules(cancels=("h|x=1",)), queue="elsewhere")
    assert 1 == len(core.store.asked("w1"))


# -- what all rules share -------------------------------------------------------------------------


@pytest.mark.parametrize("rules", [DEDUP, SKIP, DEBOUNCE, BATCH, Rules(topics=("t",))])
def test_every_key_of_a_rule_goes_with_its_job_or_expires(core, rules):
    admit(core, "a", rules)
    core.clock.advance(10_000)
    core.store.complete([core.start()])

    left = core.text.keys("*")
    kinds = ("rule", "alias", "topic", "elements", "asked")
    ours = [key for key in left if key.removeprefix(core.key.prefix).split(":")[0] in kinds]
    assert [] == [key for key in ours if core.text.pttl(key) <= 0]


def test_a_job_without_rules_writes_none(core):
    core.admit("a")
    assert core.field("a", "rules") is None
    core.start()
    assert core.field("a", "rules") is None


@pytest.mark.parametrize(
    "text",
    [
        "{", "[]", "null", '{"unknown":1}', '{"dedup":{"key":"a"}}', '{"dedup":{"key":"a","window_ms":0}}',
        '{"dedup":{"key":"a\\n","window_ms":1}}', '{"dedup":{"key":"a","window_ms":1e3}}',
        '{"expires_at":-1}', '{"topics":[' + ",".join(['"t"'] * 1001) + "]}",
        '{"topics":[1]}', '{"topics":"ab\\u0000"}', '{"singleton":{"key":"a","cancel":1}}', '{"error":1}',
        '{"batch":{"key":"a","size":2,"max_wait_ms":1},"singleton":{"key":"a"}}', "[" * 100_000,
        '{"debounce":{"key":"a","wait_ms":2,"max_wait_ms":1}}', '{"triage":{"hold_ms":60001}}',
    ],
)  # fmt: skip
def test_rules_that_nobody_could_obey_are_refused_before_anything_is_written(core, text):
    with pytest.raises(InvalidJob):
        core.job("a", rules=text)
    assert {} == core.image()


def test_rules_survive_their_journey():
    rules = Rules(
        DEDUP.dedup, Window("t", 1), CANCEL.singleton, DEBOUNCE.debounce,
        topics=("a",), cancels=("b",), expires_at=9,
    )  # fmt: skip
    for each in (rules, Rules(triage=Triage(0), topics=("a",))):
        assert each == Rules.decode(each.encode())
    assert "" == Rules().encode()
