"""Sends traffic until it is told to stop: `python -m chaos.producer --seed 1 --rate 30`.

Each call is noted before it is made, and how it ended: accepted, or failed with what it raised.
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
from chaos.traffic import KEYS, TRAFFIC


class Producer:
    """Sends as many jobs a second as it is told to, and makes up for none that it could not send in time."""

    def __init__(self, record: Record, seed: int, rate: float) -> None:
        self._record = record
        self._random = random.Random(seed)
        self._interval_s = 1.0 / rate
        self._stopped = False

    def stop(self, *_: Any) -> None:
        """Let `run` end after the call under way."""
        self._stopped = True

    def run(self) -> None:
        """Send until stopped."""
        families, weights = list(TRAFFIC), [weight for weight, _, _ in TRAFFIC.values()]
        due_at = time.monotonic()
        while not self._stopped:
            [family] = self._random.choices(families, weights)
            _, shortest, longest = TRAFFIC[family]
            self.send(family, round(self._random.uniform(shortest, longest), 3), self._random.choice(KEYS))
            due_at = max(due_at + self._interval_s, time.monotonic() - self._interval_s)
            time.sleep(max(0.0, due_at - time.monotonic()))

    def send(self, family: str, seconds: float, key: str) -> None:
        """Make one call, and note how it ended."""
        job = str(uuid.UUID(int=self._random.getrandbits(128), version=4))
        self._record.note("asked", job=job, family=family, by=os.environ["CHAOS_WORKER"])
        try:
            app.tasks[family].apply_async((seconds, key), task_id=job)
        except Exception as error:  # noqa: BLE001  # whatever it is, it is the answer
            self._record.note("failed", job=job, error=f"{type(error).__name__}: {error}"[:200])
        else:
            self._record.note("accepted", job=job)


def main() -> None:
    """Run until SIGTERM."""
    parser = argparse.ArgumentParser(prog="python -m chaos.producer", description=__doc__)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--rate", type=float, default=30.0, help="calls a second")
    options = parser.parse_args()
    producer = Producer(Record(Path(os.environ["CHAOS_HISTORY"])), options.seed, options.rate)
    signal.signal(signal.SIGTERM, producer.stop)
    print("producer ready.", flush=True)
    producer.run()


if __name__ == "__main__":
    main()
