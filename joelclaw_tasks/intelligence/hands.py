"""Hands: carries an action out, by the very verbs that people have; each of its acts can be undone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from datetime import UTC, datetime
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
from joelclaw_tasks.notify.notification import approve_pause_button, mute_button, resume_button

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


#: Tells a person: text, cause, severity and more; see Notifier. It never raises.
Tell = Callable[..., object]
#: Hears of the family that was escalated, so that it may be diagnosed.
Escalated = Callable[[str], object]
#: How the reason of a pause begins that is planned: nobody needs to know.
_PLANNED = ("night:", "batch:")


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
            self._escalate(action)
            if self._escalated is not None and action.family is not None:
                self._escalated(action.family)
            return None, "told"
        said: dict[str, Any] = {"actor": ACTOR, "reason": action.reason}
        gate = f"pause:family/{action.family}"
        if isinstance(action, Pause):
            done = self._verbs.pause(gate, ttl=action.ttl_ms / 1_000, **said)
            self._tell_of_pause(action, gate, done.until_at)
            return done.id, ""
        if isinstance(action, Batch):
            said["reason"] = f"batch:{action.size or ''}: {action.reason}"
            return self._verbs.pause(gate, ttl=action.ttl_ms / 1_000, **said).id, ""
        if isinstance(action, Resume):
            done = (self._verbs.probe if action.probe else self._verbs.resume)(gate, **said)
            if not action.probe:
                text = f"{action.family} goes again: {_because(action.reason)}."
                self._tell(text, cause=f"observer.{action.family}", severity="info", change="resolved")
            return (None, "nothing waits there that could start") if done is None else (done.id, "")
        if isinstance(action, Throttle):
            return self._throttle(action, said)
        return self._on_jobs(action, said)

    def _escalate(self, action: Escalate) -> None:
        cause = f"observer.{action.family or 'queue'}"
        severity = {"warn": "warning"}.get(action.severity, action.severity)
        text, buttons = action.message, [mute_button(cause)]
        if action.family is not None and severity != "info":
            text = f"{text.rstrip(' .')}. Proposed: pause {action.family} for an hour, and look at it."
            buttons.insert(0, approve_pause_button(f"pause:family/{action.family}", "1h"))
        self._tell(text, cause=cause, severity=severity, buttons=buttons)

    def _tell_of_pause(self, action: Pause, gate: str, until_at: int | None) -> None:
        if action.reason.startswith(_PLANNED):
            return
        cause = f"observer.{action.family}"
        is_over = "when it goes again by itself"
        if not action.reason.startswith("rate limit:"):
            is_over = (
                "or sooner, when one job that is tried does well; if it fails, it is held back for longer"
            )
        self._tell(
            f"{action.family} is held back: {_because(action.reason)}. Nothing of it is lost, and what runs "
            f"goes on. Nothing more of it starts until {_clock(until_at)}, {is_over}.",
            cause=cause,
            severity="warning",
            change="opened",
            ends_at=until_at,
            buttons=(resume_button(gate), mute_button(cause)),
        )

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
            if acted.changed:
                cause = f"observer.{action.family}.shed"
                self._tell(
                    f"{acted.changed} waiting jobs of {action.family} are in the parking lot: "
                    f"{_because(action.reason)}. None is lost; they come back by themselves within "
                    f"{-(-action.ttl_ms // 60_000)} min.",
                    cause=cause,
                    severity="warning",
                    buttons=(mute_button(cause),),
                )
        else:
            acted = self._verbs.priority(name, f"P{action.priority}", **options)
        return acted.control, f"{acted.changed} jobs"


def _because(reason: str) -> str:
    """A reason in a sentence: without the word that the fixed rules begin with, and its full stop."""
    head, colon, rest = reason.partition(": ")
    return (rest if colon and head in {"circuit", "rate limit", "backlog"} else reason).rstrip(" .")


def _clock(at: int | None) -> str:
    return "further notice" if at is None else f"{datetime.fromtimestamp(at / 1_000, UTC):%H:%M} UTC"
