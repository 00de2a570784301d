"""Diagnoses: what was diagnosed, what may not be diagnosed again yet, and what people think of it.

A diagnosis holds the failures that it is about: another one of the same failure does not begin meanwhile.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from joelclaw_tasks.core.controls import text
from joelclaw_tasks.core.redaction import redacted
from joelclaw_tasks.core.store import Store
from joelclaw_tasks.errors import UnknownDiagnosis

#: For how long a diagnosis holds its failures, and how long and how many of them are kept.
HOLD_MS = 24 * 3_600_000
KEEP_MS = 90 * 24 * 3_600_000
MOST_DIAGNOSES = 200
#: What is wanted, and what has failed lately: more than this is not remembered.
MOST_SUSPECTS, MOST_FAILING = 100, 5_000
ALL = "*"

Verdict = Literal["accepted", "rejected"]


class Diagnoses:
    """Begins, ends, reads and judges diagnoses. Every method raises CoreUnreachable."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._client: Any = store.client  # redis-py types every reply as str | bytes | None

    def begin(
        self,
        record: Mapping[str, Any],
        *,
        free: Sequence[str],
        hold: Sequence[str],
        instead_of: str = "",
    ) -> tuple[str, bool]:
        """Begin one that holds `hold`, unless another one holds one of `free`: its id, and whether it began.

        When it did not, it is the id of the other one. The holds of the diagnosis `instead_of` (ALL: of any)
        do not count.
        """
        args = [
            self._store._head()[0], HOLD_MS, KEEP_MS, MOST_DIAGNOSES, instead_of, len(free), _json(record),
            *free, *hold,
        ]  # fmt: skip
        id, began = self._store._call("diagnose", args)
        return id.decode(), bool(began)

    def end(self, id: str, record: Mapping[str, Any], *, held: Sequence[str], hold_ms: int = HOLD_MS) -> bool:
        """Keep what came of it; from now it holds its failures for `hold_ms`. False: it is gone meanwhile."""
        args = [self._store._head()[0], id, hold_ms, _json(record), *held]
        return bool(self._store._call("diagnosed", args, repeatable=True))

    def get(self, id: str) -> dict[str, Any]:
        """The record with its `id` and `verdict` (None: nobody has judged). Raises UnknownDiagnosis."""
        [found] = self._read([id])
        if found is None:
            raise UnknownDiagnosis(f"no diagnosis has the id {id!r:.80}")
        return found

    def recent(self, most: int = 20) -> list[dict[str, Any]]:
        """The newest ones that are kept, the newest first."""
        last = int(self._store.ask(lambda: self._client.hget(self._store.keys.diagnoses, "last")) or 0)
        oldest = max(0, last - min(most, MOST_DIAGNOSES))
        found = self._read([f"d{number}" for number in range(last, oldest, -1)])
        return [each for each in found if each is not None]

    def holder(self, names: Sequence[str]) -> str | None:
        """The id of the diagnosis that holds the first of these failures that is held."""
        keys = [self._store.keys.diagnosed(name) for name in names]
        now = self._store.now_ms()
        for held in self._store.ask(lambda: self._client.mget(keys)) if keys else ():
            id, _, until = (held or b"").decode().partition(" ")
            if id and int(until) > now:
                return str(id)
        return None

    def judge(self, id: str, verdict: Verdict, *, actor: str, reason: str) -> dict[str, Any]:
        """Record what somebody thinks of it; a later verdict takes the place of an earlier one.

        Answers the diagnosis. Raises UnknownDiagnosis.
        """
        known = self.get(id)
        judged = {
            "verdict": verdict, "actor": text(actor, 200), "reason": redacted(text(reason, 1_000)),
            "at": self._store.now_ms(), "before": (known["verdict"] or {}).get("verdict"),
        }  # fmt: skip
        key = self._store.keys.diagnosis(id)

        def keep() -> None:
            pipe = self._client.pipeline(transaction=True)
            pipe.hset(key, "verdict", _json(judged))
            pipe.pexpire(key, KEEP_MS)
            pipe.execute()

        self._store.ask(keep)
        return {**known, "verdict": judged}

    # -- what somebody wants diagnosed ----------------------------------------------------------

    def suspect(self, name: str) -> None:
        """Want a family, handler, signature or job diagnosed when the triggers are looked at next."""
        key = self._store.keys.suspects

        def add() -> None:
            pipe = self._client.pipeline(transaction=True)
            pipe.zadd(key, {name: self._store.now_ms()}, nx=True)
            pipe.zremrangebyrank(key, MOST_SUSPECTS, -1)
            pipe.execute()

        self._store.ask(add)

    def suspects(self) -> list[str]:
        """What is wanted, the longest first."""
        found = self._store.ask(lambda: self._client.zrange(self._store.keys.suspects, 0, -1))
        return [name.decode() for name in found]

    def seen_to(self, name: str) -> None:
        """It was looked at: nobody wants it any more."""
        self._store.ask(lambda: self._client.zrem(self._store.keys.suspects, name))

    # -- what has failed lately, so that the stream is read once --------------------------------

    def looked_until(self) -> int:
        """Up to when failures are remembered (epoch ms); 0: not at all."""
        found = self._store.ask(lambda: self._client.hget(self._store.keys.diagnoses, "looked_until"))
        return int(found or 0)

    def remember(self, failures: Mapping[str, int], since_at: int, until_at: int) -> list[str]:
        """Add failures (what is known of each -> when), and forget those before `since_at`; answers all.

        The same failure twice is one.
        """
        key = self._store.keys.failing

        def add() -> list[bytes]:
            pipe = self._client.pipeline(transaction=True)
            if failures:
                pipe.zadd(key, dict(failures))
            pipe.zremrangebyscore(key, "-inf", f"({since_at}")
            pipe.zremrangebyrank(key, 0, -MOST_FAILING - 1)
            pipe.pexpire(key, until_at - since_at)
            pipe.hset(self._store.keys.diagnoses, "looked_until", until_at)
            pipe.zrange(key, 0, -1)
            return list(pipe.execute()[-1])

        return [each.decode() for each in self._store.ask(add)]

    def _read(self, ids: Sequence[str]) -> list[dict[str, Any] | None]:
        def read() -> list[Any]:
            pipe = self._client.pipeline(transaction=False)
            for id in ids:
                pipe.hmget(self._store.keys.diagnosis(id), "record", "verdict")
            return list(pipe.execute())

        return [
            None
            if record is None
            else {"id": id, **json.loads(record), "verdict": None if verdict is None else json.loads(verdict)}
            for id, (record, verdict) in zip(ids, self._store.ask(read), strict=True)
        ]


def _json(value: Mapping[str, Any]) -> str:
    return json.dumps(value, separators=(",", ":"), default=str)
