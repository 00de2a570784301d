"""What the ingress answers: JSON always, errors in one shape, and no fault of ours leaks a body."""

from __future__ import annotations

import asyncio
import json
import logging
import traceback
from collections.abc import Mapping
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from joelclaw_tasks.errors import (
    CoreUnreachable,
    EventRefused,
    JoelclawError,
    PayloadTooLarge,
    UnsafeRedis,
)

log = logging.getLogger(__name__)

RETRY_AFTER_S = 5
_encode = json.JSONEncoder(separators=(",", ":"), allow_nan=False).encode
#: How much of a refused body is read and thrown away before the connection is closed.
_LINGER_BYTES = 1_048_576
_LINGER_S = 2.0


class Refusal(Exception):
    """A request is refused: `status`, a stable `code` for programs, a `fix` for people.

    `close` ends the connection: the body was not read to its end.
    """

    def __init__(
        self,
        status: int,
        code: str,
        reason: str,
        *,
        fix: str,
        headers: Mapping[str, str] | None = None,
        close: bool = False,
    ) -> None:
        super().__init__(reason)
        self.status = status
        self.code = code
        self.reason = reason
        self.fix = fix
        self.headers = dict(headers or {})
        self.close = close


class JsonReply(Response):
    """A JSON body."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        """The body as UTF-8; text that UTF-8 cannot hold stays escaped."""
        return _encode(content).encode("ascii")


class ClosingReply(JsonReply):
    """Answers before the body was read, then lets the sender finish a little and closes.

    Closing at once would reset the connection under a sender that is still writing, and it
    would never see the answer.
    """

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002
        """Send the answer, throw away at most 1 MiB for at most 2 s, close."""
        self.headers["connection"] = "close"
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        await send({"type": "http.response.body", "body": self.body, "more_body": True})
        try:
            async with asyncio.timeout(_LINGER_S):
                left = _LINGER_BYTES
                while left > 0:
                    part = await receive()
                    if part["type"] == "http.disconnect" or not part.get("more_body", False):
                        break
                    left -= len(part.get("body", b""))
        except TimeoutError:
            pass
        await send({"type": "http.response.body", "body": b"", "more_body": False})


def error_reply(
    status: int,
    code: str,
    reason: str,
    fix: str,
    *,
    headers: Mapping[str, str] | None = None,
    close: bool = False,
) -> Response:
    """The one shape of every error."""
    content = {"ok": False, "error": {"code": code, "message": reason}, "fix": fix}
    return (ClosingReply if close else JsonReply)(content, status_code=status, headers=dict(headers or {}))


async def on_refusal(_request: Request, exc: Exception) -> Response:
    """Answer a Refusal."""
    assert isinstance(exc, Refusal)
    return error_reply(exc.status, exc.code, exc.reason, exc.fix, headers=exc.headers, close=exc.close)


async def on_joelclaw_error(_request: Request, exc: Exception) -> Response:
    """Answer an error of the core or of emit."""
    assert isinstance(exc, JoelclawError)
    return joelclaw_error_reply(exc)


def joelclaw_error_reply(exc: JoelclawError) -> Response:
    """An error of the core or of emit, with the status that tells a sender whether to try again."""
    headers: dict[str, str] = {}
    if isinstance(exc, PayloadTooLarge):
        status = 413
    elif isinstance(exc, EventRefused):
        status = 422
    elif isinstance(exc, CoreUnreachable | UnsafeRedis):
        status = 503
        headers["Retry-After"] = str(RETRY_AFTER_S)
    else:
        status = 500
        log.error("%s: %s", exc.code, exc)
    return error_reply(status, exc.code, str(exc), exc.fix, headers=headers)


async def on_http_error(_request: Request, exc: Exception) -> Response:
    """Answer what routing refuses: no such path, or not with this method."""
    assert isinstance(exc, HTTPException)
    headers = dict(exc.headers or {})
    if exc.status_code == 405:
        allowed = headers["Allow"] = ", ".join(sorted(headers.get("Allow", "").split(", ")))
        return error_reply(
            405,
            "METHOD_NOT_ALLOWED",
            "this path does not answer that method",
            f"Use {allowed}.",
            headers=headers,
        )
    if exc.status_code == 404:
        return error_reply(
            404,
            "NOT_FOUND",
            "there is nothing at this path",
            "POST to /webhooks/github or /events; GET /webhooks/ lists the providers.",
        )
    return error_reply(
        exc.status_code, "HTTP_ERROR", str(exc.detail), "Correct the request.", headers=headers
    )


def fault_reply(exc: Exception, path: str) -> Response:
    """Log what nobody foresaw, and answer it.

    The log says where it happened and of which type it is; its text stays out, because it may
    quote what the sender sent.
    """
    where = "".join(traceback.format_tb(exc.__traceback__))
    log.error("%s while answering %s\n%s", type(exc).__name__, path[:200], where)
    return error_reply(
        500,
        "INTERNAL",
        "the ingress failed; nothing is known to have been queued",
        "Send it again with the same id; the log of the ingress says where it failed.",
    )


class FaultBarrier:
    """The outermost layer: an unforeseen exception becomes a 500 in JSON."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run the application; answer for it when it fails before its answer has begun."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        begun = False

        async def watched(part: Message) -> None:
            nonlocal begun
            begun = True
            await send(part)

        try:
            await self.app(scope, receive, watched)
        except Exception as exc:  # noqa: BLE001  # the barrier is for what nobody foresaw
            reply = fault_reply(exc, scope["path"])
            if not begun:
                await reply(scope, receive, send)
