"""The fleet's Celery app: one task for each registry handler, and the few that beat drives."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Mapping
from functools import cache
from typing import Any

from celery import Celery, Task
from celery.bootsteps import StartStopStep
from celery.signals import worker_init

from joelclaw_tasks.admission import limits_of, limits_of_handlers, rates_of, rates_of_handlers
from joelclaw_tasks.broker.declared import declared_specs
from joelclaw_tasks.broker.install import HAS_REGISTRY, install
from joelclaw_tasks.broker.preflight import CHECK
from joelclaw_tasks.broker.router import PriorityRouter
from joelclaw_tasks.core.store import Store
from joelclaw_tasks.emit import Emitter
from joelclaw_tasks.errors import RegistryError, SettingsError
from joelclaw_tasks.fleet.beat import EMIT_TASK, schedule_entries
from joelclaw_tasks.fleet.diagnosing import add_diagnosis_task
from joelclaw_tasks.fleet.digesting import add_digest_tasks
from joelclaw_tasks.fleet.flower_guard import guard_flower
from joelclaw_tasks.fleet.observing import add_observer_task
from joelclaw_tasks.fleet.pulse_tasks import add_pulse_tasks, pulse_entries
from joelclaw_tasks.fleet.pulse_watch import pulse_watch_step
from joelclaw_tasks.fleet.restating import add_restate_task
from joelclaw_tasks.fleet.steering_tasks import add_steering_tasks
from joelclaw_tasks.fleet.task import add_handler_task
from joelclaw_tasks.fleet.watchdog import watchdog_step
from joelclaw_tasks.handlers.validation import Validation
from joelclaw_tasks.handlers.world import World
from joelclaw_tasks.intelligence.client import ModelClient
from joelclaw_tasks.intelligence.triage import Triage
from joelclaw_tasks.notify.notifier import Notifier, Pace
from joelclaw_tasks.notify.sinks import sinks_of
from joelclaw_tasks.receipt import Receipt
from joelclaw_tasks.registry import Registry
from joelclaw_tasks.restate.client import RestateClient
from joelclaw_tasks.routines.pulse import Pulse
from joelclaw_tasks.settings import Settings
from joelclaw_tasks.steering.queue import Queue
from joelclaw_tasks.telemetry.setup import start_tracing
from joelclaw_tasks.triage_ring import TASK as TRIAGE_TASK
from joelclaw_tasks.triage_ring import wait_s as triage_wait_s


def make_app(settings: Settings | None = None, registry: Registry | None = None) -> Celery:
    """A Celery app on the admission layer with every handler of the registry.

    Raises SettingsError and RegistryError, both with every fault named.
    """
    settings = settings or Settings.load()
    registry = registry or Registry.load(settings.registry_dir)
    app = install(Celery("joelclaw_tasks", config_source="celeryconfig"))
    fixed = {**app.conf.beat_schedule, **pulse_entries(registry, settings, os.environ)}
    app.conf.beat_schedule = {**fixed, **schedule_entries(registry, fixed)}
    app.conf.task_routes = (PriorityRouter(settings, registry),)
    setattr(app, HAS_REGISTRY, True)
    setattr(app, CHECK, registry.check_targets)
    app.joelclaw_registry = registry.version
    fleet = _Fleet(settings, registry)
    for handler in registry.handlers.values():
        if handler.restate is None:
            add_handler_task(app, handler, fleet.world)
        else:
            add_restate_task(app, handler, handler.restate, fleet.restate)

    add_steering_tasks(app, lambda: Queue(fleet.store, settings))
    add_observer_task(
        app, lambda: Queue(fleet.store, settings), settings, registry, fleet.models, fleet.notifier
    )
    add_diagnosis_task(app, lambda: fleet.store, settings, registry, fleet.models, fleet.notifier)

    add_digest_tasks(app, lambda: fleet.store, settings, registry, fleet.models, fleet.emit)
    add_pulse_tasks(app, registry, fleet.pulse)

    @app.task(name=EMIT_TASK, bind=True, shared=False)
    def emit_task(task: Task, name: str, data: Mapping[str, Any]) -> dict[str, Any]:
        """Emit an event; its id is derived from this task's id, so that beat fires it once."""
        return fleet.emit(name, data, id=f"task:{task.request.id}", source="beat").to_wire()

    @app.task(name="joelclaw.notify", shared=False)
    def notify_due() -> dict[str, Any]:
        """Send what was held back and may go now, and what the sinks have not taken yet."""
        return fleet.notifier().run_due()

    @app.task(name=TRIAGE_TASK, shared=False, ignore_result=True)
    def triage(_window: int = 0) -> dict[str, int]:
        """Score what wants a score; admission rings for it (see triage_ring.py)."""
        time.sleep(triage_wait_s(settings.triage_hold_ms))
        return fleet.triage().run(fleet.store)

    @worker_init.connect(weak=False)
    def before_the_pool(sender: Any = None, **_: Any) -> None:
        if sender is not None and sender.app is app:
            start_tracing()
            _import_handlers(registry)
            _check_sinks(settings)
            if settings.triage_mode != "off":
                # The SDK takes longer to import than the first held job may wait.
                fleet.models().warm_up()

    app.steps["consumer"].add(_before_consuming(registry, fleet))
    app.steps["consumer"].add(watchdog_step(settings))
    app.steps["consumer"].add(pulse_watch_step(settings, registry))
    return app


class _Fleet:
    """What tasks share within one process: made late, so that nothing is inherited over a fork."""

    def __init__(self, settings: Settings, registry: Registry) -> None:
        self._settings = settings
        self._registry = registry
        self._made: dict[int, tuple[Emitter, World, Notifier]] = {}
        self._models: dict[int, tuple[ModelClient, Triage]] = {}
        self._restate: dict[int, RestateClient] = {}
        self._guard = threading.Lock()

    def _of_this_process(self) -> tuple[Emitter, World, Notifier]:
        pid = os.getpid()
        with self._guard:
            if pid not in self._made:
                emitter = Emitter(self._settings, self._registry, Store.connect(self._settings))
                # On a connection of its own: whoever tells something waits for Redis a shorter time.
                notifier = Notifier.of(self._settings)
                settings = self._settings
                world = World(
                    data_dir=settings.files_dir,
                    emit=emitter.emit,
                    notify=notifier,
                    validation=Validation(settings.watched, settings.rules_dir, settings.rules_limit_ms),
                )
                self._made = {pid: (emitter, world, notifier)}
            return self._made[pid]

    def restate(self) -> RestateClient:
        """The client of this process. Raises SettingsError when the settings name no Restate."""
        with self._guard:
            pid = os.getpid()
            if pid not in self._restate:
                self._restate = {pid: RestateClient.of(self._settings)}
            return self._restate[pid]

    def models(self) -> ModelClient:
        """The client of this process: its breakers remember what failed just now."""
        return self._intelligence()[0]

    def triage(self) -> Triage:
        """That of this process: it remembers what it was asked just now."""
        return self._intelligence()[1]

    def _intelligence(self) -> tuple[ModelClient, Triage]:
        emitter = self._of_this_process()[0]
        with self._guard:
            pid = os.getpid()
            if pid not in self._models:
                own = self._settings
                client = ModelClient.connect(own, self._registry, emitter.store)
                self._models = {pid: (client, Triage(client, own.slack_ms, own.triage_hold_ms))}
            return self._models[pid]

    @property
    def store(self) -> Store:
        return self._of_this_process()[0].store

    def notifier(self) -> Notifier:
        return self._of_this_process()[2]

    def pulse(self) -> Pulse:
        emitter, _, notifier = self._of_this_process()
        return Pulse(self._settings, self._registry, emitter.store, notifier)

    def world(self) -> World:
        return self._of_this_process()[1]

    def emit(self, name: str, data: Mapping[str, Any], **options: Any) -> Receipt:
        return self._of_this_process()[0].emit(name, data, **options)


def _import_handlers(registry: Registry) -> None:
    """Once, before the pool forks: the first job of each process need not wait for it."""
    faults = registry.check_targets()
    if faults:
        # Celery swallows exceptions of signal receivers, but not SystemExit.
        raise SystemExit(f"joelclaw_tasks: {RegistryError(faults)}")


def _check_sinks(settings: Settings) -> None:
    """A sink that lacks its token is found out now, not when somebody must be told."""
    try:
        sinks_of(settings)
        Pace.of(settings)
    except SettingsError as error:
        raise SystemExit(f"joelclaw_tasks: {error}\n{error.fix}") from None


def _before_consuming(registry: Registry, fleet: _Fleet) -> type[StartStopStep]:
    class Prepare(StartStopStep):
        """With each new connection: the server must know the registry's limits."""

        requires = ("celery.worker.consumer.connection:Connection",)

        def start(self, consumer: Any) -> None:
            reason = f"registry {registry.version[:12]}"
            tasks = declared_specs(consumer.app).values()  # plain tasks may declare some as well
            limits = limits_of(registry) | limits_of_handlers(tasks)
            fleet.store.limit(limits, actor="registry", reason=reason)
            rates = rates_of(registry) | rates_of_handlers(tasks)
            fleet.store.rate(rates, actor="registry", reason=reason)

    return Prepare


@cache
def _app() -> Celery:
    try:
        guard_flower(sys.argv, os.environ)
    except SettingsError as error:
        raise SystemExit(f"joelclaw_tasks: {error}\n{error.fix}") from None
    return make_app()


def __getattr__(name: str) -> Any:
    if name == "app":
        return _app()
    raise AttributeError(name)
