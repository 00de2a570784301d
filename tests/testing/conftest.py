"""A registry of handlers that behave as a test wants."""

from __future__ import annotations

import pytest

from joelclaw_tasks.core.spec import (
    BatchSpec,
    ConcurrencySpec,
    DebounceSpec,
    EventSpec,
    HandlerSpec,
    RateSpec,
    RetrySpec,
    RulesSpec,
    WindowSpec,
)
from joelclaw_tasks.registry import Registry

RETRIES = RetrySpec(max=2, base_s=10.0, cap_s=15.0)


@pytest.fixture(autouse=True)
def _no_running_fleet(monkeypatch, tmp_path):
    """What a developer has set for his own fleet does not matter here."""
    monkeypatch.setenv("JOELCLAW_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("REDIS_URL", raising=False)


@pytest.fixture
def registry():
    def event(family, function, **more):
        name = family.replace("/", ".")
        handler = HandlerSpec(
            name, "task", f"tests.testing.acts:{function}", "default", retries=RETRIES, **more
        )
        return EventSpec(family, family, 2, (handler,))

    return Registry(
        [
            event("test/done", "succeed"),
            event("test/start", "follow"),
            event("test/broken", "fail"),
            event("test/early", "fail_until"),
            event("test/refused", "refuse"),
            event("test/echo", "echo"),
            event("test/slow", "wait", concurrency=(ConcurrencySpec(1),)),
            event("test/settled", "succeed", rules=RulesSpec(debounce=DebounceSpec(10_000, 60_000))),
            event("test/first", "succeed", rules=RulesSpec(throttle=WindowSpec(3_600_000))),
            event("test/short", "succeed", rules=RulesSpec(expires_ms=60_000)),
            event("test/heap", "gather", rules=RulesSpec(batch=BatchSpec(3, 60_000))),
            event("test/rated", "succeed", rate=(RateSpec(1, 60_000),)),
        ]
    )
