"""The observer of a fleet: as the task `joelclaw.observe` that beat sends, and for the command line."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from joelclaw_tasks.core.diagnoses import Diagnoses
from joelclaw_tasks.core.health import Health
from joelclaw_tasks.core.passes import Passes
from joelclaw_tasks.core.store import Store
from joelclaw_tasks.errors import CannotUndo, UnknownPass
from joelclaw_tasks.fleet.restate_load import restate_now
from joelclaw_tasks.intelligence.client import ModelClient
from joelclaw_tasks.intelligence.hands import ACTOR, Hands, Verbs
from joelclaw_tasks.intelligence.model_operator import ModelOperator
from joelclaw_tasks.intelligence.observer import Observer
from joelclaw_tasks.intelligence.operator import Operator
from joelclaw_tasks.intelligence.scope import Scope
from joelclaw_tasks.intelligence.snapshot import HealthNow
from joelclaw_tasks.notify.notifier import Notifier, telling
from joelclaw_tasks.registry import Registry
from joelclaw_tasks.routines.health import check_redis
from joelclaw_tasks.settings import Settings

if TYPE_CHECKING:
    from celery import Celery

    from joelclaw_tasks.steering.queue import Queue
    from joelclaw_tasks.steering.results import Undone

#: Passes that are looked through for an id.
_MOST_PASSES = 500


def observer_of(
    queue: Queue,
    settings: Settings,
    registry: Registry | None,
    models: Callable[[], ModelClient] | None = None,
    notifier: Callable[[], Notifier] | None = None,
) -> Observer:
    """An observer that acts by the verbs of a queue.

    `models` and `notifier` answer those of a process that lives on; by default they are made as the settings
    say. Raises SettingsError.
    """
    tell = telling(notifier or (lambda: Notifier.of(settings, queue.store)))
    return Observer(
        queue.store,
        registry,
        Scope.of(settings, registry),
        hands=Hands(Verbs.of(queue), tell, partial(_suspect, queue.store, settings)),
        operator=_operator(queue, settings, registry, models),
        health=lambda: health_of(queue.store, registry),
        restate=lambda: restate_now(settings),
    )


def _operator(
    queue: Queue, settings: Settings, registry: Registry | None, models: Callable[[], ModelClient] | None
) -> Operator | None:
    if settings.observer_operator != "sonnet" or registry is None:
        return None
    return ModelOperator(models() if models else ModelClient.connect(settings, registry, queue.store))


def _suspect(store: Store, settings: Settings, family: str) -> None:
    """What is escalated is diagnosed by the next `joelclaw.diagnose`, where that is on."""
    if settings.diagnosis_mode == "on":
        Diagnoses(store).suspect(family)


def health_of(store: Store, registry: Registry | None) -> Sequence[HealthNow]:
    """How Redis is now, and what the health pulse says of the rest, as far as it still looks."""
    redis = check_redis(store.client)
    found = [HealthNow(name=redis.name, status=redis.status, detail=redis.detail)]
    if registry is None or redis.status == "down":
        return found
    health = Health(store)
    now_ms = health.now_ms()
    checks = health.checks([name for name in registry.checks if name != "redis"]).values()
    found += [
        HealthNow(name=each.check, status=each.state, detail=each.detail)
        for each in checks
        if not each.is_late(now_ms)
    ]
    return found


def add_observer_task(
    app: Celery,
    queue: Callable[[], Queue],
    settings: Settings,
    registry: Registry,
    models: Callable[[], ModelClient] | None = None,
    notifier: Callable[[], Notifier] | None = None,
) -> None:
    """Register it; `queue`, `models` and `notifier` answer those of this process."""

    @app.task(name="joelclaw.observe", shared=False, priority=0)
    def observe() -> dict[str, Any]:
        """One pass of the observer; answers its record."""
        return observer_of(queue(), settings, registry, models, notifier).make_pass().to_wire()


def undo_of_observer(queue: Queue, id: str, *, actor: str, reason: str) -> tuple[list[Undone], list[str]]:
    """Take back one act of the observer (`c17`), or all of a pass (`p12`), the newest first.

    Answers what went back, and the acts that are over already. Raises UnknownPass, and CannotUndo when
    nothing is left of any.
    """
    if id.startswith("c"):
        acts = [act.id for act in queue.acts() if act.id == id and act.actor == ACTOR]
    else:
        passes = Passes(queue.store).recent(_MOST_PASSES)
        acts = [
            str(verdict["control"])
            for record in passes
            if f"p{record['number']}" == id
            for verdict in reversed(record["verdicts"])
            if verdict["control"] is not None
        ]
    if not acts:
        raise UnknownPass(f"no pass or act of the observer has the id {id!r:.80}, or it has done nothing")
    undone, over = [], []
    for act in acts:
        try:
            undone.append(queue.undo(act, actor=actor, reason=reason))
        except CannotUndo:
            if len(acts) == 1:
                raise
            over.append(act)
    if not undone:
        raise CannotUndo(f"nothing of {id} is left to undo")
    return undone, over
