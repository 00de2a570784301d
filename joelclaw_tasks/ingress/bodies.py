"""Bodies: read no more than the cap, for no longer than the deadline, and accept strict JSON only."""

from __future__ import annotations

import asyncio
import json
from typing import Any, NoReturn

from starlette.requests import ClientDisconnect, Request

from joelclaw_tasks.ingress.replies import Refusal

BODY_TIMEOUT_S = 10.0
#: Deeper data than this is refused: what comes after (Lua, other readers) has limits of its own.
MAX_DEPTH = 100


async def read_body(request: Request, cap_bytes: int, timeout_s: float = BODY_TIMEOUT_S) -> bytes:
    """The raw body.

    Raises Refusal: 413 as soon as it is known to be over the cap (a declared length is believed
    when it is too large, and never when it is small), 408 when it is not complete in time.
    """
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and int(declared[:20]) > cap_bytes:
        raise _too_large(cap_bytes)
    parts: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(timeout_s):
            async for part in request.stream():
                size += len(part)
                if size > cap_bytes:
                    raise _too_large(cap_bytes)
                parts.append(part)
    except TimeoutError:
        raise Refusal(
            408,
            "BODY_TIMEOUT",
            f"the body was not complete after {timeout_s:g} s",
            fix="Send the whole body at once.",
            headers={"connection": "close"},
        ) from None
    except ClientDisconnect:
        raise Refusal(400, "CLIENT_GONE", "the sender hung up", fix="Send it again.") from None
    return b"".join(parts)


def _too_large(cap_bytes: int) -> Refusal:
    return Refusal(
        413,
        "PAYLOAD_TOO_LARGE",
        f"the body is larger than {cap_bytes} bytes",
        fix="Store the body elsewhere and send a reference.",
        close=True,
    )


def parse_json(body: bytes, *, max_depth: int | None = None) -> Any:
    """The value of a JSON text, nested no deeper than `max_depth` when that is given.

    Raises ValueError, with a reason fit for the sender, for anything that strict JSON in UTF-8
    is not: NaN and infinities (1e999 too), lone surrogates, other encodings, absurd nesting.
    """
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError:
        raise ValueError("the body is not UTF-8") from None
    try:
        value = _STRICT.decode(text)
    except json.JSONDecodeError as exc:
        raise ValueError(f"the body is not JSON (line {exc.lineno}, column {exc.colno})") from None
    except RecursionError:
        raise ValueError("the body is nested too deep") from None
    except _NotFinite as exc:
        raise ValueError(str(exc)) from None
    except ValueError:
        # Python refuses whole numbers of more than 4,300 digits.
        raise ValueError("the body has a number that is too long") from None
    # Only an escape can make a lone surrogate, and only brackets make depth: few bodies need a walk.
    escapes = b"\\ud" in body or b"\\uD" in body
    deep = max_depth is not None and body.count(b"[") + body.count(b"{") > max_depth
    if escapes or deep:
        _walk(value, max_depth)
    return value


class _NotFinite(ValueError):
    pass


def _no_constant(name: str) -> NoReturn:
    raise _NotFinite(f"the body has {name}, which is not JSON")


def _finite(text: str) -> float:
    number = float(text)
    if number in (float("inf"), float("-inf")):
        raise _NotFinite("the body has a number that is too large")
    return number


# Made once: json.loads with hooks would build a decoder for every body.
_STRICT = json.JSONDecoder(parse_constant=_no_constant, parse_float=_finite)


def _walk(value: Any, max_depth: int | None) -> None:
    level: list[Any] = [value]
    depth = 0
    while level:
        below: list[Any] = []
        deep = False
        for part in level:
            if isinstance(part, dict):
                deep = True
                below.extend(part)
                below.extend(part.values())
            elif isinstance(part, list):
                deep = True
                below.extend(part)
            elif isinstance(part, str):
                _check_text(part)
        depth += deep
        if max_depth is not None and depth > max_depth:
            raise ValueError(f"the body is nested deeper than {max_depth} levels")
        level = below


def _check_text(text: str) -> None:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        raise ValueError("the body has half of a surrogate pair") from None
