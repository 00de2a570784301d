"""Rules of admission in registry files: read, defaulted, and refused when they contradict each other."""

from __future__ import annotations

from typing import Any

import pytest

from joelclaw_tasks.core.spec import (
    BatchSpec,
    CancelOnSpec,
    DebounceSpec,
    RulesSpec,
    SingletonSpec,
    WindowSpec,
)

WINDOW = {"key": "data.a", "window_s": 60}
SINGLETON = {"key": "data.a"}
DEBOUNCE = {"key": "data.a", "wait_s": 5}
BATCH = {"key": "data.a", "size": 10, "max_wait_s": 5}


@pytest.mark.parametrize(
    ("changes", "rules"),
    [
        ({"dedup": WINDOW}, RulesSpec(dedup=WindowSpec(60_000, "data.a"))),
        ({"throttle": {"window_s": 0.5}}, RulesSpec(throttle=WindowSpec(500))),
        ({"singleton": {}}, RulesSpec(singleton=SingletonSpec())),
        ({"singleton": SINGLETON | {"mode": "cancel"}}, RulesSpec(singleton=SingletonSpec(True, "data.a"))),
        ({"debounce": DEBOUNCE}, RulesSpec(debounce=DebounceSpec(5_000, 50_000, "data.a"))),
        (
            {"debounce": DEBOUNCE | {"max_wait_s": 5}},
            RulesSpec(debounce=DebounceSpec(5_000, 5_000, "data.a")),
        ),
        ({"batch": BATCH}, RulesSpec(batch=BatchSpec(10, 5_000, "data.a"))),
        (
            {"cancel_on": [{"event": "x", "match": "data.a"}, {"event": "y", "match": "data.b", "of": "id"}]},
            RulesSpec(cancel_on=(CancelOnSpec("x", "data.a", "data.a"), CancelOnSpec("y", "data.b", "id"))),
        ),
        ({"expires_s": 60, "delay_s": 1}, RulesSpec(expires_ms=60_000, delay_ms=1_000)),
        ({}, None),
        ({"cancel_on": []}, None),
    ],
)
def test_a_rule_becomes_its_spec(directory: Any, changes: dict[str, Any], rules: RulesSpec | None) -> None:
    events = [{"name": name, "description": "d", "priority": "P2"} for name in ("x", "y")]
    for number, event in enumerate(events):
        handler = {"name": f"h{number}", "type": "task", "target": "os.path:join"}
        directory.write_event(**event, handlers=[handler])
    directory.write_handler(**changes)
    assert rules == directory.load().handler("mail.send").rules


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"batch": BATCH, "singleton": {}}, "handlers[0]: batch and singleton contradict"),
        ({"batch": BATCH, "debounce": DEBOUNCE}, "handlers[0]: batch and debounce contradict"),
        ({"dedup": WINDOW, "debounce": DEBOUNCE}, "handlers[0]: dedup and debounce have the same key"),
        ({"throttle": WINDOW, "batch": BATCH}, "handlers[0]: throttle and batch have the same key"),
        ({"debounce": DEBOUNCE, "expires_s": 5}, "handlers[0]: expires_s (5) is not more than the 5 s"),
        ({"delay_s": 9, "expires_s": 5}, "handlers[0]: expires_s (5) is not more than the 9 s"),
        (
            {"debounce": DEBOUNCE | {"max_wait_s": 1}},
            "handlers[0].debounce: max_wait_s (1) is less than wait_s",
        ),
        ({"dedup": {"key": "data.["}}, 'handlers[0].dedup.key: "data.[" is not a JMESPath expression'),
        ({"dedup": {"key": "path", "window_s": 1}}, "handlers[0].dedup.key: \"path\" reads 'path', which no"),
        (
            {"dedup": {"windows": 1}},
            'handlers[0].dedup.windows: is not a known field; did you mean "window_s"?',
        ),
        ({"dedup": {}}, "handlers[0].dedup.window_s: is missing"),
        ({"singleton": {"mode": "x"}}, 'handlers[0].singleton.mode: must be "skip" or "cancel", not "x"'),
        ({"batch": BATCH | {"size": 0}}, "handlers[0].batch.size: must be at least 1"),
        ({"batch": BATCH | {"size": 10_001}}, "handlers[0].batch.size: must be at most 10000"),
        (
            {"cancel_on": [{"event": "mail/receivd", "match": "id"}]},
            'handlers[0].cancel_on[0].event: "mail/rec',
        ),
        ({"timeout_s": 9, "hard_timeout_s": 8}, "handlers[0]: hard_timeout_s (8) is less than timeout_s (9)"),
        (
            {"retries": {"retry_on": ["no name"]}},
            'handlers[0].retries.retry_on[0]: "no name" is not the name',
        ),
        (
            {"concurrency": [{"limit": 1, "weight": 2}], "batch": BATCH},
            "handlers[0].concurrency[0]: weight (2)",
        ),
    ],
)
def test_rules_that_cannot_be_meant_are_refused_and_say_what_to_do(
    directory: Any, changes: dict[str, Any], fault: str
) -> None:
    directory.write_handler(**changes)
    assert [found for found in directory.faults() if fault in found] != [], directory.faults()


def test_time_limits_are_named_and_the_hard_one_leaves_time_to_clean_up(directory: Any) -> None:
    directory.write_handler(timeout_s=10)
    assert (10.0, 15.0) == directory.load().handler("mail.send").time_limits_s
    directory.write_handler(timeout_s=10, hard_timeout_s=11)
    assert (10.0, 11.0) == directory.load().handler("mail.send").time_limits_s
    directory.write_handler(hard_timeout_s=11)
    assert (None, 11.0) == directory.load().handler("mail.send").time_limits_s
