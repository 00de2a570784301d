"""Keeps the leases of this process alive, and notices processes that died.

A thread of its own, not the worker's event loop, which a solo task blocks. It renews at a third
of the lease. Its Redis connection is the proof of life: a holder whose client id is gone from the
same Redis server for a while is dead, and its jobs go back then instead of at lease expiry.
"""

from __future__ import annotations

import contextlib
import os
import random
import socket
import threading
import time
from collections.abc import Callable
from typing import Any

import redis
from kombu.log import get_logger

from joelclaw_tasks.broker.caretaker import Caretaker
from joelclaw_tasks.broker.patience import is_readable
from joelclaw_tasks.core.store import Store
from joelclaw_tasks.errors import JoelclawError

logger = get_logger(__name__)

DETECT_INTERVAL_S = 0.5
#: A live process whose connection was cut introduces itself again sooner than this.
ABSENT_FOR_S = 0.9
#: A Redis that is away is asked this often, give or take a half: who is back sooner must not find us absent.
RETRY_S = 0.3


class LeaseKeeper(threading.Thread):
    """Renews the leases of one holder until `stop`; `client` must own a single connection.

    `on_asked` hears, again and again, of all jobs of the holder that were asked to stop; `on_other_server`
    of a failover, or of a restart of Redis.
    """

    def __init__(
        self,
        holder: str,
        store: Store,
        client: redis.Redis,
        on_asked: Callable[[str, list[str]], None],
        on_other_server: Callable[[], None],
    ) -> None:
        super().__init__(name="joelclaw-leases", daemon=True)
        self.holder = holder
        self._store = store
        self._client = client
        self._on_asked = on_asked
        self._on_other_server = on_other_server
        self._run_id = ""  # of the server, as it was last known
        self._caretaker = Caretaker(store)
        self._missing: dict[tuple[str, int], float] = {}  # holder and client id -> for how many seconds
        self._looked_at = 0.0
        self._record: dict[str, Any] = {}
        self._serving: dict[str, Any] = {}
        self._stopped = threading.Event()
        self._renew_at = 0.0

    def stop(self) -> None:
        """End the thread; the leases then live on until they expire or are released."""
        self._stopped.set()
        sock = getattr(self._client.connection, "_sock", None)
        if sock is not None:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RD)  # wakes the thread when it sleeps

    def tell(self, queues: list[str], slots: int) -> None:
        """Note, for whoever asks who works here, which queues are served and how many jobs run at once."""
        serving = {"queues": queues, "slots": slots}
        if serving != self._serving:
            self._serving = serving
            self._renew_at = 0.0

    def run(self) -> None:
        """Renew and detect until stopped; a Redis that is away is asked again, with jitter."""
        delay_s = RETRY_S / 4
        while not self._stopped.is_set():
            try:
                if not self._record:
                    self._introduce()
                    delay_s = RETRY_S / 4
                if time.monotonic() >= self._renew_at:
                    self._renew()
                self._caretaker.look(soon=self._expire_the_dead())
                self._on_asked(self.holder, self._store.asked(self.holder))
                self._sleep(DETECT_INTERVAL_S)
            except (redis.RedisError, OSError, JoelclawError) as error:
                if self._stopped.is_set():
                    return
                logger.warning("leases: %s; trying again", error)
                self._record = {}
                self._missing = {}  # what cut us off may have cut off others, who come back as we do
                self._client.connection_pool.disconnect()
                self._stopped.wait(delay_s * random.uniform(0.5, 1.5))  # noqa: S311  # jitter
                delay_s = min(delay_s * 2, RETRY_S)

    def _introduce(self) -> None:
        """Note who we are on this connection: client ids start anew when Redis does."""
        run_id = self._client.info("server")["run_id"]
        self._record = {
            "client_id": self._client.client_id(),
            "run_id": run_id,
            "host": socket.gethostname(),
            "pid": os.getpid(),
        }
        self._renew_at = 0.0
        if self._run_id not in ("", run_id):
            self._on_other_server()
        self._run_id = run_id

    def _renew(self) -> None:
        self._renew_at = time.monotonic() + self._store.lease_ms / 3000  # before `tell` may ask for another
        self._store.renew(self.holder, self._record | self._serving)

    def _expire_the_dead(self) -> bool:
        """Whether jobs were taken back."""
        known = {
            holder: record["client_id"]
            for holder, record in self._store.holders().items()
            if record["run_id"] == self._record["run_id"]
        }
        known.pop(self.holder, None)
        # Our own id as well: so the connection that proves our life is used, and its silence noticed.
        asked: list[Any] = [str(number) for number in (self._record["client_id"], *known.values())]
        alive = {int(entry["id"]) for entry in self._client.client_list(client_id=asked)}
        # A time in which Redis or this process stood still counts as one look: nobody could come back in it.
        passed_s = min(time.monotonic() - self._looked_at, DETECT_INTERVAL_S)
        self._looked_at = time.monotonic()
        self._missing = {
            each: self._missing.get(each, -passed_s) + passed_s
            for each in known.items()
            if each[1] not in alive
        }
        dead = [holder for (holder, _), absent_s in self._missing.items() if absent_s >= ABSENT_FOR_S]
        taken = self._store.expire(sorted(dead), reason="its process is gone")
        if taken:
            logger.warning("leases: took back the jobs of %d dead worker(s)", len(dead))
        return taken > 0

    def _sleep(self, seconds: float) -> None:
        """Sleep, but wake at once when the server closes our connection: then reconnect."""
        connection = self._client.connection
        sock = getattr(connection, "_sock", None)
        if sock is None:
            self._stopped.wait(seconds)
            return
        if is_readable(sock.fileno(), seconds) and not self._stopped.is_set():
            raise ConnectionResetError("Redis closed the connection")
