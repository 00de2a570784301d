"""A simulated world on a real Redis: the clock is the test's, workers are the test itself."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from joelclaw_tasks.core.job import Job
from joelclaw_tasks.core.passes import Passes
from joelclaw_tasks.core.store import Store
from joelclaw_tasks.intelligence.actions import Pause, Throttle
from joelclaw_tasks.intelligence.hands import Hands, Verbs
from joelclaw_tasks.intelligence.observer import Observer, Pass
from joelclaw_tasks.intelligence.operator import Operator
from joelclaw_tasks.intelligence.scope import Scope
from joelclaw_tasks.intelligence.snapshot import Snapshot
from joelclaw_tasks.intelligence.survey import Survey
from joelclaw_tasks.notify.notifier import Notifier
from joelclaw_tasks.registry import Registry
from joelclaw_tasks.settings import Settings
from joelclaw_tasks.steering.queue import Queue
from joelclaw_tasks.testing.clock import Clock
from tests.core.structure import Structure

SLACK_MS = (0, 60_000, 300_000, 900_000)
FAMILIES = {"mail": 1, "note": 2, "feed": 2, "digest": 3, "pay": 0}


class World:
    """A queue, an observer, and whoever works. Family `pay` is protected; handlers are `<family>.do`."""

    def __init__(self, settings: Settings, clock: Clock) -> None:
        self.settings = settings
        self.clock = clock
        self.store = Store.connect(settings, now_ms=clock.now_ms)
        self.queue = Queue(self.store, settings, actor="joel")
        self.registry = Registry.load(settings.registry_dir)
        self.told: list[tuple[str, str, str]] = []
        self.notifier = Notifier.of(settings, self.store)
        self._numbers = count(1)

    def observer(self, operator: Operator | None = None, **options: Any) -> Observer:
        """One in enforce that may act on every family, unless told otherwise."""
        scope = Scope(**{"mode": "enforce", "observed": None, "auto": None, **options})
        return Observer(
            self.store, self.registry, scope, hands=Hands(Verbs.of(self.queue), self._tell), operator=operator
        )

    def _tell(self, text: str, *, cause: str, severity: str, **more: Any) -> None:
        self.told.append((text, cause, severity))
        self.notifier(text, cause=cause, severity=severity, **more)

    def snapshot(self) -> Snapshot:
        return Survey(self.store, self.registry).take(Passes(self.store).look())

    def admit(self, family: str, jobs: int = 1, **fields: Any) -> list[str]:
        level = fields.get("priority", FAMILIES.get(family, 2))
        made = [
            Job(
                id=f"{family}-{next(self._numbers)}",
                **{
                    "queue": "q", "family": family, "handler": f"{family}.do", "lane": f"q|{family}.do|",
                    "priority": level, "slack_ms": SLACK_MS[level], "payload": "{}",
                    "gates": (f"limit:handler/{family}.do",), **fields,
                },
            )
            for _ in range(jobs)
        ]  # fmt: skip
        self.store.admit(made)
        return [job.id for job in made]

    def work(self, most: int = 100, *, error: str = "", run_ms: int = 100, retry: bool = False) -> list[str]:
        """Start what may start and end it: well, or with an error (for good, or to be retried at once)."""
        claimed = self.store.claim(["q"], most, "w").jobs
        self.clock.move_to(self.clock.now_ms() + run_ms)
        done = []
        for one in claimed:
            done.append(one.tag.split("#")[0])
            if error and retry:
                family = done[-1].partition("-")[0]
                level = FAMILIES[family]
                again = Job(
                    id=done[-1], queue="q", family=family, handler=f"{family}.do", lane=f"q|{family}.do|",
                    priority=level, slack_ms=SLACK_MS[level], payload="{}", lease_tag=one.tag, retries=1,
                )  # fmt: skip
                self.store.retry(again, reason=error)
                self.store.complete([one.tag])
            elif error:
                self.store.discard(one.tag, error)
            else:
                self.store.complete([one.tag])
        return done

    def wait(self, seconds: float) -> None:
        self.clock.move_to(self.clock.now_ms() + int(seconds * 1000))

    def pass_after(self, observer: Observer, seconds: float = 60) -> Pass:
        self.wait(seconds)
        return observer.make_pass()

    def pauses(self) -> dict[str, str]:
        """Family -> who paused it."""
        return {
            act["target"].removeprefix("pause:family/"): act["actor"]
            for act in self.store.controls()
            if act["verb"] == "pause"
        }


def applied(done: Pass) -> list[tuple[str, str | None]]:
    return [
        (verdict.action.kind, getattr(verdict.action, "family", None))
        for verdict in done.verdicts
        if verdict.outcome == "applied"
    ]


def refused(done: Pass) -> list[str]:
    return [str(verdict.reason) for verdict in done.verdicts if verdict.outcome == "refused"]


class Asks:
    """An operator that proposes what the test says."""

    name = "asks"

    def __init__(self, *actions: Any) -> None:
        self.actions = actions
        self.asked = 0

    def propose(self, snapshot: Snapshot) -> list[Any]:
        self.asked += 1
        return list(self.actions)


class Meanwhile:
    """Something happens between the snapshot and the actions."""

    name = "meanwhile"

    def __init__(self, happens: Any, *actions: Any) -> None:
        self._happens = happens
        self._actions = actions

    def propose(self, snapshot: Any) -> list[Any]:
        self._happens()
        return list(self._actions)


MINUTE, HOUR = 60_000, 3_600_000


def pause(family: str, ttl_ms: int = 10 * MINUTE) -> Pause:
    return Pause(family=family, reason="looks bad", ttl_ms=ttl_ms)


def throttle(gate: str, most: int = 1) -> Throttle:
    return Throttle(family="note", gate=gate, most=most, reason="slow", ttl_ms=MINUTE)


def asked(world: World, *actions: Any, seconds: float = 60, **options: Any) -> Any:
    return world.pass_after(world.observer(Asks(*actions), **options), seconds)


def busy(world: World) -> None:
    for family in FAMILIES:
        world.admit(family, 3)


@pytest.fixture
def settings(redis_url: str, tmp_path: Path) -> Settings:
    events = tmp_path / "registry" / "events"
    events.mkdir(parents=True)
    for family, level in FAMILIES.items():
        event = {
            "name": family, "description": f"A {family}.", "priority": f"P{level}",
            "protected": family == "pay",
            "handlers": [
                {
                    "name": f"{family}.do", "type": "task", "queue": "q", "concurrency": [{"limit": 4}],
                    "target": "joelclaw_tasks.handlers.content:validate",
                }
            ],
        }  # fmt: skip
        (events / f"{family}.json").write_text(json.dumps(event))
    (tmp_path / "registry" / "resources.json").write_text("{}")
    return Settings(redis_url=redis_url, registry_dir=tmp_path / "registry", home=tmp_path)


@pytest.fixture
def world(settings: Settings, client: Any) -> Iterator[World]:
    """When the test ends, everything in Redis must fit together."""
    world = World(settings, Clock())
    yield world
    faults = Structure(client, world.store.keys).faults()
    world.store.client.close()
    assert [] == faults
