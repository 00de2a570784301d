"""Pulse: rates from the tail of the stream, and a look whose cost does not grow."""

from __future__ import annotations

import pytest

from joelclaw_tasks.core.history import Entry
from joelclaw_tasks.core.job import Job
from joelclaw_tasks.core.store import Store
from joelclaw_tasks.errors import CoreUnreachable
from joelclaw_tasks.settings import Settings
from joelclaw_tasks.telemetry.pulse import rates_of, take_pulse
from tests.conftest import free_port

NOW = 1_000_000


def entry(age_ms, verb="claim", family="a", to="executing"):
    return Entry("1-0", {"verb": verb, "at": str(NOW - age_ms), "family": family, "to": to})


def test_nothing_that_happened_has_no_rate():
    assert {0} == set(rates_of([], NOW, is_whole=True)["all"].values())


def test_rates_are_those_of_the_last_ten_seconds():
    tail = [entry(1), entry(5_000), entry(9_999, family="b"), entry(10_001), entry(60_000)]

    rates = rates_of(tail, NOW, is_whole=False)

    assert 0.3 == rates["all"]["started"]
    assert {"a": 0.2, "b": 0.1} == {name: each["started"] for name, each in rates["families"].items()}


def test_a_tail_that_covers_less_counts_for_what_it_covers():
    tail = [entry(age_ms) for age_ms in range(1, 501)]

    assert 1_000.0 == rates_of(tail, NOW, is_whole=False)["all"]["started"]
    assert 50.0 == rates_of(tail, NOW, is_whole=True)["all"]["started"]


def test_calls_that_were_turned_away_are_not_admitted():
    tail = [entry(1, "admit", to=to) for to in ("available", "scheduled", "", "discarded")]

    assert 0.2 == rates_of(tail, NOW, is_whole=True)["all"]["admitted"]


def test_entries_of_a_clock_ahead_of_ours_are_the_newest():
    assert 0.1 == rates_of([entry(-5_000)], NOW, is_whole=True)["all"]["started"]


def jobs(first, count):
    return [
        Job(f"{n}", "q", f"fam{n % 5}", "", f"lane{n % 400}", "{}", priority=n % 4)
        for n in range(first, first + count)
    ]


def test_a_look_costs_no_more_with_ten_times_the_jobs(redis_url, client):
    store = Store.connect(Settings(redis_url=redis_url))
    client.config_resetstat()  # other tests use the same server

    def commands():
        before = client.info("stats")["total_commands_processed"]
        picture = take_pulse(store)
        return picture, client.info("stats")["total_commands_processed"] - before

    store.admit(jobs(0, 1_000))
    _, few = commands()
    for first in range(1_000, 10_000, 1_000):
        store.admit(jobs(first, 1_000))
    picture, many = commands()

    assert 10_000 == picture["total"]
    assert many <= few
    assert set() == {"cmdstat_scan", "cmdstat_keys", "cmdstat_sscan"} & set(client.info("commandstats"))
    store.client.close()


def test_each_family_has_its_rates_and_failures_have_their_errors(redis_url):
    store = Store.connect(Settings(redis_url=redis_url))
    store.admit([Job("a", "q", "fam", "", "lane", "{}")])
    [job] = store.claim(["q"], 1, "w").jobs
    store.discard(job.tag, "Traceback\nValueError: no")

    picture = take_pulse(store)

    [family] = picture["families"]
    assert (0.1, 0.1, 0.1) == tuple(family["rates"][name] for name in ("admitted", "started", "failed"))
    [failure] = picture["failures"]
    assert ("a", "Traceback\nValueError: no") == (failure["id"], failure["error"])
    store.client.close()


def test_a_redis_that_is_not_there_is_unreachable():
    with pytest.raises(CoreUnreachable):
        take_pulse(Store.connect(Settings(redis_url=f"redis://127.0.0.1:{free_port()}/0")))
