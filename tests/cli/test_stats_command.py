"""joelclaw queue stats against a real Redis."""

from __future__ import annotations

import time
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from joelclaw_tasks.cli.envelope import CommandFailed, ExitCode
from joelclaw_tasks.cli.span import span_of
from joelclaw_tasks.core.rules import Rules, Triage
from joelclaw_tasks.core.score import Score
from joelclaw_tasks.core.store import Store
from tests.cli.conftest import JoelclawProcess
from tests.cli.test_queue_commands import plain_job

NOW = 1_772_911_999_000


def test_the_figures_come_from_what_really_happened(joelclaw: JoelclawProcess, store: Store) -> None:
    store.admit([plain_job("good"), plain_job("bad"), plain_job("waits")])
    tags = [job.tag for job in store.claim(["default"], 2, "w").jobs]
    store.complete(tags[:1])
    store.discard(tags[1], "Traceback\nValueError: no")

    result = joelclaw("queue", "stats").result

    assert result["dispatches"]["started"] == 2
    assert result["dispatches"]["success_rate"] == 0.5
    assert result["queue_latency_ms"]["count"] == 2
    assert result["queue_latency_ms"]["within_target"] is True
    assert result["current_depth"]["total"] == 1
    assert [family["name"] for family in result["event_families"]] == ["shop.tasks.add"]
    [failure] = result["recent_failures"]
    assert failure["error"] == "Traceback\nValueError: no"
    assert result["window"]["found"] == 7
    assert result["window"]["truncated"] is False
    assert result["triage"]["attempts"] == 0


def test_what_triage_did_is_readable_and_absent_where_there_is_none(
    joelclaw: JoelclawProcess, store: Store
) -> None:
    rules = Rules(triage=Triage(hold_ms=60_000)).encode()
    store.admit([replace(plain_job(name), rules=rules) for name in ("good", "bad")])
    assert "triage" not in joelclaw.on_terminal("queue", "stats").screen
    note = {"score": 90, "was": "P2", "suggested": "P1", "route_check": "mismatch", "reasoning": "Not it."}
    note |= {"latency_ms": 321, "cost_usd": 0.0021}
    store.score([Score("good", note, 60_000, 1), Score("bad", {"fallback": "timeout"})], actor="triage")

    seen = joelclaw.on_terminal("queue", "stats")

    assert "1 of 2 scored" in seen.screen
    assert "1 moved a priority" in seen.screen
    assert "$0.0021" in seen.screen
    assert "1 without a score: timeout" in seen.screen
    assert "is not what it says: good Not it." in " ".join(seen.screen.split())


def test_since_leaves_out_what_came_before(joelclaw: JoelclawProcess, store: Store) -> None:
    store.admit([plain_job("before")])
    since_ms = int(time.time() * 1_000) + 60
    while int(time.time() * 1_000) <= since_ms:  # Redis has the clock of this machine
        pass
    store.admit([plain_job("after")])

    for since in (str(since_ms), datetime.fromtimestamp(since_ms / 1_000, UTC).isoformat()):
        result = joelclaw("queue", "stats", "--since", since).result
        assert result["window"]["found"] == 1
        assert result["window"]["since_at"] == since_ms
    assert joelclaw("queue", "stats", "--hours", "1").result["window"]["found"] == 2


def test_a_stream_that_lost_entries_of_the_window_says_so(joelclaw: JoelclawProcess, store: Store) -> None:
    joelclaw.env["JOELCLAW_TRANSITIONS_MAX"] = "100"
    store.transitions_max = 100
    store.admit([plain_job(f"job-{n}") for n in range(500)])

    window = joelclaw("queue", "stats").result["window"]

    assert window["truncated"] is True
    assert window["first_at"] > window["since_at"]
    assert "the stream keeps no older entries" in joelclaw.on_terminal("queue", "stats").screen


def test_stats_are_readable(joelclaw: JoelclawProcess, store: Store) -> None:
    store.admit([plain_job("good"), plain_job("bad")])
    tags = [job.tag for job in store.claim(["default"], 2, "w").jobs]
    store.complete(tags[:1])
    store.discard(tags[1], "ValueError: \x1b[2J no")

    seen = joelclaw.on_terminal("queue", "stats")

    assert (seen.code, seen.stderr) == (0, "")
    assert "2 started" in seen.screen
    assert "1 completed, 1 failed (50 % succeeded)" in seen.screen
    assert "ago: ValueError: \\x1b[2J no" in seen.screen
    assert "joelclaw queue timeline bad" in seen.screen


def test_an_empty_history_has_no_figures(joelclaw: JoelclawProcess) -> None:
    result = joelclaw("queue", "stats").result

    assert result["queue_latency_ms"]["p95"] is None
    assert result["dispatches"]["success_rate"] is None
    assert "0 started" in joelclaw.on_terminal("queue", "stats").screen


@pytest.mark.parametrize(
    "arguments", [["--limit", "0"], ["--limit", "201"], ["--hours", "0"], ["--since", "x"]]
)
def test_options_out_of_bounds_are_usage_errors(joelclaw: JoelclawProcess, arguments: list[str]) -> None:
    piped = joelclaw("queue", "stats", *arguments)

    assert (piped.code, piped.error["code"]) == (2, "USAGE")


@pytest.mark.parametrize(
    "since",
    [
        "2026-03-07T19:33:05Z", "2026-03-07T20:33:05+01:00", "2026-03-07 19:33:05", "1772911985",
        "1772911985000", " 1772911985 ",
    ],
)  # fmt: skip
def test_a_time_is_read_as_people_and_programs_write_it(since: str) -> None:
    assert span_of(24, since, NOW).since_at == 1_772_911_985_000


def test_hours_count_back_from_now() -> None:
    assert span_of(0.5, None, NOW).since_at == NOW - 1_800_000
    assert span_of(8_784, None, 5).since_at == 0


@pytest.mark.parametrize("since", ["", "yesterday", "-5", "1e9", "2026-13-01", "٣", "9" * 16, "2031-01-01"])
def test_a_time_that_is_none_is_a_usage_error(since: str) -> None:
    with pytest.raises(CommandFailed) as caught:
        span_of(24, since, NOW)

    assert caught.value.exit_code == ExitCode.USAGE
