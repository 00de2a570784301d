"""The fleet's beat: it follows registry/schedules.json, and a change acts without a restart."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from celery.schedules import crontab, schedule
from kombu.log import get_logger

from joelclaw_tasks.broker.beat import BEAT_OPTION, Scheduler
from joelclaw_tasks.errors import RegistryError
from joelclaw_tasks.registry import Registry
from joelclaw_tasks.registry_schedules import ScheduleSpec, cron_numbers
from joelclaw_tasks.settings import Settings

logger = get_logger(__name__)

EMIT_TASK = "joelclaw.emit"


def schedule_entries(registry: Registry, fixed: Collection[str]) -> dict[str, dict[str, Any]]:
    """Beat's entries for the schedules of a registry that are not off.

    Raises RegistryError when one has the name of an entry that is not from schedules.json.
    """
    taken = [name for name in registry.schedules if name in fixed]
    if taken:
        raise RegistryError(
            [
                f"schedules.json: schedules.{name}: is the name of an entry of beat; rename it"
                for name in taken
            ]
        )
    return {one.name: _entry(one) for one in registry.schedules.values() if one.enabled}


def _entry(one: ScheduleSpec) -> dict[str, Any]:
    return {
        "task": EMIT_TASK,
        "schedule": schedule(one.every_s) if one.cron is None else _crontab(one.cron, one.timezone),
        "args": (one.event, dict(one.data)),
        "options": {BEAT_OPTION: {"jitter_s": one.jitter_s, "catch_up": one.catch_up}},
    }


def _crontab(cron: str, timezone: str) -> crontab:
    minute, hour, day, month, weekday = (",".join(map(str, each)) for each in cron_numbers(cron))
    found = crontab(minute, hour, weekday, day, month)
    found.tz = ZoneInfo(timezone)
    return found


class FleetScheduler(Scheduler):
    """Follows schedules.json. For `celery beat -S joelclaw_tasks.fleet.beat:FleetScheduler`."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._directory = Path(Settings.load().registry_dir)
        self._seen = _stamp(self._directory)
        self._fault = ""
        super().__init__(*args, **kwargs)

    def fault(self) -> str:
        """Why it still goes by older schedules, "" when it does not."""
        return self._fault

    def follow(self, now: datetime) -> None:
        """Take over schedules.json if it has changed; one with a fault is told and not taken over."""
        seen = _stamp(self._directory)
        if seen == self._seen:
            return
        fixed = [name for name, entry in self.schedule.items() if entry.task != EMIT_TASK]
        try:
            wanted = schedule_entries(Registry.load(self._directory), fixed)
        except RegistryError as error:
            self._fault = str(error)
            logger.error("beat: goes on by the schedules that it had: %s", error)
        else:
            self._fault = ""
            self._replace(wanted, now)
        self._seen = seen

    def _replace(self, wanted: Mapping[str, Any], now: datetime) -> None:
        entries = {name: self._maybe_entry(name, entry) for name, entry in wanted.items()}
        for name in [name for name, entry in self.schedule.items() if entry.task == EMIT_TASK]:
            if name not in entries or not _is_same(self.schedule[name], entries[name]):
                # What is due at other times has missed nothing.
                self.forget(name, now)
                logger.info("beat: %s %s", name, "has changed" if name in entries else "is gone")
                del self.schedule[name]
        for name in entries.keys() - self.schedule.keys():
            self.schedule[name] = entries[name]
            logger.info("beat: goes by %s", name)


def _is_same(one: Any, other: Any) -> bool:
    def told(entry: Any) -> tuple[Any, ...]:
        zone = str(entry.schedule.tz) if isinstance(entry.schedule, crontab) else ""
        return entry.task, entry.schedule, zone, entry.args, entry.options

    return told(one) == told(other)


def _stamp(directory: Path) -> tuple[int, int, int] | None:
    try:
        found = (directory / "schedules.json").stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino
