"""What beat fires, as facts: when each entry is due, fired last, what it missed, and whether it is paused."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from celery.beat import Scheduler
from celery.schedules import crontab

from joelclaw_tasks.broker.beat import BEAT_OPTION
from joelclaw_tasks.broker.due_times import next_due
from joelclaw_tasks.core.beat_memory import Remembered
from joelclaw_tasks.fleet.beat import EMIT_TASK
from joelclaw_tasks.fleet.workers import control_app
from joelclaw_tasks.registry import Registry
from joelclaw_tasks.settings import Settings


class BeatView:
    """The entries that a beat with these settings and this registry has.

    Raises RegistryError and SettingsError.
    """

    def __init__(self, settings: Settings, registry: Registry) -> None:
        self._app = control_app(settings, registry)
        self._registry = registry
        scheduler = Scheduler(self._app, lazy=True)
        scheduler.merge_inplace(self._app.conf.beat_schedule)
        self._entries: Mapping[str, Any] = scheduler.schedule

    @property
    def names(self) -> list[str]:
        """The names of all entries; also of schedules that are off."""
        return sorted({*self._entries, *self._registry.schedules})

    @property
    def running(self) -> list[str]:
        """The names of those that are not off."""
        return sorted(self._entries)

    def entry(self, name: str, remembered: Remembered, now_ms: int) -> dict[str, Any]:
        """One entry as JSON-able values; times are epoch milliseconds, `next_at` is None for what is off."""
        entry, spec = self._entries.get(name), self._registry.schedules.get(name)
        fired, missed = remembered.fired.get(name), remembered.missed.get(name)
        pause = remembered.pauses.get(name)
        holds = pause is not None and pause.holds(now_ms)
        options = {} if entry is None else entry.options.get(BEAT_OPTION, {})
        return {
            "name": name,
            "state": "off" if entry is None else "paused" if holds else "on",
            "task": EMIT_TASK if entry is None else entry.task,
            "event": spec.event if spec else None,
            "when": _when(entry, spec),
            "timezone": _zone(entry, spec),
            "jitter_s": spec.jitter_s if spec else options.get("jitter_s", 0),
            "catch_up": spec.catch_up if spec else options.get("catch_up", "skip"),
            "description": spec.description if spec else None,
            "last_due_at": fired.due_at if fired and fired.sent_at else None,
            "last_sent_at": fired.sent_at if fired else None,
            "next_at": next(iter(self.dues(name, now_ms, 1)), None),
            "missed": missed.to_wire() if missed else None,
            "pause": pause.to_wire() if holds and pause else None,
        }

    def dues(self, name: str, after_ms: int, count: int) -> list[int]:
        """The next due times (epoch milliseconds) after that time, of an entry that is not off."""
        entry = self._entries.get(name)
        at = datetime.fromtimestamp(after_ms / 1_000, UTC)
        found: list[int] = []
        while entry is not None and len(found) < count:
            at = next_due(entry.schedule, at)
            found.append(round(at.timestamp() * 1_000))
        return found

    def run(self, name: str) -> str:
        """Fire an entry now, beside its due times; answers the id of the job. Raises what a call raises."""
        entry = self._entries[name]
        options = {key: value for key, value in entry.options.items() if key != BEAT_OPTION}
        return str(self._app.tasks[entry.task].apply_async(entry.args, entry.kwargs, **options).id)


def _when(entry: Any, spec: Any) -> str:
    if spec is not None:
        return spec.cron if spec.cron is not None else f"every {spec.every_s:g} s"
    if isinstance(entry.schedule, crontab):
        parts = (
            "_orig_minute",
            "_orig_hour",
            "_orig_day_of_month",
            "_orig_month_of_year",
            "_orig_day_of_week",
        )
        return " ".join(str(getattr(entry.schedule, part)) for part in parts)
    return f"every {entry.schedule.run_every.total_seconds():g} s"


def _zone(entry: Any, spec: Any) -> str | None:
    if spec is not None:
        return None if spec.cron is None else str(spec.timezone)
    return str(entry.schedule.tz) if isinstance(entry.schedule, crontab) else None
