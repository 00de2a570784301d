"""Fetching from servers that we do not trust: bounded in bytes, hops and time."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass

import httpx

from joelclaw_tasks.errors import FetchFailed, RateLimited
from joelclaw_tasks.retry_after import read_retry_after_s

MAX_BYTES = 5_000_000
MAX_REDIRECTS = 5
DEADLINE_S = 30.0


@dataclass(frozen=True, slots=True)
class Fetched:
    """An answer: status 200 to 299 or 304, headers, the decoded body, the URL that answered."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    url: str


def open_client() -> httpx.Client:
    """A client with a timeout on every step. Make it after a fork, never before."""
    # At INFO httpx logs whole URLs, and the URL of a private feed holds its token.
    logging.getLogger("httpx").setLevel(logging.WARNING)
    return httpx.Client(
        timeout=httpx.Timeout(10.0, connect=5.0),
        max_redirects=MAX_REDIRECTS,
        headers={"User-Agent": "joelclaw_tasks"},
    )


def fetch(
    client: httpx.Client,
    url: str,
    *,
    headers: Mapping[str, str] | None = None,
    max_bytes: int = MAX_BYTES,
    deadline_s: float = DEADLINE_S,
) -> Fetched:
    """GET `url`, following at most five redirects, reading at most `max_bytes` in `deadline_s` seconds.

    Raises FetchFailed in plain words, which never quote the URL.
    """
    ends_at = time.monotonic() + deadline_s
    try:
        request = client.build_request("GET", url, headers=dict(headers or {}))
        # Redirects are followed here because httpx reads the body of each, however long.
        for _ in range(MAX_REDIRECTS + 1):
            response = client.send(request, stream=True, follow_redirects=False)
            try:
                if response.next_request is None:
                    return _read(response, max_bytes, ends_at)
                request = response.next_request
            finally:
                response.close()
    except httpx.TimeoutException:
        raise FetchFailed("the server did not answer in time") from None
    except httpx.UnsupportedProtocol:
        raise FetchFailed("the address is not http or https") from None
    except httpx.ConnectError as error:
        raise FetchFailed(f"no connection: {error}") from None
    except (httpx.HTTPError, httpx.InvalidURL, UnicodeError) as error:
        raise FetchFailed(f"the exchange broke off ({type(error).__name__})") from None
    raise FetchFailed(f"more than {MAX_REDIRECTS} redirects")


def _read(response: httpx.Response, max_bytes: int, ends_at: float) -> Fetched:
    if response.status_code == httpx.codes.TOO_MANY_REQUESTS or (
        response.status_code == httpx.codes.SERVICE_UNAVAILABLE and "Retry-After" in response.headers
    ):
        wait_s = read_retry_after_s(response.headers.get("Retry-After"))
        raise RateLimited(f"the server answered {response.status_code}", wait_s or 0)
    if not (response.is_success or response.status_code == httpx.codes.NOT_MODIFIED):
        raise FetchFailed(f"the server answered {response.status_code} {response.reason_phrase}".rstrip())
    body = bytearray()
    for chunk in response.iter_bytes():  # as they come: with a size, it would wait for as many
        body += chunk
        if len(body) > max_bytes:
            raise FetchFailed(f"the answer is larger than {max_bytes:,} bytes")
        if time.monotonic() > ends_at:
            raise FetchFailed("the answer took too long")
    return Fetched(response.status_code, response.headers, bytes(body), str(response.url))
