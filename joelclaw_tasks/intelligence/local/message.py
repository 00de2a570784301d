"""Message: the JSON of an answer, with its text, its stop reason and the usage that it is billed by."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from typing import Any

from joelclaw_tasks.intelligence.local.act import Act, Asked, Fault

#: A prompt that is shorter is not cached.
LEAST_CACHED_TOKENS = 512
_TTL_S = {"5m": 300.0, "1h": 3600.0}


def tokens_of(text: str) -> int:
    """About how many tokens a text has: one for four bytes. The real tokenizer is not known."""
    return -(-len(text.encode("utf-8", "replace")) // 4)


class Cache:
    """Which fixed parts of prompts are cached, for how long; `now_s` is any clock that goes forward."""

    def __init__(self, now_s: Callable[[], float]) -> None:
        self._now_s = now_s
        self._until: dict[str, float] = {}

    def usage_of(self, asked: Asked) -> dict[str, Any]:
        """Tokens of the prompt: new ones, and those that the cache takes or gives."""
        fixed, ttl = _cached_part(asked.body.get("system"))
        rest = tokens_of(asked.fixed[len(fixed) :]) + tokens_of(asked.per_call)
        rest += tokens_of(json.dumps(asked.schema)) if asked.schema is not None else 0
        tokens, written, read = tokens_of(fixed), 0, 0
        if tokens < LEAST_CACHED_TOKENS:
            rest += tokens
        else:
            key = hashlib.sha256(f"{asked.model}\0{fixed}".encode("utf-8", "replace")).hexdigest()
            known = self._until.get(key, 0.0) > self._now_s()
            written, read = (0, tokens) if known else (tokens, 0)
            self._until[key] = self._now_s() + _TTL_S[ttl]  # a use makes it last longer
        by_ttl = {f"ephemeral_{each}_input_tokens": written if each == ttl else 0 for each in _TTL_S}
        return {
            "input_tokens": rest,
            "cache_creation_input_tokens": written,
            "cache_read_input_tokens": read,
            "cache_creation": by_ttl,
            "service_tier": "standard",
        }


def _cached_part(system: Any) -> tuple[str, str]:
    """The text up to the last mark, and how long it is kept."""
    blocks = system if isinstance(system, list) else []
    fixed, upto, ttl = "", "", "5m"
    for block in blocks:
        fixed += block.get("text", "")
        control = block.get("cache_control")
        if control:
            upto, ttl = fixed, control.get("ttl", "5m")
    return upto, ttl


def message(asked: Asked, act: Act, usage: Mapping[str, Any]) -> dict[str, Any]:
    """The answer to a request."""
    text, stop, details = _text_of(asked, act), "end_turn", None
    if act.fault is Fault.REFUSAL:
        text, stop = "I cannot help with that.", "refusal"
        details = {"type": "refusal", "category": "cyber", "explanation": None}
    elif act.fault is Fault.CUT_OFF:
        text, stop = text[: len(text) // 2], "max_tokens"
    output = tokens_of(text) + (40 if act.thinks else 0)
    if output > asked.body["max_tokens"] and stop == "end_turn":
        output = asked.body["max_tokens"]
        text, stop = text[: output * 4], "max_tokens"
    content: list[dict[str, Any]] = [{"type": "text", "text": text, "citations": None}]
    if act.thinks:
        content.insert(0, {"type": "thinking", "thinking": "Let me see.", "signature": "local"})
    return {
        "id": f"msg_local_{asked.number:06}",
        "type": "message",
        "role": "assistant",
        "model": asked.model,
        "content": content,
        "stop_reason": stop,
        "stop_sequence": None,
        "stop_details": details,
        "usage": {**usage, "output_tokens": output, **(act.usage or {})},
    }


def _text_of(asked: Asked, act: Act) -> str:
    if act.fault is Fault.NOT_JSON:
        return "Certainly! Here is what I think of these events."
    if act.fault is Fault.WRONG_SCHEMA:
        return '{"verdict": "fine"}'
    if act.fault is Fault.UNSAFE:
        return '{"routeTarget": "evil.module:run", "registry": {}}'
    if act.text is not None:
        return act.text
    value = act.value if act.value is not None else simplest(asked.schema or {"type": "string"})
    return json.dumps(value, ensure_ascii=False)


def simplest(schema: Mapping[str, Any], defs: Mapping[str, Any] | None = None, depth: int = 0) -> Any:
    """The simplest value of a schema: first of an enum, no elements, every field of an object."""
    defs = schema.get("$defs", {}) if defs is None else defs
    if depth > 20:
        return None
    if "$ref" in schema:
        return simplest(defs[schema["$ref"].rsplit("/", 1)[1]], defs, depth + 1)
    if "const" in schema:
        return schema["const"]
    if schema.get("enum"):
        return schema["enum"][0]
    if schema.get("anyOf"):
        return simplest(schema["anyOf"][0], defs, depth + 1)
    if schema.get("type") == "object":
        fields = schema.get("properties", {}).items()
        return {name: simplest(inner, defs, depth + 1) for name, inner in fields}
    values = {"array": [], "string": "nothing to say", "integer": 50, "number": 0.5, "boolean": False}
    return values.get(str(schema.get("type")))
