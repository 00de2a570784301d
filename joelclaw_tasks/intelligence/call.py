"""Call: one request to the Messages API by the anthropic SDK, and every way in which it can go wrong.

The SDK takes a second to import, so it is imported when the first question is on its way.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from functools import cache
from typing import TYPE_CHECKING, Any

from joelclaw_tasks.core.redaction import redacted
from joelclaw_tasks.intelligence.decision import Question, Usage
from joelclaw_tasks.intelligence.guard import plain_text
from joelclaw_tasks.intelligence.reason import Reason
from joelclaw_tasks.registry_tiers import TierSpec

if TYPE_CHECKING:
    from pydantic import BaseModel

#: Nobody is left alone for longer than a day.
_LONGEST_RETRY_AFTER_MS = 86_400_000
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


class Connection:
    """An SDK client with connections of its own, for one call at a time."""

    def __init__(self, base_url: str | None) -> None:
        import anthropic

        self._deadline = 0.0
        self._client = anthropic.Anthropic(
            api_key="none",  # each call brings its own, and none is looked for in the environment
            base_url=base_url or "https://api.anthropic.com",
            max_retries=0,
            open_telemetry={"propagation": False},
            http_client=anthropic.DefaultHttpxClient(event_hooks={"response": [self._bound]}),
        )

    def ask(self, question: Question[BaseModel], tier: TierSpec, key: str, deadline: float) -> Reply:
        """One request, until `deadline` (monotonic seconds). Raises nothing that network or API do."""
        import anthropic

        self._deadline = deadline
        config: dict[str, Any] = {"format": {"type": "json_schema", "schema": schema_of(question.answer)}}
        if tier.effort is not None:
            config["effort"] = tier.effort
        client: Any = self._client  # it is typed by dictionaries that are built in one piece
        client = client.with_options(api_key=key, timeout=max(0.001, deadline - time.monotonic()))
        fixed = {
            "type": "text", "text": question.prompt.fixed,
            "cache_control": {"type": "ephemeral", "ttl": tier.cache_ttl},
        }  # fmt: skip
        request = {
            "model": tier.model,
            "max_tokens": tier.max_tokens,
            "system": [fixed],
            "messages": [{"role": "user", "content": question.prompt.per_call}],
            "output_config": config,
        }
        try:
            message = client.messages.create(**request)
        except anthropic.APIStatusError as error:
            return _refused(error, key)
        except anthropic.APIConnectionError as error:
            return _broken(error, key)
        except (anthropic.AnthropicError, ValueError, TypeError) as error:
            # 200 with HTML is a JSONDecodeError, no error of the SDK's.
            return Reply(Reason.MALFORMED, detail=said(f"the answer is no message: {error}", key))
        return _read(message, key)

    def close(self) -> None:
        """End its connections. Not during a call: TLS would read from whoever opens a socket next."""
        self._client.close()

    def _bound(self, response: Any) -> None:
        # The SDK's timeout is for each read: a server that drips bytes would never reach it.
        response.stream = _until(response.stream, self)

    @property
    def is_late(self) -> bool:
        """Whether the deadline of its call has passed."""
        return time.monotonic() >= self._deadline


class Connections:
    """Connections to one API that wait for the next call; those of a parent process are not used."""

    def __init__(self, base_url: str | None) -> None:
        self._base_url = base_url
        self._lock = threading.Lock()
        self._idle: list[Connection] = []
        self._process = os.getpid()

    def take(self) -> Connection:
        """One for this call alone. The first takes about a second, in which the SDK is imported."""
        with self._lock:
            if self._process != os.getpid():
                self._idle, self._process = [], os.getpid()
            if self._idle:
                return self._idle.pop()
        return Connection(self._base_url)

    def give_back(self, connection: Connection) -> None:
        """The call is over, and went well enough to use the connection again."""
        with self._lock:
            self._idle.append(connection)

    def close(self) -> None:
        """End those that wait."""
        with self._lock:
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()


@cache
def schema_of(answer: type[BaseModel]) -> dict[str, Any]:
    """The JSON Schema of an answer as the API takes it: without bounds, so the guard checks them."""
    import anthropic

    return anthropic.transform_schema(answer)


def said(text: str, key: str) -> str:
    """Text of a server for a log: one short line without secrets."""
    return plain_text(redacted(text[:4_000], {key}), 300)


@cache
def _until_class() -> type[Any]:
    import httpx2

    class Until(httpx2.SyncByteStream):
        def __init__(self, stream: Any, connection: Connection) -> None:
            self._stream = stream
            self._connection = connection

        def __iter__(self) -> Iterator[bytes]:
            for piece in self._stream:
                if self._connection.is_late:
                    raise httpx2.ReadTimeout("the whole answer takes too long")
                yield piece

        def close(self) -> None:
            self._stream.close()

    return Until


def _until(stream: Any, connection: Connection) -> Any:
    return _until_class()(stream, connection)


def _refused(error: Any, key: str) -> Reply:
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


def _broken(error: Any, key: str) -> Reply:
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


def _read(message: Any, key: str) -> Reply:
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
    for name, unit_ms in (("retry-after-ms", 1), ("retry-after", 1000)):
        text = str(headers.get(name, "")).strip()
        try:
            wait_ms = float(text) * unit_ms
        except ValueError:
            continue
        if wait_ms >= 0:  # not NaN
            return int(min(wait_ms, _LONGEST_RETRY_AFTER_MS))
    try:
        wait_s = parsedate_to_datetime(str(headers.get("retry-after", ""))).timestamp() - time.time()
    except (ValueError, TypeError):
        return None
    return int(min(max(0.0, wait_s * 1000), _LONGEST_RETRY_AFTER_MS))


def _plain(request_id: Any) -> str | None:
    return plain_text(request_id, 100) if isinstance(request_id, str) else None
