"""resume: Redis is away for a while, or its connections are silently dead; everybody goes on by himself.

Everybody: a worker of each pool, a producer, a beat and the ingress. Each worker has a queue of its own, too,
so that a job sent past every proxy shows when it claims again.
"""

from __future__ import annotations

import signal
import threading
import time
import uuid
from pathlib import Path
from typing import Any

import httpx
from celery import Celery

import joelclaw_tasks
from chaos.drills.outcome import Outcome, Say
from chaos.drills.running import Running
from chaos.fleet import WORKERS, Fleet
from chaos.process import Process
from chaos.proxy import FaultProxy
from chaos.traffic import QUEUE
from joelclaw_tasks.testing.server import free_port

RESUMES_S, HALF_OPEN_S, IDLE_S = 5.0, 10.0, 3.0
_POOLS = (*WORKERS, ("gevent", "gevent", 4))
#: How long anybody is waited for; who takes longer than promised is to be seen with his time.
_PATIENCE_S = 45.0


class Clients(Fleet):
    """A worker of each pool with a queue of its own, one producer, one beat, and an ingress."""

    def __init__(self, home: Path, **options: Any) -> None:
        super().__init__(home, **options)
        self.workers = [self._worker(*each) for each in _POOLS]
        self.beats, self.producers = self.beats[:1], self.producers[:1]
        self.ingress_url = f"http://127.0.0.1:{(port := free_port())}"
        self.token = uuid.uuid4().hex
        self.proxies["ingress"] = FaultProxy(self.port)
        env = {
            "REDIS_URL": f"redis://127.0.0.1:{self.proxies['ingress'].port}/0",
            "JOELCLAW_HOME": str(home / "ingress-home"),
            "JOELCLAW_EVENTS_TOKEN": self.token,
        }
        self.ingress = Process("ingress", ("-m", "joelclaw_tasks.ingress", "--port", str(port)), env, home)

    def _process(self, role: str, *command: str) -> Process:
        queues = ("-Q", f"{QUEUE},{own_queue(role)}") if "worker" in command else ()
        return super()._process(role, *command, *queues)

    @property
    def processes(self) -> list[Process]:
        """All but Redis."""
        return [*super().processes, self.ingress]

    @property
    def clients(self) -> list[str]:
        """Who has to resume."""
        return [process.role for process in self.processes]

    def start(self) -> None:
        """Start all."""
        self.ingress.start()
        super().start()

    def probe(self) -> dict[str, str]:
        """Send each worker one job that only he can run, past every proxy; job id: role."""
        app = joelclaw_tasks.install(Celery("probe", broker=self.url, set_as_current=False))
        sent = {
            app.send_task("plain", (0.0, "a"), queue=own_queue(worker.role)).id: worker.role
            for worker in self.workers
        }
        app.close()
        return sent


def own_queue(role: str) -> str:
    """The queue of one worker alone."""
    return f"{QUEUE}-{role}"


def resume(fleet: Fleet, away_s: tuple[float, ...], say: Say) -> Outcome:
    """Measure everybody without a fault, after each time that Redis was away, and over dead connections."""
    assert isinstance(fleet, Clients)
    fleet.start()
    running = Running(fleet.history_path)
    outcome = Outcome("resume", {"away_s": list(away_s)})
    lives = {process.role: process.lives for process in fleet.processes}
    _measure(fleet, running, time.monotonic())  # whoever starts up is done with it
    _note(outcome, say, "idle", _measure(fleet, running, time.monotonic()), IDLE_S)
    for seconds in away_s:
        fleet.end_redis(signal.SIGTERM)
        time.sleep(seconds)
        fleet.start_redis()
        took = _measure(fleet, running, time.monotonic())
        _note(outcome, say, f"after_{seconds:g}_s", took, RESUMES_S)
    for proxy in fleet.proxies.values():
        proxy.half_open()
    _note(outcome, say, "half_open", _measure(fleet, running, time.monotonic()), HALF_OPEN_S)
    for process in fleet.processes:
        if not process.is_running() or process.lives != lives[process.role]:
            outcome.broken.append(f"{process.role} ended meanwhile")
    running.close()
    return outcome


def _note(outcome: Outcome, say: Say, name: str, took: dict[str, float | None], most_s: float) -> None:
    outcome.figures[name] = took
    worst = max((seconds or _PATIENCE_S for seconds in took.values()), default=_PATIENCE_S)
    say(f"{name}: " + ", ".join(f"{role} {seconds} s" for role, seconds in took.items()))
    outcome.at_most(f"{name}_worst_s", worst, most_s)


def _measure(fleet: Clients, running: Running, since: float) -> dict[str, float | None]:
    """Seconds from `since` until each client did something new; None: not within the patience."""
    took: dict[str, float | None] = dict.fromkeys(fleet.clients)
    asking = threading.Thread(target=_ask_ingress, args=(fleet, since, took))
    asking.start()
    probes = fleet.probe()
    epoch_ms = int((time.time() - time.monotonic() + since) * 1000)
    asked: dict[str, str] = {}
    while None in took.values() and time.monotonic() - since < _PATIENCE_S:
        for line in running.look():
            role = None
            if line["kind"] == "asked":
                asked[line["job"]] = line["by"].partition(".")[0]
            elif line["kind"] == "accepted" and line["at"] > since:
                role = asked.get(line["job"], fleet.producers[0].role)
            elif line["kind"] == "start" and line["at"] > since:
                job, admitted_at, _ = line["tag"].rsplit("#", 2)
                role = probes.get(job)
                if line["family"] == "tick" and int(admitted_at) > epoch_ms:
                    role = fleet.beats[0].role
            if role in took and took[role] is None:
                took[role] = round(line["at"] - since, 2)
        time.sleep(0.02)
    asking.join()
    return took


def _ask_ingress(fleet: Clients, since: float, took: dict[str, float | None]) -> None:
    """Send events, one after the other, until one is taken."""
    headers = {"Authorization": f"Bearer {fleet.token}"}
    with httpx.Client(base_url=fleet.ingress_url, headers=headers, timeout=20, trust_env=False) as http:
        while time.monotonic() - since < _PATIENCE_S:
            event = {"name": "discovery/noted", "data": {"url": f"https://example.com/{uuid.uuid4()}"}}
            try:
                if http.post("/events", json=event).status_code == 202:
                    took["ingress"] = round(time.monotonic() - since, 2)
                    return
            except httpx.TransportError:
                pass  # it is starting
            time.sleep(0.1)
