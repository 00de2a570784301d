"""The processes of a bench: Redis, proxy, producer, worker. All children of ours, none outlives us."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bench.noop import BROKER_URL, RECORDS_PATH
from bench.plan import POOLS, Side
from joelclaw_tasks.testing.server import free_port, start_redis

ROOT = Path(__file__).resolve().parent.parent

#: The server's flags, the same for both sides: those that the fleet itself runs with.
REDIS_FLAGS = ("--appendonly", "yes", "--appendfsync", "everysec", "--hash-max-ziplist-value", "8192")

#: The workers' flags, the same for both sides.
WORKER_FLAGS = (
    "--without-gossip", "--without-mingle", "--without-heartbeat", "--loglevel", "WARNING",
)  # fmt: skip


class BenchFailed(Exception):
    """A part of the bench did not do what it was measured for; the numbers would mean nothing."""


def wait_for(
    predicate: Callable[[], object], description: str, timeout_s: float, every_s: float = 0.02
) -> None:
    """Poll until the predicate holds. Raises BenchFailed when it does not in time."""
    deadline = time.monotonic() + timeout_s
    while not predicate():
        if time.monotonic() > deadline:
            raise BenchFailed(f"not within {timeout_s:.0f} s: {description}")
        time.sleep(every_s)


def child_environment(home: Path, **extra: str) -> dict[str, str]:
    """Our environment without the settings of a fleet that may be running here."""
    kept = {k: v for k, v in os.environ.items() if k != "REDIS_URL" and not k.startswith("JOELCLAW_")}
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    return {**kept, "PYTHONPATH": path, "JOELCLAW_HOME": str(home), **extra}


@contextmanager
def running(
    command: list[str], *, name: str, stop_s: float = 20.0, **options: Any
) -> Iterator[subprocess.Popen[Any]]:
    """A child in a process group of its own: terminated at the end, killed when that does not help."""
    process = subprocess.Popen(command, start_new_session=True, cwd=ROOT, **options)
    try:
        yield process
    finally:
        if process.stdin is not None:
            process.stdin.close()
        process.terminate()
        try:
            process.wait(stop_s)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            print(f"bench: {name} did not stop within {stop_s:.0f} s and was killed", file=sys.stderr)
        if process.stdout is not None:
            process.stdout.close()


@contextmanager
def redis_server(directory: Path) -> Iterator[int]:
    """A Redis of our own with an append-only file in `directory`; gives its port."""
    port = free_port()
    server = start_redis(directory, port, *REDIS_FLAGS)
    try:
        yield port
    finally:
        server.terminate()
        server.wait(20)


@contextmanager
def proxy(target_port: int, rtt_ms: float) -> Iterator[int]:
    """A latency proxy in front of the port; gives the port it listens on."""
    command = [sys.executable, "-m", "chaos.proxy", "--target", str(target_port), "--rtt-ms", str(rtt_ms)]
    with running(command, name="proxy", stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield int(process.stdout.readline())


class Producer:
    """The producer process of one side; see bench/producer.py for what it understands."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def do(self, action: str, **arguments: Any) -> dict[str, Any]:
        """Run one command and wait for its answer. Raises BenchFailed when the process has died."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps({"do": action, **arguments}) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        while line and not line.startswith("{"):  # a profiler around the producer talks too
            line = self._process.stdout.readline()
        if not line:
            raise BenchFailed(f"the producer died during {action}; its error is above")
        answer: dict[str, Any] = json.loads(line)
        return answer


@contextmanager
def producer(side: Side, url: str, home: Path) -> Iterator[Producer]:
    """A producer process of this side."""
    environment = child_environment(home, **{BROKER_URL: url})
    command = [sys.executable, "-m", "bench.producer", side]
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with running(command, name="producer", env=environment, **pipes) as process:
        yield Producer(process)


def worker_command(side: Side, pool: str) -> list[str]:
    """The arguments after `python` that start a worker of this side and pool."""
    module = ["-m", "celery", "-A", f"bench.{side}_app"]
    options = ["--pool", pool, "--concurrency", str(POOLS[pool]), "--hostname", f"bench-{side}-{pool}@%h"]
    return [*module, "worker", *options, *WORKER_FLAGS]


@contextmanager
def worker(side: Side, pool: str, url: str, records: Path, home: Path) -> Iterator[Callable[[], None]]:
    """A real `celery worker`; gives a check that raises BenchFailed, log included, once it has died."""
    environment = child_environment(home, **{BROKER_URL: url, RECORDS_PATH: str(records)})
    log_path = home / f"worker-{side}-{pool}.log"
    command = [sys.executable, *worker_command(side, pool)]
    with log_path.open("wb") as log:
        streams: dict[str, Any] = {"stdout": log, "stderr": subprocess.STDOUT}
        with running(command, name=f"worker {side} {pool}", env=environment, **streams) as process:

            def check() -> None:
                if process.poll() is not None:
                    tail = log_path.read_text(errors="replace")[-3_000:]
                    raise BenchFailed(f"the {side} {pool} worker exited with {process.returncode}:\n{tail}")

            yield check
