"""Digest: several notifications as one, with a line for each cause."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from joelclaw_tasks.notify.notification import SEVERITIES, Notice

#: What one line says of a cause.
_MOST_LINE = 300


def digest_of(notes: Sequence[tuple[str, Mapping[str, Any]]], most_lines: int) -> Notice:
    """One notice of (id, note) pairs, of which each may be a digest itself; the worst comes first.

    Its id is that of the first, so that the same digest, sent again, has the same id.
    """
    entries: dict[str, tuple[Notice, int]] = {}
    for _, note in notes:
        for part in note.get("held") or [{"count": 1, "note": note}]:
            try:
                notice, count = Notice.of(part["note"]), int(part["count"])
            except (KeyError, TypeError, ValueError):
                continue
            before = entries.get(notice.cause)
            newer = notice if before is None or notice.at >= before[0].at else before[0]
            entries[notice.cause] = (newer, count + (before[1] if before else 0))
    ordered = sorted(
        entries.values(),
        key=lambda entry: (-SEVERITIES.index(entry[0].severity), -entry[0].at, entry[0].cause),
    )
    lines = [_line(notice, count) for notice, count in ordered[:most_lines]]
    if len(ordered) > most_lines:
        lines.append(f"… and {len(ordered) - most_lines} more: `joelclaw notify list`")
    what = "1 thing was" if len(ordered) == 1 else f"{len(ordered)} things were"
    worst = ordered[0][0].severity if ordered else "info"
    at = max((int(note.get("at", 0)) for _, note in notes), default=0)
    return Notice(notes[0][0], at, f"{what} held back:", "notify.digest", worst, lines=lines)


def _line(notice: Notice, count: int) -> str:
    clock = f"{datetime.fromtimestamp(notice.at / 1_000, UTC):%H:%M} UTC"
    often = f" ({count} times)" if count > 1 else ""
    said = " ".join(notice.headline.split())
    said = said if len(said) <= _MOST_LINE else said[: _MOST_LINE - 1] + "…"
    return f"{clock} {said}{often}"
