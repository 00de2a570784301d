"""Where: the small language that chooses jobs, such as `family=content/updated age>10m data.path~notes/*`.

Terms are separated by blanks, and all must hold; quotes keep blanks together. A term is a field, an operator
and a value:

- fields: id, queue, family, handler, lane, state, priority (P0..P3), age (since it could start), kills,
  claims, retries, steered_by; any JMESPath that begins with data, args, kwargs or meta: into event or call
- operators: `=` `!=` `<` `<=` `>` `>=`, `~` (a glob) and `!~`
- values: text, numbers, durations for age (60s, 10m, 2h, 1d), `null`, `true`, `false`
"""

from __future__ import annotations

import base64
import json
import operator
import re
import shlex
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

import jmespath
from jmespath.exceptions import JMESPathError

from joelclaw_tasks.core.states import State
from joelclaw_tasks.errors import InvalidFilter
from joelclaw_tasks.steering.ttl import duration_ms

FIELDS = (
    "id", "queue", "family", "handler", "lane", "state", "priority", "age", "kills", "claims", "retries",
    "steered_by", "data", "args", "kwargs", "meta",
)  # fmt: skip
_TERM = re.compile(r"(.+?)(!=|!~|>=|<=|=|~|>|<)(.*)", re.DOTALL)
_MESSAGE = re.compile(r"(?:data|args|kwargs|meta)\b")
_ORDERED: dict[str, Callable[[Any, Any], bool]] = {
    ">": operator.gt,
    ">=": operator.ge,
    "<": operator.lt,
    "<=": operator.le,
}
_LANE_FIELDS = ("queue", "family", "handler")


@dataclass(frozen=True)
class Term:
    """One condition. `path` reads the message of a job; None: `field` is one of FIELDS."""

    field: str
    sign: str
    value: str
    path: Any = None

    def holds(self, actual: object) -> bool:
        """Whether a value of the field fulfils it."""
        if self.sign in _ORDERED:
            pair = _as_numbers(actual, self.value, self.field)
            return pair is not None and _ORDERED[self.sign](*pair)
        if self.sign in {"~", "!~"}:
            return fnmatchcase(_as_text(actual), self.value) is (self.sign == "~")
        pair = _as_numbers(actual, self.value, self.field)
        same = pair[0] == pair[1] if pair else _as_text(actual) == self.value
        return same is (self.sign == "=")


class Where:
    """A filter of jobs. Raises InvalidFilter, naming the term that is wrong."""

    fields: Collection[str] = FIELDS

    def __init__(self, text: str) -> None:
        self.text = text
        try:
            parts = shlex.split(text)
        except ValueError:
            raise InvalidFilter(f"a quote is not closed in {text!r:.200}") from None
        if not parts:
            raise InvalidFilter("the filter is empty: it would choose every job; write `id~*` to mean that")
        self.terms = tuple(_term(part, self.fields) for part in parts)
        self.needs_payload = any(term.path for term in self.terms)

    def matches(self, job: Mapping[str, Any], now_ms: int) -> bool:
        """Whether all terms hold for a job as core/candidates.py reads it."""
        message = _message(job.get("payload")) if self.needs_payload else {}
        for term in self.terms:
            if term.path is not None:
                actual = term.path.search(message)
            elif term.field == "age":
                actual = now_ms - (job.get("available_at") or job.get("admitted_at") or now_ms)
            else:
                actual = job.get(term.field)
            if not term.holds(actual):
                return False
        return True

    def wants_lane(self, queue: str, family: str, handler: str) -> bool:
        """Whether a job of such a lane could match."""
        names = dict(zip(_LANE_FIELDS, (queue, family, handler), strict=True))
        return all(term.holds(names[term.field]) for term in self.terms if term.field in names)

    def states(self) -> set[State] | None:
        """The states that it names, None when it names none."""
        terms = [term for term in self.terms if term.field == "state"]
        return {state for state in State if all(term.holds(state.value) for term in terms)} if terms else None


def _term(part: str, fields: Collection[str]) -> Term:
    match = _TERM.fullmatch(part)
    if match is None:
        raise InvalidFilter(f"{part!r:.200} is no term: write <field><operator><value>, such as age>10m")
    field, sign, value = match.groups()
    if "data" in fields and _MESSAGE.match(field):
        try:
            return Term(field, sign, value, jmespath.compile(field))
        except JMESPathError:
            raise InvalidFilter(f"{field!r:.200} is no JMESPath expression") from None
    if field not in fields:
        raise InvalidFilter(f"no field is named {field!r:.200}; there are {', '.join(fields)}")
    if sign in _ORDERED and _as_number(value, field) is None:
        raise InvalidFilter(f"{part!r:.200} compares with {value!r}, which is no number and no duration")
    if field == "state" and sign in {"=", "!="} and value not in set(State):
        raise InvalidFilter(f"{value!r:.200} is no state; there are {', '.join(State)}")
    return Term(field, sign, value)


def _as_numbers(actual: object, value: str, field: str) -> tuple[float, float] | None:
    wanted = _as_number(value, field)
    if wanted is None or isinstance(actual, bool):
        return None
    if isinstance(actual, str):
        return None if (number := _as_number(actual, "")) is None else (number, wanted)
    return (float(actual), wanted) if isinstance(actual, int | float) else None


def _as_number(text: str, field: str) -> float | None:
    if field == "age":
        return duration_ms(text)
    return float(text) if re.fullmatch(r"[+-]?\d{1,15}(\.\d{1,15})?", text, re.ASCII) else None


def _as_text(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, separators=(",", ":"))


def _message(payload: bytes | None) -> dict[str, Any]:
    """What can be read of the Celery message: data and meta of an event, args and kwargs of a call."""
    try:
        message = json.loads(payload or b"{}")
        body = message["body"]
        if message["properties"].get("body_encoding") == "base64":
            body = base64.b64decode(body)
        args, kwargs, _ = json.loads(body)
        event = args[0] if args and isinstance(args[0], dict) else {}
        return {"args": args, "kwargs": kwargs, "data": event.get("data"), "meta": event.get("meta")}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return {}
