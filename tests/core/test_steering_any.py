"""Random acts of people, the observer and workers: whatever the order, everything in Redis fits together."""

from __future__ import annotations

import random

import pytest

from joelclaw_tasks.core.states import State, Word
from joelclaw_tasks.errors import CannotUndo, HeldByPerson, UnknownControl

GATES = ("pause:family/fam", "pause:handler/h1", "pause:queue/q")
LIMITS = ("limit:resource/nas", "limit:handler/h1")
SLACKS = ((0, 0), (60_000, 1), (900_000, 3))


class Acts:
    """One random life. Each method is one act of somebody."""

    def __init__(self, core, seed):
        self.core, self.store, self.dice = core, core.store, random.Random(seed)
        self.admitted = 0

    def by(self):
        return {"actor": self.dice.choice(("joel", "ada", "observer")), "reason": ""}

    def some(self):
        known = [f"j{n}" for n in range(self.admitted)]
        return self.dice.sample(known, min(len(known), self.dice.randint(1, 5)))

    def ttl(self):
        return self.dice.choice((0, 1_000, 60_000))

    def admit(self):
        handler = self.dice.choice(("h1", "h2"))
        due = self.dice.choice((0, 0, self.core.clock.now + 2_000))
        fields = {"handler": handler, "lane": f"q|{handler}|{self.dice.randint(0, 2)}", "due_ms": due}
        self.core.admit(
            f"j{self.admitted}",
            gates=LIMITS[: self.dice.randint(0, 2)],
            priority=self.dice.randint(0, 3),
            **fields,
        )
        self.admitted += 1

    def claim(self):
        self.core.claim(most=self.dice.randint(1, 4))

    def complete(self):
        held = self.store.held_by("w1")
        self.store.complete(self.dice.sample(held, min(len(held), 2)))

    def retry(self):
        """What was steered keeps its priority, and anything else gets that of its retry."""
        for tag in self.store.held_by("w1")[:2]:
            id = tag.split("#")[0]
            known = {name: self.core.field(id, name) for name in ("lane", "handler", "gates", "slack_ms")}
            slack_ms, level = self.dice.choice(SLACKS)
            job = self.core.job(
                id,
                lease_tag=tag,
                lane=known["lane"],
                handler=known["handler"],
                gates=tuple(filter(None, known["gates"].split("\n"))),
                slack_ms=slack_ms,
                priority=level,
            )
            is_steered = self.core.field(id, "own_priority") is not None
            self.store.retry(job)
            if [Word.RETRIED] != self.store.complete([tag]):
                continue  # it had been asked to stop
            assert (known["slack_ms"] if is_steered else str(slack_ms)) == self.core.field(id, "slack_ms")

    def release(self):
        self.store.release(self.store.held_by("w1")[:1])

    def move_on(self):
        self.core.clock.advance(self.dice.choice((1, 500, 2_000, 30_000)))
        self.core.store.renew("w1", {})

    def pause(self):
        self.store.pause(self.dice.choice(GATES), ttl_ms=self.ttl(), **self.by())

    def resume(self):
        self.store.resume(self.dice.choice(GATES), **self.by())

    def drain(self):
        lanes = sorted(self.core.structure().metas)
        self.store.drain(self.dice.choice(GATES), ttl_ms=self.ttl(), lanes=lanes, **self.by())

    def limit(self):
        most = self.dice.choice((None, 0, 1, 2))
        self.store.limit({self.dice.choice(LIMITS): most}, ttl_ms=self.ttl(), **self.by())

    def registry(self):
        limits = dict.fromkeys(LIMITS, self.dice.choice((1, 2, 3)))
        self.store.limit(limits, actor="registry", reason="")

    def priority(self):
        slack_ms, level = self.dice.choice(SLACKS)
        ttl_ms = self.dice.choice((0, 0, 2_000))
        target = "family/fam" if ttl_ms else "some"
        self.store.priority(self.some(), slack_ms, level, target=target, ttl_ms=ttl_ms, **self.by())

    def stage(self):
        self.store.stage(self.some(), target="some", **self.by())

    def shed(self):
        self.store.shed(self.some(), target="some", ttl_ms=self.ttl(), **self.by())

    def unshed(self):
        self.store.unshed(self.some(), target="some", **self.by())

    def cancel(self):
        self.store.cancel_for_undo(self.some(), target="some", **self.by())

    def undo(self):
        acts = self.store.acts()
        if acts:
            self.store.undo(self.dice.choice(acts[-6:])["id"], **self.by())


VERBS = [name for name in vars(Acts) if not name.startswith("_") and name not in {"by", "some", "ttl"}]


@pytest.mark.parametrize("seed", range(12))
def test_whatever_people_do_nothing_is_lost_and_everything_fits(core, seed):
    life = Acts(core, seed)
    for step in range(150):
        verb = life.dice.choice([*VERBS, "admit", "admit", "claim"]) if life.admitted else "admit"
        try:
            getattr(life, verb)()
        except (HeldByPerson, CannotUndo, UnknownControl):
            continue
        assert [] == core.structure().faults(), (step, verb)

    joel = {"actor": "joel", "reason": "the end"}
    core.clock.advance(100_000)
    core.store.renew("w1", {})
    for gate in GATES:
        core.store.resume(gate, **joel)
    core.store.limit(dict.fromkeys(LIMITS), **joel)
    core.store.complete(core.store.held_by("w1"))
    everything = [f"j{n}" for n in range(life.admitted)]
    core.store.unshed(everything, target="all", **joel)
    core.store.stage(everything, target="all", **joel)
    while core.claim(most=100).jobs:
        core.store.complete(core.store.held_by("w1"))
    ended = core.store.snapshot()["by_state"]
    assert life.admitted == ended[State.COMPLETED] + ended[State.CANCELLED]
    assert life.admitted == sum(ended.values())
