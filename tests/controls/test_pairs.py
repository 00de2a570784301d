"""Every pair of controls on one handler: the same events, and both still hold."""

from __future__ import annotations

from collections import Counter
from itertools import combinations, pairwise
from typing import Any

import pytest

from joelclaw_tasks.registry_schema import read_event
from tests.controls.lab import START_MS, STEP_MS, History, Lab

#: What each control declares; each reads a field of its own of the data.
CONTROLS: dict[str, dict[str, Any]] = {
    "dedup": {"dedup": {"key": "data.a", "window_s": 1}},
    "throttle": {"throttle": {"key": "data.b", "window_s": 0.5}},
    "skip": {"singleton": {"key": "data.c", "mode": "skip"}},
    "cancel": {"singleton": {"key": "data.c", "mode": "cancel"}},
    "debounce": {"debounce": {"key": "data.d", "wait_s": 0.3, "max_wait_s": 1}},
    "batch": {"batch": {"key": "data.e", "size": 3, "max_wait_s": 0.6}},
    "cancel_on": {"cancel_on": [{"event": "stop", "match": "data.c", "of": "data.f"}]},
    "expires": {"expires_s": 0.8},
    "delay": {"delay_s": 0.2},
    "limit": {"concurrency": [{"limit": 2}, {"limit": 1, "key": "data.g"}], "resources": ["nas"]},
    "weight": {"resources": [{"name": "nas", "weight": 2}]},
    "rate": {"rate": [{"limit": 10, "period_s": 1, "burst": 2}]},
    "share": {"share": {"key": "data.h", "weights": {"1": 2}}},
    "priority": {"priority": "P0"},
    "times": {"timeout_s": 7, "hard_timeout_s": 9},
    "retry": {"retries": {"max": 1}},
    "pause": {},
}
REFUSED = {("skip", "batch"), ("cancel", "batch"), ("debounce", "batch")}
SAME_FIELD = {("skip", "cancel"), ("limit", "weight")}
PAIRS = [pair for pair in combinations(CONTROLS, 2) if pair not in SAME_FIELD]


def run(url: str, names: tuple[str, ...]) -> Lab:
    """Forty events in four seconds, with an operator who pauses and events that cancel."""
    controls: dict[str, Any] = {}
    for name in names:
        controls |= CONTROLS[name]
    lab = Lab(url, **controls)
    if "retry" in names:
        lab.to_retry = {3, 17}
    for number in range(40):
        lab.emit({
            "n": number, "a": number % 5, "b": number % 4, "c": number % 3, "d": number % 2, "e": number % 2,
            "f": number % 3, "g": number % 4, "h": "1" if number % 5 else "2",
        })  # fmt: skip
        if number == 15 and "pause" in names:
            lab.store.pause("pause:handler/h", actor="t", reason="", ttl_ms=60_000)
            lab.history.paused.append((lab.now, lab.now + 12 * STEP_MS * 2))
        if number == 27 and "pause" in names:
            assert lab.store.resume("pause:handler/h", actor="t")
        if number in (12, 30) and "cancel_on" in names:
            lab.withdraw(1)
        for _ in range(2):
            lab.step(most=2 if "expires" in names else 3)
    lab.drain()
    return lab


def started(history: History) -> Counter[int]:
    """How often each event was started, by its number; retries not counted."""
    return Counter(
        event["data"]["n"] for start in history.starts if not start.is_retry for event in start.events
    )


def spaced(history: History, key: str, word: str, window_ms: int) -> None:
    by_key: dict[Any, list[int]] = {}
    for call in history.calls:
        accepted = by_key.setdefault(call.data[key], [])
        if call.is_accepted:
            assert not accepted or call.at - accepted[-1] >= window_ms
            accepted.append(call.at)
        elif call.decision == word:
            assert accepted
            assert call.at - accepted[-1] < window_ms


def check_dedup(history: History) -> None:
    spaced(history, "a", "duplicate", 1_000)


def check_throttle(history: History) -> None:
    spaced(history, "b", "throttled", 500)


def overlaps(history: History, key: str) -> list[int]:
    """Most jobs of one key value that ran at once, by value."""
    most = []
    for value in {start.events[0]["data"][key] for start in history.starts}:
        runs = [start for start in history.starts if start.events[0]["data"][key] == value]
        most.append(max(sum(one.at <= at.at < one.until for one in runs) for at in runs))
    return most


def check_skip(history: History) -> None:
    assert set(overlaps(history, "c")) <= {1}
    skipped = [call for call in history.calls if call.decision == "skipped"]
    accepted = {call.job for call in history.calls if call.is_accepted}
    assert all(call.job not in accepted for call in skipped)


def check_cancel(history: History) -> None:
    assert set(overlaps(history, "c")) <= {1}


def check_debounce(history: History) -> None:
    for value in (0, 1):
        calls = [call for call in history.accepted() if call.data["d"] == value]
        for start in (one for one in history.starts if not one.is_retry):
            [event] = start.events
            if event["data"]["d"] != value:
                continue
            group = [call for call in calls if start.job in (call.job, call.into)]
            assert group[-1].data["n"] == event["data"]["n"], "the last data win"
            due = min(group[-1].at + 300, group[0].at + 1_000)
            assert start.at >= due
            assert all(b.at - a.at < 1_000 for a, b in pairwise(group))


def check_batch(history: History) -> None:
    for start in history.starts:
        assert len(start.events) <= 3
        assert 1 == len({event["data"]["e"] for event in start.events})
    assert all(call.decision == "batched" for call in history.accepted())


def check_cancel_on(history: History) -> None:
    for at, value in history.withdrawn:
        for start in history.starts:
            for event in start.events:
                if event["data"]["f"] == value and event["at_ms"] <= at and not start.is_retry:
                    # A batch that has opened and what runs go on.
                    opened = len(start.events) > 1 or "batch:" in start.job
                    assert start.at <= at or opened, (event, start.at)


def check_expires(history: History) -> None:
    for start in (one for one in history.starts if not one.is_retry):
        assert start.at < max(event["at_ms"] for event in start.events) + 800


def check_delay(history: History) -> None:
    for start in history.starts:
        assert start.at >= max(event["at_ms"] for event in start.events) + 200


def running_at(history: History, at: int) -> int:
    return sum(one.at <= at < one.until for one in history.starts)


def check_limit(history: History) -> None:
    assert max((running_at(history, one.at) for one in history.starts), default=0) <= 2
    assert set(overlaps(history, "g")) <= {1}


def check_weight(history: History) -> None:
    assert max((running_at(history, one.at) for one in history.starts), default=0) <= 1


def check_rate(history: History) -> None:
    times = sorted(one.at for one in history.starts)
    for first in range(len(times)):
        for last in range(first, len(times)):
            assert last - first + 1 <= 2 + (times[last] - times[first]) // 100


def check_share(history: History) -> None:
    # Turns are taken by lanes, so each tenant must have lanes of its own; the page's test looks at the order.
    lanes = {
        tenant: {one.inspected["lane"] for one in history.starts if one.events[0]["data"]["h"] == tenant}
        for tenant in ("1", "2")
    }
    assert not lanes["1"] & lanes["2"]


def check_priority(history: History) -> None:
    assert {"P0"} >= {one.inspected["priority"] for one in history.starts}


def check_times(history: History) -> None:
    for one in history.starts:
        payload = one.inspected["payload"]
        for message in payload.get("jc_batch", [payload]):
            assert [9, 7] == message["headers"]["timelimit"]


def check_retry(history: History) -> None:
    again = Counter(one.job for one in history.starts)
    assert all(count <= 2 for count in again.values())
    retried = [one for one in history.starts if one.is_retry]
    assert {one.job for one in retried} == {job for job, count in again.items() if count == 2}


def check_pause(history: History) -> None:
    for from_at, until_at in history.paused:
        assert not [one.at for one in history.starts if from_at < one.at < until_at]


#: Controls that may take away what was accepted.
LOSSY = {"cancel", "cancel_on", "expires"}


def check_nothing_is_lost(history: History, names: tuple[str, ...]) -> None:
    counts = started(history)
    assert all(count == 1 for count in counts.values())
    accepted = history.accepted()
    if "debounce" in names:
        accepted = [call for call in accepted if call.decision != "debounced"]
        if not LOSSY & set(names):
            assert len(counts) == len(accepted)
    elif not LOSSY & set(names):
        assert {call.data["n"] for call in accepted} == set(counts)


@pytest.mark.parametrize("names", [(name,) for name in CONTROLS], ids=list(CONTROLS))
def test_each_control_acts_and_holds_alone(redis_url, names):
    lab = run(redis_url, names)
    try:
        history = lab.history
        globals()[f"check_{names[0]}"](history)
        check_nothing_is_lost(history, names)
        expected = {"dedup": "duplicate", "throttle": "throttled", "skip": "skipped", "debounce": "debounced",
                    "batch": "batched", "delay": "scheduled"}  # fmt: skip
        if names[0] in expected:
            assert expected[names[0]] in {call.decision for call in history.calls}
        if names[0] in LOSSY:
            assert len(started(history)) < 40
        if names[0] == "retry":
            assert 2 == sum(one.is_retry for one in history.starts)
    finally:
        lab.close()


@pytest.mark.parametrize("names", PAIRS, ids="+".join)
def test_two_controls_hold_together(redis_url, names):
    if names in REFUSED:
        handler = {"name": "h", "type": "task", "target": "os.path:join"}
        handler |= CONTROLS[names[0]] | CONTROLS[names[1]]
        _, faults = read_event({"name": "x", "description": "d", "priority": "P2", "handlers": [handler]})
        assert ["contradict" in text for _, text in faults] == [True]
        return
    lab = run(redis_url, names)
    try:
        for name in names:
            globals()[f"check_{name}"](lab.history)
        check_nothing_is_lost(lab.history, names)
        assert lab.history.starts
        assert lab.now > START_MS
        left = [key.decode() for key in lab.raw.keys("{jc}:*")]
        assert not [key for key in left if key.startswith(("{jc}:running", "{jc}:lane:", "{jc}:asked"))]
    finally:
        lab.close()
