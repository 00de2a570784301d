"""Stock Celery under the same producers, tasks and faults: `python -m chaos.stock --seed 1 --mixed 60`.

Late acks, reject on worker lost, a prefetch of one, and redelivery as soon as Celery can (a visibility
timeout of 10 s; the default is an hour). It has no limits, rates, pauses or dead letter to check, so only
what became of the jobs is counted: lost (nowhere at all), stranded (in Redis, and nothing moves), run twice,
started too often. The last line is JSON. It is no test: it says what one would have without us.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

import redis

from chaos.faults import FAULTS, LONG
from chaos.fleet import Fleet
from chaos.history import Attempt, Fault, History
from chaos.round import Plan, Round
from chaos.traffic import QUEUE
from chaos.verdict import percentile

#: What harms only what stock Celery has not, or what it would never come to the end of.
NOT_FOR_STOCK = {"flush-scripts", "evicting-policy", "poison", "garbage", "kill-beat", "due-at-once"}
_STILL_S = 40.0


class StockFleet(Fleet):
    """The same fleet without the admission layer, and without beats, of which two would fire twice."""

    side = "stock"

    def rest(self, timeout_s: float = _STILL_S) -> bool:
        """Stop the traffic, and wait until all is done or nothing has moved for a while."""
        self.stop_traffic()
        with redis.Redis(port=self.port, socket_timeout=5.0) as client:
            before, since = (-1, -1), time.monotonic()
            while (now := self._waiting(client)) != (0, 0) and time.monotonic() - since < timeout_s:
                if now != before:
                    before, since = now, time.monotonic()
                self.wait(0.5)
            left = b"".join([*client.lrange(QUEUE, 0, -1), *client.hvals("unacked")])  # type: ignore[misc]
        asked = {line["job"] for line in History.read(self.history_path).asked}
        stranded = sorted(job for job in asked if job.encode() in left)
        self.record.note("rest", quiet=not stranded, by_state={}, left={"stranded": stranded}, violations=[])
        return not stranded

    @staticmethod
    def _waiting(client: Any) -> tuple[int, int]:
        return client.llen(QUEUE), client.hlen("unacked")


def judge(history: History) -> dict[str, Any]:
    """What became of the jobs."""
    stranded = set(history.rests[-1]["left"]["stranded"]) if history.rests else set()
    twice = too_often = lost = 0
    for job in history.accepted:
        attempts = history.attempts_of.get(job, [])
        may = 2 if any(each.family == "retried" for each in attempts) else 1
        ends = sum(each.ended_at is not None for each in attempts)
        deaths = sum(any(_hit(fault, each) for fault in history.faults) for each in attempts)
        lost += not ends and job not in stranded
        twice += ends > may
        too_often += len(attempts) > may + deaths
    recoveries = list(_recoveries(history))
    return {
        "side": "stock",
        "accepted": len(history.accepted),
        "lost": lost,
        "stranded": len(stranded & history.accepted),
        "run_twice": twice,
        "started_too_often": too_often,
        "recovery_s": {"p50": percentile(recoveries, 50), "p99": percentile(recoveries, 99)},
        "recoveries": len(recoveries),
        "faults": len(history.faults),
        "kills": sum(fault.kills for fault in history.faults),
    }


def _hit(fault: Fault, attempt: Attempt) -> bool:
    """Whether a fault that costs starts hit the process while it ran the attempt."""
    if not (fault.kills or fault.outlasts_lease) or not fault.hits(attempt) or attempt.started_at is None:
        return False
    return attempt.started_at <= fault.until and (attempt.ended_at is None or attempt.ended_at >= fault.at)


def _recoveries(history: History) -> Any:
    for fault in history.faults:
        for cut in history.starts if fault.kills else ():
            if cut.ended_at is None and _hit(fault, cut):
                later = [
                    each.started_at
                    for each in history.attempts_of[cut.job]
                    if (each.started_at or 0) > fault.at
                ]
                if later:
                    yield min(each for each in later if each is not None) - fault.at


def main() -> int:
    """Run it and say what happened; 0, whatever that is."""
    parser = argparse.ArgumentParser(prog="python -m chaos.stock", description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--mixed", type=float, default=60.0, help="seconds of several faults at once")
    parser.add_argument("--rate", type=float, default=60.0, help="jobs a second")
    parser.add_argument("--keep", type=Path, default=Path(".chaos"), help="directory for histories and logs")
    options = parser.parse_args()
    home = options.keep / f"stock-{options.seed}"
    home.mkdir(parents=True, exist_ok=True)
    for old in home.iterdir():
        old.unlink()
    faults = tuple(name for name in FAULTS if name not in NOT_FOR_STOCK | LONG)
    plan = Plan(seed=options.seed, faults=faults, mixed_s=options.mixed, rate=options.rate)
    Round(plan, home, lambda text: print(f"  {text}", flush=True), StockFleet).run()
    print(json.dumps(judge(History.read(home / "history.jsonl"))))
    return 0


if __name__ == "__main__":
    sys.exit(main())
