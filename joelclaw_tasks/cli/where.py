"""Where: a JMESPath condition on a job, such as `data.repo == 'acme/site'` or `claims > `3``."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Mapping
from typing import Any

from joelclaw_tasks.cli.command import usage

Condition = Callable[[Mapping[str, Any]], bool]

_ERRORS = (ValueError, TypeError, ArithmeticError, LookupError, AttributeError, RecursionError)


def where(expression: str) -> Condition:
    """The condition of `--where`: it holds when the expression finds something (not null, false or empty).

    It sees the plain fields of a job, `args` and `kwargs` of the call, and of an event's job its `event`
    and, for short, its `data`. A job to which it cannot be applied does not fit. Raises CommandFailed with
    exit code 2.
    """
    import jmespath

    try:
        compiled = jmespath.compile(expression)
    except _ERRORS as error:
        reason = str(error).partition("\n")[0]
        raise usage(
            f"--where is not a JMESPath expression: {reason}",
            fix="Write it like `--where \"data.repo == 'acme/site'\"`; text stands in single quotes.",
        ) from None

    def holds(job: Mapping[str, Any]) -> bool:
        try:
            found = compiled.search(_seen(job))
        except _ERRORS:
            return False
        return found is not None and found is not False and found not in ("", [], {})

    return holds


def _seen(job: Mapping[str, Any]) -> dict[str, Any]:
    args, kwargs = _call_of(job.get("payload") or b"")
    event = args[0] if args and isinstance(args[0], dict) and "name" in args[0] else {}
    plain = {name: value for name, value in job.items() if name != "payload"}
    return {**plain, "args": args, "kwargs": kwargs, "event": event, "data": event.get("data")}


def _call_of(payload: bytes) -> tuple[list[Any], dict[str, Any]]:
    """Arguments of the Celery call in a message, as far as they can be read."""
    try:
        message = json.loads(payload)
        body = message["body"]
        if message["properties"].get("body_encoding") == "base64":
            body = base64.b64decode(body)
        args, kwargs = json.loads(body)[:2]
        return list(args), dict(kwargs)
    except (*_ERRORS, KeyError):
        return [], {}
