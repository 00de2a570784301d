"""A master, a replica and a sentinel: three real servers on loopback."""

from __future__ import annotations

import signal
import subprocess
from pathlib import Path

import redis

from joelclaw_tasks.fleet.redis_server import find_server
from joelclaw_tasks.fleet.tether import tether
from tests.conftest import free_port, start_redis, wait_until

MASTER_NAME = "jc"


class Pair:
    """`url` leads to whichever of the two servers is the master."""

    def __init__(self, folder: Path) -> None:
        self.servers: dict[int, subprocess.Popen[bytes]] = {}
        self._folder = folder
        self.first_port = self._start()
        self._start("--replicaof", "127.0.0.1", str(self.first_port), "--repl-diskless-sync-delay", "0")
        self.sentinel_port = free_port()
        self._start_sentinel()
        self.url = f"sentinel://127.0.0.1:{self.sentinel_port}/0?master_name={MASTER_NAME}"
        self.sentinel = redis.Redis(port=self.sentinel_port, decode_responses=True)
        wait_until(self._is_whole, "the sentinel knows both servers", 20)

    def _start(self, *flags: str) -> int:
        port = free_port()
        folder = self._folder / str(port)
        folder.mkdir()
        self.servers[port] = start_redis(folder, port, "--repl-diskless-sync", "yes", *flags)
        return port

    def _start_sentinel(self) -> None:
        conf = self._folder / "sentinel.conf"
        conf.write_text(
            f"port {self.sentinel_port}\nbind 127.0.0.1\ndir {self._folder}\n"
            f"sentinel monitor {MASTER_NAME} 127.0.0.1 {self.first_port} 1\n"
            f"sentinel down-after-milliseconds {MASTER_NAME} 1000\n"
            f"sentinel failover-timeout {MASTER_NAME} 3000\n"
        )
        self._sentinel_process = subprocess.Popen(
            [str(find_server()), str(conf), "--sentinel"],
            stdout=subprocess.DEVNULL,
            preexec_fn=tether(),  # noqa: PLW1509  # it calls the kernel only
        )

    def _is_whole(self) -> bool:
        try:
            replicas = self.sentinel.execute_command("SENTINEL", "REPLICAS", MASTER_NAME)
        except redis.ConnectionError:
            return False
        return bool(replicas) and replicas[0]["master-link-status"] == "ok"

    @property
    def master_port(self) -> int:
        return int(self.sentinel.sentinel_get_master_addr_by_name(MASTER_NAME)[1])

    def wait_failed_over(self) -> None:
        wait_until(lambda: self.master_port != self.first_port, "the replica is the master", 20)

    def signal_master(self, number: signal.Signals) -> None:
        self.servers[self.first_port].send_signal(number)

    def close(self) -> None:
        self.sentinel.close()
        for process in (self._sentinel_process, *self.servers.values()):
            process.send_signal(signal.SIGCONT)
            process.kill()
            process.wait(10)
