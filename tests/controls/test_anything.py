"""Any rules on any jobs, in any order: what was accepted runs once or was cancelled, and nothing is left."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from typing import Any

import pytest
import redis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from joelclaw_tasks.core.job import Job
from joelclaw_tasks.core.keys import Keys
from joelclaw_tasks.core.reply import Decision
from joelclaw_tasks.core.rules import Batch, Debounce, Rules, Singleton, Window
from joelclaw_tasks.core.states import Word
from joelclaw_tasks.core.store import Store
from tests.core.structure import Structure

KEY = st.sampled_from(["a", "b"])
WINDOW = st.none() | st.builds(Window, KEY, st.sampled_from([100, 2_000]))
RULES = st.one_of(
    st.builds(
        Rules,
        dedup=WINDOW,
        throttle=WINDOW,
        singleton=st.none() | st.builds(Singleton, KEY, st.booleans()),
        debounce=st.none() | st.builds(Debounce, KEY, st.just(100), st.sampled_from([100, 700])),
        topics=st.sampled_from([(), ("t",), ("t", "u")]),
    ),
    st.builds(
        Rules,
        dedup=WINDOW,
        batch=st.builds(Batch, KEY, st.integers(1, 3), st.sampled_from([100, 900])),
        topics=st.sampled_from([(), ("t",)]),
    ),
    st.builds(Rules, cancels=st.just(("t",))),
)
ACTS = st.one_of(
    st.tuples(
        st.just("admit"),
        RULES,
        st.integers(0, 3),
        st.sampled_from([-500, 0, 300]),
        st.sampled_from([0, 0, 600]),
    ),
    st.tuples(st.just("again"), st.integers(0, 99)),
    st.tuples(st.just("time"), st.sampled_from([10, 100, 1_000, -400])),
    st.tuples(st.just("claim"), st.integers(1, 3)),
    st.tuples(st.just("end"), st.sampled_from(["complete", "release", "retry"])),
    st.tuples(st.just("cancel"), st.integers(0, 99)),
)


class World:
    """A store, and what was asked of it."""

    def __init__(self, url: str) -> None:
        self.now = 1_760_000_000_000
        self.raw = redis.Redis.from_url(url)
        self.raw.flushall()
        self.store = Store(self.raw, Keys("{jc}:"), now_ms=lambda: self.now)
        self.sent: list[Job] = []
        self.accepted: dict[str, Word] = {}
        self.replaced: set[str] = set()  # by a later call of its debounce
        self.last: dict[str, str] = {}  # debounced job -> whose data it has
        self.ran: Counter[str] = Counter()
        self.running: list[tuple[str, tuple[str, ...]]] = []

    def admit(self, rules: Rules, priority: int, due_in_ms: int, expires_ms: int) -> None:
        rules = replace(rules, expires_at=self.now + expires_ms if expires_ms else 0)
        id = f"j{len(self.sent)}"
        job = Job(
            id=id, queue="q", family="f", handler="h", lane="q|h|", payload=json.dumps({"id": id}),
            priority=priority, due_ms=self.now + due_in_ms if due_in_ms else 0, keep_ms=60_000,
            rules=rules.encode(),
        )  # fmt: skip
        self.sent.append(job)
        [decision] = self.store.admit([job])
        word, of = decision if isinstance(decision, Decision) else (decision, None)
        if word in (Word.ADMITTED, Word.SCHEDULED, Word.BATCHED, Word.DEBOUNCED):
            self.accepted[id] = word
        if word is Word.DEBOUNCED and of is not None:
            self.replaced.add(self.last.get(of, of))
            self.last[of] = id

    def again(self, number: int) -> None:
        if self.sent:
            job = self.sent[number % len(self.sent)]
            if job.id in self.accepted:
                [decision] = self.store.admit([job])
                assert Word.DUPLICATE in (decision, getattr(decision, "word", None))

    def time(self, ms: int) -> None:
        self.now += ms

    def claim(self, most: int) -> None:
        for claimed in self.store.claim(["q"], most, "w").jobs:
            payload = json.loads(claimed.payload)
            ids = tuple(one["id"] for one in payload.get("jc_batch", [payload]))
            self.running.append((claimed.tag, ids))

    def end(self, how: str) -> None:
        if not self.running:
            return
        tag, ids = self.running.pop(0)
        if how == "release":
            self.store.release([tag])
            return
        if how == "retry":
            known = self.store.inspect(tag.split("#")[0])
            payload = self.raw.hget(self.store.keys.job(known["id"]), "payload").decode()
            self.store.retry(
                Job(
                    id=known["id"], queue="q", family="f", handler="h", lane="q|h|", payload=payload,
                    keep_ms=60_000, retries=known["retries"] + 1, lease_tag=tag, due_ms=self.now + 50,
                )
            )  # fmt: skip
        word = self.store.complete([tag])[0]
        if word is Word.COMPLETED:
            self.ran.update(ids)

    def cancel(self, number: int) -> None:
        if self.sent:
            self.store.cancel([self.sent[number % len(self.sent)].id], actor="t", reason="")

    def drain(self) -> None:
        self.now += 10_000_000
        for _ in range(200):
            self.claim(50)
            self.now += 1_000
            while self.running:
                self.end("complete")
            if not self.store.queue_size("q"):
                return
        pytest.fail(f"not drained: {self.store.snapshot()}")


@given(acts=st.lists(ACTS, max_size=25))
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_what_was_accepted_runs_once_or_was_cancelled_and_leaves_nothing(
    redis_url: str, acts: list[tuple[Any, ...]]
) -> None:
    world = World(redis_url)
    text = redis.Redis.from_url(redis_url, decode_responses=True)
    try:
        for name, *arguments in acts:
            getattr(world, name)(*arguments)
            assert [] == Structure(text, world.store.keys).faults()
        world.drain()
        assert [] == Structure(text, world.store.keys).faults()
        cancelled = {entry.job for entry in world.store.history.read() if entry.to_state == "cancelled"}
        cancelled |= {entry.job for entry in world.store.history.read() if entry.verb == "cancel"}
        gone = cancelled | world.replaced | {world.last[job] for job in cancelled if job in world.last}
        for id, word in world.accepted.items():
            if id in gone or (word is Word.BATCHED and text.get(world.store.keys.alias(id)) in cancelled):
                assert world.ran[id] <= 1
            else:
                assert 1 == world.ran[id], (id, word)
        kinds = ("rule", "topic", "elements", "asked", "alias")
        left = [key for kind in kinds for key in text.keys(f"{{jc}}:{kind}:*")]
        assert [] == [key for key in left if text.pttl(key) == -1]
    finally:
        text.close()
        world.raw.close()
