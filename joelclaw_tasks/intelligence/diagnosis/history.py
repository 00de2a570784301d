"""History: exhibits of what changed slowly or elsewhere: run times, checks, and Restate."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import NamedTuple

from joelclaw_tasks.core.health import Health, Turn
from joelclaw_tasks.intelligence.diagnosis.evidence import Exhibit, Kind, iso
from joelclaw_tasks.intelligence.diagnosis.exhibits import exhibit_of
from joelclaw_tasks.intelligence.diagnosis.onset import Onset
from joelclaw_tasks.telemetry.spread import percentile

#: Fewer runs than this say nothing of a trend.
_LEAST_RUNS = 5
_MOST_TURNS = 6
_MOST_INVOCATIONS = 5


class RestateFailure(NamedTuple):
    """An invocation that fails in Restate. `job` is its idempotency key, empty when it has none."""

    at: int
    id: str
    target: str
    status: str
    retries: int
    error: str
    job: str = ""


def of_restate(failures: Sequence[RestateFailure], since_at: int) -> list[Exhibit]:
    """Invocations that failed since then, or are still tried again, the newest first."""
    return [
        exhibit_of(
            Kind.RESTATE,
            each.at,
            f"invocation {each.id}",
            f"{each.target} is {each.status} after {each.retries} retries"
            + (f", for job {each.job}" if each.job else "")
            + f": {each.error or 'no reason was given'}",
        )
        for each in sorted(failures, key=lambda failure: -failure.at)[:_MOST_INVOCATIONS]
        if each.at >= since_at
    ]


def of_latency(took: Sequence[tuple[int, int]], onset: Onset | None) -> Iterator[Exhibit]:
    """How long runs that went well took before the onset, and since; without one, their halves.

    `took` are (ended_at, run_ms), the oldest first.
    """
    middle = took[len(took) // 2][0] if took else 0
    if onset is not None:
        middle = onset.at
    before = sorted(run_ms for at, run_ms in took if at < middle)
    since = sorted(run_ms for at, run_ms in took if at >= middle)
    if len(before) < _LEAST_RUNS:
        return
    when = "since the onset" if onset is not None else "in the later half"
    text = f"runs that went well took {_spread(before)} before"
    if len(since) < _LEAST_RUNS:
        text += f"; only {len(since)} went well {when}"
    else:
        text += f", {_spread(since)} {when}"
    yield exhibit_of(Kind.LATENCY, middle, "transitions", text)


def of_checks(health: Health, checks: Collection[str], needed: set[str], since_at: int) -> Iterator[Exhibit]:
    """The checks that were not healthy since then, those that handlers need first. Raises CoreUnreachable."""
    for name in sorted(checks, key=lambda each: (each not in needed, each)):
        yield from of_health(name, health.turns(name, since_at), since_at, is_needed=name in needed)


def of_health(check: str, turns: Sequence[Turn], since_at: int, *, is_needed: bool) -> Iterator[Exhibit]:
    """When a check was not healthy since then; nothing when it always was, or nobody ever looked.

    `turns` are as `Health.turns` answers them.
    """
    within = [turn for turn in turns if turn.at >= since_at]
    bad = [turn for turn in turns if turn.state in ("degraded", "down")]
    if not bad:
        return
    needs = ", which a handler of the family depends on," if is_needed else ""
    said = "; ".join(
        f"{turn.state} from {iso(max(turn.at, since_at))}" + (f" ({turn.detail})" if turn.detail else "")
        for turn in turns[-_MOST_TURNS:]
    )
    left_out = len(turns) - _MOST_TURNS
    earlier = f"{left_out} turns before that; " if left_out > 0 else ""
    first = next((turn.at for turn in within if turn in bad), max(bad[0].at, since_at))
    yield exhibit_of(Kind.HEALTH_HISTORY, first, "health pulse", f"{check}{needs} was: {earlier}{said}")


def _spread(times: Sequence[int]) -> str:
    p50, p95 = percentile(times, 0.5), percentile(times, 0.95)
    return f"{p50:.0f} ms (median; 95 % within {p95:.0f} ms, {len(times)} runs)"
