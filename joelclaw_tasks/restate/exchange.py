"""Exchange: one HTTP request to Restate, bounded in bytes and time, and what its answer means.

2xx                                  an answer
470                                  the invocation has not ended
an error of source `invocation`      it ran and failed for good: RestateFailed
5xx, 408, 429, no connection         not taken, or not known whether: RestateAway
every other status, redirects too    never taken: RestateRefused
"""

from __future__ import annotations

import json
import logging
import time
from dataclasses import dataclass
from typing import Any

import httpx
from opentelemetry import propagate

from joelclaw_tasks.errors import RestateAway, RestateFailed, RestateRefused

#: Restate itself takes 32 MiB; what is larger than this belongs in a file or a store.
BODY_MOST_BYTES = 8 << 20
ANSWER_MOST_BYTES = 1 << 20
NOT_READY = 470
_TEXT_MOST = 1_000
_LATER = (408, 429)


@dataclass(frozen=True, slots=True)
class Answer:
    """A status of 200 to 299, or 470, and the JSON value or the text that came with it (None: nothing)."""

    status: int
    value: Any
    invocation_id: str | None


class Exchange:
    """Requests to one address. For several threads; make it after a fork, never before."""

    def __init__(self, base_url: str, timeout_s: float) -> None:
        # At INFO httpx logs whole URLs, which hold the keys of objects.
        logging.getLogger("httpx").setLevel(logging.WARNING)
        self._base_url = base_url.rstrip("/")
        self._timeout_s = timeout_s
        self._http = httpx.Client(
            timeout=httpx.Timeout(timeout_s, connect=min(timeout_s, 5.0)),
            follow_redirects=False,
            trust_env=False,
            headers={
                "User-Agent": "joelclaw_tasks",
                "Accept": "application/json",
                "Accept-Encoding": "identity",
            },
        )

    def ask(
        self,
        method: str,
        path: str,
        *,
        body: bytes | None = None,
        content_type: str = "application/json",
        headers: dict[str, str] | None = None,
        within_s: float | None = None,
    ) -> Answer:
        """One request; `path` is encoded already, `within_s` counts from now to the end of the answer.

        Raises RestateAway, RestateRefused and RestateFailed.
        """
        if body is not None and len(body) > BODY_MOST_BYTES:
            raise RestateRefused(f"the input has {len(body):,} bytes; at most {BODY_MOST_BYTES:,} are sent")
        within_s = self._timeout_s if within_s is None else within_s
        ends_at = time.monotonic() + within_s
        sent: dict[str, str] = dict(headers or {})
        if body is not None:
            sent["Content-Type"] = content_type
        propagate.inject(sent)
        try:
            with self._http.stream(
                method,
                self._base_url + path,
                content=body,
                headers=sent,
                timeout=httpx.Timeout(within_s, connect=min(within_s, 5.0)),
            ) as response:
                return _understood(response, _read(response, ends_at))
        except httpx.ConnectError:
            raise RestateAway("Restate cannot be reached: no connection") from None
        except httpx.TimeoutException:
            raise RestateAway("Restate did not answer in time") from None
        except (httpx.HTTPError, httpx.InvalidURL, UnicodeError) as error:
            raise RestateAway(f"the exchange with Restate broke off ({type(error).__name__})") from None

    def close(self) -> None:
        """End its connections."""
        self._http.close()


def _read(response: httpx.Response, ends_at: float) -> bytes:
    body = bytearray()
    # Without a size: with one, httpx gathers what drips in before it is looked at here.
    for chunk in response.iter_bytes():
        body += chunk
        if len(body) > ANSWER_MOST_BYTES:
            raise RestateRefused(f"the answer is larger than {ANSWER_MOST_BYTES:,} bytes, and is not kept")
        if time.monotonic() > ends_at:
            raise RestateAway("the answer of Restate took too long")
    return bytes(body)


def _understood(response: httpx.Response, body: bytes) -> Answer:
    status = response.status_code
    if response.is_success or status == NOT_READY:
        return Answer(status, _value(response, body), response.headers.get("x-restate-id"))
    said = _said(response, body)
    if response.headers.get("x-restate-error-source") == "invocation":
        raise RestateFailed(f"{status}: {said}")
    if status >= 500 or status in _LATER:
        raise RestateAway(f"Restate answered {status}: {said}")
    raise RestateRefused(f"Restate answered {status}: {said}")


def _value(response: httpx.Response, body: bytes) -> Any:
    if not body:
        return None
    if response.headers.get("content-type", "").partition(";")[0].strip() == "application/json":
        try:
            return json.loads(body)
        except (ValueError, RecursionError):
            raise RestateRefused("the answer says that it is JSON, and is not") from None
    return body.decode(errors="replace")


def _said(response: httpx.Response, body: bytes) -> str:
    """The message of an error in one line; no part of an answer that is not Restate's."""
    if response.is_redirect:
        return "a redirect, which is not followed"
    try:
        message = json.loads(body)["message"]
    except (ValueError, TypeError, KeyError, RecursionError):
        message = None
    if not isinstance(message, str):
        return response.reason_phrase or "no reason given"
    return " ".join(message.split())[:_TEXT_MOST]
