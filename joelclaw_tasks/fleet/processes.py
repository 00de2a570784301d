"""The processes of the fleet: redis, two workers, beat, ingress, Flower; Restate, its service and watcher."""

from __future__ import annotations

import signal
import sys
from pathlib import Path

from joelclaw_tasks.fleet.process_spec import ProcessSpec, both, http_ok, redis_answers
from joelclaw_tasks.fleet.redis_server import EmbeddedRedis
from joelclaw_tasks.fleet.restate_server import RestateServer

REDIS, WORKERS, DOORS = 0, 1, 2
#: CPU and files in processes, network in threads.
_WORKERS = {"default": ("prefork", 2), "io": ("threads", 8)}


def fleet_processes(
    *,
    redis: EmbeddedRedis | None,
    ingress_port: int,
    flower_port: int | None,
    state_dir: Path,
    ingress_host: str = "127.0.0.1",
    restate: RestateServer | None = None,
    restate_service_port: int | None = None,
    with_watch: bool = False,
) -> list[ProcessSpec]:
    """Every process, in the order in which a person reads them.

    `redis` None: the server is someone else's. `flower_port` None: no Flower. `restate` None: none of ours.
    `restate_service_port` None: nobody carries out DAGs.
    `with_watch`: the folders of the settings are watched.
    The doors (ingress, beat, watch, Flower) stop before the workers, the workers before Redis and Restate.
    """
    specs = [] if redis is None else [_redis(redis)]
    if restate is not None:
        specs.append(_restate(restate))
    if restate_service_port is not None:
        specs.append(_restate_service(restate_service_port))
    specs += [_worker(queue, pool, size) for queue, (pool, size) in _WORKERS.items()]
    specs.append(
        ProcessSpec(
            "beat",
            _celery(
                "beat",
                "-S",
                "joelclaw_tasks.fleet.beat:FleetScheduler",
                "--loglevel",
                "INFO",
                "--pidfile=",
                "-s",
                str(state_dir / "beat-schedule"),
            ),
            stage=DOORS,
            ready_line=r"beat: Starting\.\.\.",
        )
    )
    specs.append(
        ProcessSpec(
            "ingress",
            (
                sys.executable,
                "-m",
                "joelclaw_tasks.ingress",
                "--host",
                ingress_host,
                "--port",
                str(ingress_port),
            ),
            stage=DOORS,
            probe=http_ok(ingress_port, "/healthz", ingress_host),
            port=ingress_port,
        )
    )
    if with_watch:
        argv = (sys.executable, "-m", "joelclaw_tasks.watch")
        specs.append(ProcessSpec("watch", argv, stage=DOORS, ready_line=r"watch: watching "))
    if flower_port is not None:
        specs.append(
            ProcessSpec(
                "flower",
                # Flower keeps every task that it saw in memory: its default of 100,000 is some 700 MB.
                _celery("flower", "--address=127.0.0.1", f"--port={flower_port}", "--max_tasks=5000"),
                stage=DOORS,
                probe=http_ok(flower_port, "/healthcheck"),
                port=flower_port,
                stands_back=True,  # it hears of every task
            )
        )
    return specs


def _redis(redis: EmbeddedRedis) -> ProcessSpec:
    return ProcessSpec(
        "redis",
        redis.argv,
        stage=REDIS,
        probe=redis_answers(redis.port, redis.password),
        port=redis.port,
        umask=0o077,
    )


def _restate(restate: RestateServer) -> ProcessSpec:
    return ProcessSpec(
        "restate",
        restate.argv,
        stage=REDIS,
        probe=both(http_ok(restate.ingress_port, "/restate/health"), http_ok(restate.admin_port, "/health")),
        port=restate.ingress_port,
        umask=0o077,
        environ=restate.environ,
    )


def _restate_service(port: int) -> ProcessSpec:
    return ProcessSpec(
        "restate-service",
        (sys.executable, "-m", "joelclaw_tasks.cli.app", "restate", "serve", "--port", str(port)),
        stage=WORKERS,
        ready_line="registered with Restate at",
        port=port,
    )


def _worker(queue: str, pool: str, size: int) -> ProcessSpec:
    return ProcessSpec(
        f"worker-{queue}",
        _celery(
            "worker",
            "--pool",
            pool,
            "--concurrency",
            str(size),
            "-Q",
            queue,
            "-n",
            f"{queue}@%h",
            "--loglevel",
            "INFO",
            "--without-gossip",
        ),
        stage=WORKERS,
        ready_line=r"@\S+ ready\.",
        # A cold shutdown: jobs that did not end in time are given back, where KILL would count as a crash.
        last_signal=signal.SIGQUIT,
        # A burst is taken in and answered first; its jobs are in Redis by then, and can wait a moment.
        stands_back=True,
    )


def _celery(*arguments: str) -> tuple[str, ...]:
    return (sys.executable, "-m", "joelclaw_tasks.fleet.lean_celery", "-A", "joelclaw_tasks", *arguments)
