"""What beats remember: when each entry fired last, what nobody fired, and which entries are paused.

Without it every entry still fires once for each due time; it is needed to make up for what was missed, and to
answer `joelclaw beat list`. Times are epoch milliseconds.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from joelclaw_tasks.core.store import Store


@dataclass(frozen=True, slots=True)
class Fired:
    """The latest due time of an entry that was fired, and when it was.

    `sent_at` None: it has not fired yet, and counts from `due_at` on.
    """

    due_at: int
    sent_at: int | None


@dataclass(frozen=True, slots=True)
class Missed:
    """`count` due times from `first_at` to `last_at` that nobody fired in time; `made_up` of them later."""

    count: int
    first_at: int
    last_at: int
    noticed_at: int
    made_up: int

    def to_wire(self) -> dict[str, Any]:
        """As JSON-able values."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Pause:
    """An entry does not fire until then (None: until somebody resumes it)."""

    until_at: int | None
    since_at: int
    actor: str
    reason: str

    def holds(self, now_ms: int) -> bool:
        """Whether it is in force."""
        return self.until_at is None or now_ms < self.until_at

    def to_wire(self) -> dict[str, Any]:
        """As JSON-able values."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Remembered:
    """Everything, by the name of the entry. `looked_at`: when a beat looked last, None: none ever did.

    `fault`: why beat still goes by an older schedules.json, "" when it does not.
    """

    looked_at: int | None = None
    fault: str = ""
    fired: Mapping[str, Fired] = field(default_factory=dict)
    missed: Mapping[str, Missed] = field(default_factory=dict)
    pauses: Mapping[str, Pause] = field(default_factory=dict)


class BeatMemory:
    """Keeps and reads it. Every method raises CoreUnreachable."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._key = store.keys.beat
        self._client: Any = store.client  # redis-py types every reply as str | bytes | None

    def now_ms(self) -> int:
        """The time, as the store has it."""
        return int(self._store.ask(self._store.now_ms))

    def read(self) -> Remembered:
        """All of it; what a newer version wrote in another form counts as unknown."""
        known = self._store.ask(lambda: self._client.hgetall(self._key))
        looked_at, fault = None, ""
        parts: dict[str, dict[str, Any]] = {"fired": {}, "missed": {}, "pause": {}}
        kinds: dict[str, Any] = {"fired": Fired, "missed": Missed, "pause": Pause}
        for raw_name, raw in known.items():
            what, _, entry = raw_name.decode().partition("|")
            if what == "looked_at":
                looked_at = int(raw)
            elif what == "fault":
                fault = raw.decode()
            elif what in kinds:
                try:
                    parts[what][entry] = kinds[what](**json.loads(raw))
                except (TypeError, ValueError):
                    continue
        return Remembered(looked_at, fault, parts["fired"], parts["missed"], parts["pause"])

    def looked(self, at: int, fault: str = "") -> None:
        """Note that a beat looks now, and what is wrong with the schedules that it was given."""
        self._store.ask(lambda: self._client.hset(self._key, mapping={"looked_at": at, "fault": fault}))

    def fired(self, entry: str, fired: Fired) -> None:
        """Note that an entry fired."""
        self._set("fired", entry, asdict(fired))

    def missed(self, entry: str, missed: Missed) -> None:
        """Note what nobody fired; it replaces what was missed before."""
        self._set("missed", entry, missed.to_wire())

    def meet(self, entry: str, at: int) -> None:
        """Let an entry of which nothing is known count from then on."""
        self._store.ask(
            lambda: self._client.hsetnx(self._key, f"fired|{entry}", _encoded(asdict(Fired(at, None))))
        )

    def forget(self, entry: str, at: int) -> None:
        """Let an entry count from then on, whatever it fired and missed; a pause stays."""
        self.fired(entry, Fired(at, None))
        self._store.ask(lambda: self._client.hdel(self._key, f"missed|{entry}"))

    def pause(self, entry: str, pause: Pause) -> None:
        """Let an entry not fire; it replaces an earlier pause."""
        self._set("pause", entry, pause.to_wire())

    def resume(self, entry: str, at: int) -> Pause | None:
        """Let it fire again, from the next due time on; answers the pause that was in force, if one was.

        The pause is kept, as one that ended then: what was due in it has not been missed.
        """
        pause = self.read().pauses.get(entry)
        if pause is None or not pause.holds(at):
            return None
        self.pause(entry, replace(pause, until_at=at))
        return pause

    def _set(self, what: str, entry: str, value: Mapping[str, Any]) -> None:
        self._store.ask(lambda: self._client.hset(self._key, f"{what}|{entry}", _encoded(value)))


def _encoded(value: Mapping[str, Any]) -> str:
    return json.dumps(value, separators=(",", ":"))
