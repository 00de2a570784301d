"""Loads core/lua: one file per verb, small shared includes spliced in."""

from __future__ import annotations

import re
from functools import cache
from importlib.resources import files
from typing import Any

from joelclaw_tasks.core.keys import lua_bindings

_INCLUDE = re.compile(r"^--@include (\w+)$", re.MULTILINE)


def script_names() -> list[str]:
    """The verbs that have a script, sorted."""
    return sorted(
        path.name.removesuffix(".lua") for path in _folder().iterdir() if path.name.endswith(".lua")
    )


@cache
def load_source(name: str) -> str:
    """The complete text of a script: key bindings first, every include once, where it is first named.

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
            if include == "keys":
                return "--@keys"
            return splice((_folder() / "shared" / f"{include}.lua").read_text(), (*path, include))

        return _INCLUDE.sub(expand, text)

    body = splice((_folder() / f"{name}.lua").read_text(), (name,))
    return body.replace("--@keys", lua_bindings(used_in=body), 1)


def _folder() -> Any:  # importlib.resources' Traversable moved between 3.11 and 3.14
    return files("joelclaw_tasks.core") / "lua"
