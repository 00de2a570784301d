"""The state of a check: when it turns, what is kept of it, what a week adds up to. On a clock of the test."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import count

import pytest

from joelclaw_tasks.core.health import HOUR_MS, CheckNow, Health, Look, Standing
from joelclaw_tasks.core.health_report import CheckReport, Incident, report_of
from joelclaw_tasks.core.store import Store
from joelclaw_tasks.settings import Settings
from joelclaw_tasks.testing.clock import Clock

START = datetime(2026, 3, 2, tzinfo=UTC)
BEGAN = int(START.timestamp() * 1_000)
MINUTE, DAY = 60_000, 86_400_000


class Watch:
    """One pulse on the test's clock."""

    def __init__(self, redis_url: str) -> None:
        self.clock = Clock(START)
        self.behind_ms = 0
        self.store = Store.connect(Settings(redis_url=redis_url), now_ms=self.now_ms)
        self.health = Health(self.store)
        self._numbers = count(1)

    def now_ms(self) -> int:
        return self.clock.now_ms() - self.behind_ms

    def look(self, status: str, check: str = "nas", *, id: str | None = None, **options) -> Standing:
        """One look, a minute later."""
        self.clock.move_to(self.clock.now_ms() + MINUTE)
        return self.keep(status, check, id=id, **options)

    def keep(self, status: str, check: str = "nas", *, id: str | None = None, **options) -> Standing:
        options = {"detail": f"is {status}", "latency_ms": 2.0, **options}
        return self.health.keep(Look(id or f"look-{next(self._numbers)}", check, status, **options))

    def states(self, *statuses: str) -> list[str]:
        return [self.look(status).state for status in statuses]

    def now(self, check: str = "nas") -> CheckNow | None:
        return self.health.checks([check]).get(check)

    def turns(self, since_at: int = 0, check: str = "nas") -> list[tuple[int, str]]:
        return [((each.at - BEGAN) // MINUTE, each.state) for each in self.health.turns(check, since_at)]

    def report(self, since_at: int, check: str = "nas") -> CheckReport:
        return report_of(
            check,
            self.health.turns(check, since_at),
            self.health.hours(check, since_at),
            self.now(check),
            since_at=since_at,
            until_at=self.clock.now_ms(),
        )


@pytest.fixture
def watch(redis_url: str) -> Iterator[Watch]:
    watch = Watch(redis_url)
    yield watch
    watch.store.client.close()


def test_one_bad_look_is_no_outage_and_two_in_a_row_are(watch: Watch) -> None:
    assert ["healthy", "healthy", "healthy", "healthy"] == watch.states("healthy", "down", "healthy", "down")
    assert ["down"] == watch.states("down")

    # The outage began with the first of the two.
    assert [(1, "healthy"), (4, "down")] == watch.turns()


def test_it_is_healthy_again_after_as_many_looks_as_the_check_wants(watch: Watch) -> None:
    watch.states("healthy", "down", "down")

    assert ["down", "down", "down", "healthy"] == watch.states("healthy", "down", "healthy", "healthy")


def test_what_is_now_bad_in_one_way_and_now_in_another_is_not_taken_for_healthy(watch: Watch) -> None:
    assert ["healthy", "healthy", "down", "down"] == watch.states("healthy", "degraded", "down", "degraded")


def test_the_first_good_look_is_believed_and_the_first_bad_one_is_not(watch: Watch) -> None:
    assert "healthy" == watch.look("healthy", "one").state
    assert "unknown" == watch.look("down", "two").state
    assert "down" == watch.look("down", "two").state


def test_the_same_look_counts_once_however_often_it_is_kept(watch: Watch) -> None:
    watch.look("healthy")
    for _ in range(3):
        standing = watch.look("down", id="the same job, delivered again")

    assert "healthy" == standing.state
    assert (2, 1) == (watch.health.hours("nas", 0)[0].looks, watch.health.hours("nas", 0)[0].bad)


def test_nobody_looking_makes_it_unknown_and_tells_nothing_of_the_time_between(watch: Watch) -> None:
    watch.states("healthy", "healthy")
    watch.clock.move_to(watch.clock.now_ms() + 3 * HOUR_MS)

    assert watch.now().is_late(watch.clock.now_ms())
    assert 1.0 == watch.report(BEGAN).uptime
    assert "healthy" == watch.look("healthy").state

    assert [(1, "healthy"), (3, "unknown"), (183, "healthy")] == watch.turns()
    report = watch.report(BEGAN)
    assert (1.0, (), 180 * MINUTE) == (
        report.uptime,
        report.incidents,
        report.in_state_ms["unknown"] - MINUTE,
    )


def test_an_outage_that_nobody_looked_at_any_more_is_cut_and_not_over(watch: Watch) -> None:
    watch.states("healthy", "down", "down")
    watch.clock.move_to(watch.clock.now_ms() + HOUR_MS)
    watch.look("healthy")

    assert (
        Incident(BEGAN + 2 * MINUTE, BEGAN + 4 * MINUTE, "down", "is down", is_cut=True),
    ) == watch.report(BEGAN).incidents


def test_a_check_that_dies_is_unknown_and_not_down(watch: Watch) -> None:
    assert ["healthy", "healthy", "unknown"] == watch.states("healthy", "unknown", "unknown")

    report = watch.report(BEGAN)

    assert (1.0, "unknown") == (report.uptime, report.incidents[0].worst)


def test_a_clock_that_goes_back_does_not_turn_the_history_around(watch: Watch) -> None:
    watch.states("healthy", "down", "down")
    watch.behind_ms = HOUR_MS
    watch.states("healthy", "healthy")

    assert [(1, "healthy"), (2, "down"), (3, "healthy")] == watch.turns()


def test_turns_of_one_millisecond_keep_their_order(watch: Watch) -> None:
    for status in ("healthy", "down", "down", "healthy", "healthy", "degraded", "degraded"):
        watch.keep(status)

    assert ["healthy", "down", "healthy", "degraded"] == [turn.state for turn in watch.health.turns("nas", 0)]


def test_what_was_told_is_remembered(watch: Watch) -> None:
    watch.states("healthy", "down")
    watch.health.tell("nas", "healthy")

    assert Standing("down", BEGAN + 2 * MINUTE, "healthy") == watch.look("down")


def test_a_detail_from_outside_is_one_short_line(watch: Watch) -> None:
    watch.look("down", detail="one\n|two|\x00" + "x" * 10_000)
    watch.look("down", detail="one\n|two|\x00" + "x" * 10_000)

    [turn] = watch.health.turns("nas", 0)

    assert turn.detail.startswith("one |two|\x00xxx")
    assert 300 == len(turn.detail)
    assert "down" == turn.state


def test_thirty_days_are_kept_and_no_more(watch: Watch) -> None:
    for day in range(40):
        watch.clock.move_to(BEGAN + day * DAY)
        watch.states("healthy", "down", "down", "healthy", "healthy")

    now = watch.clock.now_ms()
    turns = watch.health.turns("nas", 0)

    # The last turn before that time says how things were when it begins.
    assert 1 == sum(turn.at <= now - 30 * DAY for turn in turns)
    assert 30 == len(watch.health.hours("nas", 0))
    assert {"health_check:nas", "health_turns:nas", "health_hours:nas"} == {
        key.decode().removeprefix("{jc}:") for key in watch.store.client.keys("{jc}:health*")
    }
    assert all(
        0 < watch.store.client.pttl(key) <= 31 * DAY for key in watch.store.client.keys("{jc}:health*")
    )


def test_what_flaps_for_days_stays_small(watch: Watch) -> None:
    for batch in range(6):
        earlier = {f"{BEGAN - n}|down|": BEGAN - n for n in range(batch * 1_000, (batch + 1) * 1_000)}
        watch.store.client.zadd("{jc}:health_turns:nas", earlier)

    watch.states("healthy", "down", "down")

    assert 5_000 == watch.store.client.zcard("{jc}:health_turns:nas")
    assert [(1, "healthy"), (2, "down")] == watch.turns()[-2:]


def test_a_week_adds_up(watch: Watch) -> None:
    """One look a minute; Tuesday 01:00 to 01:30 down, Wednesday an hour degraded, Friday the fleet is off."""
    restarts = 0
    for minute in range(1, 7 * 1_440 + 1):
        day, within = divmod(minute, 1_440)
        if day == 4:
            continue
        watch.clock.move_to(BEGAN + minute * MINUTE)
        if day == 1 and 60 <= within < 90:
            watch.keep("down", detail="answers 503", latency_ms=None)
        elif day == 2 and 120 <= within < 180:
            watch.keep("degraded", detail="is slow", latency_ms=900.0)
        elif day == 3 and within == 300:
            restarts += 2
            watch.keep("unknown", detail="was ended by SIGSEGV", latency_ms=None, restarts=2)
        else:
            watch.keep("healthy", latency_ms=10.0)

    report = watch.report(BEGAN)

    assert watch.clock.now_ms() == BEGAN + 7 * DAY
    down, degraded, off = 30 * MINUTE, 60 * MINUTE, DAY
    # The minute before the first look is unknown as well; the last look before Friday holds for its period.
    assert {
        "healthy": 7 * DAY - down - degraded - off - MINUTE, "degraded": degraded, "down": down,
        "unknown": off + MINUTE,
    } == report.in_state_ms  # fmt: skip
    assert pytest.approx(1 - down / (6 * DAY - MINUTE)) == report.uptime
    assert (
        Incident(BEGAN + DAY + 60 * MINUTE, BEGAN + DAY + 90 * MINUTE, "down", "answers 503"),
        Incident(BEGAN + 2 * DAY + 120 * MINUTE, BEGAN + 2 * DAY + 180 * MINUTE, "degraded", "is slow"),
    ) == report.incidents
    assert (6 * 1_440, 30 + 60 + 1, 2) == (report.looks, report.bad_looks, restarts)
    assert (2, 900.0) == (report.restarts, report.most_ms)
    assert watch.store.client.memory_usage("{jc}:health_hours:nas") < 20_000


def test_a_report_of_a_check_that_never_looked_knows_nothing(watch: Watch) -> None:
    watch.clock.move_to(BEGAN + DAY)

    report = watch.report(BEGAN)

    assert (None, (), 0, None) == (report.uptime, report.incidents, report.looks, report.mean_ms)
    assert {"healthy": 0, "degraded": 0, "unknown": DAY, "down": 0} == report.in_state_ms
