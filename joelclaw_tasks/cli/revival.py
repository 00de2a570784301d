"""Revival: brings many jobs back from the dead letter, no faster than asked, until it is stopped."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from joelclaw_tasks.cli.command import usage

if TYPE_CHECKING:
    from joelclaw_tasks.core.store import Store

_AT_ONCE = 200  # some 25 ms of Redis's time
#: How often it looks whether it is to stop.
_LOOK_S = 0.1
_RATE = re.compile(r"(\d{1,7})\s*/\s*(s|m|h)", re.ASCII)
_SECONDS = {"s": 1, "m": 60, "h": 3_600}


class Revival:
    """Revives jobs in the order given. `revived` and `gone` (no longer there) grow while `run` works."""

    def __init__(
        self, store: Store, ids: Sequence[str], *, actor: str, reason: str, per_s: float | None
    ) -> None:
        self.revived: list[str] = []
        self.gone = 0
        self._store = store
        self._ids = ids
        self._actor = actor
        self._reason = reason
        self._per_s = per_s

    @property
    def left(self) -> int:
        """How many it has not come to yet."""
        return len(self._ids) - len(self.revived) - self.gone

    def run(self, stop: Callable[[], bool], tell: Callable[[str], None]) -> None:
        """Revive until none is left or `stop` answers yes; whatever came back is counted.

        Raises CoreUnreachable.
        """
        started = time.monotonic()
        while self.left and not stop():
            done = len(self._ids) - self.left
            most = _AT_ONCE
            if self._per_s is not None:
                allowed = 1 + int((time.monotonic() - started) * self._per_s)
                if allowed <= done:
                    wait_s = started + done / self._per_s - time.monotonic()
                    time.sleep(min(max(wait_s, 0.0), _LOOK_S))
                    continue
                most = min(most, allowed - done)
            words = self._store.revive(self._ids[done : done + most], actor=self._actor, reason=self._reason)
            came = [
                job_id for job_id, word in zip(self._ids[done:], words, strict=False) if word == "REVIVED"
            ]
            self.revived += came
            self.gone += len(words) - len(came)
            tell(f"revived {len(self.revived)} of {len(self._ids)}")


def parse_rate(text: str) -> float:
    """Jobs per second of `10/s`, `100/m` or `5000/h`. Raises CommandFailed with exit code 2."""
    match = _RATE.fullmatch(text.strip().lower())
    if match is None or not int(match[1]):
        raise usage(
            f"--rate must be a number per s, m or h, not {text!r:.40}",
            fix="Write it like `--rate 10/s` or `--rate 100/m`.",
        )
    return int(match[1]) / _SECONDS[match[2]]
