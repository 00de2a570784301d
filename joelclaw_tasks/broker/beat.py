"""Scheduler: a beat that may run any number of times and still fires each entry once.

A due time is a point on a fixed grid, the same for every beat, and the task id is derived from entry and due
time. So the second beat sends a duplicate, which the core refuses by itself: no lock, no leader, nothing to
fail over.
"""

from __future__ import annotations

import hashlib
import time
import uuid
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from celery import beat
from celery.schedules import crontab, schedule
from kombu.log import get_logger

from joelclaw_tasks.broker.due_times import LOOK_BACK, dues_between, how_many_between, last_due, next_due
from joelclaw_tasks.broker.jobs import KEEP_PROPERTY
from joelclaw_tasks.core.beat_memory import BeatMemory, Fired, Missed, Remembered
from joelclaw_tasks.errors import CoreUnreachable, SettingsError

logger = get_logger(__name__)

#: An option of an entry: {"jitter_s": most seconds that a task starts later, "catch_up": see CATCH_UP}.
BEAT_OPTION = "jc_beat"
#: What becomes of due times that no beat fired: nothing, the latest is made up for, or all are.
CATCH_UP = ("skip", "once", "all")
#: No more than these, the latest, are made up for.
MOST_MADE_UP = 100
_TICK_NAMESPACE = uuid.UUID("4f6b8f9e-52a4-5c3e-8f0a-6a6f656c6a63")
_REMEMBER_MS = 86_400_000
_RETRY_S = 2.0
#: A due time that is no older than this has not been missed.
_IN_TIME = timedelta(seconds=10)


def tick_id(entry: str, due: datetime) -> str:
    """The id of the task that an entry fires at a due time: the same on every beat."""
    return str(uuid.uuid5(_TICK_NAMESPACE, f"{entry}\n{due.astimezone(UTC).isoformat()}"))


def jitter_of(tick: str, jitter_s: float) -> timedelta:
    """How much later the task of a tick starts, 0 to `jitter_s`: the same on every beat."""
    share = int.from_bytes(hashlib.sha256(tick.encode()).digest()[:4], "big") / 2**32
    return timedelta(seconds=round(share * jitter_s, 3))


def check_entries(entries: Mapping[str, Any]) -> None:
    """Raises SettingsError when an entry has a schedule or options that beat does not know."""
    for name, entry in entries.items():
        if type(entry.schedule) not in (schedule, crontab):
            kind = type(entry.schedule).__name__
            raise SettingsError(f"beat entry {name}: {kind} is not supported; use seconds or crontab")
        policy = entry.options.get(BEAT_OPTION, {})
        if policy.get("catch_up", "skip") not in CATCH_UP:
            raise SettingsError(f"beat entry {name}: catch_up must be one of {', '.join(CATCH_UP)}")


class Scheduler(beat.Scheduler):
    """For `celery beat -S joelclaw_tasks.broker.beat:Scheduler`. Keeps no file."""

    #: Pauses and changes are seen within this time, in seconds.
    max_interval = 5

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._done: dict[str, datetime] = {}
        self._memory: BeatMemory | None = None
        super().__init__(*args, **kwargs)

    def setup_schedule(self) -> None:
        super().setup_schedule()
        check_entries(self.schedule)

    def tick(self, now: datetime | None = None, **_: Any) -> float:
        """Fire what is due at `now`; answers the seconds until the next look."""
        memory = self.memory  # connects, which takes a while: only then the time is taken
        now, began = now or datetime.now(UTC), time.monotonic()
        try:
            self.follow(now)
            remembered = memory.read()
            memory.looked(_ms(now), self.fault())
        except CoreUnreachable as error:
            # Nothing could be sent either, and nobody knows what is paused.
            logger.error("beat: Redis is away, trying again: %s", error)
            return _RETRY_S
        wait_s = float(self.max_interval)
        for name, entry in sorted(self.schedule.items()):
            if name not in self._done:
                self._done[name] = self._first_since(entry, remembered, now)
            try:
                self._fire_due(entry, remembered, now)
            except (beat.SchedulingError, CoreUnreachable) as error:
                logger.error("beat: %s is due and could not be sent, trying again: %s", name, error)
                wait_s = min(wait_s, _RETRY_S)
                continue
            wait_s = min(wait_s, (next_due(entry.schedule, max(self._done[name], now)) - now).total_seconds())
        # What this took, such as a first connection, is not to make the next one late.
        return max(wait_s - (time.monotonic() - began), 0.001)

    def follow(self, now: datetime) -> None:
        """Take over entries that have changed. Raises CoreUnreachable; it is called again then."""

    def forget(self, entry: str, now: datetime) -> None:
        """Let an entry count from now on, as one that was never seen. Raises CoreUnreachable."""
        self.memory.forget(entry, _ms(now))
        self._done[entry] = now

    def fault(self) -> str:
        """What is wrong with the entries that this beat was given, "" when nothing is."""
        return ""

    @property
    def memory(self) -> BeatMemory:
        """What all beats of this Redis remember."""
        if self._memory is None:
            self._memory = BeatMemory(self._ensure_connected().default_channel.store)
        return self._memory

    def _first_since(self, entry: Any, remembered: Remembered, now: datetime) -> datetime:
        """From when on a new entry counts; tells what nobody fired until now."""
        fired = remembered.fired.get(entry.name)
        if fired is None:
            self.memory.meet(entry.name, _ms(now))
            return now
        if _is_paused(remembered, entry.name, now):
            return now
        # What is due just now another beat may be about to send; what was due in a pause is not missed.
        pause = remembered.pauses.get(entry.name)
        seen_at = max(fired.due_at, (pause and pause.until_at) or 0)
        since, late = max(_moment(seen_at), now - LOOK_BACK), now - _IN_TIME
        count = how_many_between(entry.schedule, since, late)
        if not count:
            return max(since, late)
        made_up = {"skip": 0, "once": 1, "all": min(count, MOST_MADE_UP)}[_catch_up(entry)]
        first = next_due(entry.schedule, since)
        last = last_due(entry.schedule, since, late) or first
        self.memory.missed(entry.name, Missed(count, _ms(first), _ms(last), _ms(now), made_up))
        logger.warning(
            "beat: %s was due %d times from %s to %s and nobody sent it; %s",
            entry.name, count, first.isoformat(), last.isoformat(),
            f"{made_up} made up for" if made_up else "not made up for (catch_up: skip)",
        )  # fmt: skip
        return since if made_up else late

    def _fire_due(self, entry: Any, remembered: Remembered, now: datetime) -> None:
        """Fire what fell due since the last time. Raises SchedulingError and CoreUnreachable."""
        most = MOST_MADE_UP if _catch_up(entry) == "all" else 1
        for due in dues_between(entry.schedule, self._done[entry.name], now, most):
            if _is_paused(remembered, entry.name, now):
                logger.info("beat: %s is paused and was due %s", entry.name, due.isoformat())
            else:
                self._fire(entry, due)
                self.memory.fired(entry.name, Fired(_ms(due), _ms(now)))
            self._done[entry.name] = due

    def _fire(self, entry: Any, due: datetime) -> None:
        fired = self.Entry(**dict(entry, app=self.app))
        tick = tick_id(entry.name, due)
        fired.options = {**entry.options, "task_id": tick, KEEP_PROPERTY: _REMEMBER_MS}
        jitter_s = fired.options.pop(BEAT_OPTION, {}).get("jitter_s", 0)
        if jitter_s:
            fired.options["eta"] = due + jitter_of(tick, jitter_s)
        self.apply_async(fired, producer=self.producer, advance=False)
        logger.info("beat: sent %s, due %s", entry.name, due.isoformat())


def _catch_up(entry: Any) -> str:
    return str(entry.options.get(BEAT_OPTION, {}).get("catch_up", "skip"))


def _is_paused(remembered: Remembered, entry: str, now: datetime) -> bool:
    pause = remembered.pauses.get(entry)
    return pause is not None and pause.holds(_ms(now))


def _ms(at: datetime) -> int:
    return round(at.timestamp() * 1_000)


def _moment(at_ms: int) -> datetime:
    return datetime.fromtimestamp(at_ms / 1_000, UTC)
