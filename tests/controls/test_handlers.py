"""Controls that the worker has a part in, with handlers of a registry and a real worker."""

from __future__ import annotations

from typing import Any

import pytest

from joelclaw_tasks import testing
from joelclaw_tasks.core.spec import (
    BatchSpec,
    EventSpec,
    HandlerSpec,
    RetrySpec,
    RulesSpec,
    SingletonSpec,
)
from joelclaw_tasks.registry import Registry
from tests.conftest import wait_until
from tests.controls.acts import SEEN

RETRIES = RetrySpec(max=1, base_s=0.01, cap_s=0.02, retry_on=("LookupError", "ValueError"))


def event(name: str, function: str, rules: RulesSpec | None = None) -> EventSpec:
    target = f"tests.controls.acts:{function}"
    handler = HandlerSpec(f"{name}.h", "task", target, "default", retries=RETRIES, rules=rules)
    return EventSpec(name, name, 2, (handler,))


@pytest.fixture
def fleet(tmp_path, monkeypatch):
    monkeypatch.setenv("JOELCLAW_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("REDIS_URL", raising=False)
    SEEN.clear()
    registry = Registry(
        [
            event("heap", "gather", RulesSpec(batch=BatchSpec(4, 60_000))),
            event("flop", "fail"),
            event("only", "last", RulesSpec(singleton=SingletonSpec(cancel=True))),
        ]
    )
    with testing.fleet(registry, data_dir=tmp_path) as fleet:
        yield fleet


def states(fleet: Any, receipts: list[Any]) -> list[str]:
    return [fleet.store.inspect(receipt.jobs[0].job_id)["state"] for receipt in receipts]


def test_elements_that_failed_go_on_alone(fleet):
    receipts = [fleet.emit("heap", {"n": n}) for n in (1, "bad", "worse", 4)]
    assert {"batched"} == {receipt.jobs[0].decision for receipt in receipts}
    fleet.advance(1)
    fleet.assert_discarded("heap.h")

    assert [[1, "bad", "worse", 4], ["bad"]] == SEEN
    assert ["completed", "discarded", "discarded", "completed"] == states(fleet, receipts)
    bad, worse = (fleet.store.inspect(receipts[n].jobs[0].job_id) for n in (1, 2))
    assert ("ValueError: bad one", "PermanentFailure: worse") == (bad["error"], worse["error"])


def test_only_named_errors_are_tried_again(fleet):
    receipts = [fleet.emit("flop", {"n": n}) for n in ("key", "bad", "worse")]
    fleet.advance(1)
    fleet.assert_discarded("flop.h")
    assert ["discarded"] * 3 == states(fleet, receipts)
    assert {"key": 2, "bad": 2, "worse": 1} == {n: SEEN.count(n) for n in ("key", "bad", "worse")}


def test_a_newer_event_stops_the_handler_that_runs(fleet):
    receipts = [fleet.emit("only", {"n": 1})]
    wait_until(lambda: SEEN == [1], "the first runs", 15)
    receipts.append(fleet.emit("only", {"n": 0}))
    wait_until(lambda: SEEN == [1, 0], "the second runs", 15)
    fleet.wait_idle()
    assert ["cancelled", "completed"] == states(fleet, receipts)
