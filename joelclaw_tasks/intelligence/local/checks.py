"""Checks of a request: what the real API refuses with 400 or 401, the local one refuses too."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any

_KNOWN = frozenset(
    {"model", "max_tokens", "messages", "system", "output_config", "metadata", "stop_sequences", "stream",
     "thinking", "tools", "tool_choice", "service_tier", "cache_control", "container", "speed"}
)  # fmt: skip
#: Keywords of JSON Schema that structured output does not take.
_UNKNOWN_KEYWORDS = frozenset(
    {"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf", "minLength", "maxLength",
     "maxItems", "uniqueItems", "oneOf", "patternProperties", "default"}
)  # fmt: skip


def key_of(headers: Mapping[str, str]) -> str:
    """The key that a request brings, in either of the two headers; headers have small letters."""
    bearer = headers.get("authorization", "")
    return headers.get("x-api-key") or bearer.removeprefix("Bearer ").strip()


def wrong_key(headers: Mapping[str, str], accepted: Collection[str] | None) -> str | None:
    """Why the key is not accepted; None: it is. Without `accepted`, any key is."""
    key = key_of(headers)
    if not key:
        return "x-api-key header is required"
    return "invalid x-api-key" if accepted is not None and key not in accepted else None


def wrong_request(body: Any, headers: Mapping[str, str]) -> str | None:
    """Why a request is refused with 400; None: it is in order."""
    if not headers.get("anthropic-version"):
        return "anthropic-version: header is required"
    if not isinstance(body, dict):
        return "the body must be a JSON object"
    for name in body:
        if name in ("temperature", "top_p", "top_k"):
            return f"{name}: not supported by this model"
        if name not in _KNOWN:
            return f"{name}: Extra inputs are not permitted"
    if not isinstance(body.get("model"), str) or not body["model"]:
        return "model: Field required"
    most = body.get("max_tokens")
    if not isinstance(most, int) or isinstance(most, bool) or most < 1:
        return "max_tokens: must be a whole number of at least 1"
    if body.get("stream"):
        return "stream: this local API does not stream"
    return _wrong_messages(body.get("messages")) or _wrong_format(body.get("output_config"))


def _wrong_messages(messages: Any) -> str | None:
    if not isinstance(messages, list) or not messages:
        return "messages: at least one message is required"
    for message in messages:
        if not isinstance(message, dict) or message.get("role") not in ("user", "assistant"):
            return "messages.0.role: must be user or assistant"
        if not message.get("content"):
            return "messages.0.content: must not be empty"
    return None


def _wrong_format(config: Any) -> str | None:
    form = config.get("format") if isinstance(config, dict) else None
    if form is None:
        return None
    if not isinstance(form, dict) or not isinstance(form.get("schema"), dict):
        return "output_config.format: must be a json_schema with a schema"
    return next(_schema_faults(form["schema"], "output_config.format.schema"), None)


def _schema_faults(schema: Any, place: str) -> Iterator[str]:
    if not isinstance(schema, dict):
        return
    for keyword in schema:
        if keyword in _UNKNOWN_KEYWORDS:
            yield f"{place}: the keyword {keyword} is not supported"
    if schema.get("type") == "object" and schema.get("additionalProperties") is not False:
        yield f"{place}: additionalProperties must be false"
    for name in ("properties", "$defs"):
        for key, inner in (schema.get(name) or {}).items():
            yield from _schema_faults(inner, f"{place}.{name}.{key}")
    yield from _schema_faults(schema.get("items"), f"{place}.items")
    for number, inner in enumerate(schema.get("anyOf") or ()):
        yield from _schema_faults(inner, f"{place}.anyOf[{number}]")
