"""Remote control of a gevent or eventlet worker: its connection is its own, and may break alone.

Celery's greenlet ends with that connection, and the worker would be deaf from then on.
"""

from __future__ import annotations

import random
import time
from typing import Any

from celery.worker import pidbox
from kombu.log import get_logger

logger = get_logger(__name__)

RETRY_S = 1.0


class GreenPidbox(pidbox.gPidbox):
    """Celery's, which comes back."""

    def loop(self, c: Any) -> None:
        """Listen until the worker stops."""
        while True:
            try:
                super().loop(c)
                return
            except c.connection_errors as error:
                logger.warning("remote control: connection lost (%s); trying again", error)
            shutdown = self._node_shutdown  # `on_stop` may have forgotten it when the greenlet wakes
            time.sleep(RETRY_S * random.uniform(0.5, 1.5))  # noqa: S311  # jitter
            if shutdown is None or shutdown.is_set() or not c.connection:
                return  # whoever connects the worker again starts another loop


def listen_again() -> None:
    """Let workers of this process use it."""
    pidbox.gPidbox = GreenPidbox
