"""Simulation: plays a queue forward as `claim` would, with drawn service times. Touches no Redis.

The rules are those of shared/claim_jobs.lua and shared/lanes.lua: the best ready lane first, a lane parks
at the first shut gate, and a freed place brings back the best lane of each queue.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Callable, Mapping
from heapq import heapify, heappop, heappush

from joelclaw_tasks.core.model_gates import GATE_MODELS, ModelGate, Turns
from joelclaw_tasks.core.pace import Run
from joelclaw_tasks.core.world import Crew, LaneNow, Played, Running, World

#: Rank of a job that runs again, behind what waits: its own slack is not part of the snapshot.
_SLACK_MS = 300_000
#: Jobs of the start are numbered by their place in their lane; one that runs again, from here on.
_LATER = 1 << 40


class Simulation:
    """One run of a world, from a seed. `play` it once."""

    def __init__(self, world: World, seed: int) -> None:
        self._world = world
        self._chance = random.Random(seed)  # noqa: S311 - drawn service times keep no secret
        # Drawn again from what was measured (a bootstrap), so that runs with other seeds differ the more, the
        # less was measured.
        measured = {
            name: self._chance.choices(runs, k=len(runs)) for name, runs in world.runs.items() if runs
        }
        pooled = [run for runs in measured.values() for run in runs]
        self._runs = [measured.get(lane.runs_of, pooled) for lane in world.lanes]
        self._jobs: list[list[tuple[float, float, int]]] = [
            [(rank, 0.0, number) for number, rank in enumerate(lane.ranks)] for lane in world.lanes
        ]
        models: dict[str, ModelGate] = {
            name: GATE_MODELS[name.partition(":")[0]](**facts)
            for name, facts in world.gates.items()
            if name.partition(":")[0] in GATE_MODELS
        }
        self._gates = [self._gates_of(lane, models) for lane in world.lanes]
        turns: dict[str, Turns] = defaultdict(Turns)
        self._turns = [
            next(
                ((turns[name], weight) for name, weight in lane.gates[:1] if name.startswith("share:")), None
            )
            for lane in world.lanes
        ]
        self._score = [0.0] * len(world.lanes)  # the rank by which a lane stands among the ready ones
        self._ready: dict[str, list[tuple[float, int]]] = defaultdict(list)
        self._parked: dict[int, dict[str, list[tuple[float, int]]]] = defaultdict(lambda: defaultdict(list))
        self._at: list[ModelGate | None] = [None] * len(world.lanes)  # the gate where a lane is parked
        self._events: list[tuple[float, int, Callable[..., None], tuple[int, ...]]] = []
        self._numbers = 0
        self._free = [crew.slots for crew in world.crews]
        self._first = sum(map(len, self._jobs)) + len(world.running)
        self._now = 0.0
        self._opening: set[int] = set()
        self.played = Played()

    @staticmethod
    def _gates_of(lane: LaneNow, models: Mapping[str, ModelGate]) -> list[tuple[ModelGate, int]]:
        pauses = [f"pause:queue/{lane.queue}", f"pause:family/{lane.family}", f"pause:handler/{lane.handler}"]
        named = [*((gate, 1) for gate in pauses), *lane.gates]
        found = [(models[gate], weight) for gate, weight in named if gate in models]
        # A token of a rate is taken only when everything else is open.
        return sorted(found, key=lambda pair: pair[0].order)

    def play(
        self, until_ms: float, target: tuple[int, int] | None = None, most_events: int | None = None
    ) -> Played:
        """Play until the jobs of the start are done, the target (lane, place) started, or `until_ms`.

        More than `most_events` (None: any number) are not played either.
        """
        for position, jobs in enumerate(self._jobs):
            heapify(jobs)
            if jobs:
                self._make_ready(position)
        for job in self._world.running:
            self._free[job.crew] -= 1
            for gate, weight in self._gates[job.lane]:
                gate.take(weight, 0.0)
            self._at_time(self._rest_ms(job), self._finish, job.lane, job.crew, 1)
        for due_ms, lane, slack_ms in self._world.due:
            self._at_time(due_ms, self._arrive, lane, int(slack_ms))
        for number, arrivals in enumerate(self._world.arrivals):
            self._at_time(self._chance.expovariate(arrivals.per_second / 1000), self._next_arrival, number)
        self._target = target
        self._dispatch()
        last = None if most_events is None else self._numbers + most_events
        while self._first and self._events and self._events[0][0] <= until_ms and not self._has_target():
            if last is not None and self._numbers > last:
                break
            self._now, _, act, arguments = heappop(self._events)
            act(*arguments)
            self._dispatch()
        self.played.ended_ms = self._now
        self.played.is_stuck = bool(self._first) and not self._events
        if not self._first:
            self.played.drained_ms = self._now
        for position, jobs in enumerate(self._jobs):
            left = sum(1 for _, _, number in jobs if number >= 0)
            if left:
                self.played.left[self._world.lanes[position].family] += left
        return self.played

    def _has_target(self) -> bool:
        return self.played.target_ms is not None

    def _at_time(self, ms: float, act: Callable[..., None], *arguments: int) -> None:
        self._numbers += 1
        heappush(self._events, (ms, self._numbers, act, arguments))

    def _rest_ms(self, job: Running) -> float:
        """What is left of a run that has begun, drawn among the runs that took longer than it has."""
        longer = [run.ms for run in self._runs[job.lane] if run.ms > job.elapsed_ms]
        return self._chance.choice(longer) - job.elapsed_ms if longer else 0.0

    # -- events -------------------------------------------------------------------------------

    def _finish(self, lane: int, crew: int, is_first: int) -> None:
        self._free[crew] += 1
        self._first -= is_first
        for gate, weight in self._gates[lane]:
            gate.free(weight)
        for gate, _ in self._gates[lane]:
            self._pass_on(gate)

    def _run_again(self, lane: int, crew: int, is_first: int, again_ms: int) -> None:
        self._first += is_first  # it is not over yet
        self._finish(lane, crew, is_first)
        self._at_time(self._now + again_ms, self._arrive, lane, _SLACK_MS, is_first)

    def _next_arrival(self, number: int) -> None:
        arrivals = self._world.arrivals[number]
        self._arrive(self._chance.choice(arrivals.lanes), int(arrivals.slack_ms))
        gap_ms = self._chance.expovariate(arrivals.per_second / 1000)
        self._at_time(self._now + gap_ms, self._next_arrival, number)

    def _arrive(self, lane: int, slack_ms: int, is_first: int = 0) -> None:
        jobs = self._jobs[lane]
        self._numbers += 1
        number = _LATER + self._numbers if is_first else -self._numbers
        heappush(jobs, (self._now + slack_ms, self._now, number))
        if len(jobs) == 1:
            self._make_ready(lane)
        elif jobs[0][1] == self._now and self._at[lane] is None:
            self._make_ready(lane)  # a better first job: its old place is stale and passed over

    def _open(self, gate_id: int, lane: int) -> None:
        self._opening.discard(gate_id)
        for gate, _ in self._gates[lane]:
            if id(gate) == gate_id:
                self._unpark(gate, gate.most_after_opening(self._now))

    # -- lanes --------------------------------------------------------------------------------

    def _make_ready(self, lane: int) -> None:
        self._at[lane] = None
        self._score[lane] = self._rank_of(lane)
        heappush(self._ready[self._world.lanes[lane].queue], (self._score[lane], lane))

    def _rank_of(self, lane: int) -> float:
        rank, turns = self._jobs[lane][0][0], self._turns[lane]
        return rank if turns is None else turns[0].rank(rank, self._world.lanes[lane].slack_ms)

    def _unpark(self, gate: ModelGate, most: int | None) -> None:
        for lanes in self._parked[id(gate)].values():
            came = 0
            while lanes and (most is None or came < most):
                _, lane = heappop(lanes)
                if self._at[lane] is gate:
                    self._make_ready(lane)
                    came += 1
            if lanes and gate.opens_at(self._now) is not None:
                self._open_later(gate, lanes[0][1])

    def _pass_on(self, gate: ModelGate) -> None:
        if id(gate) in self._parked and not gate.is_shut(1, self._now):
            self._unpark(gate, 1)

    def _park(self, lane: int, rank: float, gate: ModelGate) -> None:
        self._at[lane] = gate
        heappush(self._parked[id(gate)][self._world.lanes[lane].queue], (rank, lane))
        self._open_later(gate, lane)
        for other, _ in self._gates[lane]:
            if other is not gate:
                self._pass_on(other)

    def _open_later(self, gate: ModelGate, lane: int) -> None:
        opens_at = gate.opens_at(self._now)
        if opens_at is not None and id(gate) not in self._opening:
            self._opening.add(id(gate))
            self._at_time(max(opens_at, self._now), self._open, id(gate), lane)

    # -- claim --------------------------------------------------------------------------------

    def _dispatch(self) -> None:
        while sum(self._claim(position, crew) for position, crew in enumerate(self._world.crews)):
            pass  # what one crew passed on may be for another

    def _claim(self, position: int, crew: Crew) -> bool:
        """Whether anything moved."""
        moved = False
        while self._free[position] > 0:
            best = self._best_lane(crew)
            if best is None:
                break
            moved = True
            rank, lane = best
            if self._rank_of(lane) > rank:
                self._make_ready(lane)  # another share's turn has come first
                continue
            shut = next((gate for gate, weight in self._gates[lane] if gate.is_shut(weight, self._now)), None)
            if shut is None:
                self._start(lane, position)
            else:
                self._park(lane, rank, shut)
        return moved

    def _best_lane(self, crew: Crew) -> tuple[float, int] | None:
        best: list[tuple[float, int]] | None = None
        for queue, lanes in self._ready.items():
            if not crew.serves(queue):
                continue
            while lanes and not self._is_current(*lanes[0]):
                heappop(lanes)
            if lanes and (best is None or lanes[0] < best[0]):
                best = lanes
        return heappop(best) if best else None

    def _is_current(self, rank: float, lane: int) -> bool:
        return bool(self._jobs[lane]) and self._score[lane] == rank and self._at[lane] is None

    def _start(self, lane: int, crew: int) -> None:
        _, since_ms, number = heappop(self._jobs[lane])
        self.played.waits[self._world.lanes[lane].family].append(self._now - since_ms)
        if self._target == (lane, number):
            self.played.target_ms = self._now
        for gate, weight in self._gates[lane]:
            gate.take(weight, self._now)
        turns = self._turns[lane]
        if turns is not None:
            turns[0].serve(turns[1], self._now)
        if self._jobs[lane]:
            self._make_ready(lane)
        self._free[crew] -= 1
        runs = self._runs[lane]
        run = runs[int(self._chance.random() * len(runs))] if runs else Run(0)
        is_first = int(number >= 0)
        if run.again_ms is None:
            self._at_time(self._now + run.ms, self._finish, lane, crew, is_first)
        else:
            self._at_time(self._now + run.ms, self._run_again, lane, crew, is_first, run.again_ms)
