"""Spans of failed tasks hold no secret of their errors."""

from __future__ import annotations

import json
import secrets

import pytest
from billiard.einfo import ExceptionInfo
from celery import Celery
from opentelemetry.instrumentation.celery import CeleryInstrumentor, utils
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import use_span

from joelclaw_tasks.telemetry.failures import note_failure, redact_failures


@pytest.mark.parametrize(
    ("args", "kwargs", "text"),
    [
        ((), {}, "login failed: password={0} at redis://me:{0}@db/0"),
        (("joel", "{0}"), {}, "login failed with {0}"),
        ((), {"account": {"api_key": "{0}"}}, "login failed with {0}"),
    ],
)
def test_the_span_of_a_failed_task_names_the_error_and_masks_its_secret(args, kwargs, text):
    redact_failures()
    assert CeleryInstrumentor._trace_failure is note_failure
    planted = f"Planted{secrets.token_hex(12)}"
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    app = Celery("traced", set_as_current=False)

    @app.task(name="traced.task", shared=False)
    def traced(user, password):
        pass

    task = app.tasks[traced.name]
    span = provider.get_tracer("test").start_span("run/traced.task")
    utils.attach_context(task, "id", span, use_span(span), None)
    try:
        raise ValueError(text.format(planted))
    except ValueError:
        einfo = ExceptionInfo()
    filled = json.loads(json.dumps([args, kwargs]).replace("{0}", planted))
    note_failure(sender=task, task_id="id", einfo=einfo, args=filled[0], kwargs=filled[1])
    span.end()

    [told] = exporter.get_finished_spans()
    text = told.to_json()
    assert "login failed" in text
    assert "ValueError" in text
    assert planted not in text
    assert "ERROR" == told.status.status_code.name
