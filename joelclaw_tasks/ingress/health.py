"""Does Redis answer? Asked over a connection of its own, so that a busy emitter does not matter."""

from __future__ import annotations

import asyncio

from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from joelclaw_tasks.address import Address

ANSWER_WITHIN_S = 1.0


class RedisProbe:
    """Pings one Redis."""

    def __init__(self, redis_url: str) -> None:
        self._client = Address.parse(redis_url).async_client(
            socket_timeout=ANSWER_WITHIN_S,
            socket_connect_timeout=ANSWER_WITHIN_S,
            retry=Retry(NoBackoff(), 1),
        )

    async def alive(self) -> bool:
        """True when Redis answers a ping within 1 s."""
        try:
            async with asyncio.timeout(ANSWER_WITHIN_S):
                return bool(await self._client.ping())
        except (RedisError, OSError, TimeoutError):
            return False

    async def close(self) -> None:
        """Close the connection."""
        await self._client.aclose()
