"""NoticesView: what was told, what is held back or muted, and how the sinks are. Changes nothing."""

from __future__ import annotations

import json
from typing import Any

from joelclaw_tasks.core.store import Store

_HOUR_MS = 3_600_000


class NoticesView:
    """Reads the state of notifications. Every method raises CoreUnreachable."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._keys = store.keys
        self._client: Any = store.client  # redis-py types every reply as str | bytes | None

    def now_ms(self) -> int:
        """The time in epoch milliseconds, as the store has it."""
        return int(self._store.ask(self._store.now_ms))

    def mutes(self) -> dict[str, dict[str, Any]]:
        """Cause -> until_at, actor and reason, of the mutes that last."""
        found = self._store.ask(lambda: self._client.hgetall(self._keys.notify_mutes))
        now_ms = self.now_ms()
        mutes = {}
        for cause, value in sorted(found.items()):
            until, _, record = value.decode().partition("|")
            if now_ms < int(until):
                mutes[cause.decode()] = {"until_at": int(until), **json.loads(record)}
        return mutes

    def held(self) -> list[dict[str, Any]]:
        """What is held back: cause, count, first_at, goes_at and the newest note, the next to go first."""

        def read() -> list[Any]:
            pipe = self._client.pipeline(transaction=False)
            pipe.zrange(self._keys.notify_held, 0, -1, withscores=True)
            pipe.hgetall(self._keys.notify_held_notes)
            return list(pipe.execute())

        causes, notes = self._store.ask(read)
        found = []
        for cause, goes_at in causes:
            if cause not in notes:
                continue  # it went between the two
            count, first_at, _, note = notes[cause].split(b"|", 3)
            found.append(
                {
                    "cause": cause.decode(), "count": int(count), "first_at": int(first_at),
                    "goes_at": int(goes_at), "note": json.loads(note),
                }
            )  # fmt: skip
        return found

    def sink(self, sink: str) -> dict[str, Any]:
        """How a sink is: waiting, sent (in the last hour), away_until_at, error, dropped."""

        def read() -> list[Any]:
            pipe = self._client.pipeline(transaction=False)
            pipe.zcard(self._keys.notify_outbox(sink))
            pipe.zcount(self._keys.notify_sent(sink), self.now_ms() - _HOUR_MS, "+inf")
            pipe.hmget(self._keys.notify_sink(sink), "away_until", "error", "dropped")
            return list(pipe.execute())

        waiting, sent, (away_until, error, dropped) = self._store.ask(read)
        return {
            "sink": sink, "waiting": waiting, "sent_last_hour": sent,
            "away_until_at": int(away_until) if away_until else None,
            "error": error.decode() if error else None, "dropped": int(dropped or 0),
        }  # fmt: skip

    def log(self, most: int = 20) -> list[dict[str, Any]]:
        """What became of the newest notifications: at, word, cause, note; the newest first."""
        found = self._store.ask(lambda: self._client.xrevrange(self._keys.notify_log, count=most))
        return [
            {
                "at": int(entry[b"at"]), "word": entry[b"word"].decode(), "cause": entry[b"cause"].decode(),
                "note": decoded(entry[b"note"]),
            }
            for _, entry in found
        ]  # fmt: skip


def decoded(note: bytes) -> dict[str, Any]:
    """A note that was kept; empty when it makes no sense."""
    try:
        found = json.loads(note)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
