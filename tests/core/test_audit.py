"""Audit: what somebody broke by hand in Redis is named, its mend mends it, and a sound queue has no fault."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable

import pytest
import redis

from joelclaw_tasks.core.audit import Audit
from joelclaw_tasks.core.audit_history import audit_history
from joelclaw_tasks.core.history import Entry
from joelclaw_tasks.core.keys import Keys
from joelclaw_tasks.core.rate import Rate
from joelclaw_tasks.core.rules import Batch, Debounce, Rules
from joelclaw_tasks.core.store import Store
from joelclaw_tasks.core.violation import quoted

NAS = "limit:resource/nas"
PAUSED = "pause:family/fam"


def audit(core):
    return Audit(core.store).run()


@pytest.fixture
def busy(core):
    """A queue with a job in every state and a lane in every place."""
    core.store.limit({NAS: 1}, actor="t", reason="r")
    core.admit("dead")
    core.store.discard(core.start(), "it failed")
    core.admit("runs", gates=(NAS,), lane="q|nas|", handler="nas")
    core.claim(holder="w1")
    core.admit("waits", gates=(NAS,), lane="q|nas2|", handler="nas2")
    core.admit("paused", family="other", lane="q|p|", handler="p")
    core.store.pause("pause:family/other", actor="t", reason="r", ttl_ms=60_000)
    core.claim(most=9)
    core.admit("later", due_ms=core.clock.now + 60_000)
    core.admit("first")
    core.admit("second")
    core.admit("other", queue="q2", lane="q2|h|")
    return core


def test_a_sound_queue_has_no_fault_and_the_audit_changes_nothing(busy):
    before = busy.image()

    found = audit(busy)

    assert [] == found.violations
    assert [] == found.unchecked
    assert (8, 4) == (found.jobs, found.lanes)
    assert len(busy.entries()) == found.entries
    assert before == busy.image()


def test_an_empty_redis_has_no_fault(core):
    found = audit(core)

    assert ([], 0, 0) == (found.violations, found.jobs, found.entries)


Break = Callable[["object"], object]


def _redis(act: Callable[[redis.Redis, Keys], object]) -> Break:
    return lambda core: act(core.text, core.key)


BREAKS: dict[str, tuple[str, str, Break]] = {
    "a job that fell out of its lane": (
        "I1", "JOB_IN_NO_LANE", _redis(lambda r, k: r.zrem(k.lane("q|h|"), "second")),
    ),
    "a job whose lane vanished with it": (
        "I1", "JOB_IN_NO_LANE",
        _redis(lambda r, k: (
            r.delete(k.lane("q2|h|"), k.lane_meta("q2|h|"), k.lanes("q2"), k.ready("q2")),
        )),
    ),
    "a job that fell out of a parked lane": (
        "I1", "JOB_IN_NO_LANE", _redis(lambda r, k: (r.zadd(k.lane("q|nas2|"), {"second": 1e15}),
                                                    r.zrem(k.lane("q|nas2|"), "waits"),
                                                    r.zrem(k.lane("q|nas2|"), "second"),
                                                    )),
    ),
    "another rank in the lane": (
        "I6", "RANK_DIFFERS", _redis(lambda r, k: r.zincrby(k.lane("q|h|"), 5, "second")),
    ),
    "no timer": ("I1", "TIMER_MISSING", _redis(lambda r, k: r.zrem(k.timers, "job|later"))),
    "no lease": ("I1", "LEASE_MISSING", _redis(lambda r, k: r.zrem(k.leases("w1"), "runs"))),
    "no place taken": ("I3", "PLACE_NOT_TAKEN", _redis(lambda r, k: r.zrem(k.running(NAS), "runs"))),
    "not in the dead letter": ("I1", "DEAD_LETTER_MISSING", _redis(lambda r, k: r.zrem(k.dead, "dead"))),
    "a running job in a lane": (
        "I2", "LANE_HOLDS_STRANGER", _redis(lambda r, k: r.zadd(k.lane("q|h|"), {"runs": 1e15})),
    ),
    "a job that is not there in a lane": (
        "I2", "LANE_HOLDS_STRANGER", _redis(lambda r, k: r.zadd(k.lane("q|h|"), {"ghost": 1e15})),
    ),
    "a job in two lanes": (
        "I2", "IN_TWO_LANES", _redis(lambda r, k: r.zadd(k.lane("q2|h|"), {"second": 1e15})),
    ),
    "a place of a job that is over": (
        "I8", "PLACE_LEAKED", _redis(lambda r, k: r.zadd(k.running("limit:handler/x"), {"gone": 5})),
    ),
    "a lease of a job that is over": (
        "I8", "LEASE_LEAKED", _redis(lambda r, k: r.zadd(k.leases("w1"), {"gone": 5})),
    ),
    "a lease of a job that another holder runs": (
        "I8", "LEASE_LEAKED",
        _redis(lambda r, k: (r.zadd(k.leases("w2"), {"runs": 5}), r.zadd(k.timers, {"lease|w2": 9e12}))),
    ),
    "a timer of a job that waits for none": (
        "I2", "TIMER_LEAKED", _redis(lambda r, k: r.zadd(k.timers, {"job|first": 9e12})),
    ),
    "a dead letter without a body": (
        "I8", "DEAD_LETTER_LEAKED", _redis(lambda r, k: r.zadd(k.dead, {"gone": 5})),
    ),
    "a lane that its queue does not list": (
        "I1", "LANE_NOT_LISTED", _redis(lambda r, k: r.srem(k.lanes("q"), "q|h|")),
    ),
    "a lane without its meta": ("I1", "LANE_UNKNOWN", _redis(lambda r, k: r.delete(k.lane_meta("q2|h|")))),
    "a lane that is nowhere": ("I1", "LANE_IN_NO_PLACE", _redis(lambda r, k: r.zrem(k.ready("q"), "q|h|"))),
    "a parked lane that is nowhere": (
        "I1", "LANE_IN_NO_PLACE",
        _redis(lambda r, k: (r.delete(k.parked(f"{NAS}\nq")), r.zrem(k.parked_gates, f"{NAS}\nq"))),
    ),
    "a lane in two places": (
        "I1", "LANE_IN_TWO_PLACES", _redis(lambda r, k: r.zadd(k.ready("q"), {"q|nas2|": 9e12})),
    ),
    "a lane that stands before its turn": (
        "I6", "LANE_RANK_DIFFERS", _redis(lambda r, k: r.zadd(k.ready("q"), {"q|h|": 5})),
    ),
    "a meta without a lane": (
        "I8", "LANE_LEFT_OVER", _redis(lambda r, k: r.hset(k.lane_meta("q|old|"), "queue", "q")),
    ),
    "a listed lane without jobs": (
        "I8", "LANE_LEFT_OVER", _redis(lambda r, k: r.sadd(k.lanes("q"), "q|old|")),
    ),
    "a ready lane without jobs": (
        "I8", "LANE_LEFT_OVER", _redis(lambda r, k: r.zadd(k.ready("q"), {"q|old|": 9e12})),
    ),
    "a parked lane without jobs": (
        "I8", "LANE_LEFT_OVER", _redis(lambda r, k: r.zadd(k.parked(f"{NAS}\nq"), {"q|old|": 9e12})),
    ),
    "lanes parked unseen": (
        "I1", "SPOT_NOT_LISTED", _redis(lambda r, k: r.zrem(k.parked_gates, f"{NAS}\nq")),
    ),
    "a spot without lanes": (
        "I8", "SPOT_LEFT_OVER", _redis(lambda r, k: r.zadd(k.parked_gates, {"limit:resource/x\nq": 0})),
    ),
    "lanes that wait at an open gate": (
        "I1", "GATE_OPEN_LANES_PARKED",
        _redis(lambda r, k: (
            r.hdel(k.pauses, "pause:family/other"),
            r.hdel(k.controls, "pause|pause:family/other"),
            r.zrem(k.timers, "control|pause|pause:family/other"),
        )),
    ),
    "leases that nothing ends": (
        "I1", "LEASES_WITHOUT_END", _redis(lambda r, k: r.zrem(k.timers, "lease|w1")),
    ),
    "a pause that nothing ends": (
        "I1", "CONTROL_WITHOUT_END",
        _redis(lambda r, k: r.zrem(k.timers, "control|pause|pause:family/other")),
    ),
    "a timer of a pause that is over": (
        "I8", "TIMER_LEAKED", _redis(lambda r, k: r.zadd(k.timers, {"control|pause|pause:queue/x": 9e12})),
    ),
    "a count too high": (
        "I7", "COUNT_WRONG", _redis(lambda r, k: r.hincrby(k.counts, "q\nfam|2|available", 3)),
    ),
    "a count too low": (
        "I7", "COUNT_WRONG", _redis(lambda r, k: r.hincrby(k.counts, "q\nfam|2|executing", -1)),
    ),
    "a job that counts nowhere": (
        "I7", "COUNT_WRONG", _redis(lambda r, k: r.hdel(k.counts, "q2\nfam|2|available")),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", BREAKS)
def test_what_was_broken_is_named_and_its_mend_mends_it(busy, name):
    invariant, code, break_it = BREAKS[name]
    break_it(busy)

    found = audit(busy)

    assert (invariant, code) in {(one.invariant, one.code) for one in found.violations}
    for _ in range(3):  # one mend may bring the next fault to light
        for one in found.violations:
            assert one.mend, one
            for command in one.mend:
                busy.text.execute_command(*command)
        found = audit(busy)
    assert [] == found.violations


def test_a_limit_that_more_jobs_passed_than_may_is_named(busy):
    busy.clock.advance(1_000)
    busy.admit("sneaked", gates=(NAS,), lane="q|nas|", handler="nas")
    busy.text.zadd(busy.key.running(NAS), {"later": busy.clock.now})

    codes = {one.code: one for one in audit(busy).violations}

    assert "2 run, 1 may; the last one started after the limit was set" == codes["LIMIT_EXCEEDED"].detail
    assert "I3" == codes["LIMIT_EXCEEDED"].invariant
    busy.text.zrem(busy.key.running(NAS), "later")


def test_a_limit_that_was_lowered_under_running_jobs_is_no_fault(core):
    core.store.limit({NAS: 3}, actor="t", reason="r")
    for job_id in "abc":
        core.admit(job_id, gates=(NAS,))
    core.claim(most=9)
    core.clock.advance(1_000)
    core.store.limit({NAS: 1}, actor="t", reason="r")

    assert [] == audit(core).violations


def test_a_state_that_does_not_exist_and_a_key_of_nobody_are_named(busy):
    busy.text.hset(busy.key.job("later"), "state", "sleeping")
    busy.text.set("{jc}:stranger", "1")

    codes = {one.code for one in audit(busy).violations}

    assert {"STATE_UNKNOWN", "KEY_UNKNOWN"} <= codes
    busy.text.hset(busy.key.job("later"), "state", "scheduled")
    busy.text.delete("{jc}:stranger")


def test_lanes_that_a_freed_place_is_on_its_way_to_are_no_fault(core):
    core.store.limit({NAS: 1}, actor="t", reason="r")
    for name in "abc":
        core.admit(f"{name}1", gates=(NAS,), lane=f"q|{name}|", handler=name)
    tag = core.start()
    core.claim(most=9)
    core.store.complete([tag])  # one lane is ready now; no worker has come for it yet

    assert [] == audit(core).violations


@pytest.mark.parametrize(("came_after_ms", "codes"), [(299_999, []), (300_001, ["OVERTAKEN"])])
def test_a_job_that_was_overtaken_by_more_than_its_slack_is_named(core, came_after_ms, codes):
    core.admit("j")  # P2: five minutes
    core.clock.advance(came_after_ms + 1_000)
    fields = {"verb": "claim", "at": core.clock.now, "job": "later", "queue": "q", "wait_ms": 1_000}
    moves = {"from": "available", "to": "executing", "attempt": 1, "family": "fam", "handler": "h"}
    core.text.xadd(core.key.transitions, {**fields, **moves})

    found = audit(core).violations

    assert [("I6", code, "j") for code in codes] == [
        (one.invariant, one.code, one.subject)
        for one in found
        if one.subject != "later"  # it is in the history only
        if one.code != "COUNT_WRONG"
    ]


def test_a_job_whose_record_is_gone_is_named_and_one_that_was_forgotten_at_its_end_is_not(busy):
    busy.text.delete(busy.key.job("second"))
    tag = busy.start("q2")
    busy.store.complete([tag])

    found = [one for one in audit(busy).violations if one.code == "JOB_GONE"]

    assert [("I1", "second", ())] == [(one.invariant, one.subject, one.mend) for one in found]
    assert "it was available at" in found[0].detail
    busy.text.flushall()  # what looks at all of Redis when a test ends would find it too


def entries(*rows):
    return [Entry(f"{n}-0", {"at": str(n), **row}) for n, row in enumerate(rows, 1)]


def move(verb, source, to, job="j", **more):
    return {"verb": verb, "job": job, "from": source, "to": to, "queue": "q", "family": "fam", **more}


LIFE = (
    move("admit", "", "available"),
    move("claim", "available", "executing", holder="w"),
    move("complete", "executing", "completed"),
)


@pytest.mark.parametrize(
    ("rows", "codes"),
    [
        (LIFE, []),
        ((*LIFE, *LIFE), []),  # a plain task may be sent again under its id
        ((*LIFE, LIFE[2]), ["ENDED_TWICE"]),
        ((LIFE[0], LIFE[0]), ["MOVES_DO_NOT_JOIN"]),
        ((LIFE[0], LIFE[1], LIFE[1]), ["MOVES_DO_NOT_JOIN"]),
        ((move("complete", "available", "completed"),), ["MOVE_UNKNOWN"]),
        (({"verb": "pause", "gate": PAUSED}, *LIFE), ["STARTED_WHILE_PAUSED"]),
        (({"verb": "pause", "gate": PAUSED}, {"verb": "resume", "gate": PAUSED}, *LIFE), []),
        (({"verb": "pause", "gate": "pause:family/else"}, *LIFE), []),
        (({"verb": "pause", "gate": PAUSED}, {"verb": "drain", "gate": PAUSED}, *LIFE), []),
        (LIFE[2:], []),  # the beginning is no longer in the stream
    ],
)
def test_the_history_of_a_job_joins_and_nothing_starts_while_paused(rows, codes):
    assert codes == [one.code for one in audit_history(entries(*rows))]


RATE = "rate:r"


@pytest.mark.parametrize(
    ("starts", "acts", "codes"),
    [
        ((0, 0, 1_000, 2_000), {}, []),
        ((0, 0, 0, 0, 0), {}, ["RATE_EXCEEDED"] * 3),
        ((0, 0, 500), {}, ["RATE_EXCEEDED"]),
        ((0, 0, 0, 0), {1: {"verb": "rate", "gate": RATE}}, ["RATE_EXCEEDED"]),  # only since it was set
        ((0, 0, 0, 0), {3: {"verb": "drain", "gate": "pause:family/fam"}}, []),
    ],
)
def test_starts_faster_than_their_rate_are_named(starts, acts, codes):
    rows = []
    for number, at in enumerate(starts):
        rows += [{"at": str(at), **acts[number]}] if number in acts else []
        row = move("claim", "available", "executing", job=f"j{number}", gates=f"share:s\t2\n{RATE}")
        rows.append({**row, "at": str(10_000 + at)})
    found = audit_history([Entry(f"{n}-0", row) for n, row in enumerate(rows, 1)], {RATE: "1 1000 2"})

    assert codes == [one.code for one in found]


def test_every_kind_of_gate_and_rule_leaves_a_sound_queue(core):
    core.store.limit({NAS: 3}, actor="t", reason="r")
    core.store.rate({RATE: Rate(1, 1_000, 1)}, actor="t", reason="r")
    for n in range(3):
        core.admit(f"rate{n}", gates=("share:s=a\t2", RATE), lane="q|a|", handler="a")
        core.admit(f"heavy{n}", gates=("share:s=b", f"{NAS}\t2"), lane="q|b|", handler="b")
        core.admit(f"single{n}", gates=(f"limit:singleton/{n % 2}",), lane=f"q|{n % 2}|")
    core.admit("call", rules=Rules(batch=Batch("k", 3, 5_000)).encode())
    core.admit("typed", rules=Rules(debounce=Debounce("k", 2_000, 9_000)).encode(), lane="q|d|")
    core.admit("shed", lane="q|s|")
    core.store.shed(["shed"], actor="joel", reason="", target="shed")
    core.store.pause("pause:handler/a", actor="joel", reason="", ttl_ms=60_000)
    core.claim(most=3)
    assert [] == audit(core).violations

    core.store.drain("pause:handler/a", actor="joel", reason="", ttl_ms=60_000, lanes=["q|a|"])
    core.store.priority(["typed", "heavy2"], 0, 0, actor="joel", reason="", target="some")
    for tag in [one.tag for one in core.claim(most=9).jobs]:
        core.clock.advance(700)
        core.store.complete([tag])
        core.claim(most=9, holder="w2")
        assert [] == audit(core).violations


def test_an_audit_while_work_goes_on_finds_nothing(redis_url):
    """Several holders claim, complete, release and retry under limits, pauses come and go: no false alarm."""
    stores = [Store(redis.Redis.from_url(redis_url), Keys("{jc}:")) for _ in range(4)]
    stores[0].limit({NAS: 3, "limit:key/h": 1}, actor="t", reason="r")
    stores[0].rate({"rate:all": Rate(400, 1_000, 20)}, actor="t", reason="r")
    stop = threading.Event()
    failures: list[BaseException] = []

    def work(number: int) -> None:
        from joelclaw_tasks.core.job import Job

        chance, store, count = random.Random(number), stores[number], 0
        try:
            while not stop.is_set():
                count += 1
                key = chance.randrange(5)
                store.admit(
                    [
                        Job(
                            id=f"{number}-{count}", queue=f"q{key % 2}", family=f"f{key % 3}", handler="h",
                            lane=f"q{key % 2}|h|{key}", payload="{}",
                            gates=(
                                f"share:s={key}", f"{NAS}\t{1 + key % 2}", f"limit:key/h={key}", "rate:all",
                            ),
                            priority=chance.randrange(4), slack_ms=chance.randrange(1000),
                            due_ms=0 if key else store.view.now_ms() + 20,
                        )
                    ]
                )  # fmt: skip
                for claimed in store.claim(["q0", "q1"], 2, f"w{number}").jobs:
                    if chance.random() < 0.2:
                        store.release([claimed.tag], reason="why not")
                    elif chance.random() < 0.1:
                        store.discard(claimed.tag, "it failed")
                    else:
                        store.complete([claimed.tag])
                if chance.random() < 0.02:
                    store.pause("pause:family/f1", actor="t", reason="")
                    store.resume("pause:family/f1", actor="t")
        except BaseException as error:  # noqa: BLE001 - reported by the test
            failures.append(error)

    workers = [threading.Thread(target=work, args=(number,)) for number in range(3)]
    for worker in workers:
        worker.start()
    try:
        found = [Audit(stores[3]).run() for _ in range(6)]
    finally:
        stop.set()
        for worker in workers:
            worker.join()
        for store in stores:
            store.client.close()

    assert [] == failures
    assert [[]] * 6 == [one.violations for one in found]
    assert max(one.entries for one in found) > 100


@pytest.mark.parametrize(
    ("part", "written"),
    [
        ("{jc}:lane:a", "{jc}:lane:a"),
        ("a|b", '"a|b"'),
        ("a b", '"a b"'),
        ('q\nf"\\', '"q\\nf\\"\\\\"'),
        ("", '""'),
        (5, "5"),
    ],
)
def test_a_mend_is_written_as_redis_cli_reads_it(part, written):
    assert written == quoted(part)
