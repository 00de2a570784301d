"""What a time adds up to for one check: how long it was in which state, and what went wrong when."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from joelclaw_tasks.core.health import LATE_PERIODS, STATES, CheckNow, Hour, State, Turn


@dataclass(frozen=True, slots=True)
class Incident:
    """A time in which a check was not healthy. `until_at` None: it goes on. `is_cut`: then nobody looked."""

    from_at: int
    until_at: int | None
    worst: State
    detail: str
    is_cut: bool = False


@dataclass(frozen=True, slots=True)
class CheckReport:
    """One check from `since_at` to `until_at`. `in_state_ms` adds up to that time.

    `uptime` is the share of the time that is known in which it was healthy or degraded; None: nothing is
    known. Looks, restarts and latencies are of whole hours.
    """

    check: str
    since_at: int
    until_at: int
    uptime: float | None
    in_state_ms: dict[str, int]
    incidents: tuple[Incident, ...]
    looks: int
    bad_looks: int
    restarts: int
    mean_ms: float | None
    most_ms: float | None

    def to_wire(self) -> dict[str, Any]:
        """As JSON-able values."""
        return asdict(self)


def report_of(
    check: str,
    turns: Sequence[Turn],
    hours: Sequence[Hour],
    now: CheckNow | None,
    *,
    since_at: int,
    until_at: int,
) -> CheckReport:
    """What the turns and hours of a check say of that time. `turns` begin with the one in force then."""
    spans = _spans(turns, now, since_at, until_at)
    in_state_ms = dict.fromkeys(STATES, 0)
    for begin, end, turn in spans:
        in_state_ms[turn.state] += end - begin
    in_state_ms["unknown"] = until_at - since_at - sum(in_state_ms.values()) + in_state_ms["unknown"]
    up_ms = in_state_ms["healthy"] + in_state_ms["degraded"]
    known_ms = up_ms + in_state_ms["down"]
    answered = [hour for hour in hours if hour.mean_ms is not None]
    looks = sum(hour.looks for hour in answered)
    return CheckReport(
        check=check,
        since_at=since_at,
        until_at=until_at,
        uptime=up_ms / known_ms if known_ms else None,
        in_state_ms={str(state): ms for state, ms in in_state_ms.items()},
        incidents=tuple(_incidents(spans, until_at)),
        looks=sum(hour.looks for hour in hours),
        bad_looks=sum(hour.bad for hour in hours),
        restarts=sum(hour.restarts for hour in hours),
        mean_ms=round(sum((hour.mean_ms or 0) * hour.looks for hour in answered) / looks, 1)
        if looks
        else None,
        most_ms=max((hour.most_ms or 0 for hour in answered), default=None),
    )


def _spans(
    turns: Sequence[Turn], now: CheckNow | None, since_at: int, until_at: int
) -> list[tuple[int, int, Turn]]:
    """(begin, end, turn) of each state within the time; the time before the first turn is in none."""
    listed = list(turns)
    if now is not None and listed and not listed[-1].is_gap:
        silent_at = now.checked_at + now.every_ms
        if until_at - now.checked_at > LATE_PERIODS * now.every_ms:
            listed.append(Turn(max(silent_at, listed[-1].at), "unknown", "", is_gap=True))
    spans = []
    for number, turn in enumerate(listed):
        end = listed[number + 1].at if number + 1 < len(listed) else until_at
        begin, end = max(turn.at, since_at), min(end, until_at)
        if end > begin:
            spans.append((begin, end, turn))
    return spans


def _incidents(spans: Sequence[tuple[int, int, Turn]], until_at: int) -> list[Incident]:
    found: list[Incident] = []
    is_open = False
    for begin, end, turn in spans:
        if turn.state == "healthy" or turn.is_gap:
            is_open = False
            continue
        until = None if end == until_at else end
        if is_open:
            last = found.pop()
            is_worse = STATES.index(turn.state) > STATES.index(last.worst)
            worst, detail = (turn.state, turn.detail) if is_worse else (last.worst, last.detail)
            found.append(Incident(last.from_at, until, worst, detail))
        else:
            found.append(Incident(begin, until, turn.state, turn.detail))
        is_open = True
    # What ended because nobody looked any more has not ended for sure.
    gaps = {begin for begin, _, turn in spans if turn.is_gap}
    return [
        Incident(each.from_at, each.until_at, each.worst, each.detail, is_cut=True)
        if each.until_at in gaps
        else each
        for each in found
    ]
