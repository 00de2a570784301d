"""Loads core/lua: one file per verb, small shared includes spliced in."""

from __future__ import annotations

import re
from functools import cache
from importlib.resources import files
from typing import Any

from joelclaw_tasks.core.keys import write_keys

_INCLUDE = re.compile(r"^--@include (\w+)$", re.MULTILINE)


def script_names() -> list[str]:
    """The verbs that have a script, sorted."""
    return sorted(
        path.name.removesuffix(".lua") for path in _folder().iterdir() if path.name.endswith(".lua")
    )


@cache
def load_source(name: str) -> str:
    """The complete text of a script: every include once, where it is first named, and every key written out.

    Raises FileNotFoundError for an unknown name, ValueError for includes that form a cycle.
    """
    seen: list[str] = []

    def splice(text: str, path: tuple[str, ...]) -> str:
        def expand(match: re.Match[str]) -> str:
            include = match.group(1)
            if include in path:
                raise ValueError(f"include cycle in Lua: {' -> '.join((*path, include))}")
            if include in seen:
                return ""
            seen.append(include)
            return splice((_folder() / "shared" / f"{include}.lua").read_text(), (*path, include))

        return _INCLUDE.sub(expand, text)

    return write_keys(splice((_folder() / f"{name}.lua").read_text(), (name,)))


def _folder() -> Any:  # importlib.resources' Traversable moved between 3.11 and 3.14
    return files("joelclaw_tasks.core") / "lua"
