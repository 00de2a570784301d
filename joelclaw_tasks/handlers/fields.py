"""Reading event data, which anybody may have sent: the right type, or a clear refusal."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from typing import Any

from joelclaw_tasks.errors import PermanentFailure

_BIDI = frozenset("\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\ufeff")


def one_line(text: str, limit: int = 300) -> str:
    """`text` on one line: no control, bidirectional or surrogate characters, at most `limit` characters."""
    kept = (
        " " if char.isspace() or unicodedata.category(char) == "Cc" else char
        for char in text[: limit * 20]
        if char not in _BIDI and unicodedata.category(char) != "Cs"
    )
    line = " ".join("".join(kept).split())
    return line if len(line) <= limit else line[: limit - 1].rstrip() + "…"


def optional_text(data: Mapping[str, Any], name: str, limit: int = 300) -> str | None:
    """The text under `name` as one line, None when absent or blank. Raises PermanentFailure."""
    value = data.get(name)
    if value is None:
        return None
    if not isinstance(value, str):
        raise PermanentFailure(f"data.{name} must be text, not {_kind(value)}")
    return one_line(value, limit) or None


def required_text(data: Mapping[str, Any], name: str, limit: int = 300) -> str:
    """The text under `name` as one line. Raises PermanentFailure when absent, blank or not text."""
    value = optional_text(data, name, limit)
    if value is None:
        raise PermanentFailure(f"data.{name} is required")
    return value


def optional_count(data: Mapping[str, Any], name: str) -> int | None:
    """The whole number >= 0 under `name`, None when absent. Raises PermanentFailure."""
    value = data.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise PermanentFailure(f"data.{name} must be a whole number of at least 0, not {_kind(value)}")
    return value


def _kind(value: object) -> str:
    kinds = {dict: "an object", list: "a list", bool: "true or false", str: "text", int: "a number"}
    return kinds.get(type(value), f"a {type(value).__name__}")
