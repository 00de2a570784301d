"""Any number of beats fire each entry once, on a grid of due times that all of them know."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from celery import Celery
from celery.schedules import crontab, schedule
from hypothesis import given
from hypothesis import strategies as st
from workers import HERE, ROOT, Site

from joelclaw_tasks.broker.beat import Scheduler, tick_id
from joelclaw_tasks.broker.due_times import dues_between, how_many_between, last_due, next_due
from joelclaw_tasks.errors import SettingsError
from tests.conftest import wait_until

MOMENTS = st.datetimes(datetime(2020, 1, 1), datetime(2035, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001
INTERVALS = st.integers(1, 1_000_000).map(lambda ms: schedule(timedelta(milliseconds=ms)))


def an_app(zone: str) -> Celery:
    app = Celery("clock", set_as_current=False)
    app.conf.timezone = zone
    return app


def test_an_interval_is_due_on_a_grid_since_the_epoch():
    at = datetime(2026, 1, 1, 12, 0, 7, tzinfo=UTC)
    assert datetime(2026, 1, 1, 12, 0, 10, tzinfo=UTC) == next_due(schedule(10), at)
    assert datetime(2026, 1, 1, 12, 0, 20, tzinfo=UTC) == next_due(schedule(10), next_due(schedule(10), at))


@given(INTERVALS, MOMENTS)
def test_the_next_due_time_of_an_interval_is_later_and_within_one_interval(every: schedule, at: datetime):
    due = next_due(every, at)
    assert at < due <= at + every.run_every
    assert due == next_due(every, due - timedelta(microseconds=1))


@given(INTERVALS, MOMENTS, MOMENTS)
def test_two_beats_that_look_at_different_times_agree_on_the_last_due_time(
    every: schedule, since: datetime, until: datetime
):
    due = last_due(every, since, until)
    if due is None:
        assert until <= since or next_due(every, since) > until
    else:
        assert since < due <= until < due + every.run_every
        assert due == last_due(every, due - timedelta(microseconds=1), until)


@given(INTERVALS, MOMENTS, st.integers(-50, 50), st.integers(1, 20))
def test_due_times_are_counted_as_they_are_listed_and_never_below_none(
    every: schedule, since: datetime, periods: int, most: int
):
    until = since + every.run_every * periods
    count = how_many_between(every, since, until)
    dues = dues_between(every, since, until, most)
    assert len(dues) == min(count, most)
    assert all(since < due <= until for due in dues)
    assert dues[-1:] == [due for due in [last_due(every, since, until)] if due]


@given(st.integers(0, 59), st.integers(0, 23), MOMENTS)
def test_a_daily_crontab_is_due_once_a_day_at_its_minute(minute: int, hour: int, at: datetime):
    when = crontab(minute=str(minute), hour=str(hour), app=an_app("UTC"))
    due = next_due(when, at)
    assert (hour, minute, 0, 0) == (due.hour, due.minute, due.second, due.microsecond)
    assert at < due <= at + timedelta(days=1)
    assert due == last_due(when, at, due)
    assert last_due(when, at, due - timedelta(microseconds=1)) is None


def test_a_crontab_follows_the_zone_of_the_app_through_both_clock_changes():
    zone = ZoneInfo("Europe/Berlin")
    when = crontab(minute="30", hour="8", app=an_app("Europe/Berlin"))
    for first in (datetime(2026, 3, 27, 12, tzinfo=zone), datetime(2026, 10, 23, 12, tzinfo=zone)):
        at, dues = first.astimezone(UTC), []
        for _ in range(5):
            at = next_due(when, at)
            dues.append(at.astimezone(zone))
        assert [(8, 30)] * 5 == [(due.hour, due.minute) for due in dues]
        days = [due.date() for due in dues]
        assert days == [days[0] + timedelta(days=n) for n in range(5)]


@pytest.mark.parametrize(
    ("zone", "start"),
    [
        ("Europe/Berlin", datetime(2026, 10, 24, 20, tzinfo=UTC)),  # 02:30 comes twice
        ("Europe/Berlin", datetime(2026, 3, 28, 20, tzinfo=UTC)),  # 02:30 does not come
        ("America/New_York", datetime(2026, 11, 1, 0, tzinfo=UTC)),
        ("America/New_York", datetime(2026, 3, 8, 0, tzinfo=UTC)),
        ("Australia/Lord_Howe", datetime(2026, 4, 4, 10, tzinfo=UTC)),  # changes by half an hour
    ],
)
def test_a_clock_change_stops_no_crontab_and_moves_it_never_backwards(zone: str, start: datetime):
    for when in (
        crontab(minute="30", hour="2", app=an_app(zone)),
        crontab(minute="*/20", app=an_app(zone)),
        crontab(minute="0", app=an_app(zone)),
    ):
        at = start
        for _ in range(40):
            due = next_due(when, at)
            assert at < due <= at + timedelta(hours=50)
            at = due


def test_a_crontab_every_20_minutes_keeps_its_pace_when_the_clock_is_put_back():
    when = crontab(minute="*/20", app=an_app("Europe/Berlin"))
    at, end, dues = datetime(2026, 10, 24, 23, 50, tzinfo=UTC), datetime(2026, 10, 25, 3, tzinfo=UTC), []
    while (at := next_due(when, at)) <= end:
        dues.append(at)
    assert {timedelta(minutes=20)} == {b - a for a, b in pairwise(dues)}


@pytest.mark.parametrize("zone", ["Europe/Berlin", "America/New_York", "America/Havana"])
def test_a_crontab_every_20_minutes_keeps_its_pace_all_year(zone: str):
    when = crontab(minute="*/20", app=an_app(zone))
    at, dues = datetime(2026, 1, 1, tzinfo=UTC), []
    while at.year == 2026:
        dues.append(at := next_due(when, at))
    assert {timedelta(minutes=20)} == {b - a for a, b in pairwise(dues)}


HOURS = st.sets(st.integers(0, 23), min_size=1, max_size=24)
MINUTES = st.sets(st.integers(0, 59), min_size=1, max_size=20)
DAYS = st.sets(st.integers(0, 6), min_size=1, max_size=7)


def listed(numbers: set[int]) -> str:
    return ",".join(map(str, sorted(numbers)))


@given(MINUTES, HOURS, DAYS, MOMENTS)
def test_without_clock_changes_a_crontab_is_due_when_celery_says(
    minutes: set[int], hours: set[int], days: set[int], at: datetime
):
    at = at.replace(microsecond=0)
    when = crontab(listed(minutes), listed(hours), listed(days), app=an_app("UTC"))
    start, delta, _ = when.remaining_delta(at)
    assert start + delta == next_due(when, at)


def test_a_crontab_of_29_february_is_found():
    leap = crontab("0", "0", day_of_month="29", month_of_year="2", app=an_app("UTC"))
    assert datetime(2028, 2, 29, tzinfo=UTC) == next_due(leap, datetime(2026, 1, 1, tzinfo=UTC))


def test_the_latest_of_many_missed_due_times_counts_and_the_rest_is_not_made_up_for():
    when = crontab(minute="*/5", app=an_app("UTC"))
    since, until = datetime(2026, 5, 1, tzinfo=UTC), datetime(2026, 5, 3, 10, 3, tzinfo=UTC)
    assert datetime(2026, 5, 3, 10, 0, tzinfo=UTC) == last_due(when, since, until)
    assert last_due(when, until, until) is None


def test_the_id_of_a_tick_depends_on_entry_and_moment_alone():
    due = datetime(2026, 5, 1, 12, tzinfo=UTC)
    assert tick_id("a", due) == tick_id("a", due.astimezone(ZoneInfo("Asia/Tokyo")))
    assert tick_id("a", due) != tick_id("b", due)
    assert tick_id("a", due) != tick_id("a", due + timedelta(seconds=1))


def test_an_entry_with_a_schedule_that_has_no_grid_is_refused():
    class Tides(schedule):
        """A schedule of somebody else's."""

    app = an_app("UTC")
    app.conf.beat_schedule = {"tides": {"task": "x", "schedule": Tides(10)}}
    with pytest.raises(SettingsError, match="tides: Tides"):
        Scheduler(app=app)


class Beat:
    """One `celery beat` process of the stranger's app with one entry each second."""

    def __init__(self, url: str) -> None:
        self.log_path = Path(tempfile.mkstemp(prefix="beat-", suffix=".log")[1])
        entries = {"each-second": {"task": "stamp", "schedule": 1.0, "args": ["ticks"]}}
        environment = {
            **os.environ,
            "PYTHONPATH": f"{ROOT}{os.pathsep}{HERE}",
            "STRANGER_BROKER": url,
            "STRANGER_INSTALL": "1",
            "STRANGER_SETTINGS": json.dumps({"beat_schedule": entries}),
        }
        command = ["-A", "stranger_app", "beat", "-S", "joelclaw_tasks.broker.beat:Scheduler", "-l", "INFO"]
        with self.log_path.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "celery", *command, "--pidfile="],
                stdout=log, stderr=subprocess.STDOUT, cwd=HERE, env=environment,
            )  # fmt: skip

    @property
    def sent(self) -> list[str]:
        """Due times that this beat says it sent."""
        lines = self.log_path.read_text().splitlines()
        return [line.rpartition("due ")[2] for line in lines if "beat: sent" in line]

    def end(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(10)
        self.log_path.unlink(missing_ok=True)


def test_two_beats_fire_each_due_time_once_and_the_death_of_one_leaves_no_gap(own: Site):
    own.start("threads").wait_ready()
    beats = [Beat(own.url), Beat(own.url)]
    try:
        for beat in beats:
            wait_until(lambda: len(beat.sent) >= 2, "both beats fire", 20)  # noqa: B023
        wait_until(lambda: own.client.llen("ticks") >= 4, "ticks run", 20)
        beats[0].process.send_signal(signal.SIGKILL)
        count = own.client.llen("ticks")
        wait_until(lambda: own.client.llen("ticks") >= count + 3, "the other goes on", 20)
        own.wait_idle()
        sent = [set(beat.sent) for beat in beats]
        stamps = [float(at) for at in own.effects("ticks")]
    finally:
        for beat in beats:
            beat.end()
    seconds = [int(at) for at in stamps]
    assert sorted(set(seconds)) == seconds == list(range(seconds[0], seconds[0] + len(seconds)))
    assert sent[0] & sent[1]  # both sent the same due times: the core refused one of each
    assert abs(len(seconds) - len(sent[0] | sent[1])) <= 1
    assert all(at % 1 < 0.25 for at in stamps)
    assert time.time() - stamps[-1] < 30
