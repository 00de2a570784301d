"""References: `{"$ref": "node.output.field.0"}` in a plan stands for a part of what a step answered."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

MARK = "$ref"
#: The name of the element that a run of a `for_each` is for.
ITEM = "item"
_DEEPEST = 50


class BadReference(Exception):
    """A reference leads nowhere; the message says which, and where it ends."""


def is_reference(value: Any) -> bool:
    """Whether a JSON value is a reference: an object with the one member `$ref`, which is a text."""
    return isinstance(value, dict) and len(value) == 1 and isinstance(value.get(MARK), str)


def references_in(value: Any, depth: int = 0) -> Iterator[str]:
    """Every reference in a JSON value. Raises BadReference when it is nested too deeply."""
    if depth > _DEEPEST:
        raise BadReference(f"it is nested deeper than {_DEEPEST}")
    if is_reference(value):
        yield value[MARK]
    elif isinstance(value, dict):
        for each in value.values():
            yield from references_in(each, depth + 1)
    elif isinstance(value, list):
        for each in value:
            yield from references_in(each, depth + 1)


def parts_of(reference: str) -> tuple[str, list[str]]:
    """The step (or `item`) that it names, and the way into its output. Raises BadReference."""
    name, *way = reference.split(".")
    if name == ITEM:
        return name, way
    if not way or way[0] != "output":
        raise BadReference(
            f'"{reference[:80]}" is no reference; write <id of a step>.output.<field>, or item'
        )
    return name, way[1:]


def resolved(value: Any, outputs: Mapping[str, Any]) -> Any:
    """The value with what its references stand for. `outputs`: by id of a step, and `item`.

    What is put in is not looked into again: an answer from outside cannot bring references of its own.
    Raises BadReference.
    """
    if is_reference(value):
        return _looked_up(value[MARK], outputs)
    if isinstance(value, dict):
        return {name: resolved(each, outputs) for name, each in value.items()}
    if isinstance(value, list):
        return [resolved(each, outputs) for each in value]
    return value


def _looked_up(reference: str, outputs: Mapping[str, Any]) -> Any:
    name, way = parts_of(reference)
    if name not in outputs:
        raise BadReference(f'"{reference[:80]}": {name} has no output')
    found = outputs[name]
    for part in way:
        if isinstance(found, dict) and part in found:
            found = found[part]
        elif isinstance(found, list) and part.isascii() and part.isdigit() and int(part) < len(found):
            found = found[int(part)]
        else:
            raise BadReference(f'"{reference[:80]}": there is no {part[:80]!r} in it')
    return found
