"""Masking: arguments of a call as they may be shown, and which of their values are secrets by name.

Text is looked through by core/redaction.py. Values are looked through here, before they become text: there
a name and its whole value can be told apart, however it is nested or quoted.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Collection, Mapping
from typing import Any
from urllib.parse import quote

from joelclaw_tasks.core.redaction import MASK, SHORTEST_SECRET, is_secret_name, redacted

#: What is deeper or comes later is not shown either.
_DEEPEST = 20
_MOST_VALUES = 2_000
#: Of a text: how much is kept, and how much is looked at, so that a secret at the cut is whole.
_TEXT_MOST = 4_000
_LOOKED_AT = 8_000
_MOST_NAMED = 100
_PLACES = "_joelclaw_secret_places"


def masked(value: Any, secrets: Collection[str] = ()) -> Any:
    """A copy with every secret in it masked: under a name such as `password`, and whatever looks like one.

    Text is cut to 4,000 characters, and what comes after 2,000 values or is nested deeper than 20 is masked.
    What holds no secret and is shorter comes back equal.
    """
    return _Mask(secrets).of(value, 0)


class _Mask:
    def __init__(self, secrets: Collection[str]) -> None:
        self._secrets = secrets
        self._left = _MOST_VALUES

    def of(self, value: Any, depth: int) -> Any:
        self._left -= 1
        if self._left < 0 or depth > _DEEPEST:
            return MASK
        if isinstance(value, str):
            return self._text(value)
        if value is None or isinstance(value, bool | int | float):
            return self._number(value)
        if isinstance(value, Mapping):
            members = self._some(value.items())
            return {self._key(name): self._member(name, one, depth) for name, one in members}
        if isinstance(value, list | tuple):
            found = [self.of(one, depth + 1) for one in self._some(value)]
            return found if isinstance(value, list) else tuple(found)
        return self._other(value)

    def _some(self, values: Collection[Any]) -> list[Any]:
        most = max(0, self._left) + 1  # one too many, so that its mask tells that something is missing
        return [one for one, _ in zip(values, range(most), strict=False)]

    def _member(self, name: Any, value: Any, depth: int) -> Any:
        if isinstance(name, str) and is_secret_name(name) and value not in (None, True, False, ""):
            return MASK
        return self.of(value, depth + 1)

    def _key(self, name: Any) -> Any:
        return self._text(name) if isinstance(name, str) else name

    def _text(self, text: str) -> str:
        if len(text) <= _TEXT_MOST:
            return redacted(text, self._secrets)
        return redacted(text[:_LOOKED_AT], self._secrets)[:_TEXT_MOST] + "…"

    def _number(self, value: Any) -> Any:
        return MASK if self._secrets and str(value) in self._secrets else value

    def _other(self, value: Any) -> Any:
        try:
            text = repr(value)[:_LOOKED_AT]
        except Exception:  # noqa: BLE001  # an object of somebody else's making
            return MASK
        shown = redacted(text, self._secrets)
        return value if shown == text else shown


def named_secrets(value: Any) -> set[str]:
    """The values that a name such as `password` calls secret, as Python, JSON and URLs write them.

    About 100 at most, none of them short.
    """
    found: set[str] = set()
    left = _MOST_VALUES

    def visit(value: Any, depth: int, *, secret: bool) -> None:
        nonlocal left
        left -= 1
        if left < 0 or depth > _DEEPEST or len(found) >= _MOST_NAMED:
            return
        if isinstance(value, Mapping):
            for name, one in value.items():
                visit(one, depth + 1, secret=secret or (isinstance(name, str) and is_secret_name(name)))
                if left < 0:
                    return
        elif isinstance(value, list | tuple):
            for one in value:
                visit(one, depth + 1, secret=secret)
                if left < 0:
                    return
        elif secret and isinstance(value, str | int | float) and len(str(value)) >= SHORTEST_SECRET:
            found.update(_spellings(str(value)))

    visit(value, 0, secret=False)
    return found


def _spellings(secret: str) -> set[str]:
    if secret.isalnum():
        return {secret}
    in_python = repr(secret + "'\"")[1:-4]  # with both quotes in it, one kind of them is escaped
    in_json = (json.dumps(secret)[1:-1], json.dumps(secret, ensure_ascii=False)[1:-1])
    return {secret, in_python, in_python.replace("\\'", "'"), *in_json, quote(secret, safe="")}


def secrets_of_call(task: Any, args: Any, kwargs: Any) -> set[str]:
    """The values of a call that its own errors, results and logs must not show."""
    found = named_secrets((args, kwargs))
    if isinstance(args, list | tuple):
        for place in secret_places(task):
            found |= named_secrets({"secret": args[place : place + 1]})
    return found


def secret_places(task: Any) -> tuple[int, ...]:
    """The positions of those arguments that the signature of `task.run` names like a secret."""
    if task is None:
        return ()
    known = getattr(task, _PLACES, None)
    if known is None:
        known = _places_of(task)
        setattr(task, _PLACES, known)
    return tuple(known)


def _places_of(task: Any) -> tuple[int, ...]:
    try:
        parameters = inspect.signature(task.run).parameters.values()
    except (TypeError, ValueError):
        return ()
    positional = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    return tuple(place for place, each in enumerate(positional) if is_secret_name(each.name))
