"""Reply: what came of one request to the Messages API, and every way in which it can go wrong."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from joelclaw_tasks.core.redaction import redacted
from joelclaw_tasks.intelligence.decision import Usage
from joelclaw_tasks.intelligence.guard import plain_text
from joelclaw_tasks.intelligence.reason import Reason
from joelclaw_tasks.retry_after import read_retry_after_s

_STATUS = {
    400: Reason.INVALID_REQUEST,
    401: Reason.AUTH,
    402: Reason.AUTH,
    403: Reason.AUTH,
    404: Reason.INVALID_REQUEST,
    408: Reason.TIMEOUT,
    413: Reason.TOO_LARGE,
    429: Reason.RATE_LIMITED,
    529: Reason.OVERLOADED,
}
_STOPS = {
    "refusal": Reason.REFUSED,
    "max_tokens": Reason.CUT_OFF,
    "model_context_window_exceeded": Reason.CUT_OFF,
}


@dataclass(frozen=True, slots=True)
class Reply:
    """What came of a call. `usage` None: nobody said what it took. `billable`: it may cost all the same."""

    reason: Reason | None
    text: str = ""
    detail: str = ""
    usage: Usage | None = None
    billable: bool = True
    retry_after_ms: int | None = None
    request_id: str | None = None


def said(text: str, key: str) -> str:
    """Text of a server for a log: one short line without secrets."""
    return plain_text(redacted(text[:4_000], {key}), 300)


def refused_reply(error: Any, key: str) -> Reply:
    """The API answered with a status that is no success."""
    reason = _STATUS.get(error.status_code)
    if reason is None:
        reason = Reason.SERVER_ERROR if error.status_code >= 500 else Reason.INVALID_REQUEST
    body = error.body if isinstance(error.body, dict) else {}
    inner = body.get("error")
    message = inner.get("message") if isinstance(inner, dict) else None
    detail = said(f"status {error.status_code}: {message or 'no explanation'}", key)
    retry_after_ms = _retry_after_ms(error.response.headers) if reason is not Reason.INVALID_REQUEST else None
    return Reply(
        reason,
        detail=detail,
        billable=False,
        retry_after_ms=retry_after_ms,
        request_id=_plain(error.request_id),
    )


def broken_reply(error: Any, key: str) -> Reply:
    """No connection, or it broke: the first costs nothing."""
    import anthropic
    import httpx2

    cause = error.__cause__
    name = type(cause or error).__name__
    if isinstance(cause, httpx2.ConnectError | httpx2.ConnectTimeout):
        return Reply(Reason.UNREACHABLE, detail=said(f"no connection: {name}: {cause}", key), billable=False)
    if isinstance(error, anthropic.APITimeoutError):
        return Reply(Reason.TIMEOUT, detail=f"no whole answer in time: {name}")
    if isinstance(cause, httpx2.TransportError):
        return Reply(Reason.MALFORMED, detail=said(f"the connection broke: {name}: {cause}", key))
    # What is wrong with the request itself may have the key in its text.
    return Reply(Reason.ERROR, detail=f"the request could not be sent: {name}", billable=False)


def reply_of(message: Any, key: str) -> Reply:
    """What a message of the SDK says; its text when it is whole."""
    usage, request_id = _usage(getattr(message, "usage", None)), _plain(getattr(message, "_request_id", None))
    content = getattr(message, "content", None)
    if getattr(message, "type", None) != "message" or not isinstance(content, list):
        return Reply(Reason.MALFORMED, detail="the answer is JSON, but no message", request_id=request_id)
    reason = _STOPS.get(str(message.stop_reason))
    if reason is not None:
        detail = str(getattr(getattr(message, "stop_details", None), "category", None) or "")
        return Reply(reason, detail=said(detail, key), usage=usage, request_id=request_id)
    if message.stop_reason != "end_turn":
        detail = said(f"stopped by {message.stop_reason}", key)
        return Reply(Reason.MALFORMED, detail=detail, usage=usage, request_id=request_id)
    texts = [block.text for block in content if getattr(block, "type", None) == "text"]
    text = "".join(one for one in texts if isinstance(one, str))
    return Reply(None, text, usage=usage, request_id=request_id)


def _usage(found: Any) -> Usage | None:
    numbers = [
        getattr(found, name, None)
        for name in (
            "input_tokens",
            "output_tokens",
            "cache_creation_input_tokens",
            "cache_read_input_tokens",
        )
    ]
    if any(not isinstance(number, int) or number < 0 for number in numbers[:2]):
        return None
    return Usage(*(number if isinstance(number, int) and number > 0 else 0 for number in numbers))


def _retry_after_ms(headers: Any) -> int | None:
    """The API's own header in milliseconds, else the one of HTTP."""
    try:
        wait_s = read_retry_after_s(str(float(headers.get("retry-after-ms", "")) / 1000))
    except ValueError:
        wait_s = None
    if wait_s is None:
        wait_s = read_retry_after_s(headers.get("retry-after"))
    return None if wait_s is None else int(wait_s * 1000)


def _plain(request_id: Any) -> str | None:
    return plain_text(request_id, 100) if isinstance(request_id, str) else None
