"""The promises of the Redis at a URL, before the fleet rests on it."""

from __future__ import annotations

import redis

from joelclaw_tasks.address import Address, without_password
from joelclaw_tasks.core.promises import ServerPromises, read_promises
from joelclaw_tasks.errors import CoreUnreachable


def ask(url: str, timeout_s: float = 3.0) -> ServerPromises:
    """Ask a server for its promises; CoreUnreachable when it does not answer, or not to us."""
    try:
        with Address.parse(url).client(
            socket_timeout=timeout_s, socket_connect_timeout=timeout_s, decode_responses=True
        ) as client:
            return read_promises(client)
    except (redis.RedisError, ValueError, OSError) as error:
        raise CoreUnreachable(f"Redis at {without_password(url)} does not answer: {error}") from error


def require_safe(url: str) -> ServerPromises:
    """Ask, and raise UnsafeRedis when the server would evict accepted work or is too old."""
    promises = ask(url)
    promises.require_safe(without_password(url))
    return promises
