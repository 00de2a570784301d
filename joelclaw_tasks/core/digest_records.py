"""Which digests were made, when, how, and at what cost. Times are epoch milliseconds."""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import asdict, dataclass
from typing import Any

from joelclaw_tasks.core.store import Store

#: No more are kept, those of the newest windows.
MOST_KEPT = 1_000
_SINCE = b"since"


@dataclass(frozen=True, slots=True)
class DigestRecord:
    """One window that is closed.

    `state`: made, or empty (nothing happened, there is no page). `by`: rules, or the tier of the model that
    wrote it; `fallback`: why it was not a model, though one was wanted. `attempts`: how often its job began;
    `looks`: how often it looked for the answer of a batch. `took_ms` is the last attempt's own time.
    """

    window: str
    start_at: int
    end_at: int
    state: str
    made_at: int
    by: str = "rules"
    fallback: str | None = None
    attempts: int = 1
    looks: int = 0
    took_ms: float = 0.0
    cost_usd: float = 0.0
    tokens: int = 0
    jobs: int = 0
    path: str | None = None

    def to_wire(self) -> dict[str, Any]:
        """As JSON-able values."""
        return asdict(self)


class DigestRecords:
    """Keeps and reads them. Every method raises CoreUnreachable."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._key, self._families_key = store.keys.digests, store.keys.digest_families
        self._client: Any = store.client  # redis-py types every reply as str | bytes | None

    def begin(self, at: int) -> int:
        """Since when windows are closed: `at`, when nobody asked before."""
        self._store.ask(lambda: self._client.hsetnx(self._key, _SINCE, at))
        return int(self._store.ask(lambda: self._client.hget(self._key, _SINCE)))

    def all(self) -> dict[str, DigestRecord]:
        """By the name of the window."""
        known = self._store.ask(lambda: self._client.hgetall(self._key))
        records = (json.loads(raw) for name, raw in known.items() if name != _SINCE)
        return {record["window"]: DigestRecord(**record) for record in records}

    def get(self, window: str) -> DigestRecord | None:
        """That of a window, None when it is not closed."""
        raw = self._store.ask(lambda: self._client.hget(self._key, window))
        return None if raw is None else DigestRecord(**json.loads(raw))

    def keep(self, record: DigestRecord) -> DigestRecord:
        """Keep it, unless somebody else has closed the window: then that record is answered."""
        encoded = json.dumps(record.to_wire(), separators=(",", ":"))
        if not self._store.ask(lambda: self._client.hsetnx(self._key, record.window, encoded)):
            return self.get(record.window) or record
        kept = sorted(self.all().values(), key=lambda each: -each.start_at)
        for old in kept[MOST_KEPT:]:
            self.forget(old.window)
        return record

    def forget(self, window: str) -> None:
        """Let a window be closed anew."""
        self._store.ask(lambda: self._client.hdel(self._key, window))

    def families(self) -> set[str]:
        """The families that a digest has told of."""
        return {name.decode() for name in self._store.ask(lambda: self._client.smembers(self._families_key))}

    def add_families(self, names: Collection[str]) -> None:
        """Note that a digest has told of these."""
        if names:
            self._store.ask(lambda: self._client.sadd(self._families_key, *names))
