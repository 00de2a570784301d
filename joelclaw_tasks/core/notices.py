"""Notices: what was told to people, what is held back, and what the sinks have not taken yet.

Notifications come from several processes at once; what becomes of each is decided in one step in Redis. Of
those who deliver to a sink, one does at a time, in the order in which things were told.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from joelclaw_tasks.core.notices_view import NoticesView, decoded

Word = Literal["told", "held", "muted", "repeated", "nothing"]

#: Causes in one digest. What is beyond them goes with the next one.
MOST_IN_DIGEST = 500
#: Whoever delivers to a sink has it for so long.
LEASE_MS = 60_000
#: A sink that is away is left alone for so long at first, twice as long each time, and at most for so long.
FIRST_AWAY_MS, LONGEST_AWAY_MS = 30_000, 1_800_000
#: How long a pressed button is remembered, and how long one that is being carried out is held.
PRESSED_MS, PRESSING_MS = 8 * 86_400_000, 30_000


@dataclass(frozen=True, slots=True)
class Told:
    """One notification to decide on. `note` is what the sinks get (JSON-able); `level` is 0 to 3.

    `change` is opened, changed, resolved or nothing; `ends_at` (epoch ms): what is open ends then by itself.
    """

    id: str
    cause: str
    level: int
    change: str
    note: Mapping[str, Any]
    ends_at: int | None = None


class Notices(NoticesView):
    """The state of all notifications. Every method raises CoreUnreachable."""

    def decide(
        self, told: Told, sinks: Sequence[str], *, now_ms: int, quiet_until_at: int | None, cooldown_ms: int
    ) -> Word:
        """What becomes of it; when it is told, it is in the outbox of every sink."""
        args = [
            now_ms, told.id, told.cause, told.level, told.change, told.ends_at or 0,
            "" if quiet_until_at is None else quiet_until_at, cooldown_ms, _encoded(told.note), *sinks,
        ]  # fmt: skip
        if told.note.get("buttons"):
            # Before anybody can press one.
            key = self._keys.notify_buttons(told.id)
            self._store.ask(lambda: self._client.set(key, _encoded(told.note), px=PRESSED_MS))
        word: Word = self._store._call("notify", args).decode()
        return word

    def make_digest(self, id: str, sinks: Sequence[str], *, now_ms: int, is_forced: bool = False) -> int:
        """Move what was held back into the outboxes, as one: `{id, at, held: [{count, first_at, note}]}`.

        What is not due yet stays, unless forced. Answers of how many causes it speaks.
        """
        return int(self._store._call("notify_digest", [now_ms, id, MOST_IN_DIGEST, int(is_forced), *sinks]))

    def take(
        self,
        sink: str,
        holder: str,
        *,
        now_ms: int,
        most_per_hour: int,
        only_urgent: bool = False,
        singly: int,
        most: int = 200,
    ) -> list[tuple[str, dict[str, Any]]]:
        """Take what goes to the sink next, as (id, note); empty: nothing may go, or somebody else delivers.

        One at a time, or all together when there are more than `singly`. What was taken is still there
        until `sent`.
        """
        args = [now_ms, sink, holder, LEASE_MS, most_per_hour, int(only_urgent), most, singly]
        found = self._store._call("notify_take", args)
        return [(id.decode(), decoded(note)) for id, note in zip(found[::2], found[1::2], strict=True)]

    def let_go(self, sink: str, holder: str, *, now_ms: int) -> None:
        """Leave the sink to others, before its outbox is empty."""
        self._store._call("notify_take", [now_ms, sink, holder, LEASE_MS, 0, 0, 0, 0])

    def sent(self, sink: str, ids: Sequence[str], *, now_ms: int) -> None:
        """The sink has taken them, as one message."""

        def forget() -> None:
            pipe = self._client.pipeline(transaction=True)
            self._forget(pipe, sink, ids)
            pipe.zadd(self._keys.notify_sent(sink), {ids[0]: now_ms})
            pipe.pexpire(self._keys.notify_sent(sink), 2 * 3_600_000)
            pipe.hdel(self._keys.notify_sink(sink), "fails", "away_until", "error")
            pipe.execute()

        self._store.ask(forget)

    def refused(self, sink: str, ids: Sequence[str], why: str, *, now_ms: int) -> None:
        """The sink will never take them: they are out, and the log says so."""

        def forget() -> None:
            pipe = self._client.pipeline(transaction=True)
            self._forget(pipe, sink, ids)
            pipe.hset(self._keys.notify_sink(sink), "error", why)
            pipe.hincrby(self._keys.notify_sink(sink), "dropped", len(ids))
            entry = {"at": now_ms, "word": "refused", "cause": sink, "note": _encoded({"text": why})}
            pipe.xadd(self._keys.notify_log, entry, maxlen=1_000, approximate=True)
            pipe.execute()

        self._store.ask(forget)

    def away(self, sink: str, why: str, *, now_ms: int, retry_after_ms: int | None = None) -> int:
        """The sink did not take anything; answers when it is asked again (epoch ms)."""
        key = self._keys.notify_sink(sink)

        def note() -> int:
            fails = int(self._client.hincrby(key, "fails", 1))
            wait_ms = min(LONGEST_AWAY_MS, FIRST_AWAY_MS << min(fails - 1, 10))
            if retry_after_ms is not None:
                wait_ms = min(86_400_000, max(1_000, retry_after_ms))
            pipe = self._client.pipeline(transaction=True)
            pipe.hset(key, mapping={"away_until": now_ms + wait_ms, "error": why})
            pipe.hdel(key, "holder", "held_until")
            pipe.execute()
            return now_ms + wait_ms

        return int(self._store.ask(note))

    def _forget(self, pipe: Any, sink: str, ids: Sequence[str]) -> None:
        pipe.zrem(self._keys.notify_outbox(sink), *ids)
        pipe.hdel(self._keys.notify_notes(sink), *ids)

    # -- what people say ----------------------------------------------------------------------

    def mute(self, cause: str, until_at: int, *, actor: str, reason: str) -> None:
        """Tell nothing of a cause until then (epoch ms)."""
        record = _encoded({"actor": actor, "reason": reason})
        self._store.ask(lambda: self._client.hset(self._keys.notify_mutes, cause, f"{until_at}|{record}"))

    def unmute(self, cause: str) -> bool:
        """Tell of it again; False when it was not muted."""
        return bool(self._store.ask(lambda: self._client.hdel(self._keys.notify_mutes, cause)))

    # -- buttons ------------------------------------------------------------------------------

    def with_buttons(self, id: str) -> dict[str, Any] | None:
        """The note of a notification that had buttons; None: it is not known any more."""
        found = self._store.ask(lambda: self._client.get(self._keys.notify_buttons(id)))
        return decoded(found) if found else None

    def press(self, button: str, actor: str) -> str | None:
        """Begin what a button does; None: it is the first. Else who pressed it and what came of it."""
        key = self._keys.notify_button(button)
        begun = self._store.ask(
            lambda: self._client.set(key, f"{actor}: is being done", nx=True, px=PRESSING_MS)
        )
        if begun:
            return None
        known = self._store.ask(lambda: self._client.get(key))
        return known.decode() if known else "somebody: is being done"

    def pressed(self, button: str, actor: str, outcome: str) -> None:
        """It is done: the button does nothing any more."""
        key = self._keys.notify_button(button)
        self._store.ask(lambda: self._client.set(key, f"{actor}: {outcome}", px=PRESSED_MS))

    def unpress(self, button: str) -> None:
        """It could not be done: it may be pressed again."""
        self._store.ask(lambda: self._client.delete(self._keys.notify_button(button)))

    # -- tasks --------------------------------------------------------------------------------

    def task_of(self, cause: str) -> str | None:
        """The id of the open task of a cause in somebody's task list."""
        found = self._store.ask(lambda: self._client.hget(self._keys.notify_tasks, cause))
        return found.decode() if found else None

    def keep_task(self, cause: str, task: str | None) -> None:
        """Remember it; None: it has none any more."""
        key = self._keys.notify_tasks
        if task is None:
            self._store.ask(lambda: self._client.hdel(key, cause))
        else:
            self._store.ask(lambda: self._client.hset(key, cause, task))


def _encoded(note: Mapping[str, Any]) -> str:
    return json.dumps(note, separators=(",", ":"))
