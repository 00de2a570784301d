"""Throttle: an address that keeps failing has to wait, and remembering it costs bounded memory."""

from __future__ import annotations

import ipaddress
import math
import time
from collections import OrderedDict, deque
from collections.abc import Callable, MutableMapping
from functools import lru_cache
from typing import Any

#: Where requests land whose peer address was taken from a header that we do not trust.
FORWARDED = "forwarded"


class FailureThrottle:
    """Counts failures per address in a sliding window; lives in this process only.

    An address is blocked from its `limit`-th failure until the oldest of these is `window_s`
    old. At most `max_addresses` are remembered; the one that failed longest ago goes first.
    """

    def __init__(
        self,
        limit: int = 20,
        window_s: float = 60.0,
        max_addresses: int = 10_000,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._limit = limit
        self._window_s = window_s
        self._max_addresses = max_addresses
        self._clock = clock
        self._failures: OrderedDict[str, deque[float]] = OrderedDict()

    def retry_after_s(self, address: str) -> int | None:
        """Whole seconds (at least 1) until the address may try again; None when it may now."""
        failures = self._failures.get(address)
        if failures is None or len(failures) < self._limit:
            return None
        left_s = failures[0] + self._window_s - self._clock()
        return math.ceil(left_s) if left_s > 0 else None

    def record(self, address: str) -> None:
        """Note one failure of the address."""
        failures = self._failures.get(address)
        if failures is None:
            failures = self._failures[address] = deque(maxlen=self._limit)
            if len(self._failures) > self._max_addresses:
                self._failures.popitem(last=False)
        failures.append(self._clock())
        self._failures.move_to_end(address)

    def __len__(self) -> int:
        """How many addresses are remembered."""
        return len(self._failures)


def client_address(scope: MutableMapping[str, Any], *, trust_forwarded: bool) -> str:
    """The address that a request is counted under.

    It is the peer of the connection. `X-Forwarded-For` counts only when `trust_forwarded` is
    set and the peer is on loopback (a tunnel or proxy of this machine), and then only its last
    entry, which that proxy wrote itself; everything before it is the sender's word.
    An IPv6 peer counts as its /64, since one host usually owns all of it.
    """
    peer = scope.get("client")
    host = str(peer[0]) if peer else "unknown"
    forwarded = [value for name, value in scope["headers"] if name == b"x-forwarded-for"]
    if forwarded:
        entries = b",".join(forwarded).decode("latin-1").split(",")
        if not trust_forwarded:
            # uvicorn's default settings replace the peer of a loopback connection by what this header
            # says. That must not buy anyone a fresh address, so all of these count as one.
            claimed = {_normalised(entry) for entry in entries}
            return FORWARDED if _normalised(host) in claimed else _normalised(host)
        if _is_loopback(host):
            return _normalised(entries[-1])
    return _normalised(host)


@lru_cache(maxsize=1_024)
def _normalised(text: str) -> str:
    address = _parsed(text)
    if address is None:
        return text.strip()[:64]
    if address.version == 6:
        return str(ipaddress.ip_network((address, 64), strict=False))
    return str(address)


def _parsed(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    text = text.strip()
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


def _is_loopback(host: str) -> bool:
    address = _parsed(host)
    return address is not None and address.is_loopback
