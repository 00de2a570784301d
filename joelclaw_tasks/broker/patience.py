"""Patience: how a worker waits for an answer that mostly comes at once.

On an idle machine, to sleep and be woken takes as long as Redis takes for an exchange, and a worker that is
one of a pair with Redis sleeps once for each job. So it stays awake for a moment, lets whoever wants the CPU
have it, and goes to sleep then. Where answers come later, as over a network, it sleeps at once.
"""

from __future__ import annotations

import os
import select
from time import monotonic

#: An answer is waited for awake for so long: twice what an exchange takes in a Redis on the same machine.
AWAKE_S = 0.00025
#: `select` takes no descriptor from this one on, and a worker's tasks may have opened as many.
_FD_SETSIZE = 1024


class Patience:
    """Waits on sockets of one server, one at a time."""

    def __init__(self) -> None:
        self.stays_awake = True  # the last answer came soon enough

    def has_answer(self, fileno: int, within_s: float) -> bool:
        """Whether there is something to read from the socket now, or within so many seconds."""
        began = monotonic()
        while self.stays_awake:
            if is_readable(fileno, 0):
                return True
            self.stays_awake = monotonic() - began < AWAKE_S
            os.sched_yield()
        is_there = is_readable(fileno, within_s)
        self.stays_awake = is_there and monotonic() - began < AWAKE_S
        return is_there


def is_readable(fileno: int, within_s: float) -> bool:
    """Whether there is something to read, or will be in so many seconds."""
    if fileno < _FD_SETSIZE:
        return bool(select.select([fileno], [], [], within_s)[0])
    poller = select.poll()  # it knows whole milliseconds only
    poller.register(fileno, select.POLLIN)
    return bool(poller.poll(within_s * 1000))
