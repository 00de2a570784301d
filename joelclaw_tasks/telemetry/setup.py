"""Tracing: on from the start, and free when nobody collects.

The W3C context travels in the message headers through the admission layer, so the worker's span is
a child of the span that emitted. Without a configured SDK every span is a no-op.
"""

from __future__ import annotations

from celery.signals import worker_process_init
from opentelemetry.instrumentation.celery import CeleryInstrumentor

from joelclaw_tasks.telemetry.failures import redact_failures
from joelclaw_tasks.telemetry.publishing import end_failed_publishes


def start_tracing() -> None:
    """Instrument Celery in this process and in every pool process that it forks. Safe to repeat."""
    redact_failures()
    instrumentor = CeleryInstrumentor()
    if not instrumentor.is_instrumented_by_opentelemetry:
        instrumentor.instrument()
    end_failed_publishes()


@worker_process_init.connect(weak=False)
def _in_pool_process(**_: object) -> None:
    start_tracing()
