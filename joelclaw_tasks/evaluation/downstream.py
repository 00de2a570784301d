"""Downstream: what becomes of a run, by the faults of the world.

What a run draws by chance depends on the seed, the job and the number of the try alone, so that all operators
of a world have the same luck.
"""

from __future__ import annotations

import random
from collections import deque
from dataclasses import dataclass, field

from joelclaw_tasks.evaluation.family import Family
from joelclaw_tasks.evaluation.scenario import MINUTE_MS, Scenario

#: The share of runs that fail without any fault, and succeed when tried again.
_CHANCE_FAILS = 0.01


@dataclass(frozen=True, slots=True)
class Run:
    """How long a run takes, and with which error it ends (empty: well). `wait_s`: what the server asks for.

    `jitter` (0 to 1) says where within its bounds the next try falls.
    """

    run_ms: int
    error: str = ""
    wait_s: int = 0
    jitter: float = 0.0


@dataclass(slots=True)
class Downstream:
    """Whatever the handlers of one world call. `jammed_ms`: when a run failed by congestion."""

    scenario: Scenario
    jammed_ms: list[int] = field(default_factory=list)
    _begun: deque[int] = field(default_factory=deque)

    def run(self, family: Family, job_id: str, number: int, at_ms: int) -> Run:
        """The try `number` (0 first) of a job, which starts at `at_ms` of the world."""
        faults = self.scenario.faults
        luck = random.Random(f"{self.scenario.seed}/{job_id}/{number}")  # noqa: S311
        run_ms = max(1_000, int(luck.gammavariate(4, family.run_ms / 4)))
        fails, jitter = luck.random() < _CHANCE_FAILS, luck.random()
        jammed = faults.congested is not None and faults.congested[0] == family.name
        jammed = jammed and self._is_jammed(at_ms)
        window = faults.window(family.name, at_ms)
        if window is not None:
            asked = window.retry_after_s
            wait_s = -(-(window.ends_ms - at_ms) // 1_000) if asked == "left" else int(asked or 0)
            error = f"{window.error} and asks to wait {wait_s} s" if wait_s else window.error
            return Run(window.run_ms, error, wait_s, jitter)
        if jammed:
            self.jammed_ms.append(at_ms)
            return Run(5_000, "ServiceUnavailable: 503", 0, jitter)
        if self._is_poison(family, job_id, at_ms):
            return Run(run_ms, "ValueError: the payload has no field 'amount'", 0, jitter)
        if faults.slow is not None and faults.slow[0] == family.name:
            _, begins_ms, ends_ms, factor = faults.slow
            share = min(1.0, max(0.0, (at_ms - begins_ms) / (ends_ms - begins_ms)))
            run_ms = int(run_ms * (1 + (factor - 1) * share))
        return Run(run_ms, "TimeoutError: it took too long" if fails else "", 0, jitter)

    def _is_poison(self, family: Family, job_id: str, at_ms: int) -> bool:
        """Whether it is a payload that no run can take, and the time of such payloads has come."""
        poison = self.scenario.faults.poison
        if poison is None or poison[0] != family.name or at_ms < poison[1]:
            return False
        return random.Random(f"{self.scenario.seed}/{job_id}").random() < poison[2]  # noqa: S311

    def _is_jammed(self, at_ms: int) -> bool:
        """Whether more runs began within a minute than it takes. Before its outage it takes any number."""
        faults = self.scenario.faults
        assert faults.congested is not None
        self._begun.append(at_ms)
        while self._begun[0] <= at_ms - MINUTE_MS:
            self._begun.popleft()
        return at_ms >= faults.windows[0].begins_ms and len(self._begun) > faults.congested[1]
