"""300 jobs, and 15 times a reset of the worker's connections next to a send: ours and stock Celery.

`python -m chaos.resets` starts a worker of each side and pool in turn, with late acks, and counts what became
of the jobs: done, done twice, stranded (still in Redis, for stock until its visibility timeout of an hour),
lost (nowhere at all). The producer's own connection is left alone. The last line is JSON; exits with 1 when
ours lost or stranded one.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import sys
import tempfile
import time
import uuid
from collections import Counter
from pathlib import Path

import redis

from chaos.fleet import PREFIX
from chaos.history import History
from chaos.process import Process
from chaos.proxy import FaultProxy
from chaos.traffic import QUEUE
from joelclaw_tasks.core.keys import Keys
from joelclaw_tasks.testing.server import free_port, start_redis

POOLS = {"threads": 8, "prefork": 2}
JOBS, RESETS = 300, 15
_STILL_S = 6.0
_RUN_S = 0.01


def run(side: str, pool: str, home: Path, seed: int) -> dict[str, int]:
    """One worker, all jobs and resets; how many jobs are done, twice, stranded, lost."""
    chance, port = random.Random(f"{seed}"), free_port()
    server = start_redis(home, port, "--appendonly", "yes", "--appendfsync", "always")
    proxy, history = FaultProxy(port), home / "history.jsonl"
    env = {"CHAOS_HISTORY": str(history), "CHAOS_SIDE": side, "CHAOS_STOCK_DEFAULTS": "1"}
    worker = Process(
        "worker",
        ("-m", "celery", "-A", "chaos.app", "worker", "-P", pool, "-c", str(POOLS[pool]), "-l", "INFO",
         "--without-gossip", "--without-mingle", "-n", "{name}@resets"),
        {**env, "CHAOS_BROKER": f"redis://127.0.0.1:{proxy.port}/0"},
        home,
    )  # fmt: skip
    os.environ.update(env, CHAOS_BROKER=f"redis://127.0.0.1:{port}/0", CHAOS_WORKER="producer")
    try:
        worker.start()
        worker.wait_ready()
        from chaos.app import make_app

        app = make_app()
        next_to = set(chance.sample(range(JOBS), RESETS))
        jobs = [str(uuid.uuid4()) for _ in range(JOBS)]
        for number, job in enumerate(jobs):
            app.send_task("plain", (_RUN_S, "a"), task_id=job)
            if number in next_to:
                time.sleep(chance.uniform(0.0, 0.002))
                proxy.reset_all()
            time.sleep(0.02)
        with redis.Redis(port=port) as client:
            return _become(jobs, history, client, side)
    finally:
        worker.end()
        proxy.close()
        server.terminate()
        server.wait(10)


def _become(jobs: list[str], history: Path, client: redis.Redis, side: str) -> dict[str, int]:
    """What became of the jobs, once nothing has ended for a while."""
    ends, still_since = Counter[str](), time.monotonic()
    while len(ends) < len(jobs) and time.monotonic() - still_since < _STILL_S:
        found = Counter(
            line["tag"].rsplit("#", 2)[0] for line in History.read(history)._runs if line["kind"] == "end"
        )
        if found != ends:
            ends, still_since = found, time.monotonic()
        time.sleep(0.1)
    missing = [job for job in jobs if job not in ends]
    if side == "stock":
        held = b"".join(client.hvals("unacked"))  # type: ignore[arg-type]  # not asynchronous
        waiting = b"".join(client.lrange(QUEUE, 0, -1))  # type: ignore[arg-type]
        stranded = sum(job.encode() in held or job.encode() in waiting for job in missing)
    else:
        stranded = sum(bool(client.exists(Keys(PREFIX).job(job))) for job in missing)
    return {
        "done": len(ends),
        "twice": sum(times > 1 for times in ends.values()),
        "stranded": stranded,
        "lost": len(missing) - stranded,
    }


def main() -> int:
    """Both sides, all pools; 0 when ours lost and stranded nothing."""
    parser = argparse.ArgumentParser(prog="python -m chaos.resets", description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--side", choices=("ours", "stock"), help="only this one")
    options = parser.parse_args()
    found: dict[str, dict[str, dict[str, int]]] = {}
    for side in [options.side] if options.side else ["ours", "stock"]:
        for pool in POOLS:
            with tempfile.TemporaryDirectory(prefix="resets-") as home:
                found.setdefault(side, {})[pool] = run(side, pool, Path(home), options.seed)
            told = ", ".join(f"{number} {what}" for what, number in found[side][pool].items())
            print(f"  {side:<6} {pool:<8} {told}", flush=True)
    bad = sum(one["lost"] + one["stranded"] for one in found.get("ours", {}).values())
    print(json.dumps({"verdict": "red" if bad else "green", "jobs": JOBS, "resets": RESETS, **found}))
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
