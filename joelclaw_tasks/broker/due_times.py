"""Due times: points on a grid, of an interval since the epoch or of a crontab, the same for every beat."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from itertools import takewhile

from celery.schedules import crontab, schedule

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
#: 29 February on a given day of the week comes back after 28 years, or 40 over a century.
_DAYS_AHEAD = 41 * 366
#: Nobody looks further back than this for what was missed.
LOOK_BACK = timedelta(days=8)


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
    due = next_due(when, max(since, until - LOOK_BACK))
    while due <= until:
        found, due = due, next_due(when, due)
    return found


def dues_between(when: schedule, since: datetime, until: datetime, most: int) -> list[datetime]:
    """The due times in (since, until], the oldest first: of more than `most` the latest."""
    since = max(since, until - LOOK_BACK)
    if not isinstance(when, crontab):
        latest = last_due(when, since, until)
        if latest is None:
            return []
        count = min(most, (latest - since - timedelta(microseconds=1)) // when.run_every + 1)
        return [latest - when.run_every * back for back in range(count - 1, -1, -1)]
    return list(deque(takewhile(lambda due: due <= until, _from(when, since)), maxlen=most))


def _from(when: crontab, due: datetime) -> Iterator[datetime]:
    while True:
        due = next_due(when, due)
        yield due


def how_many_between(when: schedule, since: datetime, until: datetime) -> int:
    """How many due times lie in (since, until], of the last 8 days."""
    since = max(since, until - LOOK_BACK)
    if since >= until:
        return 0
    if not isinstance(when, crontab):
        every: timedelta = when.run_every
        return (until - _EPOCH) // every - (since - _EPOCH) // every
    return sum(1 for _ in takewhile(lambda due: due <= until, _from(when, since)))
