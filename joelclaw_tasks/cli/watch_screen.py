"""The screen of `queue watch`: a picture of the queue, drawn into as many lines as the terminal has."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from textwrap import wrap
from typing import TYPE_CHECKING, Any

from joelclaw_tasks.cli.duration import duration
from joelclaw_tasks.cli.terminal import printable, text
from joelclaw_tasks.cli.watch_state import WatchState

if TYPE_CHECKING:
    from rich.text import Text

_KEYS = "up/down move · p pause 15 min · r resume · i inspect · q quit"
_DETAIL_KEYS = "i or escape back · p pause 15 min · r resume · q quit"
#: Columns: heading, width, and how soon a narrow screen does without (the lowest goes first).
_COLUMNS = (
    ("waiting", 10, 9), ("running", 8, 8), ("dead", 6, 3), ("in/s", 7, 2), ("done/s", 7, 5), ("fail/s", 7, 1),
    ("oldest", 7, 4),
)  # fmt: skip
_NARROWEST_NAME = 20
_RATES = ("admitted", "started", "completed", "failed")
_STATES = {"executing": "running", "discarded": "dead"}


def draw(state: WatchState, width: int, height: int, now_ms: int) -> list[Text]:
    """Exactly `height` lines, none wider than `width`."""
    lines = _head(state, now_ms)
    foot = [text(state.notice, "bold"), text(_DETAIL_KEYS if state.detail else _KEYS, "dim")]
    room = height - len(lines) - len(foot)
    if state.picture is None:
        body = []
    elif state.detail is not None:
        body = _detail(state, state.detail, width)
    else:
        body = _body(state, room, width)
    body = body[: max(0, room)]
    lines += body + [text("")] * (room - len(body)) + foot
    for each in lines:
        each.truncate(max(1, width - 1), overflow="ellipsis")
    return lines[:height]


def _head(state: WatchState, now_ms: int) -> list[Text]:
    clock = f"{datetime.fromtimestamp(now_ms / 1_000, UTC):%H:%M:%S} UTC"
    title = text(f"joelclaw queue · {state.redis} · {clock}", "bold")
    unseen_ms = now_ms - state.seen_at
    if unseen_ms > state.stale_ms:
        lost = f"Redis has not answered for {duration(unseen_ms)}; what you see is old. Trying again."
        return [title, text(lost, "bold red"), *_sums(state)[:1], text("")]
    return [title, *_sums(state), text("")]


def _sums(state: WatchState) -> list[Text]:
    picture = state.picture
    if picture is None:
        return [text("asking Redis …", "dim"), text("")]
    states = picture["by_state"]
    oldest = picture["oldest_age_ms"]
    waiting = f"{picture['total']:,} waiting" + (f", oldest {duration(oldest)}" if oldest is not None else "")
    parts = [waiting, f"{states['executing']:,} running", f"{states['discarded']:,} dead"]
    parts += [f"{states[name]:,} {name}" for name in ("scheduled", "retryable", "held") if states[name]]
    rates = picture["rates"]
    moving = [f"{_rate(rates[name])} {name}" for name in _RATES if rates[name]]
    per_s = f"per second: {', '.join(moving)}" if moving else "nothing has moved in the last 10 s"
    return [text(" · ".join(parts)), text(per_s, "red" if rates["failed"] else "")]


def _body(state: WatchState, room: int, width: int) -> list[Text]:
    """Families first; gates and failures get what these leave, or at least a third of a large screen."""
    wanted = min(len(state.families()), max(4, room // 3)) + 2
    below: list[Text] = []
    for part in (_gates(state), _failures(state)):
        left = room - wanted - len(below) - 1
        if part and left >= 2:
            below += [text(""), *part[:left]]
    return _families(state, room - len(below), width - 1) + below


def _columns(width: int) -> tuple[list[tuple[str, int]], int]:
    """The columns that a screen has room for, and the width that is left for the name."""
    kept = sorted(_COLUMNS, key=lambda column: -column[2])
    while kept and width - sum(column[1] for column in kept) < _NARROWEST_NAME:
        kept.pop()
    columns = [(name, size) for name, size, _ in _COLUMNS if name in {column[0] for column in kept}]
    return columns, width - sum(size for _, size in columns)


def _families(state: WatchState, room: int, width: int) -> list[Text]:
    families = state.families()
    if not families:
        return [text("nothing is queued, and nothing runs", "dim")]
    names = [each["family"] for each in families]
    row = names.index(state.selected) if state.selected in names else 0
    state.selected = names[row]
    rows = max(1, room - 1)
    if len(families) > rows > 1:
        rows -= 1  # the last line says how many there are
    state.first_row = max(0, min(state.first_row, row, len(families) - rows))
    state.first_row = max(state.first_row, row - rows + 1)
    shown = families[state.first_row : state.first_row + rows]
    columns, name_width = _columns(width)
    head = f"{'  family':<{name_width}}" + "".join(f"{name:>{size}}" for name, size in columns)
    lines = [text(head, "dim"), *(_family(state, each, columns, name_width) for each in shown)]
    if len(families) > len(shown):
        last = state.first_row + len(shown)
        lines.append(text(f"  {state.first_row + 1} to {last} of {len(families)} families", "dim"))
    return lines


def _family(
    state: WatchState, family: Mapping[str, Any], columns: Sequence[tuple[str, int]], name_width: int
) -> Text:
    states, rates = family["by_state"], family["rates"]
    numbers = {
        "waiting": _count(family["total"]),
        "running": _count(states["executing"]),
        "dead": _count(states["discarded"]),
        "in/s": _rate(rates["admitted"]),
        "done/s": _rate(rates["completed"]),
        "fail/s": _rate(rates["failed"]),
        "oldest": _age(family["oldest_age_ms"]),
    }
    cells = "".join(f"{numbers[name]:>{size}}" for name, size in columns)
    is_paused, is_selected = bool(state.pauses_of(family["family"])), family["family"] == state.selected
    name = _cut(printable(family["family"]), name_width - (11 if is_paused else 2))
    name = f"{'>' if is_selected else ' '} {name}{' (paused)' if is_paused else ''}"
    style = "yellow" if is_paused else "red" if rates["failed"] else ""
    return text(f"{name:<{name_width}}{cells}", f"{style} reverse".strip() if is_selected else style)


def _gates(state: WatchState) -> list[Text]:
    picture = state.picture or {}
    lines = []
    for pause in picture["pauses"]:
        ends_at = pause.get("expires_at")
        left = f"{duration(max(0, ends_at - picture['taken_at_ms']))} left" if ends_at else "until resumed"
        why = f": {pause['reason']}" if pause.get("reason") else ""
        lines.append(text(f"  {pause['gate']}  {left}, by {pause.get('actor') or '-'}{why}", "yellow"))
    limits = [each for each in picture["gates"] if each["limit"] is not None or each["parked_lanes"]]
    for gate in sorted(limits, key=lambda each: (-each["parked_lanes"], each["gate"])):
        if gate["kind"] == "pause":
            continue
        behind = f"  {_plural(gate['parked_lanes'], 'lane')} behind it" if gate["parked_lanes"] else ""
        most = "" if gate["limit"] is None else f" of {gate['limit']:,}"
        style = "yellow" if gate["shut"] else ""
        lines.append(text(f"  {gate['gate']}  {gate['running']:,}{most} running{behind}", style))
    return [text("  gates", "dim"), *lines] if lines else []


def _failures(state: WatchState) -> list[Text]:
    picture = state.picture or {}
    lines = [_failure(each, picture["taken_at_ms"]) for each in picture["failures"]]
    return [text("  newest failures", "dim"), *lines] if lines else []


def _failure(job: Mapping[str, Any], now_at: int) -> Text:
    ago = f"{_age(max(0, now_at - (job['discarded_at'] or now_at)))} ago"
    return text(f"  {ago:>8}  {_cut(job['family'], 20):<20}  {_last_line(job['error'])}", "red")


def _detail(state: WatchState, detail: Mapping[str, Any], width: int) -> list[Text]:
    """One family: its states, what holds it, its next jobs and its failures."""
    picture, name = state.picture or {}, detail["family"]
    family = next((each for each in picture["families"] if each["family"] == name), None)
    lines = [text(name, "bold")]
    if family is not None:
        states = [f"{n:,} {_STATES.get(key, key)}" for key, n in family["by_state"].items() if n]
        levels = [f"{n:,} {level}" for level, n in family["by_priority"].items() if n]
        waiting = f"; waiting: {', '.join(levels)}" if levels else ""
        lines.append(text((", ".join(states) or "nothing of it is queued or runs") + waiting))
    lines += [text(""), *_why(detail, width)]
    if detail["jobs"]:
        lines += [text(""), text("  next jobs", "dim")]
    for job in detail["jobs"]:
        stopped = f"parked at {job['gate']}" if job["gate"] else "in its lane"
        told = f"  {job['id']}  {job['priority']}  {_age(job['age_ms']):>5}  {stopped}"
        lines.append(text(told, "yellow" if job["gate"] else "green"))
    failures = [each for each in picture["failures"] if each["family"] == name]
    if failures:
        lines += [text(""), text("  newest failures", "dim")]
    for failure in failures:
        ago = f"{_age(max(0, picture['taken_at_ms'] - (failure['discarded_at'] or 0)))} ago"
        lines.append(text(f"  {ago:>8}  {failure['id']}  {_last_line(failure['error'])}", "red"))
    return lines


def _why(detail: Mapping[str, Any], width: int) -> list[Text]:
    """What the waiting jobs of a family wait for, and when the next one starts."""
    lines = []
    for gate in detail["by_gate"]:
        count = _plural(gate["jobs"], "job")
        if gate["gate"] is None:
            lines.append(text(f"{count} may start as soon as a worker is free", "green"))
            continue
        lines.append(text(f"{count} behind {gate['gate']}", "yellow"))
        opens_at = gate.get("opens_at")
        within = "" if opens_at is None else f" (in {_age(max(0, opens_at - _asked_at(detail)))})"
        lines.append(text(f"    opens when {gate['opens_when']}{within}"))
        if gate.get("actor"):
            reason = f": {gate['reason']}" if gate.get("reason") else ""
            lines.append(text(f"    shut by {gate['actor']}{reason}"))
    start = (detail["next"] or {}).get("estimated_start") or {}
    if start.get("at") is not None:
        wait_ms = max(0, start["at"] - _asked_at(detail))
        lines.append(text(f"the next one starts in about {_age(wait_ms)}"))
        lines += [text(f"    {part}", "dim") for part in wrap(str(start["basis"]), max(20, width - 6))]
    return lines or [text("nothing of it waits in a lane", "dim")]


def _asked_at(detail: Mapping[str, Any]) -> int:
    return int((detail["next"] or {}).get("asked_at") or 0)


def _plural(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'s' * (count != 1)}"


def _count(number: int) -> str:
    return f"{number:,}" if number else "-"


def _rate(per_second: float) -> str:
    if per_second == 0:
        return "-"
    return f"{per_second:.1f}" if per_second < 100 else f"{per_second:,.0f}"


def _age(ms: float | None) -> str:
    """An age in five characters: 0.8s, 59s, 44m, 23h, 3d."""
    if ms is None:
        return "-"
    if ms < 10_000:
        return f"{ms / 1_000:.1f}s"
    for most, size, unit in ((60_000, 1_000, "s"), (3_600_000, 60_000, "m"), (86_400_000, 3_600_000, "h")):
        if ms < most:
            return f"{int(ms // size)}{unit}"
    return f"{int(ms // 86_400_000)}d"


def _last_line(error: str | None) -> str:
    lines: Sequence[str] = (error or "").strip().splitlines()
    return lines[-1] if lines else "no error was noted"


def _cut(name: str, most: int) -> str:
    return name if len(name) <= most else name[: most - 1] + "…"
