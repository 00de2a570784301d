"""Span: the stretch of time that a command looks back over."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from joelclaw_tasks.cli.command import usage

if TYPE_CHECKING:
    from joelclaw_tasks.core.history import Extent

Hours = Annotated[float, typer.Option("--hours", help="How far back to look.", min=0.001, max=8_784)]
Since = Annotated[
    str | None,
    typer.Option("--since", help="Look back to here instead: ISO 8601 (UTC), or epoch s or ms."),
]
_HOUR_MS = 3_600_000
#: Digits below this are seconds, as people and `date +%s` write them.
_FIRST_MS = 1_000_000_000_000


@dataclass(frozen=True, slots=True)
class Span:
    """From `since_at` to `until_at`, both epoch milliseconds."""

    since_at: int
    until_at: int

    def to_wire(self, found: int, extent: Extent) -> dict[str, Any]:
        """The JSON form. `truncated`: the stream has lost entries of this span, those before `first_at`."""
        truncated = extent.is_full and extent.first_at is not None and extent.first_at > self.since_at
        return {
            "hours": round((self.until_at - self.since_at) / _HOUR_MS, 3),
            "since_at": self.since_at,
            "since_iso": iso(self.since_at),
            "until_at": self.until_at,
            "found": found,
            "truncated": truncated,
            "first_at": extent.first_at,
        }


def span_of(hours: float, since: str | None, now_at: int) -> Span:
    """The span of --hours and --since, ending now. Raises CommandFailed with exit code 2."""
    since_at = now_at - int(hours * _HOUR_MS) if since is None else _parse(since)
    if since_at > now_at:
        raise usage(f"--since {since} is in the future", fix="Give a time before now.")
    return Span(max(0, since_at), now_at)


def iso(at: int) -> str:
    """An epoch millisecond as ISO 8601 in UTC."""
    return datetime.fromtimestamp(at / 1_000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _parse(text: str) -> int:
    text = text.strip()
    if re.fullmatch(r"\d{1,15}", text, re.ASCII):
        number = int(text)
        return number * 1_000 if number < _FIRST_MS else number
    try:
        moment = datetime.fromisoformat(text)
        return int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1_000)
    except (ValueError, OverflowError):
        raise usage(
            f"--since must be a time, not {text!r:.80}",
            fix="Write it like `--since 2026-03-07T19:33:05Z`, or as epoch seconds or milliseconds.",
        ) from None
