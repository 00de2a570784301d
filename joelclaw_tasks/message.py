"""Message: a Celery call (task protocol 2) as kombu's Redis transport writes it, without Celery."""

from __future__ import annotations

import base64
import json
import os
import socket
from functools import cache
from json.encoder import encode_basestring_ascii
from typing import Any

from pydantic_core import to_json

from joelclaw_tasks.core.spec import HandlerSpec

_EMBED = b'{"callbacks":null,"errbacks":null,"chain":null,"chord":null}'
_ORIGIN = f"{os.getpid()}@{socket.gethostname()}"
#: `json.dumps` makes an encoder for every call; this one is made once.
_encode = json.JSONEncoder(separators=(",", ":")).encode
_quote = encode_basestring_ascii


def body_of(argument: bytes = b"") -> str:
    """The body of a call with one argument (JSON), or none, in base64 as kombu carries it."""
    return base64.b64encode(b"[[" + argument + b"],{}," + _EMBED + b"]").decode()


def argument_of(payload: str | bytes) -> Any:
    """The one argument of a message, as `body_of` wrote it. Raises ValueError, TypeError or KeyError."""
    [argument], _, _ = json.loads(base64.b64decode(json.loads(payload)["body"]))
    return argument


def message(
    job_id: str,
    handler: HandlerSpec,
    body: str,
    arguments: str,
    carrier: dict[str, str],
    admission: dict[str, Any],
) -> str:
    """The message of a job.

    `arguments` is what Flower and logs show, `carrier` the trace, `admission` what the broker finds when the
    job comes again (see broker/jobs.py).
    """
    headers, properties = _template(handler)
    shown = f'"argsrepr":{_quote(arguments)}'
    if carrier:
        shown = f"{shown},{_encode(carrier)[1:-1]}"
    return (
        f'{{"body":"{body}","content-encoding":"utf-8","content-type":"application/json",'
        f'"headers":{{"id":"{job_id}","root_id":"{job_id}",{shown},{headers}}},'
        f'"properties":{{"correlation_id":"{job_id}","delivery_tag":"{job_id}",'
        f'"jc":{to_json(admission).decode()},{properties}}}}}'
    )


@cache
def _template(handler: HandlerSpec) -> tuple[str, str]:
    """What is the same in every message of a handler: members of its headers and of its properties."""
    soft_s, hard_s = handler.time_limits_s
    headers: dict[str, Any] = {
        "lang": "py", "task": handler.name, "parent_id": None, "shadow": None, "eta": None, "expires": None,
        "group": None, "group_index": None, "retries": 0, "timelimit": [hard_s, soft_s], "kwargsrepr": "{}",
        "origin": _ORIGIN, "ignore_result": handler.restate is None, "replaced_task_nesting": 0,
        "stamped_headers": None, "stamps": {},
    }  # fmt: skip
    properties = {
        "reply_to": "", "delivery_mode": 2, "priority": 0, "body_encoding": "base64",
        "delivery_info": {"exchange": "", "routing_key": handler.queue},
    }  # fmt: skip
    return _encode(headers)[1:-1], _encode(properties)[1:-1]
