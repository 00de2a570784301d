"""Checks of what answers over a network: HTTP, TCP, the Bot API, the API of the models.

The server is nobody's friend: no redirect is followed, no more of a body is read than is asked for, and no
address, which may hold a token, is quoted. Who calls gives up after a time (check_process.py).
"""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from joelclaw_tasks.routines.finding import Finding, NoAnswer

if TYPE_CHECKING:
    import httpx

#: Of a body no more is looked at.
MOST_BODY_BYTES = 65_536
_HIDDEN = (404, 401, 403)
_RESTATE_BACKLOG = (
    "SELECT status, COUNT(*) AS many FROM sys_invocation "
    "WHERE status IN ('pending', 'ready', 'backing-off') GROUP BY status"
)


def check_http(asked: Mapping[str, Any]) -> Finding:
    """`url` answers 2xx, with `contains` in it, within `slow_ms`."""
    contains, slow_ms = asked.get("contains"), asked.get("slow_ms")
    status, body, ms = _get(asked, reads=bool(contains))
    if not 200 <= status < 300:
        where = ", a redirect, which is not followed" if 300 <= status < 400 else ""
        return Finding("degraded" if status == 429 else "down", f"answers {status}{where}", ms)
    if contains and contains.encode() not in body:
        return Finding("down", f"answers {status}, but not what it should", ms)
    if slow_ms and ms > slow_ms:
        return Finding("degraded", f"answers {status}, but only after {ms:.0f} ms", ms)
    return Finding("healthy", f"answers {status}", ms)


def check_restate(asked: Mapping[str, Any]) -> Finding:
    """Restate's admin API at `url` answers; `most_waiting` invocations or fewer wait or are retried."""
    query = json.dumps({"query": _RESTATE_BACKLOG}).encode()
    address = f"{asked['url'].rstrip('/')}/query"
    headers = {"accept": "application/json", "content-type": "application/json"}
    status, body, ms = _get({**asked, "url": address, "headers": headers, "body": query}, reads=True)
    try:
        counts = {str(row["status"]): int(row["many"]) for row in json.loads(body)["rows"]}
    except (ValueError, KeyError, TypeError):
        return Finding("down", f"answers {status}, but not how much waits", ms)
    waiting, retried = counts.get("pending", 0) + counts.get("ready", 0), counts.get("backing-off", 0)
    said = f"{waiting:,} invocations wait, {retried:,} are retried"
    return Finding("degraded" if waiting + retried > asked["most_waiting"] else "healthy", said, ms)


def check_tcp(asked: Mapping[str, Any]) -> Finding:
    """`url` takes a connection."""
    parts = urlsplit(asked["url"])
    began = time.monotonic()
    try:
        with socket.create_connection((parts.hostname, parts.port or 0), timeout=asked["timeout_s"]):
            return Finding("healthy", "takes connections", _since(began))
    except TimeoutError:
        return Finding("down", f"does not answer within {asked['timeout_s']:g} s")
    except OSError as error:
        return Finding("down", f"takes no connection: {type(error).__name__}")


def check_telegram(asked: Mapping[str, Any]) -> Finding:
    """The bot of `token` says who it is, at `url`."""
    status, body, ms = _get(
        {**asked, "url": f"{asked['url'].rstrip('/')}/bot{asked['token']}/getMe"}, reads=True
    )
    if status in _HIDDEN:
        return Finding("down", f"refuses the token ({status})", ms)
    if status != 200 or b'"ok":true' not in body.replace(b" ", b""):
        return Finding("degraded" if status == 429 else "down", f"answers {status}", ms)
    return Finding("healthy", "knows the bot", ms)


def check_anthropic(asked: Mapping[str, Any]) -> Finding:
    """The API at `url` takes the key `token`: it is asked for one model's name, which costs nothing."""
    headers = {"x-api-key": asked["token"], "anthropic-version": "2023-06-01"}
    address = f"{asked['url'].rstrip('/')}/v1/models?limit=1"
    status, _, ms = _get({**asked, "url": address, "headers": headers})
    if status in (401, 403):
        return Finding("down", f"refuses the key ({status})", ms)
    if status in (429, 529):
        return Finding("degraded", f"is overloaded or wants fewer requests ({status})", ms)
    if not 200 <= status < 300:
        return Finding("down", f"answers {status}", ms)
    return Finding("healthy", "takes the key", ms)


def _get(asked: Mapping[str, Any], *, reads: bool = False) -> tuple[int, bytes, float]:
    """Status, the beginning of the body if wanted, and the milliseconds until then. Raises NoAnswer."""
    import httpx

    began = time.monotonic()
    timeout_s = asked["timeout_s"]
    try:
        url = httpx.URL(asked["url"])
        # A body is taken as it comes: what unpacks to gigabytes stays packed.
        headers = {"User-Agent": "joelclaw_tasks", "Accept-Encoding": "identity", **asked.get("headers", {})}
        with (
            # Where there is no TLS, no certificates are loaded, which takes longer than all the rest.
            httpx.Client(timeout=timeout_s, verify=url.scheme == "https", follow_redirects=False) as client,
            client.stream(
                "GET" if "body" not in asked else "POST", url, headers=headers, content=asked.get("body")
            ) as response,
        ):
            return response.status_code, _beginning(response) if reads else b"", _since(began)
    except httpx.TimeoutException:
        raise NoAnswer(Finding("down", f"does not answer within {timeout_s:g} s")) from None
    except (httpx.HTTPError, httpx.InvalidURL, OSError, ValueError) as error:
        # Their texts may quote an address.
        raise NoAnswer(Finding("down", f"cannot be reached: {type(error).__name__}")) from None


def _beginning(response: httpx.Response) -> bytes:
    body = b""
    for piece in response.iter_raw():
        body += piece
        if len(body) >= MOST_BODY_BYTES:
            break
    return body[:MOST_BODY_BYTES]


def _since(began: float) -> float:
    return (time.monotonic() - began) * 1_000
