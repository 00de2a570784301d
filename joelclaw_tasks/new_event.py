"""NewEvent: an event to emit; what of it is checked, and the line of a spool that it is kept as."""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from joelclaw_tasks.errors import InvalidEvent

_MOST_S = 366 * 86_400
_KEPT = ("name", "data", "source", "priority", "delay_s", "expires_s", "meta")


@dataclass(frozen=True, slots=True)
class NewEvent:
    """An event to emit: the arguments of `emit` as a value."""

    name: str
    data: Mapping[str, Any]
    id: str | None = None
    source: str = "python"
    priority: int | str | None = None
    at: datetime | None = None
    delay_s: float | None = None
    expires_s: float | None = None
    meta: Mapping[str, Any] = field(default_factory=dict)


def checked_id(given: object) -> str:
    """The id of an event: the given one, or a new one. Raises InvalidEvent."""
    if given is None:
        return str(uuid.uuid4())
    if not isinstance(given, str) or not given or len(given) > 256 or not given.isprintable():
        raise InvalidEvent("the id of an event must be 1 to 256 printable characters")
    return given


def due_ms(new: NewEvent, now_ms: int) -> int:
    """When its jobs are due, in epoch milliseconds; 0 for at once. Raises InvalidEvent."""
    if new.at is not None and new.delay_s is not None:
        raise InvalidEvent("give `at` or `delay_s`, not both")
    at: object = new.at
    if at is not None:
        if not isinstance(at, datetime):
            raise InvalidEvent(f"`at` must be a datetime, not {type(at).__name__}")
        moment = at if at.tzinfo else at.replace(tzinfo=UTC)
        return int(moment.timestamp() * 1000)
    if new.delay_s is None:
        return 0
    delay_s: object = new.delay_s
    if not isinstance(delay_s, int | float) or not 0 <= delay_s <= _MOST_S:
        raise InvalidEvent(f"delay_s must be 0 to 366 days, not {delay_s!r}")
    return now_ms + int(delay_s * 1000)


def expires_at(new: NewEvent, now_ms: int) -> int:
    """When its jobs are not wanted any more, in epoch milliseconds; 0 for never. Raises InvalidEvent."""
    expires_s: object = new.expires_s
    if expires_s is None:
        return 0
    if not isinstance(expires_s, int | float) or not 0 < expires_s <= _MOST_S:
        raise InvalidEvent(f"expires_s must be more than 0 and at most 366 days, not {expires_s!r}")
    return now_ms + max(1, int(expires_s * 1000))


def spooled(new: NewEvent, id: str, at_ms: int) -> bytes:
    """The line of a spool that `read_spooled` reads: its id and its time are fixed from here on."""
    kept = {name: value for name in _KEPT if (value := getattr(new, name)) is not None}
    kept |= {"id": id, "at_ms": at_ms}
    if new.at is not None:
        moment = new.at if new.at.tzinfo else new.at.replace(tzinfo=UTC)
        kept["at"] = moment.isoformat()
    return json.dumps(kept, default=dict).encode()


def read_spooled(line: bytes) -> tuple[NewEvent, int]:
    """An event out of a spool, and when it was emitted, in epoch milliseconds. Raises ValueError."""
    try:
        kept = json.loads(line)
        at = datetime.fromisoformat(kept["at"]) if "at" in kept else None
        chosen = {name: kept[name] for name in _KEPT if name in kept}
        return NewEvent(**{**chosen, "id": kept["id"], "at": at}), int(kept["at_ms"])
    except (ValueError, TypeError, KeyError, OverflowError, RecursionError) as error:
        raise ValueError(f"not a line of a spool: {type(error).__name__}") from None
