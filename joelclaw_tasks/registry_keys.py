"""Key expressions: JMESPath over an event, that says which events share a limit."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Sequence
from typing import Any

import jmespath
from jmespath.functions import Functions

from joelclaw_tasks.core.event import Event
from joelclaw_tasks.errors import InvalidEvent

#: Longest key value that is used as it is; longer ones are hashed.
VALUE_MAX_CHARS = 200

#: What an event offers to an expression: the keys of Event.to_wire.
EVENT_FIELDS = ("id", "name", "source", "at_ms", "data", "priority", "meta")

#: So many values are remembered for each expression.
_KNOWN_MOST = 1_000

# A fixed list and not str.isprintable(): two producers on different Python versions know different
# Unicode tables, and must still agree on the key of an event.
_UNSAFE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")

# Everything that JMESPath raises on odd data; its own error class is a ValueError.
_EVALUATION_ERRORS = (ValueError, TypeError, ArithmeticError, LookupError, AttributeError, RecursionError)

# Nodes whose children all see the event itself; of all others only the first child does.
_TRANSPARENT = frozenset(
    {
        "and_expression",
        "comparator",
        "function_expression",
        "key_val_pair",
        "multi_select_dict",
        "multi_select_list",
        "not_expression",
        "or_expression",
    }
)


class KeyExpression:
    """One key expression, compiled and checked."""

    __slots__ = ("_compiled", "_known", "_paths", "text")

    def __init__(self, text: str, fields: Sequence[str] = EVENT_FIELDS) -> None:
        """Compile `text`, to be applied to an object with these fields.

        Raises ValueError with a plain sentence when it can never work.
        """
        self.text = text
        try:
            self._compiled = jmespath.compile(text)
        except RecursionError:
            raise ValueError("is nested too deeply for a key expression; write a simpler one") from None
        except _EVALUATION_ERRORS as error:
            reason = str(error).partition("\n")[0].split("expression: ", 1)[-1].rstrip(": ")
            raise ValueError(
                f"is not a JMESPath expression ({reason}); write something like data.path"
            ) from None
        _check_functions(self._compiled.parsed)
        _check_fields(self._compiled.parsed, fields)
        self._paths = _paths_read(self._compiled.parsed)
        self._known: dict[tuple[str | int | None, ...], str | None] = {}

    def value(self, event: Event) -> str | None:
        """`value_in` of an event. What the same values gave before is remembered: JMESPath is slow."""
        read = None if self._paths is None else _read(event, self._paths)
        if read is None:
            return self.value_in(event.to_wire(), f"{event.name!r} event")
        try:
            return self._known[read]
        except KeyError:
            value = self.value_in(event.to_wire(), f"{event.name!r} event")
        if len(self._known) >= _KNOWN_MOST:
            self._known.clear()
        self._known[read] = value
        return value

    def value_in(self, document: dict[str, Any], what: str) -> str | None:
        """The key of `what`: text that is safe in an id, or None when the expression finds nothing.

        A list becomes compact JSON; an object is no key. A value longer than VALUE_MAX_CHARS or with control
        characters becomes "sha256:" and its hash. Raises InvalidEvent when the expression cannot be
        applied; what the document contains is not part of the error.
        """
        try:
            found = self._compiled.search(document)
            if found is None:
                return None
            if isinstance(found, dict):
                raise InvalidEvent(
                    f"the key expression {self.text!r} finds an object in this {what}, which is no key; "
                    "nothing was queued",
                    fix="Name a field of the object in the expression.",
                )
            text = found if isinstance(found, str) else _compact(found)
            if len(text) > VALUE_MAX_CHARS or _UNSAFE.search(text):
                return "sha256:" + hashlib.sha256(text.encode()).hexdigest()
            text.encode()  # a lone surrogate fails here, not in the middle of a write to Redis
            return text
        except _EVALUATION_ERRORS as error:
            function = getattr(error, "function_name", None)
            where = f" (its function {function}() got a value it cannot take)" if function else ""
            raise InvalidEvent(
                f"the key expression {self.text!r} cannot be applied to this {what}{where}; "
                "nothing was queued",
                fix="Send the fields that the expression reads, or guard it in the registry with not_null().",
            ) from None


def _paths_read(tree: dict[str, Any]) -> tuple[tuple[str, ...], ...] | None:
    """The paths that alone decide what an expression finds; None when there is more to it."""
    paths: list[tuple[str, ...]] = []
    pending = [tree]
    while pending:
        node = pending.pop()
        path = _path(node)
        if path:
            paths.append(path)
        elif node["type"] in _TRANSPARENT:
            pending.extend(_children(node))
        elif node["type"] != "literal":
            return None
    return tuple(paths)


def _path(node: dict[str, Any]) -> tuple[str, ...]:
    """The path that a node is; empty when it is something else."""
    if node["type"] == "field":
        return (node["value"],)
    if node["type"] != "subexpression":
        return ()
    paths = [_path(child) for child in node["children"]]
    return tuple(name for path in paths for name in path) if all(paths) else ()


def _read(event: Event, paths: tuple[tuple[str, ...], ...]) -> tuple[str | int | None, ...] | None:
    """What an event has at the paths; None when one of these is not short text, a whole number or nothing."""
    read: list[str | int | None] = []
    for field, *names in paths:
        found = getattr(event, field)
        for name in names:
            found = found.get(name) if isinstance(found, dict) else None
        # Only types of which no two values are equal and yet written differently, as 1, 1.0 and true are.
        if type(found) is str:
            if len(found) > VALUE_MAX_CHARS:
                return None
        elif found is not None and type(found) is not int:
            return None
        read.append(found)
    return tuple(read)


def _compact(value: Any) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def _children(node: dict[str, Any]) -> Iterator[dict[str, Any]]:
    # A slice keeps plain numbers where other nodes keep nodes.
    return (child for child in node.get("children", ()) if isinstance(child, dict))


def _check_functions(tree: dict[str, Any]) -> None:
    # jmespath looks functions up only when it runs: too late, the event is already at the door.
    pending = [tree]
    while pending:
        node = pending.pop()
        pending.extend(_children(node))
        if node["type"] != "function_expression":
            continue
        name = node["value"]
        known = Functions.FUNCTION_TABLE.get(name)
        if known is None:
            raise ValueError(
                f"calls {name}(), which JMESPath does not have; use one of its built-in functions"
            )
        signature, given = known["signature"], len(node["children"])
        variadic = bool(signature) and bool(signature[-1].get("variadic"))
        if given < len(signature) or (given > len(signature) and not variadic):
            least = "at least " if variadic else ""
            raise ValueError(f"calls {name}() with {given} arguments; it takes {least}{len(signature)}")


def _check_fields(tree: dict[str, Any], fields: Sequence[str]) -> None:
    # `path` instead of `data.path` finds nothing in any event, so the limit would silently never apply.
    pending = [tree]
    while pending:
        node = pending.pop()
        if node["type"] == "field" and node["value"] not in fields:
            name = node["value"]
            if "data" in fields:
                raise ValueError(
                    f"reads {name!r}, which no event has; what an event carries is under data, "
                    f"so write data.{name} (an event has {', '.join(fields)})"
                )
            raise ValueError(f"reads {name!r}, which no call has; a call has {' and '.join(fields)}")
        children = list(_children(node))
        if node["type"] in _TRANSPARENT:
            pending.extend(child for child in children if child["type"] != "expref")
        else:
            pending.extend(children[:1])
