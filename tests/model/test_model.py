"""Random lives of many jobs: Redis and the reference must agree after every step."""

from __future__ import annotations

import os
from collections import Counter
from typing import Any

import pytest
import redis
from hypothesis import HealthCheck, note, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from joelclaw_tasks.core.job import Job
from joelclaw_tasks.core.keys import Keys
from joelclaw_tasks.core.rate import Rate
from joelclaw_tasks.core.rules import Rules, Triage
from joelclaw_tasks.core.score import Score
from joelclaw_tasks.core.states import FINAL, State, Word
from joelclaw_tasks.core.store import Store
from tests.core.structure import PERMANENT, Structure, split_line
from tests.model.reference import Reference

LEASE_MS = 10_000
SLACK_MS = (0, 2_000, 5_000, 9_000)
HANDLERS = {"h1": ("fam1", "qa"), "h2": ("fam1", "qb"), "h3": ("fam2", "qa"), "h4": ("fam3", "qb")}
HOLDERS = ("w1", "w2", "w3")
PAUSES = ("pause:family/fam1", "pause:handler/h1", "pause:handler/h4", "pause:queue/qa", "pause:queue/qb")
LIMITS = ("limit:handler/h1", "limit:key/h3", "limit:key/h3=k1", "limit:resource/nas", "limit:resource/gpu")

RATES = ("rate:handler/h2", "rate:key/h4", "rate:key/h4=k2")
NAS = "limit:resource/nas"
WEIGHTS = {("h3", "limit:resource/gpu"): 2, ("h4", NAS): 2, ("h2", NAS): 3}
#: Keys that go by themselves after a while, or wait for somebody to look at them.
STAY = ("wake:", "touched:", "tat:", "turns:")
STEERED = {"actor": "t", "reason": "", "target": "chosen"}
ENDS = (Word.COMPLETED, Word.COMPLETED, Word.RELEASED, Word.DISCARDED)
ids = st.integers(0, 40).map("j{:02}".format)
soon = st.sampled_from((0, 0, 1, 500, 3_000, 8_000))
queues = st.sampled_from((("qa",), ("qb",), ("qa", "qb"), ("qb", "qa")))
# All buckets fill in the same time: how long a changed rate is in debt depends on when somebody looks.
rates = st.sampled_from((None, Rate(1, 10_000), Rate(3, 10_000, 3), Rate(2, 5_000, 4), Rate(7, 10_000, 7)))
resources = st.sets(st.sampled_from((NAS, "limit:resource/gpu")))
TRIAGES = {hold_ms: Rules(triage=Triage(hold_ms)).encode() for hold_ms in (0, 2_000, 8_000)} | {None: ""}
JOB_FIELDS = {
    "handler": st.sampled_from(sorted(HANDLERS)), "key": st.sampled_from(("k1", "k2")),
    "priority": st.integers(0, 3), "due_in": soon,
}  # fmt: skip


def gates_of(handler: str, key: str, more: set[str]) -> tuple[str, ...]:
    own = {
        "h1": (f"share:both={key}", "limit:handler/h1"),
        "h2": (f"share:h2={key}\t{key[1]}", "rate:handler/h2"),
        "h3": (f"share:both={key}", f"limit:key/h3={key}"),
        "h4": (f"rate:key/h4={key}",),
    }[handler]
    weights = [WEIGHTS.get((handler, gate), 1) for gate in sorted(more)]
    lines = [g if w == 1 else f"{g}\t{w}" for g, w in zip(sorted(more), weights, strict=True)]
    return (*[g for g in own if "rate" not in g], *lines, *[g for g in own if "rate" in g])


class Machine(RuleBasedStateMachine):
    """Every verb, on Redis and on the reference."""

    def __init__(self, url: str) -> None:
        super().__init__()
        self.now = 1_760_000_000_000
        raw, self.text = redis.Redis.from_url(url), redis.Redis.from_url(url, decode_responses=True)
        raw.flushall()
        self.store = Store(raw, Keys("{jc}:"), lease_ms=LEASE_MS, max_kills=2, now_ms=lambda: self.now)
        self.model = Reference(LEASE_MS, max_kills=2)
        self.tags: list[str] = []
        self.kept_gates: dict[str, set[str]] = {}  # of a handler: the registry as it is now

    def _job(self, id: str, handler: str, key: str, priority: int, due_in: int, **fields: Any) -> Job:
        family, queue = HANDLERS[handler]
        fields.setdefault("gates", gates_of(handler, key, self.kept_gates.get(handler, set())))
        return Job(
            id=id, queue=queue, family=family, handler=handler, lane=f"{queue}|{handler}|{key}", payload=id,
            priority=priority, slack_ms=SLACK_MS[priority], due_ms=due_in and self.now + due_in, **fields,
        )  # fmt: skip

    def _same(self, expected, actual) -> None:
        note(f"{actual}")
        assert expected == actual

    @initialize(
        gates=st.lists(resources, min_size=4, max_size=4), limits=st.lists(st.integers(1, 3), min_size=5)
    )
    def begin(self, gates, limits):
        self.kept_gates = {name: {NAS, *more} for name, more in zip(HANDLERS, gates, strict=True)}
        for gate, most in zip(LIMITS, limits, strict=False):
            self.limit(gate, most)
        self.admit_to_many_lanes(0, [3, 2, 1, 0, 0, 1, 2, 3])

    @rule(ids=st.lists(ids, min_size=1, max_size=4), keep=st.sampled_from((0, 10**9)), **JOB_FIELDS)
    def admit(self, ids, keep, **fields):
        jobs = [self._job(id, **fields, keep_ms=keep) for id in ids]
        self._same([self.model.admit(job, self.now) for job in jobs], self.store.admit(jobs))

    @rule(ids=st.lists(ids, min_size=1, max_size=4), triage=st.sampled_from(tuple(TRIAGES)), **JOB_FIELDS)
    def admit_for_triage(self, ids, triage, **fields):
        jobs = [self._job(id, **fields, rules=TRIAGES[triage]) for id in ids]
        self._same([self.model.admit(job, self.now) for job in jobs], self.store.admit(jobs))

    @rule(most=st.integers(1, 3))
    def take_unscored(self, most):
        taken = self.model.take_unscored(most)
        found = [job["id"] for job in self.store.take_unscored(most)]
        self._same([id for id in taken if id in found], found)
        gone = FINAL - {State.DISCARDED}  # the messages of others are still there
        left = {id: self.model.jobs[id].state for id in set(taken) - set(found) if id in self.model.jobs}
        assert set(left.values()) <= gone

    @rule(ids=st.lists(ids, min_size=1, max_size=6), level=st.sampled_from((0, 1, 2, 3, None)))
    def score(self, ids, level):
        slack_ms = None if level is None else SLACK_MS[level]
        expected = [self.model.score(id, slack_ms, level) for id in ids]
        scores = [Score(id, {}, slack_ms, level) for id in ids]
        self._same(expected, self.store.score(scores, actor="haiku"))

    @rule(first=st.integers(0, 30), priorities=st.lists(st.integers(0, 3), min_size=3, max_size=8))
    def admit_to_many_lanes(self, first, priorities):
        for n, priority in enumerate(priorities):
            fields = {"handler": sorted(HANDLERS)[n % 4], "key": f"k{1 + n // 4}", "due_in": 0}
            self.admit([f"j{first + n:02}"], 0, priority=priority, **fields)

    @precondition(lambda self: self.model.startable(("qa", "qb")))
    @rule(queues=queues, most=st.integers(1, 5), holder=st.sampled_from(HOLDERS))
    def claim_what_can_start(self, queues, most, holder):
        self.claim(queues, most, holder)

    @rule(queues=queues, most=st.integers(1, 5), holder=st.sampled_from(HOLDERS))
    def claim(self, queues, most, holder):
        for queue in queues:
            self.text.lpop(self.store.keys.wake(queue))
        self.model.look(holder, self.now)
        self._claimed(self.store.claim(queues, most, holder), queues, most, holder)

    def _claimed(self, claim, queues, most, holder):
        for job in claim.jobs:
            id = job.tag.split("#")[0]
            note(job.tag)
            assert self.model.start(id, queues, holder, self.now), f"{id} was not the next"
            assert job.tag.endswith(f"#{self.model.jobs[id].claims}")
            self.tags.append(job.tag)
            for gate in self.model.jobs[id].held:
                assert self.model.room(split_line(gate)[0]) >= 0, f"more jobs than {gate} allows"
        left = [id for id in self.model.startable(queues) if not self.model.may_give_way(id)]
        assert len(claim.jobs) == most or not left, f"{left} could have started"

    def _draw(self, data, among: list[str]) -> str:
        return data.draw(st.sampled_from(among))

    def _held(self) -> list[str]:
        return [tag for tag in self.tags if self.model.leased(tag)]

    @precondition(lambda self: self._held())
    @rule(data=st.data(), how=st.sampled_from(ENDS), killed=st.booleans())
    def stop(self, data, how, killed):
        self._stop(self._draw(data, self._held()), how, killed=killed)

    @precondition(lambda self: self._held())
    @rule(data=st.data(), queues=queues, most=st.integers(1, 5), holder=st.sampled_from(HOLDERS))
    def settle(self, data, queues, most, holder):
        tag = self._draw(data, self._held())  # and the tokens stay: a worker may not have come to them
        expected = self.model.stop(self.model.leased(tag), Word.COMPLETED, self.now)
        self.model.look(holder, self.now)
        [word], claim = self.store.settle([tag], queues, most, holder)
        self._same(expected, word)
        self._claimed(claim, queues, most, holder)

    @precondition(lambda self: self._held())
    @rule(data=st.data())
    def give_back(self, data):
        self._stop(self._draw(data, self._held()), Word.RELEASED)

    @precondition(lambda self: set(self.tags) - set(self._held()))
    @rule(data=st.data(), how=st.sampled_from(ENDS))
    def stop_after_the_lease_was_lost(self, data, how):
        executing = {tag.split("#")[0] for tag in self._held()}
        lost = sorted(set(self.tags) - set(self._held()))
        again = [tag for tag in lost if tag.split("#")[0] in executing]
        self._stop(self._draw(data, again or lost), how)

    def _stop(self, tag: str, how: Word, *, killed: bool = False) -> None:
        entry = self.model.leased(tag)
        killed = killed and how is Word.RELEASED
        expected = self.model.stop(entry, how, self.now, killed=killed) if entry else Word.LEASE_LOST
        if how is Word.COMPLETED:
            (word,) = self.store.complete([tag])
        elif how is Word.RELEASED:
            (word,) = self.store.release([tag], killed=killed)
        else:
            word = self.store.discard(tag, "broken")
        self._same(expected, word)

    @precondition(lambda self: self.tags)
    @rule(data=st.data(), retries=st.integers(1, 3), **JOB_FIELDS)
    def retry(self, data, retries, **fields):
        tag = self._draw(data, self._held() or self.tags)
        successor = self._job(tag.split("#")[0], **fields, retries=retries, lease_tag=tag)
        entry = self.model.leased(tag)
        if entry:
            entry.successor = successor
        self._same(Word.SUCCEEDED if entry else Word.LEASE_LOST, self.store.retry(successor))

    @rule(ids=st.lists(ids, min_size=1, max_size=6))
    def cancel_and_revive(self, ids):
        self._same([self.model.cancel(id) for id in ids], self.store.cancel(ids, actor="t", reason=""))
        words = self.store.revive(ids, actor="t", reason="")
        self._same([self.model.revive(id, self.now) for id in ids], words)

    @rule(ids=st.lists(ids, min_size=1, max_size=6))
    def purge(self, ids):
        self._same([self.model.purge(id) for id in ids], self.store.purge(ids, actor="t", reason=""))

    @precondition(lambda self: self.model.startable(("qa", "qb")))
    @rule(data=st.data())
    def cancel_what_would_be_next(self, data):
        startable = self.model.startable(("qa", "qb"))
        id = self._draw(data, sorted(startable))
        self._same([self.model.cancel(id)], self.store.cancel([id], actor="t", reason=""))

    @rule(ids=st.lists(ids, min_size=1, max_size=6), level=st.integers(0, 3))
    def priority(self, ids, level):
        expected = [self.model.priority(id, SLACK_MS[level], level) for id in ids]
        self._same(expected, self.store.priority(ids, SLACK_MS[level], level, **STEERED)[1])

    @rule(ids=st.lists(ids, min_size=1, max_size=6))
    def stage(self, ids):
        self._same([self.model.stage(id, self.now) for id in ids], self.store.stage(ids, **STEERED)[1])

    @rule(ids=st.lists(ids, min_size=1, max_size=6))
    def shed(self, ids):
        self._same([self.model.shed(id) for id in ids], self.store.shed(ids, **STEERED)[1])

    @rule(ids=st.lists(ids, min_size=1, max_size=12))
    def unshed(self, ids):
        self._same([self.model.unshed(id) for id in ids], self.store.unshed(ids, **STEERED)[1])

    @rule(gate=st.sampled_from(PAUSES), ttl_ms=st.sampled_from((0, 1, 4_000)))
    def pause(self, gate, ttl_ms):
        self.model.pauses[gate] = self.now + ttl_ms if ttl_ms else None
        self.store.pause(gate, actor="t", reason="", ttl_ms=ttl_ms)

    @rule(gate=st.sampled_from(PAUSES))
    def resume(self, gate):
        self._same(gate in self.model.pauses, self.store.resume(gate, actor="t") is not None)
        self.model.pauses.pop(gate, None)

    @rule(gate=st.sampled_from(LIMITS), most=st.sampled_from((None, 0, 1, 2, 3)))
    def limit(self, gate, most):
        changed = self.model.limits.get(gate) != most
        self.model.limits.pop(gate, None)
        if most is not None:
            self.model.limits[gate] = most
        self._same(int(changed), self.store.limit({gate: most}, actor="t", reason=""))

    @rule(gate=st.sampled_from(RATES), rate=rates)
    def rate(self, gate, rate):
        changed = self.model.rates.get(gate) != rate
        self.model.rates.pop(gate, None)
        if rate is not None:
            self.model.rates[gate] = rate
        self._same(int(changed), self.store.rate({gate: rate}, actor="t", reason=""))

    @rule(more=resources, id=ids, **JOB_FIELDS)
    def the_registry_changes(self, more, id, **fields):
        self.kept_gates[fields["handler"]] = more
        self.admit([id], 0, **fields)

    @rule(holder=st.sampled_from(HOLDERS))
    def expire(self, holder):
        self._same(self.model.expire([holder], self.now), self.store.expire([holder], reason="gone"))

    @rule(holder=st.sampled_from(HOLDERS))
    def renew(self, holder):
        self.model.look(holder, self.now, renews=True)
        held = sum(entry.holder == holder for entry in self.model.jobs.values())
        self._same(held, self.store.renew(holder, {"pid": 1}))

    @rule(ms=st.sampled_from((1, 100, 1_000, 4_000, 4_999, 5_000, 5_001, 10_000, 20_000)))
    def advance(self, ms):
        self.now += ms

    @invariant()
    def everything_fits_together(self):
        structure = Structure(self.text, self.store.keys)
        assert [] == structure.faults()
        states = [entry.state for entry in self.model.jobs.values()]
        expected = Counter(state.value for state in states if state not in FINAL - {State.DISCARDED})
        expected.update({state.value: n for state, n in self.model.finished.items()})
        counted: Counter[str] = Counter()
        for name, n in structure.counts.items():
            counted[name.rpartition("|")[2]] += n
        assert +expected == +counted
        held: Counter[str] = Counter()
        for gate, weight in (split_line(line) for e in self.model.jobs.values() for line in e.held):
            held[gate] += weight if gate.startswith("limit:") else 0
        assert +held == {gate: len(jobs) for gate, jobs in structure.of("running").items()}
        assert structure.pauses == set(self.model.pauses)
        for id, entry in self.model.jobs.items():
            assert entry.state == structure.jobs[id]["state"]
            if entry.state is State.AVAILABLE:
                assert str(entry.rank) == structure.jobs[id]["rank"]

    def teardown(self):
        """With all gates open everything drains, and nothing is left but what may stay."""
        self.now += 60_000  # nothing is held for a score any more
        self.model.look("w1", self.now)
        self.store.claim(["none"], 1, "w1")
        self.unshed([id for id, entry in self.model.jobs.items() if entry.state is State.HELD] or ["none"])
        for gate in PAUSES:
            self.resume(gate)
        for gate in LIMITS:
            self.limit(gate, None)
        for gate in RATES:
            self.rate(gate, None)
        for holder in HOLDERS:
            self.expire(holder)
        self.now += 1_000_000
        while True:
            self.claim(("qa", "qb"), 5, "w1")
            if not (held := self.store.held_by("w1")):
                break
            for tag in held:
                self.model.stop(self.model.leased(tag), Word.COMPLETED, self.now)
            assert set(self.store.complete(held)) <= {Word.COMPLETED}
        self.store.expire(["w1"], reason="end")
        self.store.take_unscored(100)
        structure = Structure(self.text, self.store.keys)
        over = {f"job:{id}" for id, job in structure.jobs.items() if job["state"] in FINAL}
        over |= {f"dead_jobs:{signature}" for signature in structure.dead_groups}
        left = {key for key in structure.keys - over - PERMANENT if not key.startswith(STAY)}
        assert set() == left
        self.text.close()
        self.store.client.close()


@pytest.mark.timeout(240)
def test_redis_and_the_reference_agree_on_random_lives(redis_url):
    run_state_machine_as_test(
        lambda: Machine(redis_url),
        settings=settings(
            # CI repeats the same lives: a change is judged by itself. Everybody else looks for new ones.
            max_examples=200, stateful_step_count=40, deadline=None, derandomize="CI" in os.environ,
            suppress_health_check=list(HealthCheck),
        ),
    )  # fmt: skip
