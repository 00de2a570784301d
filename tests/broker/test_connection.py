"""A connection that breaks in the middle of a publish is replaced within it."""

from __future__ import annotations

import pytest

from joelclaw_tasks.broker.connection import TRANSPORT, Connection


class Sender:
    """What kombu revives after it has connected anew."""

    def __init__(self) -> None:
        self.channels: list[object] = []

    def revive(self, channel: object) -> None:
        self.channels.append(channel)


@pytest.mark.parametrize(
    "policy", [{}, {"interval_start": 0.01, "interval_step": 0.01, "interval_max": 0.02}]
)
def test_what_fails_by_a_lost_connection_is_done_again_on_a_new_one(redis_url: str, policy: dict):
    sender, tries = Sender(), []

    def send() -> str:
        tries.append(1)
        if len(tries) == 1:
            raise ConnectionResetError
        return "sent"

    with Connection(redis_url, transport=TRANSPORT) as connection:
        assert "sent" == connection.ensure(sender, send, max_retries=3, **policy)()
        assert 2 == len(tries)
        assert [connection.default_channel] == sender.channels
