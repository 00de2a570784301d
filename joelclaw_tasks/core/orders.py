"""Orders: what was ordered from somebody else and comes later, each under a name that its work has.

An order is written down before it leaves, so that a process that is killed half way leaves a trace. Only one
process at a time may send an order of a name: it holds the claim. `ref` is the id that the other side gave
it; an order without one may have arrived there or not.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

import redis

from joelclaw_tasks.core.spending import Hold
from joelclaw_tasks.core.store import Store

_KEEP_MS = 30 * 86_400_000


@dataclass(frozen=True, slots=True)
class Order:
    """One order. It left between `sent_at` and `sent_by` (epoch milliseconds), if it left at all.

    `holds` has its parts by id, each with the money that was set aside for it.
    """

    name: str
    sent_at: int
    sent_by: int
    holds: Mapping[str, Hold]
    ref: str | None = None


class Orders:
    """The orders on the Redis of a store. Every method raises CoreUnreachable."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._client: Any = store.client  # redis-py types every reply as str | bytes | None

    def now_ms(self) -> int:
        """The clock of the store, in epoch milliseconds."""
        return int(self._store.ask(self._store.now_ms))

    def find(self, name: str) -> Order | None:
        """The order of that name."""
        found = self._store.ask(lambda: self._client.hgetall(self._key(name)))
        if b"holds" not in found:
            return None
        holds = {part: Hold(*hold) for part, hold in json.loads(found[b"holds"]).items()}
        ref = found.get(b"ref")
        return Order(name, int(found[b"sent_at"]), int(found[b"sent_by"]), holds, ref and ref.decode())

    def claim(self, name: str, owner: str, until_ms: int) -> bool:
        """Be the only one who sends this order; False: another one is, until its time is over."""
        now_ms = self.now_ms()

        def take(pipe: Any) -> bool:
            until = pipe.hget(self._key(name), "claimed_until")
            if until is not None and int(until) > now_ms:
                return False
            pipe.multi()
            pipe.hset(self._key(name), mapping={"claimed_until": until_ms, "claimed_by": owner})
            pipe.pexpire(self._key(name), _KEEP_MS)
            return True

        return self._change(name, take)

    def unclaim(self, name: str, owner: str) -> None:
        """Let others send it; nothing happens when the claim was lost meanwhile."""

        def give(pipe: Any) -> bool:
            if pipe.hget(self._key(name), "claimed_by") != owner.encode():
                return False
            pipe.multi()
            pipe.hdel(self._key(name), "claimed_by", "claimed_until")
            return True

        self._change(name, give)

    def write_down(self, order: Order, owner: str) -> bool:
        """It is about to leave. False: the claim was lost, so it must not."""
        holds = {part: [hold.day, hold.account, hold.nano_usd] for part, hold in order.holds.items()}
        fields = {"sent_at": order.sent_at, "sent_by": order.sent_by, "holds": json.dumps(holds)}

        def write(pipe: Any) -> bool:
            if pipe.hget(self._key(order.name), "claimed_by") != owner.encode():
                return False
            pipe.multi()
            pipe.hset(self._key(order.name), mapping=fields)
            pipe.hdel(self._key(order.name), "ref")
            return True

        return self._change(order.name, write)

    def arrived(self, name: str, ref: str) -> None:
        """The other side has it, under this id."""
        now_ms = self.now_ms()

        def write() -> None:
            pipe = self._client.pipeline(transaction=True)
            pipe.hset(self._key(name), "ref", ref)
            pipe.zadd(self._store.keys.orders, {ref: now_ms})
            pipe.zremrangebyscore(self._store.keys.orders, "-inf", now_ms - _KEEP_MS)
            pipe.execute()

        self._store.ask(write)

    def forget(self, name: str) -> None:
        """It never left, or never arrived."""
        fields = ("sent_at", "sent_by", "holds", "ref")
        self._store.ask(lambda: self._client.hdel(self._key(name), *fields))

    def unknown(self, refs: Collection[str]) -> set[str]:
        """Those ids that no order of ours has."""
        wanted = list(refs)
        if not wanted:
            return set()
        scores = self._store.ask(lambda: self._client.zmscore(self._store.keys.orders, wanted))
        return {ref for ref, score in zip(wanted, scores, strict=True) if score is None}

    def paid(self, name: str, part: str) -> tuple[str, str]:
        """The field that says that a part was paid for."""
        return self._key(name), f"paid|{part}"

    def _key(self, name: str) -> str:
        return self._store.keys.order(name)

    def _change(self, name: str, change: Callable[[Any], bool]) -> bool:
        def run() -> bool:
            pipe = self._client.pipeline(transaction=True)
            try:
                pipe.watch(self._key(name))
                done = change(pipe)
                if done:
                    pipe.execute()
                return done
            finally:
                pipe.reset()

        while True:
            try:
                return bool(self._store.ask(run))
            except redis.WatchError:
                continue  # another one was faster: look again
