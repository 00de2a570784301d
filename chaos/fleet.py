"""Fleet: Redis with an append-only file, workers of three pools, two beats and two producers.

Each process that has a Redis has it through a proxy of its own, so that one of them can be cut off.
"""

from __future__ import annotations

import contextlib
import random
import signal
import subprocess
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import redis
from celery import Celery
from redis.backoff import ConstantBackoff, NoBackoff
from redis.retry import Retry

import joelclaw_tasks
from chaos.process import Process
from chaos.proxy import FaultProxy
from chaos.record import Record
from chaos.traffic import DEADLY, FAILS, LIMITS, QUEUE, RATES, UNGATED
from joelclaw_tasks.core.audit import Audit
from joelclaw_tasks.core.keys import Keys
from joelclaw_tasks.core.states import FINAL
from joelclaw_tasks.core.store import Store
from joelclaw_tasks.errors import CoreUnreachable
from joelclaw_tasks.testing.server import free_port, start_redis

#: Every answer is on its way to the disk first: what was accepted before a SIGKILL is there after it.
REDIS_FLAGS = ("--appendonly", "yes", "--appendfsync", "always", "--hash-max-ziplist-value", "8192")
#: Role, pool, jobs at once.
WORKERS = (("prefork", "prefork", 2), ("threads", "threads", 4), ("solo", "solo", 1))
PREFIX = "{jc}:"
MAX_KILLS = 3
#: Jobs that are sent in one round trip.
_BATCH = 100


class Fleet:
    """Start it, harm it, call `mend` now and then, and let it come to rest."""

    side = "ours"

    def __init__(
        self, home: Path, *, seed: int, rate: float, lease_ms: int, flood: float = 0.0, build: str = ""
    ) -> None:
        self.home = home
        self.seed = seed
        self.due_at_once = 5_000 if flood else 2_000
        self.lease_ms = lease_ms
        self.history_path = home / "history.jsonl"
        self.record = Record(self.history_path)
        self.random = random.Random(seed)
        self._build = build
        self.port = free_port()
        self._redis: subprocess.Popen[bytes] | None = None
        self._broken_at: dict[str, float] = {}
        self.start_redis()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self.store = self.make_store()
        self._sender = Celery("chaos", broker=self.url, set_as_current=False)
        if self.side == "ours":
            joelclaw_tasks.install(self._sender)
        self._sender.conf.task_default_queue = QUEUE
        self._sender.conf.broker_transport_options = {
            "socket_timeout": 0.5,
            "socket_connect_timeout": 0.5,
            "transitions_max": 10_000_000,
        }
        self._senders = ThreadPoolExecutor(4)  # Redis may be away
        self.proxies: dict[str, FaultProxy] = {}
        self.workers = [self._worker(*each) for each in WORKERS]
        self.beats = [
            self._process(f"beat{n}", "-m", "celery", "-A", "chaos.app", "beat", "-l", "INFO", "--pidfile=",
                          "-S", "joelclaw_tasks.broker.beat:Scheduler")
            for n in ((1, 2) if self.side == "ours" else ())
        ]  # fmt: skip
        self.producers = [
            self._process(
                f"producer{n}", "-m", "chaos.producer", "--seed", str(seed * 10 + n), "--rate", str(rate / 2)
            )
            for n in (1, 2)
        ]
        if flood:
            self.producers.append(
                self._process(
                    "flood", "-m", "chaos.flood", "--seed", str(seed * 10 + 3), "--rate", str(flood)
                )
            )

    # -- its parts ----------------------------------------------------------------------------

    def _process(self, role: str, *command: str) -> Process:
        self.proxies[role] = FaultProxy(self.port)
        env = {
            "CHAOS_BROKER": f"redis://127.0.0.1:{self.proxies[role].port}/0",
            "CHAOS_HISTORY": str(self.history_path),
            "CHAOS_LEASE_MS": str(self.lease_ms),
            "CHAOS_BUILD": self._build,
            "CHAOS_SIDE": self.side,
        }
        return Process(role, command, env, self.home)

    def _worker(self, role: str, pool: str, concurrency: int) -> Process:
        return self._process(
            role, "-m", "celery", "-A", "chaos.app", "worker", "-P", pool, "-c", str(concurrency),
            "-n", "{name}@chaos", "-l", "INFO", "--without-gossip", "--without-mingle",
        )  # fmt: skip

    def make_store(self) -> Store:
        """A store on Redis itself, past every proxy."""
        client = redis.Redis.from_url(self.url, socket_timeout=2.0, socket_connect_timeout=1.0)
        return Store(client, Keys(PREFIX), lease_ms=self.lease_ms, transitions_max=10_000_000)

    def held_by(self, worker: Process) -> set[str]:
        """The delivery tags that a worker has leased; none while Redis does not say."""
        try:
            holders = [each for each in self.store.holders() if each.startswith(f"{worker.pid}-")]
            return {tag for holder in holders for tag in self.store.held_by(holder)}
        except CoreUnreachable:
            return set()

    def new_id(self) -> str:
        """The next job id of this seed."""
        return str(uuid.UUID(int=self.random.getrandbits(128), version=4))

    def send(self, family: str, seconds: float, key: str) -> str:
        """One more job, past every proxy, without waiting for it to be sent; answers its id."""
        job = self.new_id()
        self._senders.submit(self._send, [job], family, seconds, key)
        return job

    def schedule(self, count: int, delay_s: float) -> None:
        """So many small jobs that are due at the same moment, past every proxy, without waiting."""
        jobs, due_at = [self.new_id() for _ in range(count)], datetime.now(UTC) + timedelta(seconds=delay_s)
        for start in range(0, count, _BATCH):
            self._senders.submit(self._send, jobs[start : start + _BATCH], "plain", 0.0, "a", eta=due_at)

    def _send(self, jobs: list[str], family: str, seconds: float, key: str, **options: Any) -> None:
        outcome = {"kind": "accepted"}
        for job in jobs:
            self.record.note("asked", job=job, family=family, by="fleet")
        try:
            with self._sender.producer_or_acquire() as producer, producer.batch(max_size=_BATCH):
                for job in jobs:
                    self._sender.send_task(
                        family, (seconds, key), task_id=job, retry=False, producer=producer, **options
                    )
        except Exception as error:  # noqa: BLE001  # whatever it is, it is the answer of all
            outcome = {"kind": "failed", "error": f"{type(error).__name__}: {error}"[:200]}
        for job in jobs:
            self.record.note(**outcome, job=job)

    @property
    def processes(self) -> list[Process]:
        """All but Redis."""
        return [*self.workers, *self.beats, *self.producers]

    # -- its life -----------------------------------------------------------------------------

    def start(self) -> None:
        """Start all, workers and beats first; the run begins when the first job may be sent."""
        for process in (*self.workers, *self.beats):
            process.start()
        for process in (*self.workers, *self.beats):
            process.wait_ready()
        self.record.note(
            "run", seed=self.seed, build=self._build, limits=LIMITS, rates=RATES, fails=FAILS,
            ungated=UNGATED, deadly=DEADLY, workers=[role for role, _, _ in WORKERS],
            max_kills=MAX_KILLS, lease_ms=self.lease_ms, epoch_s=time.time() - time.monotonic(),
        )  # fmt: skip
        for process in self.producers:
            process.start()

    def mend(self, after_s: float = 0.5) -> None:
        """Start what has ended, as a supervisor would: `after_s` later."""
        for process in self.processes:
            if process.is_running() or not process.lives:
                self._broken_at.pop(process.role, None)
            elif time.monotonic() - self._broken_at.setdefault(process.role, time.monotonic()) >= after_s:
                process.start()

    def wait(self, seconds: float) -> None:
        """Let time pass; what ends meanwhile is started again."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            self.mend()
            time.sleep(0.05)

    def wait_whole(self, timeout_s: float = 40.0) -> None:
        """Until every worker is there and ready. Raises RuntimeError."""
        deadline = time.monotonic() + timeout_s
        while not all(worker.is_ready() for worker in self.workers):
            if time.monotonic() > deadline:
                absent = ", ".join(each.name for each in self.workers if not each.is_ready())
                raise RuntimeError(f"not ready again after {timeout_s:.0f} s: {absent}")
            self.wait(0.1)

    def stop_traffic(self) -> None:
        """End whoever sends."""
        for process in (*self.producers, *self.beats):
            process.end()
            process.lives = 0  # not to be mended
        self._senders.shutdown()

    def rest(self, timeout_s: float = 30.0) -> bool:
        """Stop the traffic, wait until all is done, record what Redis holds then. Whether it got there."""
        self.stop_traffic()
        least, deadline = float("inf"), 0.0
        while (waiting := self._unfinished()) is None or waiting:
            left = float("inf") if waiting is None else sum(waiting.values())
            if left < least or not deadline:  # a backlog is no fault for as long as it gets shorter
                least, deadline = left, time.monotonic() + timeout_s
            if time.monotonic() > deadline:
                break
            self.wait(0.2)
        quiet = waiting == {}
        self.record.note("rest", quiet=quiet, **self._held())
        for entry in self.store.history.read():
            self.record.note("move", **{**entry.fields, "at": entry.at, "id": entry.id})
        return quiet

    def _unfinished(self) -> dict[str, int] | None:
        """Jobs by state that are not over; None: Redis does not say."""
        try:
            states = self.store.snapshot()["by_state"]
        except CoreUnreachable:
            return None
        return {state: n for state, n in states.items() if n and state not in {each.value for each in FINAL}}

    def _held(self) -> dict[str, Any]:
        client: Any = self.store.client
        left = {}
        for kind in ("running", "leases", "asked"):
            for key in client.scan_iter(f"{PREFIX}{kind}:*"):
                left[key.decode()] = [member.decode() for member in client.zrange(key, 0, 20)]
        findings = Audit(self.store).run()
        return {
            "by_state": {state: n for state, n in self.store.snapshot()["by_state"].items() if n},
            "left": left,
            "violations": [violation.to_wire() for violation in findings.violations],
        }

    def close(self) -> None:
        """End everything, gently where that works."""
        for proxy in self.proxies.values():
            proxy.hold(False)
            proxy.silence(False)
        for process in self.processes:
            if process.is_running():
                process.send(signal.SIGCONT, group=True)
                process.send(signal.SIGTERM)
        for process in self.processes:
            process.end(10)
        for proxy in self.proxies.values():
            proxy.close()
        self._senders.shutdown()
        self._sender.close()
        self.store.client.close()
        self.end_redis(signal.SIGTERM)

    # -- Redis --------------------------------------------------------------------------------

    def start_redis(self) -> None:
        """Start Redis on what it has kept."""
        self._redis = start_redis(self.home, self.port, *REDIS_FLAGS)

    def end_redis(self, number: signal.Signals) -> None:
        """End Redis with a signal, and wait for its end."""
        assert self._redis is not None
        self._redis.send_signal(number)
        self._redis.wait(30)

    def signal_redis(self, number: signal.Signals) -> None:
        """Send Redis a signal that does not end it."""
        assert self._redis is not None
        self._redis.send_signal(number)

    def configure_redis(self, name: str, value: str) -> None:
        """Set a parameter of Redis, however long it is away."""
        # A Redis that still loads says so in a way of its own.
        away = (redis.ConnectionError, redis.TimeoutError, redis.ResponseError)
        retry = Retry(ConstantBackoff(0.2), 300, supported_errors=away)
        with contextlib.closing(redis.Redis(port=self.port, socket_timeout=2.0)) as client:
            retry.call_with_retry(lambda: client.config_set(name, value), lambda _: None)

    def redis_answers(self) -> bool:
        """Whether Redis is there, and has read what it kept."""
        client = redis.Redis(port=self.port, socket_timeout=0.5, retry=Retry(NoBackoff(), 0))
        with contextlib.closing(client):
            try:
                return bool(client.ping())
            except redis.RedisError:
                return False

    def flush_scripts(self) -> None:
        """Let Redis forget all scripts, if it is there."""
        client = redis.Redis(port=self.port, socket_timeout=0.5, retry=Retry(NoBackoff(), 0))
        with contextlib.closing(client), contextlib.suppress(redis.RedisError):
            client.script_flush()
