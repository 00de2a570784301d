"""The one producer process of a side.

Takes commands on standard input, one JSON object a line:

{"do": "publish", "count": 1000}                as fast as `.delay()` goes
{"do": "pace", "count": 100, "per_s": 50}       open loop: the pace does not wait for the worker
{"do": "emit_many", "count": 1000}              one call of `emit_many` (our side only)

and answers each with one line: {"count", "first_sent_at_ns", "seconds"}.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench.noop import BROKER_URL

Answer = dict[str, Any]


def publish(delay: Callable[[int], object], count: int) -> Answer:
    """Publish one call after the other, as fast as they return."""
    started_at_ns = time.monotonic_ns()
    for _ in range(count):
        delay(time.monotonic_ns())
    return _answer(count, started_at_ns)


def pace(delay: Callable[[int], object], count: int, per_s: float) -> Answer:
    """Publish at fixed moments. A late call is sent at once and does not move the moments after it."""
    started_at_ns = time.monotonic_ns()
    for number in range(count):
        due_at_ns = started_at_ns + int(number * 1e9 / per_s)
        time.sleep(max(0, due_at_ns - time.monotonic_ns()) / 1e9)
        delay(time.monotonic_ns())
    return _answer(count, started_at_ns)


def emit_many(count: int) -> Answer:
    """Emit `count` events with one handler each, in one call; refuse to report anything but success."""
    from joelclaw_tasks.emit import Emitter
    from joelclaw_tasks.new_event import NewEvent
    from joelclaw_tasks.settings import Settings

    directory = Path(__file__).parent / "registry"
    emitter = Emitter.connect(Settings.load(redis_url=os.environ[BROKER_URL], registry_dir=directory))
    emitter.emit("bench/noop", {"warm": True})
    started_at_ns = time.monotonic_ns()
    receipts = emitter.emit_many([NewEvent("bench/noop", {"number": number}) for number in range(count)])
    answer = _answer(count, started_at_ns)
    decisions = {job.decision for receipt in receipts for job in receipt.jobs}
    if len(receipts) != count or decisions != {"admitted"}:
        raise RuntimeError(f"emit_many: {len(receipts)} receipts of {count}, decisions {decisions}")
    return answer


def _answer(count: int, started_at_ns: int) -> Answer:
    seconds = (time.monotonic_ns() - started_at_ns) / 1e9
    return {"count": count, "first_sent_at_ns": started_at_ns, "seconds": seconds}


def main() -> None:
    """Serve commands until standard input ends."""
    parser = argparse.ArgumentParser(prog="python -m bench.producer", description=__doc__)
    parser.add_argument("side", choices=("stock", "ours"))
    app = importlib.import_module(f"bench.{parser.parse_args().side}_app").app
    delay = app.tasks["bench.noop"].delay
    actions: dict[str, Callable[..., Answer]] = {
        "publish": lambda count: publish(delay, count),
        "pace": lambda count, per_s: pace(delay, count, per_s),
        "emit_many": emit_many,
    }
    for line in sys.stdin:
        command = json.loads(line)
        print(json.dumps(actions[command.pop("do")](**command)), flush=True)


if __name__ == "__main__":
    main()
