"""HTTP for sinks: one request, bounded in time, whose log lines and errors hold no secret."""

from __future__ import annotations

import base64
import threading
from collections.abc import Callable
from typing import Any, TypeVar
from urllib.parse import unquote_to_bytes
from urllib.request import getproxies, proxy_bypass

import httpx

from joelclaw_tasks.notify.sink import SinkAway, SinkRefused
from joelclaw_tasks.retry_after import read_retry_after_s

#: For one delivery, whatever the server does; and for each step of it.
SEND_WITHIN_S, STEP_WITHIN_S = 3.0, 2.5
#: Of an answer no more is kept than this.
_MOST_SAID = 200

T = TypeVar("T")


class Redirected(httpx.BaseTransport):
    """Sends what is asked of one address to another: `base_url`, with `hidden` put before the path.

    httpx logs the address that it is asked for. What is put in down here, a token for one, it never sees.
    With `is_exact` the address is `base_url` as it stands, whatever path is asked for.
    """

    def __init__(self, base_url: str, hidden: str = "", *, is_exact: bool = False) -> None:
        base = httpx.URL(base_url)
        self._base = base.copy_with(username=None, password=None)
        self._own: list[tuple[bytes, bytes]] = [(b"Host", self._base.netloc)]
        if base.userinfo:
            self._own.append(
                (b"Authorization", b"Basic " + base64.b64encode(unquote_to_bytes(base.userinfo)))
            )
        self._hidden = hidden.encode("ascii", "replace")
        self._is_exact = is_exact
        # Where there is no TLS, no certificates are loaded, which takes longer than all the rest.
        self._inner = httpx.HTTPTransport(verify=base.scheme == "https", proxy=_proxy_of(base))

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Send it on. The timeouts are ours, whatever the caller's."""
        path = self._base.raw_path.rstrip(b"/") + self._hidden + request.url.raw_path
        replaced = {name.lower() for name, _ in self._own}
        sent = httpx.Request(
            request.method,
            self._base if self._is_exact else self._base.copy_with(raw_path=path),
            headers=[
                *self._own,
                *((name, value) for name, value in request.headers.raw if name.lower() not in replaced),
            ],
            stream=request.stream,
            extensions={**request.extensions, "timeout": httpx.Timeout(STEP_WITHIN_S).as_dict()},
        )
        return self._inner.handle_request(sent)

    def close(self) -> None:
        """Close the connections."""
        self._inner.close()


def _proxy_of(url: httpx.URL) -> str | None:
    """The proxy that the environment names for an address: HTTPS_PROXY, NO_PROXY and the like."""
    if proxy_bypass(url.host):
        return None
    proxies = getproxies()
    return proxies.get(url.scheme) or proxies.get("all")


def bounded(call: Callable[[], T], what: str, within_s: float = SEND_WITHIN_S) -> T:
    """The answer of a call that is given up after `within_s`, even when a server drips.

    Raises SinkAway then, and for whatever the network does; else what the call raises.
    """
    answers: list[T] = []
    errors: list[Exception] = []

    def run() -> None:
        try:
            answers.append(call())
        except Exception as error:  # noqa: BLE001  # raised again below, in the thread that asked
            errors.append(error)

    thread = threading.Thread(target=run, name=f"notify-{what}", daemon=True)
    thread.start()
    thread.join(within_s)
    if errors:
        if isinstance(errors[0], httpx.TransportError | httpx.InvalidURL | OSError):
            # Their texts may quote an address.
            raise SinkAway(f"{what} cannot be reached: {type(errors[0]).__name__}") from None
        raise errors[0]
    if not answers:
        raise SinkAway(f"{what} did not answer within {within_s:g} s")
    return answers[0]


def check(response: httpx.Response, what: str, said: str = "") -> None:
    """Nothing for 2xx. Raises SinkAway for what may be well later, SinkRefused for what will not."""
    status = response.status_code
    if 200 <= status < 300:
        return
    detail = f": {printable(said)}" if said else ""
    text = f"{what} answered {status}{detail}"
    if status in (400, 404, 410, 413, 414, 415, 422):
        raise SinkRefused(text)
    raise SinkAway(text, read_retry_after_s(response.headers.get("Retry-After")))


def printable(text: Any) -> str:
    """A short line of what somebody else said."""
    return "".join(char if char.isprintable() else " " for char in str(text))[:_MOST_SAID]
