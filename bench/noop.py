"""The task that both sides run, and the handler that `emit_many` addresses."""

from __future__ import annotations

import os
import time
from typing import Any

from celery import Celery

from bench.records import RecordWriter

#: Where tasks write their records; unset in producers, which run no task.
RECORDS_PATH = "BENCH_RECORDS"
#: URL of the Redis, or of the proxy in front of it.
BROKER_URL = "BENCH_BROKER_URL"


def build_app() -> Celery:
    """A Celery app with Celery's defaults and one task that does nothing but say when it started.

    Results are ignored on both sides: a result backend would add the same cost to each.
    """
    app = Celery("bench", broker=os.environ[BROKER_URL], set_as_current=True)
    app.conf.task_ignore_result = True
    app.conf.broker_connection_retry_on_startup = True
    records = RecordWriter(os.environ.get(RECORDS_PATH, os.devnull))

    @app.task(name="bench.noop")  # type: ignore[untyped-decorator]
    def noop(sent_at_ns: int) -> None:
        records.append(sent_at_ns, time.monotonic_ns())

    return app


def handle(event: Any, deps: Any) -> dict[str, Any]:  # noqa: ARG001 (what every handler takes)
    """The handler of the event `bench/noop`. Its jobs are counted, never run."""
    return {}
