"""What triage costs whoever emits: `python -m bench.triage`.

Emits the same events by turns without triage and held for their score, while a worker asks a Messages API
that fails in one of eight ways. Prints, for each fault, how long an emit took (p50 and p99) with triage
beside without, and how late jobs started after their deadline. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

import redis

from bench.measure import percentile
from bench.processes import child_environment, redis_server, running, wait_for
from joelclaw_tasks.core.keys import Keys
from joelclaw_tasks.core.store import Store
from joelclaw_tasks.emit import Emitter
from joelclaw_tasks.intelligence.local.act import Act, Fault
from joelclaw_tasks.intelligence.local.server import MessagesApi
from joelclaw_tasks.registry import Registry
from joelclaw_tasks.settings import Settings

FAULTS = (
    Fault.SLOW, Fault.DRIP, Fault.HANG_UP, Fault.RATE_LIMITED, Fault.SERVER_ERROR, Fault.WRONG_KEY,
    Fault.HTML, Fault.REFUSAL,
)  # fmt: skip
_HOLD_MS = 2_000
_KEY = "sk-" + "ant-bench-0123456789abcdefghijklmnopqrstuvwxyz"
_EVENT = "discovery/captured"
_BETWEEN_S = 0.01  # about 90 events a second: a worker must have time for all, or every start is late


@dataclass(frozen=True)
class Under:
    """One fault: milliseconds of an emit, the median of the rounds, and how late the worst start was."""

    p50_ms: dict[str, float]
    p99_ms: dict[str, float]
    p50_ratio: float
    p99_ratio: float
    held: int
    worst_ms_after_deadline: int


def emitter_of(url: str, store: Store, mode: str) -> Emitter:
    """An emitter with triage in this mode."""
    settings = Settings(redis_url=url, triage_mode=mode, triage_hold_ms=_HOLD_MS)
    return Emitter(settings, Registry.load(settings.registry_dir), store)


@contextmanager
def worker(url: str, api: MessagesApi, home: Path) -> Iterator[None]:
    """A worker of the fleet that scores and runs everything; ready when it is given."""
    log = (home / "log").open("w+b")
    environment = child_environment(
        home, REDIS_URL=url, ANTHROPIC_API_KEY=_KEY, ANTHROPIC_BASE_URL=api.url, QUEUE_TRIAGE_MODE="enforce",
        JOELCLAW_TRIAGE_HOLD_MS=str(_HOLD_MS),
    )  # fmt: skip
    command = [
        sys.executable, "-m", "celery", "-A", "joelclaw_tasks", "worker", "-P", "threads", "-c", "4",
        "-Q", "default", "-l", "INFO", "--without-gossip", "--without-mingle",
    ]  # fmt: skip
    with log, running(command, name="worker", env=environment, stdout=log, stderr=log):
        wait_for(lambda: b" ready." in (home / "log").read_bytes(), "the worker is ready", 60)
        yield


def emit_by_turns(emitters: dict[str, Emitter], count: int) -> tuple[dict[str, list[float]], list[str]]:
    """Milliseconds of each emit, by mode, and the ids of the jobs that were held."""
    took_ms: dict[str, list[float]] = {mode: [] for mode in emitters}
    held: list[str] = []
    modes = list(emitters)
    for number in range(count):
        random.shuffle(modes)
        for mode in modes:
            data = {"url": f"https://example.com/{number}/{mode}/{random.random()}"}
            began = time.perf_counter()
            receipt = emitters[mode].emit(_EVENT, data)
            took_ms[mode].append((time.perf_counter() - began) * 1000)
            held += [job.job_id for job in receipt.jobs if job.decision == "held"]
            time.sleep(_BETWEEN_S)
    return took_ms, held


def latest_ms(store: Store, held: list[str]) -> int:
    """How long after its deadline the last of the held jobs started, in milliseconds; below 0 for before."""
    at: dict[tuple[str, str], int] = {}
    for entry in store.history.read(verbs=("admit", "claim")):
        at.setdefault((entry.job, entry.verb), entry.at)
    return max(at[job, "claim"] - at[job, "admit"] for job in held) - _HOLD_MS


def under(
    fault: Fault, emitters: dict[str, Emitter], store: Store, api: MessagesApi, rounds: int, count: int
) -> Under:
    """Measure under one fault, in rounds."""
    api.rule = lambda _: Act(fault=fault)
    every: dict[str, list[list[float]]] = {mode: [] for mode in emitters}
    held: list[str] = []
    for _ in range(rounds):
        took_ms, more = emit_by_turns(emitters, count)
        held += more
        for mode, values in took_ms.items():
            every[mode].append(values)
        wait_for(lambda: store.snapshot()["total"] == 0, "all have run", 60)
    figures = {
        share: {mode: median(percentile(values, share) for values in every[mode]) for mode in every}
        for share in (50, 99)
    }
    ratios = {
        share: median(
            percentile(on, share) / percentile(off, share)
            for on, off in zip(every["enforce"], every["off"], strict=True)
        )
        for share in (50, 99)
    }
    return Under(
        p50_ms={mode: round(value, 3) for mode, value in figures[50].items()},
        p99_ms={mode: round(value, 3) for mode, value in figures[99].items()},
        p50_ratio=round(ratios[50], 2),
        p99_ratio=round(ratios[99], 2),
        held=len(held),
        worst_ms_after_deadline=latest_ms(store, held),
    )


def line_of(it: Under) -> str:
    """The figures for people."""
    times = (
        f"{name} {getattr(it, name + '_ms')['enforce']:.2f} ms "
        f"({getattr(it, name + '_ratio'):.2f} of without, wanted <= 1.1)"
        for name in ("p50", "p99")
    )
    late = (
        f"the last of {it.held} started {it.worst_ms_after_deadline:+} ms from its deadline (wanted <= 200)"
    )
    return f"emit {', '.join(times)}; {late}"


def main() -> None:
    """Measure, and print a line for each fault, and the last line."""
    parser = argparse.ArgumentParser(prog="python -m bench.triage", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--events", type=int, default=300, help="of each mode, in each round")
    options = parser.parse_args()
    found: dict[str, Under] = {}
    with (
        tempfile.TemporaryDirectory(prefix="bench-") as directory,
        redis_server(Path(directory)) as port,
        MessagesApi(keys={_KEY}) as api,
        redis.Redis(port=port) as client,
    ):
        url, store = f"redis://127.0.0.1:{port}/0", Store(client, Keys("{jc}:"))
        emitters = {mode: emitter_of(url, store, mode) for mode in ("off", "enforce")}
        for fault in FAULTS:
            client.flushall()
            # A worker for each: the breaker of the last one is open. And a home, or the day's note gets long.
            home = Path(directory) / fault.value
            home.mkdir()
            with worker(url, api, home):
                emit_by_turns(emitters, 20)  # connections, scripts, imports of the worker
                found[fault.value] = it = under(fault, emitters, store, api, options.rounds, options.events)
                print(f"{fault.value:13} {line_of(it)}", flush=True)
    print(json.dumps({name: asdict(value) for name, value in found.items()}))


if __name__ == "__main__":
    main()
