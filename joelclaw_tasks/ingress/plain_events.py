"""A plain event: what a script sends when it has never heard of CloudEvents."""

from __future__ import annotations

import difflib
from datetime import datetime
from typing import Any

from joelclaw_tasks.errors import InvalidEvent
from joelclaw_tasks.new_event import NewEvent

DEFAULT_SOURCE = "http"
_KEYS = ("name", "data", "id", "priority", "source", "at", "delay_s", "expires_s")


def plain_event(body: Any) -> NewEvent:
    """Read `{"name", "data", "id"?, "priority"?, "source"?, "at"? or "delay_s"?, "expires_s"?}`.

    `at` is ISO 8601 with an offset, the others are seconds from now. Raises InvalidEvent.
    """
    if not isinstance(body, dict):
        raise InvalidEvent("the event is not a JSON object", fix='Send {"name": ..., "data": {...}}.')
    for key in body:
        if key not in _KEYS:
            near = difflib.get_close_matches(key[:64], _KEYS, n=1)
            hint = f"Did you mean {near[0]}?" if near else f"An event has {', '.join(_KEYS)}."
            raise InvalidEvent(f"an event has no key {key[:64]!r}", fix=hint)
    if "data" not in body:
        raise InvalidEvent("the event has no data", fix="Send a JSON object as data; it may be empty.")
    if "at" in body and "delay_s" in body:
        raise InvalidEvent("the event has both at and delay_s", fix="Send one of them.")
    return NewEvent(
        name=required_text(body, "name"),
        data=object_data(body["data"]),
        id=optional_text(body, "id"),
        source=optional_text(body, "source") or DEFAULT_SOURCE,
        priority=priority(body.get("priority")),
        at=_moment(body.get("at")),
        delay_s=_seconds(body, "delay_s"),
        expires_s=_seconds(body, "expires_s"),
    )


def required_text(body: dict[str, Any], key: str) -> str:
    """The non-empty text at the key. Raises InvalidEvent."""
    value = optional_text(body, key)
    if value is None:
        raise InvalidEvent(f"the event has no {key}", fix=f"Send {key} as text.")
    return value


def optional_text(body: dict[str, Any], key: str) -> str | None:
    """The non-empty text at the key, or None when there is none. Raises InvalidEvent for anything else."""
    value = body.get(key)
    if value is None:
        return None
    if not isinstance(value, str) or not value:
        raise InvalidEvent(f"{key} must be text that is not empty", fix=f"Send {key} as text.")
    return value


def object_data(value: Any) -> dict[str, Any]:
    """The value, which must be a JSON object. Raises InvalidEvent."""
    if not isinstance(value, dict):
        raise InvalidEvent("data is not a JSON object", fix='Send an object, such as {"value": ...}.')
    return value


def priority(value: Any) -> int | str | None:
    """A priority as emit takes it: 0 to 3, "P0" to "P3", or None. Raises InvalidEvent."""
    if value is None or (isinstance(value, int) and not isinstance(value, bool)) or isinstance(value, str):
        return value
    raise InvalidEvent("priority must be P0, P1, P2 or P3")


def _moment(value: Any) -> datetime | None:
    if value is None:
        return None
    fix = 'Send it as ISO 8601 with an offset, such as "2026-01-31T09:00:00Z".'
    if not isinstance(value, str):
        raise InvalidEvent("at must be text", fix=fix)
    try:
        moment = datetime.fromisoformat(value)
    except ValueError:
        raise InvalidEvent("at is not a date and time", fix=fix) from None
    if moment.tzinfo is None:
        raise InvalidEvent("at has no offset from UTC", fix=fix)
    return moment


def _seconds(body: dict[str, Any], key: str) -> float | None:
    value = body.get(key)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or value < 0:
        raise InvalidEvent(f"{key} must be a number of seconds, 0 or more", fix=f"Send {key} as a number.")
    return float(value)
