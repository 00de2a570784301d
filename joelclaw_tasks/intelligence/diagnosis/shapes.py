"""Shapes: what a payload looks like without what it says: names and types, no values."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

_DEEPEST, _MOST_NAMES, _MOST_KINDS = 6, 30, 3
#: A name that looks like one. Anything else may be data: an address, an id, a token.
_NAME = re.compile(r"[A-Za-z_][A-Za-z_-]{0,39}[0-9]{0,2}")


def shape_of(value: Any, depth: int = 0) -> str:
    """Such as `{path: text(..16), tags: list(3) of text(..8)}`. Lengths are rounded up to powers of two."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, int | float):
        kind = "int" if isinstance(value, int) else "float"
        return f"{kind}(0)" if value == 0 else f"{kind}(negative)" if value < 0 else kind
    if isinstance(value, str):
        return f"text({_rounded(len(value))})"
    if depth >= _DEEPEST:
        return "…"
    if isinstance(value, Mapping):
        return _object(value, depth)
    if isinstance(value, list | tuple):
        kinds = list(dict.fromkeys(shape_of(one, depth + 1) for one in value[:50]))
        more = " | …" if len(kinds) > _MOST_KINDS else ""
        return f"list({len(value)})" + (f" of {' | '.join(kinds[:_MOST_KINDS])}{more}" if kinds else "")
    return type(value).__name__


def _object(value: Mapping[Any, Any], depth: int) -> str:
    named = sorted(name for name in value if isinstance(name, str) and _NAME.fullmatch(name))
    parts = [f"{name}: {shape_of(value[name], depth + 1)}" for name in named[:_MOST_NAMES]]
    if len(value) > len(parts):
        parts.append(f"… {len(value) - len(parts)} more")
    return "{" + ", ".join(parts) + "}"


def _rounded(length: int) -> str:
    return "0" if not length else f"..{1 << (length - 1).bit_length()}"
