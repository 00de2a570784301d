"""Beats remember in Redis what they fired: what nobody fired is told, made up for if wanted, or left out."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from celery.schedules import crontab
from workers import Site

from joelclaw_tasks.broker.beat import BEAT_OPTION, Scheduler, jitter_of, tick_id
from joelclaw_tasks.core.beat_memory import BeatMemory, Fired, Missed, Pause
from joelclaw_tasks.errors import SettingsError

HOUR = timedelta(hours=1)
NOON = datetime(2026, 5, 1, 12, 0, 20, tzinfo=UTC)


def ms(at: datetime) -> int:
    return round(at.timestamp() * 1_000)


class Beats:
    """Beats of one app: `beat(...)` starts another one; nothing runs what they send."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self.memory = BeatMemory(site.store)

    def beat(self, entry: str = "hourly", **policy: object) -> Scheduler:
        self.site.app.conf.beat_schedule = {
            entry: {
                "task": "add", "schedule": crontab(minute="0", app=self.site.app), "args": [1, 2],
                "options": {BEAT_OPTION: policy} if policy else {},
            }
        }  # fmt: skip
        return Scheduler(app=self.site.app)

    def sent(self, entry: str = "hourly", *dues: datetime) -> list[bool]:
        """Of each due time, whether its job is there."""
        return [self.site.job(tick_id(entry, due)) is not None for due in dues]

    @property
    def jobs(self) -> int:
        return sum(self.site.states().values())


@pytest.fixture
def beats(own: Site) -> Beats:
    return Beats(own)


def hours(first: int, count: int) -> list[datetime]:
    return [datetime(2026, 5, 1, tzinfo=UTC) + HOUR * (first + number) for number in range(count)]


def test_what_was_fired_is_remembered_with_its_due_time(beats: Beats):
    beat = beats.beat()
    beat.tick(NOON)
    beat.tick(NOON + HOUR)

    known = beats.memory.read()

    assert {"hourly": Fired(ms(hours(13, 1)[0]), ms(NOON + HOUR))} == known.fired
    assert {} == known.missed
    assert ms(NOON + HOUR) == known.looked_at
    assert (1, [True]) == (beats.jobs, beats.sent("hourly", *hours(13, 1)))


@pytest.mark.parametrize(
    ("catch_up", "made_up", "sent"),
    [("skip", 0, [False] * 4), ("once", 1, [False, False, False, True]), ("all", 4, [True] * 4)],
)
def test_what_no_beat_fired_is_told_and_made_up_for_as_the_entry_says(
    beats: Beats, catch_up: str, made_up: int, sent: list[bool]
):
    first = beats.beat(catch_up=catch_up)
    first.tick(NOON)
    first.tick(NOON + HOUR)
    back_at = NOON + 5 * HOUR

    beats.beat(catch_up=catch_up).tick(back_at)

    missed = hours(14, 4)
    assert sent == beats.sent("hourly", *missed)
    assert 1 + made_up == beats.jobs
    assert {
        "hourly": Missed(4, ms(missed[0]), ms(missed[-1]), ms(back_at), made_up)
    } == beats.memory.read().missed


def test_what_was_missed_before_it_ever_fired_counts_too(beats: Beats):
    beats.beat(catch_up="once").tick(NOON)

    beats.beat(catch_up="once").tick(NOON + 2 * HOUR)

    assert [False, False, True] == beats.sent("hourly", *hours(12, 3))
    assert 2 == beats.memory.read().missed["hourly"].count


def test_two_beats_that_catch_up_at_once_send_nothing_twice_and_go_on_as_ever(beats: Beats):
    beats.beat(catch_up="all").tick(NOON)
    one, other = beats.beat(catch_up="all"), beats.beat(catch_up="all")

    for beat in (one, other):
        beat.tick(NOON + 3 * HOUR)
        beat.tick(NOON + 4 * HOUR)

    assert [False, True, True, True, True] == beats.sent("hourly", *hours(12, 5))
    assert 4 == beats.jobs


def test_only_the_latest_hundred_of_a_long_absence_are_made_up_for(beats: Beats):
    first = beats.beat(catch_up="all")
    first.tick(NOON)
    first.tick(NOON + HOUR)

    beats.beat(catch_up="all").tick(NOON + 7 * 24 * HOUR)

    missed = beats.memory.read().missed["hourly"]
    assert (167, 100) == (missed.count, missed.made_up)
    assert 1 + 100 == beats.jobs
    assert [False, True] == beats.sent("hourly", *hours(7 * 24 + 12 - 100, 2))


def test_a_restart_of_a_few_seconds_over_a_due_time_misses_nothing(beats: Beats):
    first = beats.beat()
    first.tick(NOON - HOUR)
    first.tick(NOON)

    beats.beat().tick(datetime(2026, 5, 1, 13, 0, 7, tzinfo=UTC))

    assert [True, True] == beats.sent("hourly", *hours(12, 2))
    assert {} == beats.memory.read().missed


def test_a_beat_that_joins_another_within_seconds_misses_nothing_and_fires_nothing_early(beats: Beats):
    at = datetime(2026, 5, 1, 12, 59, 58, tzinfo=UTC)
    beats.beat().tick(at)

    beats.beat().tick(at + timedelta(seconds=1))

    assert 0 == beats.jobs
    assert {} == beats.memory.read().missed
    assert {"hourly": Fired(ms(at), None)} == beats.memory.read().fired


def test_a_paused_entry_fires_nothing_and_goes_on_after_it_without_making_up(beats: Beats):
    beat = beats.beat(catch_up="all")
    beat.tick(NOON)
    beats.memory.pause("hourly", Pause(None, ms(NOON), "joel", "holidays"))
    for number in range(1, 4):
        beat.tick(NOON + number * HOUR)
    assert 0 == beats.jobs

    assert "holidays" == beats.memory.resume("hourly", ms(NOON + 3.5 * HOUR)).reason
    beat.tick(NOON + 4 * HOUR)

    assert [False, False, False, True] == beats.sent("hourly", *hours(13, 4))
    assert beats.memory.resume("hourly", ms(NOON + 5 * HOUR)) is None


def test_a_pause_that_ended_while_no_beat_ran_is_not_missed_time(beats: Beats):
    first = beats.beat(catch_up="all")
    first.tick(NOON)
    first.tick(NOON + HOUR)
    beats.memory.pause("hourly", Pause(ms(NOON + 3 * HOUR), ms(NOON + HOUR), "joel", ""))

    beats.beat(catch_up="all").tick(NOON + 5 * HOUR)

    assert [True, False, False, True, True] == beats.sent("hourly", *hours(13, 5))
    assert 2 == beats.memory.read().missed["hourly"].count


def test_jitter_moves_the_start_of_a_task_and_is_the_same_on_every_beat(beats: Beats):
    later = datetime(2090, 5, 1, 12, 0, 20, tzinfo=UTC)
    for _ in range(2):
        beat = beats.beat(jitter_s=600)
        beat.forget("hourly", later)
        beat.tick(later + HOUR)

    due = datetime(2090, 5, 1, 13, tzinfo=UTC)
    tick = tick_id("hourly", due)
    starts_at = ms(due + jitter_of(tick, 600))
    assert {"scheduled": 1} == beats.site.states()
    [(_, timer_at)] = beats.site.client.zrange("{jc}:timers", 0, -1, withscores=True)
    assert starts_at == pytest.approx(timer_at, abs=1)


def test_jitter_spreads_over_the_whole_range():
    found = sorted(jitter_of(str(number), 100).total_seconds() for number in range(1_000))

    assert 0 <= found[0] < 1
    assert 99 < found[-1] <= 100
    assert 45 < found[500] < 55


def test_an_unknown_way_of_catching_up_is_refused(beats: Beats):
    with pytest.raises(SettingsError, match="catch_up must be one of skip, once, all"):
        beats.beat(catch_up="sometimes")


def test_a_forgotten_entry_counts_from_now_on(beats: Beats):
    beat = beats.beat(catch_up="all")
    beat.tick(NOON)
    beat.tick(NOON + HOUR)

    beat.forget("hourly", NOON + 4 * HOUR)
    beat.tick(NOON + 4.5 * HOUR)

    assert [True, False, False, False] == beats.sent("hourly", *hours(13, 4))
    assert {"hourly": Fired(ms(NOON + 4 * HOUR), None)} == beats.memory.read().fired


def test_what_a_newer_version_remembers_in_another_form_counts_as_unknown(beats: Beats):
    beats.memory.fired("old", Fired(1, 2))
    beats.site.client.hset(
        "{jc}:beat", mapping={"fired|new": '{"due": 1}', "missed|x": "no JSON", "more": "1"}
    )

    assert {"old": Fired(1, 2)} == beats.memory.read().fired
    assert {} == beats.memory.read().missed
