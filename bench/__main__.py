"""`python -m bench`: stock Celery against this transport. QUICK=1 for one small round."""

from __future__ import annotations

import argparse
import dataclasses
import os
import platform
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import redis

from bench.compare import compare_all, last_line, table
from bench.measure import Measured, measure_round
from bench.plan import SIDES, Plan, Side
from bench.processes import BenchFailed, redis_server


def read_plan(arguments: list[str] | None = None) -> tuple[Plan, tuple[Side, ...]]:
    """The plan and the sides from the command line and QUICK."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--rounds", type=int, help="default 3")
    parser.add_argument("--tasks", type=int, help="tasks to consume in each pool; default 10,000")
    parser.add_argument("--side", choices=SIDES, help="measure this side alone: numbers, no ratios")
    options = parser.parse_args(arguments)
    plan = Plan.short() if os.environ.get("QUICK", "") not in ("", "0") else Plan()
    given = {
        name: getattr(options, name) for name in ("rounds", "tasks") if getattr(options, name) is not None
    }
    if any(value < 1 for value in given.values()):
        parser.error("--rounds and --tasks must be at least 1")
    return dataclasses.replace(plan, **given), (options.side,) if options.side else SIDES


def describe(redis_port: int) -> dict[str, Any]:
    """What the numbers depend on besides the code."""
    with redis.Redis(port=redis_port) as client:
        server = client.info("server")["redis_version"]
    return {
        "taken_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "cpus": os.cpu_count(),
        "load_1min_before": round(os.getloadavg()[0], 2),
        "python": platform.python_version(),
        "celery": version("celery"),
        "kombu": version("kombu"),
        "redis_py": version("redis"),
        "redis_server": server,
        "redis_appendfsync": "everysec",
    }


def main() -> int:
    """Run the plan, print the table and the last line. 0, or 1 when a part failed."""
    plan, sides = read_plan()
    results: dict[Side, list[Measured]] = {side: [] for side in SIDES}
    started_at = time.monotonic()
    try:
        with tempfile.TemporaryDirectory(prefix="bench-") as directory, redis_server(Path(directory)) as port:
            environment = describe(port)
            for number, order in enumerate(plan.orders(), start=1):
                chosen = [side for side in order if side in sides]
                for side, measured in measure_round(chosen, plan, port, Path(directory)).items():
                    results[side].append(measured)
                elapsed_s = time.monotonic() - started_at
                print(f"round {number} of {plan.rounds}: done after {elapsed_s:.0f} s", flush=True)
    except BenchFailed as failure:
        print(f"bench: {failure}", file=sys.stderr)
        return 1
    if sides != SIDES:
        for measured in results[sides[0]]:
            print({name: round(value, 2) for name, value in measured.items()})
        return 0
    comparisons = compare_all(results["stock"], results["ours"])
    print(table(comparisons))
    print(last_line(comparisons, plan, environment))
    return 0


if __name__ == "__main__":
    sys.exit(main())
