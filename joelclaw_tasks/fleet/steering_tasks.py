"""The steering verbs as Celery tasks, for beat and for services that speak Celery: `joelclaw.queue.pause`, ….

They take what the methods of `Queue` take, and answer JSON. Whoever sends one names the actor.
They are sent with the most urgent priority; one that waits in a queue that is paused itself does not run.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from celery import Celery

from joelclaw_tasks.core.rate import Rate

if TYPE_CHECKING:
    from joelclaw_tasks.steering.queue import Queue

_PREFIX = "joelclaw.queue."
#: The methods of `Queue` that are tasks as they stand.
_VERBS = (
    "pause", "resume", "limit", "priority", "cancel", "retry", "shed", "unshed", "undo", "revive", "purge",
)  # fmt: skip


def add_steering_tasks(app: Celery, queue: Callable[[], Queue]) -> None:
    """Register them; `queue` answers the one of this process."""
    for verb in _VERBS:
        _add(app, verb, lambda *args, verb=verb, **options: _carry_out(queue(), verb, *args, **options))

    def drain(name: str, **options: Any) -> Any:
        return queue().drain(name, **{"wait": False, **options})

    def rate(gate: str, most: int | None, period_s: float = 1, *, burst: int = 1, **options: Any) -> Any:
        return queue().rate(
            gate, None if most is None else Rate(most, round(period_s * 1_000), burst), **options
        )

    def dead(limit: int = 100, *, actor: str) -> Any:  # noqa: ARG001  # nothing is kept of who looked
        return queue().dead(limit)

    _add(app, "dead", dead)
    _add(app, "drain", drain)
    _add(app, "rate", rate)


def _carry_out(queue: Queue, verb: str, *args: Any, **options: Any) -> Any:
    if verb in {"pause", "resume"} and "where" in options:
        verb += "_where"
        args = (options.pop("where"), *args)
    return getattr(queue, verb)(*args, **options)


def _add(app: Celery, verb: str, act: Callable[..., Any]) -> None:
    def run(*args: Any, actor: str, **options: Any) -> Any:
        return _as_json(act(*args, actor=actor, **options))

    run.__doc__ = f"`Queue.{verb}`; `actor` says who does it."
    app.task(run, name=_PREFIX + verb, shared=False, priority=0, acks_late=True)


def _as_json(done: Any) -> Any:
    if isinstance(done, Sequence) and not isinstance(done, str):
        return [_as_json(each) for each in done]
    return done.to_wire() if hasattr(done, "to_wire") else done
