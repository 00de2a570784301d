"""docs/controls.md: each block on it has at most five lines, is accepted as it stands and does as it says."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from celery import Celery

import joelclaw_tasks
from joelclaw_tasks.broker.declared import declared_specs
from joelclaw_tasks.core.spec import RulesSpec, WindowSpec
from joelclaw_tasks.errors import InvalidEvent
from tests.controls.lab import Lab, registry_of

PAGE = Path(__file__).resolve().parents[2] / "docs" / "controls.md"


def blocks() -> dict[str, str]:
    """The JSON block under each heading of the page."""
    sections = PAGE.read_text().split("\n### ")[1:]
    return {
        section.partition("\n")[0]: section.partition("```json\n")[2].partition("```")[0]
        for section in sections
        if "```json" in section
    }


BLOCKS = blocks()


def dedup(lab: Lab) -> None:
    first, again = lab.emit({"delivery": 7}), lab.emit({"delivery": 7})
    assert ("admitted", "duplicate") == (first.decision, again.decision)
    lab.now += 3_600_000
    assert "admitted" == lab.emit({"delivery": 7}).decision


def throttle(lab: Lab) -> None:
    decisions = [lab.emit({"user": user}).decision for user in ("ann", "bob", "ann")]
    assert ["admitted", "admitted", "throttled"] == decisions


def singleton(lab: Lab) -> None:
    lab.emit({"repo": "a", "n": 1})
    lab.step()
    lab.emit({"repo": "a", "n": 2})
    lab.emit({"repo": "a", "n": 3})
    lab.step()
    assert [1] == [one.events[0]["data"]["n"] for one in lab.history.starts]
    assert [one.tag for one in lab.running] == lab.store.asked("w1")
    lab.drain()
    assert [1, 3] == [one.events[0]["data"]["n"] for one in lab.history.starts]


def debounce(lab: Lab) -> None:
    calls = [lab.emit({"path": "p", "n": n}) for n in range(3)]
    assert ["scheduled", "debounced", "debounced"] == [call.decision for call in calls]
    assert {calls[0].job} == {call.into for call in calls[1:]}
    lab.drain()
    assert [2] == [one.events[0]["data"]["n"] for one in lab.history.starts]


def batch(lab: Lab) -> None:
    calls = [lab.emit({"index": "i", "n": n}) for n in range(120)]
    assert {"batched"} == {call.decision for call in calls}
    lab.drain()
    assert [100, 20] == [len(one.events) for one in lab.history.starts]
    assert list(range(120)) == [event["data"]["n"] for one in lab.history.starts for event in one.events]


def delay_and_expires(lab: Lab) -> None:
    lab.emit({"n": 1})
    lab.emit({"n": 2}, delay_s=1)
    lab.emit({"n": 3}, delay_s=60, expires_s=30)
    lab.step(9_999)
    assert [2] == [one.events[0]["data"]["n"] for one in lab.history.starts]
    lab.step(1)
    lab.drain()
    assert [2, 1] == [one.events[0]["data"]["n"] for one in lab.history.starts]


def limit(lab: Lab) -> None:
    for n in range(4):
        lab.emit({"repo": n // 2})
    lab.step(most=9)
    assert 2 == len(lab.running), "a repository at a time, and two users of the NAS"


def rate(lab: Lab) -> None:
    for _ in range(50):
        lab.emit({"account": "a"})
    lab.step(1, most=50)
    assert 20 == len(lab.running)
    lab.step(500, most=50)
    assert 5 == len(lab.running)


def share(lab: Lab) -> None:
    for n in range(50):
        lab.emit({"tenant": "free", "n": n})
    lab.emit({"tenant": "paying", "n": 50})
    lab.drain()
    order = [one.events[0]["data"]["tenant"] for one in lab.history.starts]
    assert order.index("paying") < 5


def priority(lab: Lab) -> None:
    call = lab.emit({})
    assert "P0" == lab.store.inspect(call.job)["priority"]
    assert "P3" == lab.store.inspect(lab.emit({}, priority="P3").job)["priority"]


def time_limits(lab: Lab) -> None:
    assert [90, 60] == lab.store.inspect(lab.emit({}).job)["payload"]["headers"]["timelimit"]


def retries(lab: Lab) -> None:
    assert ("FetchFailed", "OSError") == lab.registry.handler("h").retries.retry_on


SCENARIOS: dict[str, Callable[[Lab], None]] = {
    "dedup": dedup, "throttle": throttle, "singleton": singleton, "debounce": debounce, "batch": batch,
    "delay and expires": delay_and_expires, "limit": limit, "rate": rate, "share": share,
    "priority": priority, "time limits": time_limits, "retries": retries,
}  # fmt: skip


def test_every_control_of_the_page_is_shown_and_run_here():
    assert set(BLOCKS) == set(SCENARIOS) | {"cancel_on"}


@pytest.mark.parametrize("heading", BLOCKS)
def test_a_control_is_shown_in_at_most_five_lines(heading):
    assert len(BLOCKS[heading].splitlines()) <= 5


@pytest.mark.parametrize("heading", SCENARIOS)
def test_the_block_does_what_the_page_says(redis_url, heading):
    lab = Lab(redis_url, **json.loads(BLOCKS[heading]))
    try:
        SCENARIOS[heading](lab)
    finally:
        lab.close()


def test_the_block_of_cancel_on_does_what_the_page_says(redis_url):
    [one] = json.loads(BLOCKS["cancel_on"])["cancel_on"]
    lab = Lab(redis_url, cancel_on=[one | {"event": "stop", "match": "data.c"}])
    try:
        first, other = lab.emit({"id": 1}), lab.emit({"id": 2})
        lab.withdraw(1)
        assert ["cancelled", "available"] == [lab.store.inspect(call.job)["state"] for call in (first, other)]
        assert "order/withdrawn" == one["event"]
    finally:
        lab.close()


class Private(Celery):
    """An app whose tasks do not appear in every other app of this process."""

    def task(self, *args, **options):
        return super().task(*args, **{"shared": False, **options})


def test_the_block_of_plain_tasks_does_what_the_page_says(redis_url):
    block = PAGE.read_text().partition("```python\n")[2].partition("```")[0]
    assert 1 < len(block.splitlines()) <= 5
    app = joelclaw_tasks.install(Private("page", broker=redis_url, set_as_current=False))
    try:
        names = {"app": app}
        exec(block, names)
        [spec] = declared_specs(app).values()
        assert RulesSpec(dedup=WindowSpec(60_000, "args[0]")) == spec.rules
        [job] = Lab(redis_url).store.list_jobs()
        assert "P0" == job["priority"]
        names["fetch"].delay("https://example.org")
        assert 1 == len(Lab(redis_url).store.list_jobs())
    finally:
        app.close()


def test_an_event_whose_key_is_an_object_is_refused_and_one_without_a_key_is_free(redis_url):
    lab = Lab(redis_url, dedup={"key": "data.k", "window_s": 60})
    try:
        with pytest.raises(InvalidEvent, match="finds an object"):
            lab.emit({"k": {}})
        assert ["admitted", "admitted"] == [lab.emit(data).decision for data in ({}, {"k": None})]
        assert 2 == lab.store.queue_size("q")
    finally:
        lab.close()


def test_the_keys_of_many_values_expire(redis_url):
    lab = Lab(redis_url, dedup={"key": "data.k", "window_s": 50}, debounce={"key": "data.d", "wait_s": 0.05})
    try:
        for n in range(300):
            lab.emit({"k": n, "d": n})
        assert 600 == len(lab.raw.keys("{jc}:rule:*"))
        assert all(0 < lab.raw.pttl(key) <= 70_000 for key in lab.raw.keys("{jc}:rule:*"))
        lab.now += 1_000
        while lab.store.queue_size("q"):
            lab.store.complete([job.tag for job in lab.store.claim(["q"], 100, "w1").jobs])
        assert not [key for key in lab.raw.keys("{jc}:*") if key.startswith((b"{jc}:lane", b"{jc}:topic"))]
    finally:
        lab.close()


@pytest.mark.parametrize("expires_s", [0, -1, "1", 10**9, float("nan")])
def test_an_expiry_out_of_bounds_is_refused(redis_url, expires_s):
    lab = Lab(redis_url)
    try:
        with pytest.raises(InvalidEvent, match="expires_s"):
            lab.emit({}, expires_s=expires_s)
    finally:
        lab.close()


def test_what_the_page_says_is_refused(redis_url):
    key = {"key": "data.k"}
    for controls in (
        {"batch": {"size": 2, "max_wait_s": 1}, "singleton": {}},
        {"dedup": {"window_s": 9, **key}, "debounce": {"wait_s": 1, **key}},
        {"expires_s": 1, "delay_s": 2},
    ):
        with pytest.raises(AssertionError, match=r"contradict|same key|not more than"):
            registry_of(**controls)
