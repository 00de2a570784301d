"""Loads core/lua: one file per verb, small shared files spliced in.

`--@include name` splices shared/name.lua in, once in a script, where it is first named.

`--@lazy name` does the same, but makes the functions of the file only when one is called of those that it
names after `--@gives`. Redis runs a script from its first line at each call, so each function that is made
costs every call something, and most calls need few of them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

from joelclaw_tasks.core.keys import write_keys

DIRECTIVE = re.compile(r"--@(include|lazy|gives) (\w+(?: \w+)*)")

GIVES = "--@gives "
#: A call of a function; what looks like one in a text or a comment is passed over.
_CALL = re.compile(
    r""" "(?:[^"\\]|\\.)*" | '(?:[^'\\]|\\.)*' | --.* | (?<![\w.:])(?P<called>\w+)\( """, re.VERBOSE
)


@dataclass(frozen=True)
class Line:
    """One line of a spliced script and where it was written; a generated line has no file."""

    file: str | None
    number: int
    text: str


def script_names() -> list[str]:
    """The verbs that have a script, sorted."""
    return sorted(
        path.name.removesuffix(".lua") for path in _folder().iterdir() if path.name.endswith(".lua")
    )


@cache
def load_source(name: str) -> str:
    """The complete text of a script, with every key written out.

    Raises FileNotFoundError for an unknown name, ValueError for includes that form a cycle.
    """
    return write_keys("\n".join(line.text for line in splice(_folder(), name)))


def splice(folder: Any, name: str) -> list[Line]:
    """The lines of a script of a folder, with all that it includes.

    Raises FileNotFoundError for an unknown include, ValueError for includes that form a cycle.
    """
    return list(_Splicing(folder).lines_of(f"{name}.lua", (name,)))


class _Splicing:
    """The making of one script."""

    def __init__(self, folder: Any) -> None:
        self._folder = folder
        self._seen: set[str] = set()
        self._made_by: dict[str, str] = {}  # function -> the lazy file that makes it

    def lines_of(self, file: str, path: tuple[str, ...]) -> Iterator[Line]:
        source = self._folder / file
        if not source.is_file():
            raise FileNotFoundError(f"includes {path[-1]}, but there is no {file}")
        for number, text in enumerate(source.read_text().split("\n"), start=1):
            word, names = directive.groups() if (directive := DIRECTIVE.fullmatch(text)) else ("", "")
            if word == "include":
                yield from self._included(names, path)
            elif word == "lazy":
                yield from self._made_lazily(names, list(self._included(names, path)))
            else:
                yield Line(file, number, self._calling_lazily(text))

    def _included(self, name: str, path: tuple[str, ...]) -> Iterator[Line]:
        if name in path:
            raise ValueError(f"includes form a cycle: {' -> '.join((*path, name))}")
        if name not in self._seen:
            self._seen.add(name)
            yield from self.lines_of(f"shared/{name}.lua", (*path, name))

    def _made_lazily(self, name: str, lines: list[Line]) -> Iterator[Line]:
        given = " ".join(line.text[len(GIVES) :] for line in lines if line.text.startswith(GIVES)).split()
        made = [each for each in given if each not in self._made_by]  # else by a lazy file within this one
        if not lines:
            return  # it has been included before
        yield from _generated(
            f"local {name}_functions",
            f"local function {name}()",
            f"  if {name}_functions then return {name}_functions end",
        )
        yield from lines
        yield from _generated(
            f"  {name}_functions = {{ {', '.join(f'{each} = {each}' for each in made)} }}",
            f"  return {name}_functions",
            "end",
        )
        self._made_by |= dict.fromkeys(made, name)

    def _calling_lazily(self, text: str) -> str:
        def called(match: re.Match[str]) -> str:
            name = match.group("called")
            return f"{self._made_by[name]}().{name}(" if name in self._made_by else match.group(0)

        return _CALL.sub(called, text)


def _generated(*texts: str) -> Iterator[Line]:
    return (Line(None, 0, text) for text in texts)


def _folder() -> Any:  # importlib.resources' Traversable moved between 3.11 and 3.14
    return files("joelclaw_tasks.core") / "lua"
