"""Play: one world from its first event to its last, on the real core, with the time passed in.

Admission, lanes, gates, retries, pauses, survey, policy and verbs are those of a fleet. What is played is
only what lies outside: who sends events, how long a run takes, and how it ends.
"""

from __future__ import annotations

import heapq
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from joelclaw_tasks.admission import limits_of, rates_of
from joelclaw_tasks.core.job import Job
from joelclaw_tasks.core.retrying import retry_delay_s
from joelclaw_tasks.core.store import Store
from joelclaw_tasks.emit import Emitter
from joelclaw_tasks.evaluation.downstream import Downstream, Run
from joelclaw_tasks.evaluation.family import AUTO, QUEUE, family
from joelclaw_tasks.evaluation.scenario import LENGTH_MS, SLOTS, Arrival, Scenario
from joelclaw_tasks.intelligence.hands import Hands, Verbs
from joelclaw_tasks.intelligence.observer import Observer, Pass
from joelclaw_tasks.intelligence.operator import Operator
from joelclaw_tasks.intelligence.scope import Scope
from joelclaw_tasks.intelligence.survey import WINDOW_MS
from joelclaw_tasks.new_event import NewEvent
from joelclaw_tasks.registry import Registry
from joelclaw_tasks.settings import Settings
from joelclaw_tasks.steering.queue import Queue
from joelclaw_tasks.testing.clock import Clock

#: When every world begins, on a morning in no quiet hours.
STARTS_AT = datetime(2026, 3, 2, 8, tzinfo=UTC)
START_MS = int(STARTS_AT.timestamp() * 1000)
#: Nothing is looked at more often: the time of a world moves in such steps.
STEP_MS = 10_000
PASS_MS = 60_000
_WORKER = "worker"
PERSON = "joel"


@dataclass(slots=True)
class Record:
    """What became of one job. Times in milliseconds of the world; `failed` counts its runs that failed."""

    family: str
    priority: int
    admitted_ms: int
    done_ms: int | None = None
    is_dead: bool = False
    failed: int = 0


@dataclass(frozen=True, slots=True)
class Steered:
    """One verb that somebody uses at a time of the world, however often the observer looks."""

    at_ms: int
    act: Callable[[Queue], object]


@dataclass(slots=True)
class Played:
    """A world after its end: its jobs, every act of steering, and what the passes said.

    `refused` counts refusals of proposals by reason; `asked` the passes that asked the operator, `fallbacks`
    those in which the rules stood in for it.
    """

    scenario: Scenario
    jobs: dict[str, Record] = field(default_factory=dict)
    acts: list[dict[str, Any]] = field(default_factory=list)
    jammed_ms: list[int] = field(default_factory=list)
    refused: Counter[str] = field(default_factory=Counter)
    applied: int = 0
    asked: int = 0
    fallbacks: int = 0

    def note(self, done: Pass) -> None:
        """Count what a pass did."""
        self.asked += done.snapshot is not None and done.shortcut is None
        self.fallbacks += done.fallback is not None
        for verdict in done.verdicts:
            if verdict.reason is not None:
                self.refused[verdict.reason.value] += 1
            self.applied += verdict.outcome == "applied"


class Stage:
    """Where worlds are played, one after the other: a Redis of its own, which each world begins empty."""

    def __init__(self, settings: Settings, registry: Registry) -> None:
        self.settings = settings
        self.registry = registry

    def play(
        self,
        scenario: Scenario,
        *,
        operator: Operator | None = None,
        observed: bool = True,
        steered: Sequence[Steered] = (),
    ) -> Played:
        """Play a world. The `operator` (None: the fixed rules) acts every minute, when it is `observed`.

        `steered` are verbs that are used beside it.
        """
        return _Play(self.settings, self.registry, scenario, operator, observed, steered).run()


class _Play:
    def __init__(
        self,
        settings: Settings,
        registry: Registry,
        scenario: Scenario,
        operator: Operator | None,
        observed: bool,
        steered: Sequence[Steered],
    ) -> None:
        self._clock = Clock(STARTS_AT)
        self._store = Store.connect(settings, now_ms=self._clock.now_ms)
        self._store.lease_ms = LENGTH_MS  # nobody renews
        self._queue = Queue(self._store, settings, actor=PERSON)
        self._emitter = Emitter(settings, registry, self._store, now_ms=self._clock.now_ms)
        scope = Scope(mode="enforce", auto=AUTO, interval_ms=PASS_MS)
        hands = Hands(Verbs.of(self._queue), lambda *_, **__: None)
        self._observer = (
            Observer(self._store, registry, scope, hands=hands, operator=operator) if observed else None
        )
        self._registry = registry
        self._downstream = Downstream(scenario)
        self._played = Played(scenario)
        self._arrivals = list(reversed(scenario.arrivals))
        self._steered = sorted([*steered, *_persons(scenario)], key=lambda each: -each.at_ms)
        self._jobs: dict[str, Job] = {}
        self._marks: deque[tuple[int, str]] = deque()  # (time of the world, newest id of the stream then)
        self._running: list[tuple[int, str, Run]] = []  # (ends, tag, what becomes of it), the next one first

    def run(self) -> Played:
        self._store.client.flushdb()
        self._store.limit(limits_of(self._registry), actor="registry", reason="")
        self._store.rate(rates_of(self._registry), actor="registry", reason="")
        due_ms = 0
        for now_ms in range(0, LENGTH_MS + STEP_MS, STEP_MS):
            self._clock.move_to(START_MS + now_ms)
            moved = self._steer(now_ms)
            moved |= self._admit(now_ms)
            moved |= self._end(now_ms)
            if self._observer is not None and now_ms % PASS_MS == 0:
                self._forget_what_is_old(now_ms)
                self._played.note(self._observer.make_pass())
                moved = True
            if moved or now_ms >= due_ms:
                due_ms = self._start(now_ms)
        self._played.acts = self._store.acts()
        self._played.jammed_ms = self._downstream.jammed_ms
        self._store.client.close()
        return self._played

    def _forget_what_is_old(self, now_ms: int) -> None:
        """Trim the stream to what a survey looks at.

        Its ids are Redis's own time, which hardly moves here: a survey would read all that ever was.
        """
        stream, client = self._store.keys.transitions, self._store.client
        self._marks.append((now_ms, str(client.xinfo_stream(stream)["last-generated-id"].decode())))
        while self._marks[0][0] < now_ms - WINDOW_MS - PASS_MS:
            self._marks.popleft()
        client.xtrim(stream, minid=self._marks[0][1], approximate=False)

    def _steer(self, now_ms: int) -> bool:
        moved = False
        while self._steered and self._steered[-1].at_ms <= now_ms:
            self._steered.pop().act(self._queue)
            moved = True
        return moved

    def _admit(self, now_ms: int) -> bool:
        came: list[Arrival] = []
        while self._arrivals and self._arrivals[-1].at_ms <= now_ms:
            came.append(self._arrivals.pop())
        if not came:
            return False
        planned = self._emitter.plan(
            [NewEvent(each.family, {"tenant": each.tenant}, id=each.id) for each in came]
        )
        self._emitter.admit(planned)
        for one in planned:
            for job in one.jobs:
                self._jobs[job.id] = job
                self._played.jobs[job.id] = Record(job.family, job.priority, now_ms)
        return True

    def _start(self, now_ms: int) -> int:
        """Start what may start; answers when to look again (ms of the world)."""
        claim = self._store.claim([QUEUE], SLOTS - len(self._running), _WORKER)
        while claim.next_due_ms == 0 and not claim.jobs and len(self._running) < SLOTS:
            claim = self._store.claim([QUEUE], SLOTS - len(self._running), _WORKER)  # timers: 100 at a time
        for one in claim.jobs:
            id = one.tag.split("#")[0]
            job = self._jobs[id]
            run = self._downstream.run(family(job.family), id, job.retries, now_ms)
            heapq.heappush(self._running, (now_ms + run.run_ms, one.tag, run))
        return LENGTH_MS if claim.next_due_ms is None else now_ms + claim.next_due_ms

    def _end(self, now_ms: int) -> bool:
        over: list[str] = []
        moved = False
        while self._running and self._running[0][0] <= now_ms:
            _, tag, run = heapq.heappop(self._running)
            id = tag.split("#")[0]
            record = self._played.jobs[id]
            record.failed += bool(run.error)
            moved = True
            if not run.error:
                record.done_ms = now_ms
                over.append(tag)
            elif self._retry(self._jobs[id], tag, run):
                over.append(tag)
            else:
                record.is_dead = True
                self._store.discard(tag, run.error)
        self._store.complete(over)
        return moved

    def _retry(self, job: Job, tag: str, run: Run) -> bool:
        """Hand over the successor of a run that failed, by the registry's policy; False: it was the last."""
        policy = self._registry.handler(job.handler).retries
        if job.retries >= policy.max:
            return False
        drawn_s = retry_delay_s(job.retries, policy, lambda low, high: low + run.jitter * (high - low))
        again = replace(
            job,
            retries=job.retries + 1,
            lease_tag=tag,
            due_ms=self._clock.now_ms() + int(1_000 * max(drawn_s, run.wait_s)),
        )
        self._store.retry(again, reason=run.error)
        self._jobs[job.id] = replace(again, lease_tag="")
        return True


def _persons(scenario: Scenario) -> list[Steered]:
    """What a person does in a world: pauses what is to be maintained, for as long."""
    held = scenario.faults.held
    if held is None:
        return []
    name, begins_ms, ends_ms = held

    def pause(queue: Queue) -> object:
        return queue.pause(
            f"pause:family/{name}", ttl=(ends_ms - begins_ms) / 1_000, reason="maintenance", actor=PERSON
        )

    return [Steered(begins_ms, pause)]
