"""The health pulse in the fleet: a task for each check, named `health.<check>`, and beat's entries for them.

The task only waits; the look is in a process of its own, so what crashes, hangs or segfaults there ends that
process and nothing else. The look is then tried again, by itself, as Celery tries any job again.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any

from celery import Celery, Task

from joelclaw_tasks.errors import CoreUnreachable
from joelclaw_tasks.registry import Registry
from joelclaw_tasks.registry_health import CheckSpec
from joelclaw_tasks.routines.pulse import Off, Pulse, is_scheduled
from joelclaw_tasks.settings import Settings

log = logging.getLogger(__name__)

#: A check that died is started again so often for one look, and so long after it died.
MOST_RESTARTS, RESTART_AFTER_S = 2, 1.0
#: They wait for others, as what runs in this queue does.
_QUEUE = "io"


def add_pulse_tasks(app: Celery, registry: Registry, pulse: Callable[[], Pulse]) -> None:
    """Register a task for each check; `pulse` answers the one of this process."""
    for check in registry.checks.values():
        waits_for_others = check.kind != "anthropic"  # workers of the default queue alone have its key
        _add(app, check, pulse, _QUEUE if waits_for_others and _QUEUE in registry.queues else None)


def pulse_entries(
    registry: Registry, settings: Settings, env: Mapping[str, str]
) -> dict[str, dict[str, Any]]:
    """What beat fires: an entry for each check that is not off."""
    return {
        f"health-pulse-{check.name}": {
            "task": f"health.{check.name}",
            "schedule": check.every_ms / 1_000,
            # A look that comes after the next one says nothing.
            "options": {"expires": check.every_ms / 1_000 - 5},
        }
        for check in registry.checks.values()
        if is_scheduled(check, settings, env)
    }


def _add(app: Celery, check: CheckSpec, pulse: Callable[[], Pulse], queue: str | None) -> None:
    def run(task: Task) -> dict[str, Any]:
        id, restarts = str(task.request.id), int(task.request.retries)
        try:
            finding = pulse().look(check, id)
            if finding.is_broken:
                log.warning("the check %s %s", check.name, finding.detail)
                if restarts < _most_restarts(check):
                    raise task.retry(countdown=RESTART_AFTER_S, max_retries=None)
            return pulse().keep(check, id, finding, restarts)
        except Off as why:
            return {"check": check.name, "status": "off", "detail": str(why)}
        except CoreUnreachable as error:
            # Nobody can be told, and the next look is due soon: one more dead job would be of no use.
            log.warning("a look of the check %s is lost: %s", check.name, error)
            return {"check": check.name, "status": "lost", "detail": str(error)}

    run.__doc__ = f"One look of the check {check.name}; answers what it found."
    options = {} if queue is None else {"queue": queue}
    app.task(run, name=f"health.{check.name}", bind=True, shared=False, priority=0, **options)


def _most_restarts(check: CheckSpec) -> int:
    """As many as end before the next look is due."""
    return max(0, min(MOST_RESTARTS, int(check.every_ms / 1_000 / (check.limit_s + RESTART_AFTER_S)) - 1))
