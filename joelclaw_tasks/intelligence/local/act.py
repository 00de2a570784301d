"""Act: what the local API does with one request, and what it was asked."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from pydantic import BaseModel


class Fault(StrEnum):
    """What can go wrong with an API, by name."""

    BAD_REQUEST = "bad_request"  # 400
    WRONG_KEY = "wrong_key"  # 401
    FORBIDDEN = "forbidden"  # 403
    NOT_FOUND = "not_found"  # 404: no such model
    TOO_LARGE = "too_large"  # 413
    RATE_LIMITED = "rate_limited"  # 429, with retry-after
    SERVER_ERROR = "server_error"  # 500
    OVERLOADED = "overloaded"  # 529
    SLOW = "slow"  # the answer comes after 30 s, or `after_s`
    DRIP = "drip"  # the answer comes at once, a byte every 50 ms
    HANG_UP = "hang_up"  # the connection ends without an answer
    HALF_BODY = "half_body"  # the connection ends in the middle of the answer
    HALF_JSON = "half_json"  # 200, and JSON without its end
    OTHER_JSON = "other_json"  # 200, and JSON that is no message
    HTML = "html"  # 200, and a page, as of a proxy
    EMPTY = "empty"  # 200, and nothing
    REFUSAL = "refusal"  # a message: the model declines
    CUT_OFF = "cut_off"  # a message: max_tokens reached, half of the answer is there
    NOT_JSON = "not_json"  # a message: prose instead of JSON
    WRONG_SCHEMA = "wrong_schema"  # a message: JSON of another form
    UNSAFE = "unsafe"  # a message: JSON that tries to set a handler


#: Status and error type of those faults that the API names itself.
STATUS = {
    Fault.BAD_REQUEST: (400, "invalid_request_error"),
    Fault.WRONG_KEY: (401, "authentication_error"),
    Fault.FORBIDDEN: (403, "permission_error"),
    Fault.NOT_FOUND: (404, "not_found_error"),
    Fault.TOO_LARGE: (413, "request_too_large"),
    Fault.RATE_LIMITED: (429, "rate_limit_error"),
    Fault.SERVER_ERROR: (500, "api_error"),
    Fault.OVERLOADED: (529, "overloaded_error"),
}


@dataclass(frozen=True, slots=True)
class Act:
    """One answer: a value, a text, a fault, or (nothing of them) the simplest value of the asked schema.

    `outcome` is for a request of a batch: "expired" or "canceled" instead of an answer.
    `usage` replaces single fields of the counted usage, such as {"output_tokens": 120}.
    """

    value: Any = None
    text: str | None = None
    fault: Fault | None = None
    after_s: float | None = None
    retry_after_s: float = 7.0
    message: str | None = None
    usage: Mapping[str, int] | None = None
    thinks: bool = False
    outcome: str | None = None

    @classmethod
    def of(cls, given: Any) -> Act:
        """From an Act, a fault, a text, a pydantic value, or anything that JSON can say."""
        if isinstance(given, cls):
            return given
        if isinstance(given, Fault):
            return cls(fault=given)
        if isinstance(given, str):
            return cls(text=given)
        return cls(value=given.model_dump(mode="json") if isinstance(given, BaseModel) else given)


@dataclass(frozen=True, slots=True)
class Asked:
    """One request as it came in. `number` counts from 1."""

    number: int
    body: Mapping[str, Any]
    headers: Mapping[str, str]

    @property
    def model(self) -> str:
        """The id of the model."""
        return str(self.body["model"])

    @property
    def fixed(self) -> str:
        """The system prompt."""
        system = self.body.get("system", "")
        return system if isinstance(system, str) else "".join(block.get("text", "") for block in system)

    @property
    def per_call(self) -> str:
        """The text of all messages."""
        contents = [message["content"] for message in self.body["messages"]]
        return "".join(
            one if isinstance(one, str) else "".join(block.get("text", "") for block in one)
            for one in contents
        )

    @property
    def schema(self) -> dict[str, Any] | None:
        """The JSON Schema of the answer."""
        form = (self.body.get("output_config") or {}).get("format") or {}
        found = form.get("schema")
        return found if isinstance(found, dict) else None


#: Decides what to do with a request; what it returns goes through Act.of.
Rule = Callable[[Asked], Any]


def read_script(path: Path) -> list[Act]:
    """A script from a file: one JSON object a line, with the fields of Act. Raises ValueError, OSError."""
    acts = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        if not line.strip():
            continue
        try:
            fields = json.loads(line)
            if fields.get("fault") is not None:
                fields["fault"] = Fault(fields["fault"])
            acts.append(Act(**fields))
        except (ValueError, TypeError, AttributeError) as error:
            raise ValueError(f"line {number}: {error}") from None
    return acts
