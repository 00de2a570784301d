"""Guard: what goes to a model is data without secrets; what comes back is a value of the schema, or nothing.

A model's answer is text of a stranger: payloads may have told it what to write. So nothing of it is believed
that was not asked for, and nothing named in it that was not shown.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Collection, Mapping
from functools import cache
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, ValidationError, ValidationInfo

from joelclaw_tasks.core.masking import masked, named_secrets
from joelclaw_tasks.core.redaction import secrets_of
from joelclaw_tasks.intelligence.reason import Reason

#: The largest answer that is read, in characters.
MOST_ANSWER = 200_000
#: The largest payload that leaves, in bytes of JSON.
MOST_PAYLOAD_BYTES = 4_000
#: Names that would let a model say where work goes or what is run. Where the schema does not have them they
#: are refused as an attempt, not as a mere fault of form.
FORBIDDEN_KEYS = frozenset(
    {"handler", "handlertarget", "target", "routetarget", "routeoverride", "eventname", "registry", "queue",
     "command", "exec", "code", "url", "callback", "protected", "__proto__", "constructor"}
)  # fmt: skip
_DEEPEST = 30

Value = TypeVar("Value", bound=BaseModel)


class Refused(Exception):
    """A model's text is not used; `detail` is for people, and of the text it has names of fields only."""

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


class AnswerModel(BaseModel):
    """Base of what a model may answer: knows all of its fields, and never changes."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


# -- types of fields ------------------------------------------------------------------------------


def clamp(least: float, most: float) -> BeforeValidator:
    """For a field: a number that is outside becomes the nearest bound.

    `score: Annotated[int, clamp(0, 100)]`
    """

    def clamped(value: Any) -> Any:
        if isinstance(value, bool) or not isinstance(value, int | float) or value != value:  # noqa: PLR0124
            return value
        return min(max(value, least), most)

    return BeforeValidator(clamped)


def shown(kind: str) -> AfterValidator:
    """For a field: the question must have shown the value, among those of that kind.

    `family: Annotated[str, shown("families")]`
    """

    def is_shown(value: Any, info: ValidationInfo) -> Any:
        # Without a context it is code that makes the value, not an answer that is read.
        if info.context is not None and value not in info.context.get(kind, ()):
            raise ValueError(f"is not among the {kind} that were shown")
        return value

    return AfterValidator(is_shown)


def prose(most: int) -> BeforeValidator:
    """Text for people: one line, no control characters, cut to `most` characters."""

    def cleaned(value: Any) -> Any:
        return plain_text(value, most) if isinstance(value, str) else value

    return BeforeValidator(cleaned)


def plain_text(text: str, most: int) -> str:
    """Text without control, format and private characters, its white space single, cut with an ellipsis."""
    kept = (" " if each.isspace() else each for each in text[: most * 4] if _is_visible(each))
    line = " ".join("".join(kept).split())
    return line if len(line) <= most else line[: most - 1].rstrip() + "…"


Reasoning = Annotated[str, prose(280)]
"""A model's reason, for people."""


def _is_visible(character: str) -> bool:
    return character.isspace() or unicodedata.category(character) not in {"Cc", "Cf", "Cs", "Co", "Cn"}


# -- what comes back ------------------------------------------------------------------------------


def value_of(text: str, schema: type[Value], shown: Mapping[str, Collection[str]] | None = None) -> Value:
    """The value that a model's text is. Raises Refused with INVALID_JSON, UNSAFE_ANSWER or INVALID_ANSWER."""
    if len(text) > MOST_ANSWER:
        raise Refused(Reason.INVALID_ANSWER, f"is longer than {MOST_ANSWER:,} characters")
    try:
        document = json.loads(
            _unfenced(text),
            object_pairs_hook=_once_each,
            parse_constant=_refuse_constant,
        )
    except RecursionError:
        raise Refused(Reason.INVALID_JSON, "is nested too deeply") from None
    except ValueError as error:
        where = f" at character {error.pos}" if isinstance(error, json.JSONDecodeError) else ""
        raise Refused(
            Reason.INVALID_JSON, f"is not JSON{where}" if where else f"is not JSON: {error}"
        ) from None
    _refuse_forbidden(document, _declared(schema), 0)
    try:
        return schema.model_validate(document, context=dict(shown or {}))
    except ValidationError as error:
        raise Refused(Reason.INVALID_ANSWER, _first_fault(error)) from None


def _unfenced(text: str) -> str:
    """Some models write JSON as Markdown does."""
    text = text.strip()
    if text.startswith("```") and text.endswith("```") and "\n" in text:
        return text.partition("\n")[2].removesuffix("```")
    return text


def _once_each(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    document = dict(pairs)
    if len(document) < len(pairs):
        raise ValueError("a field stands twice in one object")
    return document


def _refuse_constant(literal: str) -> None:
    raise ValueError(f"{literal} is no number")


@cache
def _declared(schema: type[BaseModel]) -> frozenset[str]:
    """The names of all fields of a schema, at every depth."""
    full = schema.model_json_schema()
    parts = [full, *full.get("$defs", {}).values()]
    return frozenset(name for part in parts for name in part.get("properties", ()))


def _refuse_forbidden(value: Any, declared: frozenset[str], depth: int) -> None:
    if depth > _DEEPEST:
        raise Refused(Reason.INVALID_ANSWER, "is nested too deeply")
    if isinstance(value, list):
        for one in value:
            _refuse_forbidden(one, declared, depth + 1)
    elif isinstance(value, dict):
        for name, one in value.items():
            plain = {name, re.sub(r"[\s_-]", "", name).lower()}
            if name not in declared and not plain.isdisjoint(FORBIDDEN_KEYS):
                raise Refused(Reason.UNSAFE_ANSWER, f"sets {plain_text(name, 40)!r}, which no model may set")
            _refuse_forbidden(one, declared, depth + 1)


def _first_fault(error: ValidationError) -> str:
    found = error.errors(include_url=False, include_input=False, include_context=False)
    place = ".".join(str(part) for part in found[0]["loc"]) or "the answer"
    more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
    return plain_text(f"{place}: {found[0]['msg']}", 200) + more


# -- what goes out --------------------------------------------------------------------------------


def data_block(name: str, value: Any, *, most_bytes: int = MOST_PAYLOAD_BYTES) -> str:
    """A value as a block of data for a prompt: `<name>JSON</name>`, redacted and cut to a size.

    Secrets are masked by name and by form, and those of this process's environment wherever they stand.
    Control characters and angle brackets are escaped, so that nothing in it can end the block.
    """
    return f"<{name}>{compact(value, most_bytes=most_bytes)}</{name}>"


def compact(value: Any, *, most_bytes: int = MOST_PAYLOAD_BYTES) -> str:
    """A value as JSON in ASCII without secrets: all of it, or its beginning and how much is missing."""
    secrets = secrets_of() | named_secrets(value)
    text = json.dumps(masked(value, secrets), ensure_ascii=True, separators=(",", ":"), default=str)
    text = text.replace("<", "\\u003c").replace(">", "\\u003e")
    if len(text) <= most_bytes:
        return text
    cut = {"cut": text[: max(0, most_bytes - 80)], "bytes": len(text)}
    while len(shorter := json.dumps(cut, separators=(",", ":"))) > most_bytes and cut["cut"]:
        cut["cut"] = str(cut["cut"])[: -max(1, len(shorter) - most_bytes)]
    return shorter
