"""Tracing: a request that carries a W3C trace context hands it on to what it emits."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from starlette.datastructures import Headers


def incoming_context(headers: Headers) -> Any | None:
    """The OpenTelemetry context of the request; None when it has none, or when tracing is off."""
    if "traceparent" not in headers or not _tracing_is_on():
        return None
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    carrier = {name: headers[name] for name in ("traceparent", "tracestate") if name in headers}
    context = TraceContextTextMapPropagator().extract(carrier)
    # A malformed header leaves the context empty.
    return context or None


@contextmanager
def attached(context: Any | None) -> Iterator[None]:
    """Make the context the current one of this thread; None changes nothing."""
    if context is None:
        yield
        return
    from opentelemetry.context import attach, detach

    token = attach(context)
    try:
        yield
    finally:
        detach(token)


def _tracing_is_on() -> bool:
    try:
        from opentelemetry.trace import NoOpTracerProvider, ProxyTracerProvider, get_tracer_provider
    except ImportError:
        return False
    return not isinstance(get_tracer_provider(), NoOpTracerProvider | ProxyTracerProvider)
