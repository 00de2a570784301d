"""Sends many small jobs, in batches, while the fleet keeps up: `python -m chaos.flood --seed 1 --rate 600`.

The usual producers send what is hard; this one sends what is many, so that what is rare may happen.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import time
import uuid
from pathlib import Path
from typing import Any

from chaos.app import app
from chaos.record import Record
from chaos.traffic import QUEUE

_BATCH = 25
#: More than this many waiting jobs are no test of anything but patience.
_WAITING_MOST = 1_500


class Flood:
    """Sends up to `rate` jobs a second until it is told to stop."""

    def __init__(self, record: Record, seed: int, rate: float) -> None:
        self._record = record
        self._random = random.Random(seed)
        self._interval_s = _BATCH / rate
        self._stopped = False

    def stop(self, *_: Any) -> None:
        """Let `run` end after the batch under way."""
        self._stopped = True

    def run(self) -> None:
        """Send until stopped."""
        due_at = time.monotonic()
        while not self._stopped:
            self._send()
            due_at = max(due_at + self._interval_s, time.monotonic() - self._interval_s)
            time.sleep(max(0.0, due_at - time.monotonic()))

    def _send(self) -> None:
        jobs = [str(uuid.UUID(int=self._random.getrandbits(128), version=4)) for _ in range(_BATCH)]
        outcome: dict[str, Any] = {"kind": "accepted"}
        asked = False
        try:
            with app.producer_or_acquire() as producer:
                if producer.channel._size(QUEUE) > _WAITING_MOST:
                    return
                asked = True
                for job in jobs:
                    self._record.note("asked", job=job, family="small", by=os.environ["CHAOS_WORKER"])
                with producer.batch(max_size=_BATCH):
                    for job in jobs:
                        app.tasks["small"].apply_async((0.0, "a"), task_id=job, producer=producer)
        except Exception as error:  # noqa: BLE001  # whatever it is, it is the answer of all
            outcome = {"kind": "failed", "error": f"{type(error).__name__}: {error}"[:200]}
        if asked:
            for job in jobs:
                self._record.note(**outcome, job=job)


def main() -> None:
    """Run until SIGTERM."""
    parser = argparse.ArgumentParser(prog="python -m chaos.flood", description=__doc__)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--rate", type=float, default=600.0, help="jobs a second")
    options = parser.parse_args()
    flood = Flood(Record(Path(os.environ["CHAOS_HISTORY"])), options.seed, options.rate)
    signal.signal(signal.SIGTERM, flood.stop)
    print("producer ready.", flush=True)
    flood.run()


if __name__ == "__main__":
    main()
