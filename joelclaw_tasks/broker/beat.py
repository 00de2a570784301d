"""Scheduler: a beat that may run any number of times and still fires each entry once.

A due time is a point on a fixed grid (of the interval since the epoch, or of the crontab), the same
for every beat, and the task id is derived from entry and due time. So the second beat sends a
duplicate, which the core refuses by itself: no lock, no leader, nothing to fail over.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from typing import Any

from celery import beat
from celery.schedules import crontab, schedule
from kombu.log import get_logger

from joelclaw_tasks.broker.jobs import KEEP_PROPERTY
from joelclaw_tasks.errors import SettingsError

logger = get_logger(__name__)

_TICK_NAMESPACE = uuid.UUID("4f6b8f9e-52a4-5c3e-8f0a-6a6f656c6a63")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_REMEMBER_MS = 86_400_000
_RETRY_S = 2.0
#: 29 February on a given day of the week comes back after 28 years, or 40 over a century.
_DAYS_AHEAD = 41 * 366


def next_due(when: schedule, after: datetime) -> datetime:
    """The first due time later than `after` (both aware)."""
    if isinstance(when, crontab):
        return _next_of_crontab(when, after.astimezone(UTC))
    every: timedelta = when.run_every
    return _EPOCH + ((after - _EPOCH) // every + 1) * every


def _next_of_crontab(when: crontab, after: datetime) -> datetime:
    """Celery's own reckoning goes backwards in the hour that comes twice when clocks are put back.

    An entry for every hour keeps its pace through a clock change. One for certain hours fires once: in
    the first of two such hours, or an hour late where its hour is left out.
    """
    zone: tzinfo = when.tz
    first = after.astimezone(zone).date()
    for number in range(_DAYS_AHEAD):
        date = first + timedelta(days=number)
        if (
            date.month in when.month_of_year
            and date.day in when.day_of_month
            and date.isoweekday() % 7 in when.day_of_week
        ):
            dues = (
                _every_hour(when, date, zone, after) if len(when.hour) == 24 else _by_hour(when, date, zone)
            )
            due = min((due for due in dues if due > after), default=None)
            if due is not None:
                return due
    raise ValueError(f"{when!r} is never due")


def _every_hour(when: crontab, date: date, zone: tzinfo, after: datetime) -> Iterator[datetime]:
    """The next due time later than `after` on a day, minute by minute as the clock on the wall shows them."""
    midnight = datetime.combine(date, time.min, zone).astimezone(UTC)
    moment = max(midnight, after.replace(second=0, microsecond=0) + timedelta(minutes=1))
    while (local := moment.astimezone(zone)).date() == date:
        if local.minute in when.minute:
            yield moment
            return
        moment += timedelta(minutes=1)


def _by_hour(when: crontab, date: date, zone: tzinfo) -> Iterator[datetime]:
    for hour in when.hour:
        for minute in when.minute:
            yield datetime.combine(date, time(hour, minute), zone).astimezone(UTC)


def last_due(when: schedule, since: datetime, until: datetime) -> datetime | None:
    """The latest due time in (since, until], or None. What was missed before it is not made up for."""
    if not isinstance(when, crontab):
        due = _EPOCH + ((until - _EPOCH) // when.run_every) * when.run_every
        return due if due > since else None
    found = None
    due = next_due(when, max(since, until - timedelta(days=8)))
    while due <= until:
        found, due = due, next_due(when, due)
    return found


def tick_id(entry: str, due: datetime) -> str:
    """The id of the task that an entry fires at a due time: the same on every beat."""
    return str(uuid.uuid5(_TICK_NAMESPACE, f"{entry}\n{due.astimezone(UTC).isoformat()}"))


class Scheduler(beat.Scheduler):
    """For `celery beat -S joelclaw_tasks.broker.beat:Scheduler`. Keeps no file."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._done: dict[str, datetime] = {}
        self._started_at = datetime.now(UTC)
        super().__init__(*args, **kwargs)

    def setup_schedule(self) -> None:
        super().setup_schedule()
        for name, entry in self.schedule.items():
            if type(entry.schedule) not in (schedule, crontab):
                kind = type(entry.schedule).__name__
                raise SettingsError(f"beat entry {name}: {kind} is not supported; use seconds or crontab")

    def tick(self, now: datetime | None = None, **_: Any) -> float:
        """Fire what is due at `now`; answers the seconds until the next look."""
        now = now or datetime.now(UTC)
        wait_s = float(self.max_interval)
        for name, entry in sorted(self.schedule.items()):
            since = self._done.get(name, self._started_at)
            due = last_due(entry.schedule, since, now)
            if due is not None:
                if not self._fire(entry, due):
                    wait_s = min(wait_s, _RETRY_S)
                    continue
                self._done[name] = since = due
            wait_s = min(wait_s, (next_due(entry.schedule, max(since, now)) - now).total_seconds())
        return max(wait_s, 0.001)

    def _fire(self, entry: Any, due: datetime) -> bool:
        fired = self.Entry(**dict(entry, app=self.app))
        fired.options = {**entry.options, "task_id": tick_id(entry.name, due), KEEP_PROPERTY: _REMEMBER_MS}
        try:
            self.apply_async(fired, producer=self.producer, advance=False)
        except beat.SchedulingError as error:
            logger.error("beat: %s is due and could not be sent, trying again: %s", entry.name, error)
            return False
        logger.info("beat: sent %s, due %s", entry.name, due.isoformat())
        return True
