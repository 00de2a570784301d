"""A fleet with one handler, whose spans are appended to a file: `python traced_app.py <what to publish>`.

Worker and publisher are processes of their own, because a tracer provider can be set only once.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExporter, SpanExportResult

from joelclaw_tasks.core.store import Store
from joelclaw_tasks.emit import Emitter
from joelclaw_tasks.fleet.app import make_app
from joelclaw_tasks.registry import Registry
from joelclaw_tasks.settings import Settings
from joelclaw_tasks.telemetry.setup import start_tracing


class FileExporter(SpanExporter):
    """One JSON line for each span that ended."""

    def export(self, spans) -> SpanExportResult:
        for span in spans:
            line = json.dumps(as_line(span)) + "\n"
            fd = os.open(os.environ["SPANS"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
            os.write(fd, line.encode())
            os.close(fd)
        return SpanExportResult.SUCCESS


def as_line(span: ReadableSpan) -> dict:
    return {
        "name": span.name,
        "kind": span.kind.name,
        "trace": f"{span.context.trace_id:032x}",
        "span": f"{span.context.span_id:016x}",
        "parent": f"{span.parent.span_id:016x}" if span.parent else None,
        "status": span.status.status_code.name,
    }


provider = TracerProvider()
provider.add_span_processor(SimpleSpanProcessor(FileExporter()))
trace.set_tracer_provider(provider)

settings = Settings.load()
registry = Registry.load(settings.registry_dir)
app = make_app(settings, registry)


@app.task(name="traced.retries", bind=True, max_retries=2)
def retries(task, failures):
    if task.request.retries < failures:
        raise task.retry(countdown=0)


@app.task(name="traced.parent")
def parent():
    retries.delay(0)


def handle(event, deps):
    """The target of the one handler."""
    return {}


def publish(what: str) -> None:
    if what == "emit":
        Emitter(settings, registry, Store.connect(settings)).emit("thing/happened", {"n": 1})
    elif what == "delay":
        app.tasks["thing.handle"].delay(
            {"id": "e", "name": "thing/happened", "source": "test", "at_ms": 1, "data": {"n": 1}}
        )
    elif what == "retry":
        retries.delay(1)
    elif what == "nested":
        parent.delay()
    elif what == "down":
        for _ in range(2):
            try:
                retries.apply_async((0,), retry_policy={"max_retries": 1, "interval_start": 0})
            except Exception as error:  # noqa: BLE001  # whatever it is, the spans are what counts
                print(type(error).__name__)
        print("current span:", trace.get_current_span().get_span_context().is_valid)
        with trace.get_tracer("test").start_as_current_span("afterwards"):
            pass


if __name__ == "__main__":
    start_tracing()
    app.set_default()
    Path(os.environ["SPANS"]).touch()
    publish(sys.argv[1])
