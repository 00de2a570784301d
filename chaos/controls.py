"""Controls: an operator who pauses, resumes and changes a limit all the time, and notes each answer."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable

from chaos.record import Record
from chaos.traffic import LIMITS, PAUSABLE
from joelclaw_tasks.core.store import Store
from joelclaw_tasks.errors import JoelclawError

_GATE = "limit:handler/limited"
_BY = {"actor": "chaos", "reason": "because"}


class Controls(threading.Thread):
    """Acts until `stop`, which takes everything back."""

    def __init__(self, store: Store, record: Record, seed: int) -> None:
        super().__init__(name="controls", daemon=True)
        self._store = store
        self._record = record
        self._random = random.Random(seed)
        self._stopped = threading.Event()
        self._paused: set[str] = set()

    def run(self) -> None:
        """Act every now and then."""
        while not self._stopped.wait(self._random.uniform(0.1, 0.8)):
            family = self._random.choice(PAUSABLE)
            if family in self._paused:
                self._resume(family)
            elif self._random.random() < 0.5:
                self._pause(family)
            else:
                self._limit(self._random.choice((1, 2, 3)))

    def stop(self) -> None:
        """End the acts, and take all of them back however long Redis is away (a minute at most)."""
        self._stopped.set()
        self.join()
        deadline = time.monotonic() + 60
        while self._paused and time.monotonic() < deadline:
            for family in sorted(self._paused):
                self._resume(family)
        while not self._limit(LIMITS[_GATE]) and time.monotonic() < deadline:
            time.sleep(0.1)

    def _pause(self, family: str) -> None:
        gate = f"pause:family/{family}"
        self._paused.add(family)  # also when the answer is lost
        self._act("pause", gate, None, lambda: bool(self._store.pause(gate, **_BY)))

    def _resume(self, family: str) -> None:
        gate = f"pause:family/{family}"
        if self._act("resume", gate, None, lambda: self._store.resume(gate, **_BY) is not None):
            self._paused.discard(family)

    def _limit(self, most: int) -> bool:
        return self._act("limit", _GATE, most, lambda: self._store.limit({_GATE: most}, **_BY) > 0)

    def _act(self, verb: str, gate: str, value: int | None, act: Callable[[], bool]) -> bool:
        """Whether it was answered."""
        asked_at, acked_at, changed = time.monotonic(), None, False
        try:
            changed = act()
            acked_at = time.monotonic()
        except JoelclawError:
            pass  # Redis is away: it may have been done
        self._record.note(
            "control",
            verb=verb, gate=gate, value=value, asked_at=asked_at, acked_at=acked_at, changed=changed,
        )  # fmt: skip
        return acked_at is not None
