"""Prompts: versioned Markdown files with front matter, in two parts.

    ---
    name: triage
    version: 3
    lists: [route_checks]
    variables: [events]
    ---
    Fixed text, the same in every call, so that the API may cache it. {{list route_checks}}

    <!-- per call -->
    Text of one call: {{events}}

A hole that the front matter does not name, and a name without a hole, are errors when the file is loaded.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from importlib.resources import files
from pathlib import Path
from typing import Any

from joelclaw_tasks.errors import PromptError

#: The largest prompt, in bytes of UTF-8, both parts together. A token is a byte at least, so this bounds the
#: price, and stays below the size from which some models cost more.
MOST_BYTES = 100_000
_FENCE = re.compile(r"\A---\n(.*?)\n---\n", re.DOTALL)
_PER_CALL = re.compile(r"^<!-- per call -->$", re.MULTILINE)
_HOLE = re.compile(r"\{\{\s*(list\s+)?(.*?)\s*\}\}")
_NAME = re.compile(r"[a-z][a-z0-9_]*")
_FIELDS = {"name": str, "version": int, "lists": list, "variables": list}


@dataclass(frozen=True, slots=True)
class Rendered:
    """A prompt of one call. `fixed` is what the API may cache. `sha256` is the prompt's, not the call's."""

    name: str
    version: int
    sha256: str
    fixed: str
    per_call: str

    @property
    def label(self) -> str:
        """Which prompt it is, such as `triage v3`."""
        return f"{self.name} v{self.version}"

    @property
    def bytes(self) -> int:
        """How large it is, in bytes of UTF-8."""
        return len(self.fixed.encode("utf-8", "replace")) + len(self.per_call.encode("utf-8", "replace"))


class Prompt:
    """One prompt file with its closed lists filled in. Raises PromptError for what is wrong with it.

    `lists` has the members of every `{{list name}}`: an enum, or texts.
    """

    def __init__(self, text: str, lists: Mapping[str, type[Enum] | list[str]], *, source: str) -> None:
        self._source = source
        head, body = self._parts(text)
        self.name, self.version = str(head["name"]), int(head["version"])
        self._variables = self._names(head, "variables")
        listed = self._names(head, "lists")
        if listed != set(lists):
            raise self._wrong(f"names the lists {_said(listed)}, but the code gives {_said(set(lists))}")
        fixed, per_call = self._halves(body)
        self._check_holes(fixed, per_call, listed)
        members = {name: _rendered(one) for name, one in lists.items()}
        self._fixed = _HOLE.sub(lambda found: members[found[2]], fixed).strip()
        self._per_call = _HOLE.sub(
            lambda found: members[found[2]] if found[1] else found[0], per_call
        ).strip()
        written = f"{self.name}\n{self.version}\n{self._fixed}\n{self._per_call}"
        self.sha256 = hashlib.sha256(written.encode()).hexdigest()

    @classmethod
    def load(
        cls,
        name: str,
        lists: Mapping[str, type[Enum] | list[str]] | None = None,
        *,
        directory: Path | None = None,
    ) -> Prompt:
        """The prompt of that name, `<name>.md` of the package or of a directory. Raises PromptError."""
        folder: Any = files("joelclaw_tasks.intelligence") / "prompts" if directory is None else directory
        source = f"prompts/{name}.md"
        try:
            text = (folder / f"{name}.md").read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise PromptError(f"{source} cannot be read: {error}") from None
        prompt = cls(text, lists or {}, source=source)
        if prompt.name != name:
            raise PromptError(f"{source} says that its name is {prompt.name!r}; rename one of them")
        return prompt

    def render(self, **variables: str) -> Rendered:
        """The prompt with its variables filled in, each exactly once, as text that is not looked at again.

        Raises PromptError when one is missing or unknown.
        """
        if set(variables) != self._variables:
            raise self._wrong(f"has the variables {_said(self._variables)}, not {_said(set(variables))}")
        per_call = _HOLE.sub(lambda found: variables[found[2]], self._per_call)
        return Rendered(self.name, self.version, self.sha256, self._fixed, per_call)

    def _parts(self, text: str) -> tuple[dict[str, Any], str]:
        import yaml  # it takes 20 ms, and most processes have no prompt

        found = _FENCE.match(text)
        if found is None:
            raise self._wrong("has no front matter; begin with ---, name, version and --- again")
        try:
            head = yaml.safe_load(found[1])
        except yaml.YAMLError:
            raise self._wrong("has front matter that is not YAML") from None
        head = head if isinstance(head, dict) else {}
        head = {"lists": [], "variables": []} | head
        for name in head:
            if name not in _FIELDS:
                raise self._wrong(f"has the unknown field {name!r}; known are {_said(set(_FIELDS))}")
        for name, kind in _FIELDS.items():
            if not isinstance(head.get(name), kind) or isinstance(head.get(name), bool):
                raise self._wrong(f"needs {name}, as {kind.__name__}")
        return head, text[found.end() :]

    def _names(self, head: Mapping[str, Any], field: str) -> set[str]:
        for name in head[field]:
            if not isinstance(name, str) or not _NAME.fullmatch(name):
                raise self._wrong(f"has {name!r} among its {field}; use small letters, digits and _")
        return set(head[field])

    def _halves(self, body: str) -> tuple[str, str]:
        parts = _PER_CALL.split(body)
        if len(parts) != 2 or not all(part.strip() for part in parts):
            raise self._wrong(
                "needs two parts with text, and `<!-- per call -->` alone on a line between them"
            )
        return parts[0], parts[1]

    def _check_holes(self, fixed: str, per_call: str, listed: set[str]) -> None:
        used: dict[bool, set[str]] = {True: set(), False: set()}
        for part in (fixed, per_call):
            for found in _HOLE.finditer(part):
                is_list, name = bool(found[1]), found[2]
                if name not in (listed if is_list else self._variables):
                    raise self._wrong(f"has {found[0]}, which its front matter does not name")
                if not is_list and part is fixed:
                    raise self._wrong(f"has {found[0]} in its fixed part, which is the same in every call")
                used[is_list].add(name)
            if "{{" in _HOLE.sub("", part):
                raise self._wrong("has {{ without }} on the same line")
        unused = (listed - used[True]) | (self._variables - used[False])
        if unused:
            raise self._wrong(f"never uses {_said(unused)}; take it out of the front matter")

    def _wrong(self, sentence: str) -> PromptError:
        return PromptError(f"{self._source} {sentence}")


def _rendered(members: type[Enum] | list[str]) -> str:
    values = members if isinstance(members, list) else [str(member.value) for member in members]
    return ", ".join(f"`{value}`" for value in values)


def _said(names: set[str]) -> str:
    return ", ".join(sorted(names)) or "none"
