"""Faults of registry files, said so that a person knows what to do: no words of pydantic's."""

from __future__ import annotations

import difflib
import json
from collections.abc import Callable
from typing import Any

from pydantic import BaseModel, ValidationError

#: Handler types of the design that this version cannot run yet.
LATER_TYPES = ("http", "inngest")
ERROR_PATTERN = r"^[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*$"
TARGET_PATTERN = r"^[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*:[A-Za-z_][A-Za-z0-9_]*$"

#: Names of services and handlers, as Restate takes them.
RESTATE_PATTERN = r"^[A-Za-z_][A-Za-z0-9_.-]{0,199}$"

Fault = tuple[str, str]
"""Where in the file (`handlers[0].queue`, or empty for the file itself), and what is wrong."""


def shown(value: Any) -> str:
    """A value of a file for a person: as JSON, shortened."""
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 80 else text[:77] + "..."


def dotted(place: tuple[Any, ...]) -> str:
    """A place as people write it: ('handlers', 0, 'queue') is handlers[0].queue."""
    path = ""
    for part in place:
        path += f"[{part}]" if isinstance(part, int) else f".{part}" if path else str(part)
    return path


def nearest(word: str, known: list[str]) -> str:
    """`; did you mean "x"?`, or the known words when none is near."""
    near = difflib.get_close_matches(word[:200], known, n=1)
    if near:
        return f"; did you mean {shown(near[0])}?"
    return f"; known here: {', '.join(sorted(known))}" if known else ""


def plain_faults(
    error: ValidationError, document: Any, model_at: Callable[[tuple[str, ...]], type[BaseModel] | None]
) -> list[Fault]:
    """Every fault that pydantic found in a document; `model_at` says which model rules at a place."""
    faults = []
    for found in error.errors(include_url=False):
        place, kind = found["loc"], found["type"]
        if kind == "string_pattern_mismatch" and place[-1] == "target":
            if _sibling(document, place, "type") in LATER_TYPES:
                continue  # its syntax belongs to a type that is refused anyway
        elif kind in ("string_pattern_mismatch", "registry") and place and place[-1] == "[key]":
            place = place[:-1]  # pydantic's mark for "the key itself and not its value"
        if kind == "extra_forbidden":
            model = model_at(tuple(part for part in place[:-1] if isinstance(part, str)))
            known = [f.alias or name for name, f in model.model_fields.items()] if model else []
            sentence = f"is not a known field{nearest(str(place[-1]), known)}"
        else:
            sentence = _sentence(found)
        faults.append((dotted(place), sentence))
    return faults


def _sibling(document: Any, place: tuple[Any, ...], field: str) -> Any:
    for part in place[:-1]:
        document = document[part]
    return document.get(field)


_KINDS = {
    "string_type": 'a text in double quotes, such as "text"',
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "bool_type": "true or false",
    "list_type": "a list in [ ]",
    "dict_type": "an object in { }",
    "model_type": "an object in { }",
    "model_attributes_type": "an object in { }",
}


def _sentence(found: Any) -> str:
    kind, value, context = found["type"], found["input"], found.get("ctx", {})
    if kind == "registry":
        return str(context["sentence"])
    if kind == "missing":
        return "is missing; add it"
    if kind in _KINDS:
        return f"must be {_KINDS[kind]}, not {shown(value)}"
    if kind == "literal_error":
        return _literal_sentence(found["loc"], value, context["expected"])
    if kind == "string_pattern_mismatch":
        return _pattern_sentence(context["pattern"], value)
    bounds = {
        "greater_than": ("gt", "more than {}"),
        "greater_than_equal": ("ge", "at least {}"),
        "less_than_equal": ("le", "at most {}"),
    }
    if kind in bounds:
        limit, words = bounds[kind]
        return f"must be {words.format(format(context[limit], 'g'))}, not {shown(value)}"
    lengths = {
        "string_too_short": "must not be empty",
        "string_too_long": f"is longer than {context.get('max_length')} characters; shorten it",
        "too_short": "must not be empty; add at least one",
        "too_long": f"has more than {context.get('max_length')} entries; split it",
    }
    return lengths.get(kind, f"is not acceptable: {shown(value)}")


def _literal_sentence(place: tuple[Any, ...], value: Any, expected: str) -> str:
    if place[-1] == "mode" and "restate" not in place:
        return f'must be "skip" or "cancel", not {shown(value)}'
    if place[-1] == "priority":
        return f'must be one of "P0", "P1", "P2", "P3", not {shown(value)}'
    if value in LATER_TYPES:
        return (
            f'{shown(value)} cannot be run by this version, which runs only "task" and "restate"; '
            "write a task that makes the call"
        )
    return f"must be {expected.replace(chr(39), chr(34))}, not {shown(value)}"


def _pattern_sentence(pattern: str, value: str) -> str:
    if pattern == TARGET_PATTERN:
        return f'{shown(value)} is not a target; write package.module:function, such as "jobs.mail:send"'
    if pattern == ERROR_PATTERN:
        return f'{shown(value)} is not the name of an exception; write one such as "TimeoutError"'
    if pattern == RESTATE_PATTERN:
        return f"{shown(value)} is no name in Restate; use letters, digits and _ . - and start with a letter"
    return (
        f"{shown(value)} is not a name; use 1 to 120 letters, digits and the characters _ . : / - "
        "and start with a letter or a digit"
    )
