"""Shared throttle: what one process of the ingress has against an address, its siblings know at once."""

from __future__ import annotations

import socket
from contextlib import suppress

from joelclaw_tasks.ingress.throttle import FailureThrottle

_ADDRESS_MAX_BYTES = 1_024


class SharedThrottle(FailureThrottle):
    """Counts the failures that this process saw, and those that its siblings tell it of, by datagram.

    A failure is told before its request is answered, so whoever tries again after the answer is counted,
    wherever the connection leads. Of requests that arrive in the same moment each process may let its limit
    through. A mailbox that is full loses what it is told: then its owner is behind by hundreds, and
    counts most of a flood itself.
    """

    def __init__(self, mailbox: socket.socket, others: list[socket.socket]) -> None:
        super().__init__()
        self.mailbox = mailbox
        self._others = others

    @classmethod
    def for_each(cls, processes: int) -> list[SharedThrottle]:
        """One for each process, made before they are forked."""
        pairs = [socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM) for _ in range(processes)]
        for pair in pairs:
            for end in pair:
                end.setblocking(False)
        return [
            cls(mailbox, [slot for number, (_, slot) in enumerate(pairs) if number != own])
            for own, (mailbox, _) in enumerate(pairs)
        ]

    def record(self, address: str) -> None:
        """Note one failure of the address, and tell the siblings."""
        super().record(address)
        for slot in self._others:
            with suppress(OSError):  # it is full, or its owner has ended
                slot.send(address.encode())

    def hear(self) -> None:
        """Note what the siblings have told."""
        with suppress(BlockingIOError):
            while True:
                super().record(self.mailbox.recv(_ADDRESS_MAX_BYTES).decode())
