"""Round: one fleet, one schedule of faults that follows from its seed, one verdict."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from chaos.controls import Controls
from chaos.faults import FAULTS, OF_REDIS, Course
from chaos.fleet import Fleet
from chaos.history import History
from chaos.verdict import Verdict

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a round does: each of `faults` alone and `repeat` times, in an order by the seed, then several."""

    seed: int
    faults: Sequence[str] = tuple(FAULTS)
    repeat: int = 1
    mixed_s: float = 20.0
    gap_s: float = 1.5
    every_s: float = 1.25
    rate: float = 60.0
    lease_ms: int = 4_000
    flood: float = 0.0
    build: str = ""


@dataclass(slots=True)
class _Running:
    name: str
    course: Course
    began_at: float
    resume_at: float


class Round:
    """Run it once; everything it starts ends with it."""

    def __init__(self, plan: Plan, home: Path, say: Say, kind: type[Fleet] = Fleet) -> None:
        self._plan = plan
        self._say = say
        self._began_at = time.monotonic()
        self._fleet = kind(
            home, seed=plan.seed, rate=plan.rate, lease_ms=plan.lease_ms, flood=plan.flood, build=plan.build
        )  # fmt: skip
        self._running: list[_Running] = []

    def run(self) -> Verdict:
        """Start the fleet, harm it, let it come to rest, and check its history."""
        fleet, plan = self._fleet, self._plan
        try:
            fleet.start()
            controls = Controls(fleet.make_store(), fleet.record, plan.seed) if fleet.side == "ours" else None
            if controls is not None:
                controls.start()
            self._say(f"fleet ready after {time.monotonic() - self._began_at:.1f} s")
            fleet.wait(2.0)
            self._alone()
            self._mixed()
            if controls is not None:
                controls.stop()
            if not fleet.rest():
                self._say("work was left when the wait for its end was over")
        finally:
            fleet.close()
        return Verdict.of(History.read(fleet.history_path))

    def _alone(self) -> None:
        names = list(self._plan.faults) * self._plan.repeat
        self._fleet.random.shuffle(names)
        for name in names:
            self._begin(name)
            while self._running:
                self._turn()
            self._fleet.wait_whole()
            self._fleet.wait(self._plan.gap_s)

    def _mixed(self) -> None:
        """Up to three at once, a new one `every_s`, more or less."""
        random, until = self._fleet.random, time.monotonic() + self._plan.mixed_s
        next_at = 0.0
        while time.monotonic() < until or self._running:
            now = time.monotonic()
            if now >= next_at and now < until and len(self._running) < 3:
                taken = {each.name for each in self._running}
                if taken & OF_REDIS:
                    taken |= OF_REDIS
                free = [name for name in self._plan.faults if name not in taken]
                if free:
                    self._begin(random.choice(free))
                next_at = now + self._plan.every_s * random.uniform(0.4, 1.6)
            self._turn()
        if self._plan.mixed_s:
            self._fleet.wait_whole()

    def _begin(self, name: str) -> None:
        now = time.monotonic()
        self._running.append(_Running(name, FAULTS[name](self._fleet), now, now))

    def _turn(self) -> None:
        """Let each fault that is due go on, and say what has ended."""
        self._fleet.wait(0.02)
        for each in list(self._running):
            if time.monotonic() < each.resume_at:
                continue
            try:
                each.resume_at = time.monotonic() + next(each.course)
            except StopIteration as end:
                self._running.remove(each)
                began_s, took_s = each.began_at - self._began_at, time.monotonic() - each.began_at
                self._say(f"{began_s:7.1f} s  {each.name:<22} {took_s:5.1f} s  {end.value}")
