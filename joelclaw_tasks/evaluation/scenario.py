"""Scenario: one world before anybody operates it - what comes in and what goes wrong, all from a seed."""

from __future__ import annotations

import random
from dataclasses import dataclass
from itertools import count

from joelclaw_tasks.evaluation.family import FAMILIES, Family
from joelclaw_tasks.evaluation.fault import FaultKind, Faults, Window

MINUTE_MS = 60_000
LENGTH_MS = 60 * MINUTE_MS
#: After that nothing more comes in: what is there has time to finish.
ARRIVALS_UNTIL_MS = 48 * MINUTE_MS
#: Jobs that the workers run at once.
SLOTS = 6
_BURST = 6
_TIMETABLE_MS = 10 * MINUTE_MS


@dataclass(frozen=True, slots=True)
class Arrival:
    """One event that comes in at `at_ms` of the world."""

    at_ms: int
    id: str
    family: str
    tenant: str


@dataclass(frozen=True, slots=True)
class Scenario:
    """A world: its kind and seed, its arrivals in order, and its faults. Equal seeds make equal worlds."""

    kind: FaultKind
    seed: int
    arrivals: tuple[Arrival, ...]
    faults: Faults

    @property
    def name(self) -> str:
        """Kind and seed."""
        return f"{self.kind.value}-{self.seed}"


def make_scenario(kind: FaultKind, seed: int) -> Scenario:
    """The world of a kind and a seed."""
    rng = random.Random(f"{kind.value}/{seed}")  # noqa: S311  # worlds, not secrets
    faults = _FAULTS[kind](rng)
    numbers = count(1)
    arrivals = [
        Arrival(at_ms, f"{each.handler}-{next(numbers)}", each.name, f"t{rng.randrange(each.tenants)}")
        for each in FAMILIES
        for at_ms in _times(each, rng)
    ]
    if faults.flooded is not None:
        name, begins_ms, jobs = faults.flooded
        arrivals += [
            Arrival(begins_ms + 500 * number, f"flood-{next(numbers)}", name, "t0") for number in range(jobs)
        ]
    arrivals.sort(key=lambda each: (each.at_ms, each.id))
    return Scenario(kind, seed, tuple(arrivals), faults)


def _times(family: Family, rng: random.Random) -> list[int]:
    """When its events come in."""
    times: list[int] = []
    if family.arrivals == "timetable":
        together = round(family.per_minute * _TIMETABLE_MS / MINUTE_MS)
        for due_ms in range(rng.randrange(_TIMETABLE_MS), ARRIVALS_UNTIL_MS, _TIMETABLE_MS):
            times += [due_ms] * together
        return times
    crowd = _BURST if family.arrivals == "bursts" else 1
    at_ms = 0.0
    while True:
        at_ms += rng.expovariate(family.per_minute / crowd) * MINUTE_MS
        if at_ms >= ARRIVALS_UNTIL_MS:
            return times
        times += [int(at_ms)] * crowd


# -- what goes wrong ------------------------------------------------------------------------------


def _begin(rng: random.Random) -> int:
    return rng.randrange(6 * MINUTE_MS, 12 * MINUTE_MS)


def _nothing(rng: random.Random) -> Faults:  # noqa: ARG001  # as all of them
    return Faults()


def _outage(rng: random.Random) -> Faults:
    name = rng.choice(["mail/queued", "calendar/changed", "feed/due", "page/changed", "note/saved"])
    begins_ms, run_ms = _begin(rng), rng.choice([10_000, 20_000, 30_000])
    ends_ms = begins_ms + rng.randrange(8 * MINUTE_MS, 28 * MINUTE_MS)
    error = f"ConnectTimeout: no answer within {run_ms // 1_000} s"
    return Faults(windows=(Window(name, begins_ms, ends_ms, run_ms, error),))


def _rate_limit(rng: random.Random) -> Faults:
    name = rng.choice(["feed/due", "page/changed", "mail/queued", "calendar/changed"])
    begins_ms = _begin(rng)
    ends_ms = begins_ms + rng.randrange(5 * MINUTE_MS, 25 * MINUTE_MS)
    asks = rng.choice(["left", 60, 120, None])
    return Faults(
        windows=(Window(name, begins_ms, ends_ms, 5_000, "RateLimited: the server answered 429", asks),)
    )


def _drift(rng: random.Random) -> Faults:
    name = rng.choice(["mail/queued", "page/changed", "note/saved", "search/reindex"])
    begins_ms = _begin(rng)
    return Faults(slow=(name, begins_ms, begins_ms + 30 * MINUTE_MS, rng.uniform(2, 5)))


def _poison(rng: random.Random) -> Faults:
    name = rng.choice(["mail/queued", "page/changed", "import/requested", "search/reindex"])
    return Faults(poison=(name, _begin(rng), rng.uniform(0.03, 0.08)))


def _flood(rng: random.Random) -> Faults:
    name, jobs = rng.choice([("import/requested", 200), ("media/uploaded", 50), ("search/reindex", 200)])
    return Faults(flooded=(name, _begin(rng), rng.randrange(jobs // 2, jobs)))


def _retry_storm(rng: random.Random) -> Faults:
    """A short outage; its retries are more than the downstream can take, so it stays down by them."""
    begins_ms = _begin(rng)
    ends_ms = begins_ms + rng.randrange(3 * MINUTE_MS, 6 * MINUTE_MS)
    window = Window("search/reindex", begins_ms, ends_ms, 5_000, "ServiceUnavailable: 503")
    return Faults(windows=(window,), congested=("search/reindex", rng.randrange(26, 34)))


def _away(rng: random.Random, names: list[str], minutes: tuple[int, int], run_ms: int, error: str) -> Window:
    """One of these families has no downstream for a time."""
    name, begins_ms = rng.choice(names), _begin(rng)
    ends_ms = begins_ms + rng.randrange(minutes[0] * MINUTE_MS, minutes[1] * MINUTE_MS)
    return Window(name, begins_ms, ends_ms, run_ms, error)


def _deploy(rng: random.Random) -> Faults:
    names = ["mail/queued", "page/changed", "note/saved", "import/requested", "digest/due"]
    error = "ImportError: cannot import name 'render' from 'templates'"
    return Faults(windows=(_away(rng, names, (10, 25), 5_000, error),))


def _flapping(rng: random.Random) -> Faults:
    name = rng.choice(["mail/queued", "page/changed", "note/saved", "search/reindex"])
    at_ms = _begin(rng)
    windows = []
    for _ in range(rng.randrange(3, 6)):
        ends_ms = at_ms + rng.randrange(2 * MINUTE_MS, 5 * MINUTE_MS)
        windows.append(Window(name, at_ms, ends_ms, 10_000, "ConnectionResetError: connection reset by peer"))
        at_ms = ends_ms + rng.randrange(2 * MINUTE_MS, 5 * MINUTE_MS)
    return Faults(windows=tuple(windows))


def _quota(rng: random.Random) -> Faults:
    names = ["mail/queued", "calendar/changed", "page/changed"]
    error = "QuotaExceeded: the quota of this hour is used up"
    return Faults(windows=(_away(rng, names, (15, 30), 5_000, error),))


def _maintenance(rng: random.Random) -> Faults:
    """A person has paused what is down, for as long as it is."""
    names = ["mail/queued", "feed/due", "note/saved", "import/requested"]
    window = _away(rng, names, (10, 25), 20_000, "ConnectionRefusedError: connection refused")
    return Faults(windows=(window,), held=(window.family, window.begins_ms - MINUTE_MS, window.ends_ms))


_FAULTS = {
    FaultKind.NOTHING: _nothing,
    FaultKind.OUTAGE: _outage,
    FaultKind.RATE_LIMIT: _rate_limit,
    FaultKind.DRIFT: _drift,
    FaultKind.POISON: _poison,
    FaultKind.FLOOD: _flood,
    FaultKind.RETRY_STORM: _retry_storm,
    FaultKind.DEPLOY: _deploy,
    FaultKind.FLAPPING: _flapping,
    FaultKind.QUOTA: _quota,
    FaultKind.MAINTENANCE: _maintenance,
}
