"""Hands: carries an action out, by the very verbs that people have; each of its acts can be undone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any

from joelclaw_tasks.core.rate import Rate
from joelclaw_tasks.intelligence.actions import (
    Action,
    Batch,
    Escalate,
    Noop,
    Pause,
    Reprioritize,
    Resume,
    Shed,
    Throttle,
)

ACTOR = "observer"
#: Jobs that one action sheds or moves at most: the next pass goes on.
MOST_JOBS = 10_000


Verb = Callable[..., Any]


@dataclass(frozen=True, slots=True)
class Verbs:
    """The verbs of `steering.Queue`, which this layer does not know."""

    pause: Verb
    resume: Verb
    probe: Verb
    limit: Verb
    rate: Verb
    priority: Verb
    shed: Verb

    @classmethod
    def of(cls, queue: Any) -> Verbs:
        """Those of a queue."""
        return cls(*(getattr(queue, each.name) for each in fields(cls)))


#: Tells a person: text, cause, severity.
Tell = Callable[..., object]
#: Hears of the family that was escalated, so that it may be diagnosed.
Escalated = Callable[[str], object]


class Hands:
    """Acts as the observer. Raises what the verbs raise: HeldByPerson, NotPaused, UnknownTarget and more."""

    def __init__(self, verbs: Verbs, tell: Tell, escalated: Escalated | None = None) -> None:
        self._verbs = verbs
        self._tell = tell
        self._escalated = escalated

    def carry_out(self, action: Action) -> tuple[str | None, str]:
        """Do it; answers the id of the act (None: nothing changed) and a word on what was done."""
        if isinstance(action, Noop):
            return None, ""
        if isinstance(action, Escalate):
            severity = {"warn": "warning"}.get(action.severity, action.severity)
            self._tell(action.message, cause=f"observer.{action.family or 'queue'}", severity=severity)
            if self._escalated is not None and action.family is not None:
                self._escalated(action.family)
            return None, "told"
        said: dict[str, Any] = {"actor": ACTOR, "reason": action.reason}
        gate = f"pause:family/{action.family}"
        if isinstance(action, Pause):
            return self._verbs.pause(gate, ttl=action.ttl_ms / 1_000, **said).id, ""
        if isinstance(action, Batch):
            said["reason"] = f"batch:{action.size or ''}: {action.reason}"
            return self._verbs.pause(gate, ttl=action.ttl_ms / 1_000, **said).id, ""
        if isinstance(action, Resume):
            done = (self._verbs.probe if action.probe else self._verbs.resume)(gate, **said)
            return (None, "nothing waits there that could start") if done is None else (done.id, "")
        if isinstance(action, Throttle):
            return self._throttle(action, said)
        return self._on_jobs(action, said)

    def _throttle(self, action: Throttle, said: dict[str, Any]) -> tuple[str | None, str]:
        ttl = action.ttl_ms / 1_000
        if action.period_ms is None:
            done = self._verbs.limit(action.gate, action.most, ttl=ttl, **said)
        else:
            done = self._verbs.rate(action.gate, Rate(action.most, action.period_ms, 1), ttl=ttl, **said)
        return (None, "it was so already") if done is None else (done.id, "")

    def _on_jobs(self, action: Reprioritize | Shed, said: dict[str, Any]) -> tuple[str | None, str]:
        changed = 0

        def count(acted: Any) -> None:
            nonlocal changed
            changed = acted.changed

        options = {
            **said, "ttl": action.ttl_ms / 1_000, "on_progress": count, "stop": lambda: changed >= MOST_JOBS,
        }  # fmt: skip
        name = f"family/{action.family}"
        if isinstance(action, Shed):
            acted = self._verbs.shed(name, **options)
        else:
            acted = self._verbs.priority(name, f"P{action.priority}", **options)
        return acted.control, f"{acted.changed} jobs"
