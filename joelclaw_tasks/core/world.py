"""World: a queue at one moment, as values that a simulation plays. Times are milliseconds from then."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from joelclaw_tasks.core.pace import Run


@dataclass(frozen=True, slots=True)
class LaneNow:
    """A lane: `gates` with their weights, and the ranks of its jobs in order.

    `slack_ms` is that of its first job; only lanes that take turns need it.
    """

    name: str
    queue: str
    family: str
    handler: str = ""
    gates: tuple[tuple[str, int], ...] = ()
    ranks: tuple[float, ...] = ()
    slack_ms: float = 300_000.0

    @property
    def runs_of(self) -> str:
        """The name under which its runs are measured."""
        return self.handler or self.family


@dataclass(frozen=True, slots=True)
class Running:
    """A job that runs: its lane by position, its crew by position, since when (milliseconds)."""

    lane: int
    crew: int
    elapsed_ms: int


@dataclass(frozen=True, slots=True)
class Crew:
    """Workers that serve the same queues (None: any queue), and how many jobs they run at once together."""

    queues: frozenset[str] | None
    slots: int

    def serves(self, queue: str) -> bool:
        """Whether it takes jobs of the queue."""
        return self.queues is None or queue in self.queues


@dataclass(frozen=True, slots=True)
class Arrivals:
    """Jobs that come in at random, `per_second` on average, each into one of the lanes (positions)."""

    lanes: tuple[int, ...]
    per_second: float
    slack_ms: float


@dataclass(frozen=True, slots=True)
class World:
    """A queue at one moment. Times are milliseconds from then, ranks too.

    `gates` maps a gate to what its model needs (see model_gates); a gate that is missing there is open.
    `due` are jobs that wait for a clock: (due in ms, lane, slack_ms). `runs` by name as LaneNow.runs_of.
    """

    lanes: tuple[LaneNow, ...] = ()
    running: tuple[Running, ...] = ()
    due: tuple[tuple[float, int, float], ...] = ()
    crews: tuple[Crew, ...] = ()
    gates: Mapping[str, Mapping[str, float | None]] = field(default_factory=dict)
    runs: Mapping[str, Sequence[Run]] = field(default_factory=dict)
    arrivals: tuple[Arrivals, ...] = ()


@dataclass(slots=True)
class Played:
    """What came of one run. Times are milliseconds from the snapshot.

    `drained_ms`: when the last job that waited or ran at the start was done; None when some are left over.
    `is_stuck`: nothing would ever happen any more. `waits` by family: how long each job waited until it
    started. `left` by family: jobs of the start that never did. `target_ms`: when the job asked for started.
    """

    drained_ms: float | None = None
    waits: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    left: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    target_ms: float | None = None
    ended_ms: float = 0.0
    is_stuck: bool = False


def with_gates(world: World, changes: Mapping[str, Mapping[str, float | None] | None]) -> World:
    """The same world with other gates; None takes a gate away."""
    gates = {name: facts for name, facts in {**world.gates, **changes}.items() if facts is not None}
    return replace(world, gates=gates)
