"""What a request becomes in Redis, and the trace that it continues."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import Iterable, Sequence
from typing import Any

import httpx
import pytest
from opentelemetry import trace
from starlette.datastructures import Headers

from joelclaw_tasks.core.store import Store
from joelclaw_tasks.emit import Emitter, Planned
from joelclaw_tasks.ingress import tracing
from joelclaw_tasks.ingress.door import Door
from joelclaw_tasks.ingress.funnel import Funnel
from joelclaw_tasks.new_event import NewEvent
from joelclaw_tasks.receipt import Receipt
from joelclaw_tasks.registry import Registry
from joelclaw_tasks.settings import Settings
from tests.ingress.served import TOKEN, delivery_headers, payload

COMPLETED = payload("workflow_run.completed")
TRACE_ID = "4bf92f3577b34da6a3ce929d0e0e4736"
TRACEPARENT = f"00-{TRACE_ID}-00f067aa0ba902b7-01"


@pytest.fixture
def store(redis_server: str) -> Store:
    return Store.connect(Settings(redis_url=redis_server))


def envelope(job: dict[str, Any]) -> dict[str, Any]:
    """The event that the handler of a job will get."""
    [event], _kwargs, _embed = job["payload"]["body"]
    return event


def test_a_delivery_becomes_one_job_that_holds_the_event_and_where_it_came_from(
    http: httpx.Client, store: Store
):
    delivery = str(uuid.uuid4())
    event_id = f"github-workflow-run-completed-{delivery}-13744120958"
    http.post("/webhooks/github", content=COMPLETED, headers=delivery_headers(COMPLETED, delivery=delivery))

    jobs = [store.inspect(job["id"]) for job in store.list_jobs(limit=10_000)]
    [job] = [job for job in jobs if envelope(job)["id"] == event_id]

    assert ("github/workflow_run.completed", "available") == (job["family"], job["state"])
    event = envelope(job)
    assert ("github/workflow_run.completed", "webhook/github") == (event["name"], event["source"])
    assert {"provider": "github", "deliveryId": delivery} == event["meta"]
    assert ("failure", "add-storm-surge") == (event["data"]["conclusion"], event["data"]["branch"])
    # A webhook says nothing of priority: the registry does.
    assert "priority" not in event
    # Only what handlers need is kept, not the 20 KB that GitHub sent.
    assert len(json.dumps(event)) < 2_000


def test_the_priority_and_the_source_of_an_event_reach_its_job(http: httpx.Client, store: Store):
    event = {
        "name": "discovery/noted",
        "data": {"url": "https://example.com/ü"},
        "priority": "P0",
        "source": "bell",
    }
    reply = http.post("/events", json=event, headers={"Authorization": f"Bearer {TOKEN}"})

    job = store.inspect(reply.json()["receipts"][0]["jobs"][0]["job_id"])

    assert "P0" == job["priority"]
    assert {"url": "https://example.com/ü"} == envelope(job)["data"]
    assert (0, "bell") == (envelope(job)["priority"], envelope(job)["source"])


class TraceSpy(Emitter):
    """Plans events whose id is the trace that planning saw, and admits them nowhere."""

    def plan(self, events: Iterable[NewEvent]) -> list[Planned]:
        span = trace.get_current_span().get_span_context()
        return [Planned(f"{span.trace_id:032x}", new.name, []) for new in events]

    def admit(self, planned: Sequence[Planned]) -> list[Receipt]:
        return [Receipt(one.id, one.name, ()) for one in planned]


def emitted_under(store: Store, *headers: dict[str, str]) -> list[str]:
    """For each of several concurrent requests, the trace that emitting saw."""
    emitter = TraceSpy(Settings(), Registry([]), store)
    events = [NewEvent(name="discovery/noted", data={})]

    async def scenario() -> list[list[Receipt]]:
        door = Door(Settings(), emitter, Funnel(emitter.admit))
        contexts = [tracing.incoming_context(Headers(one)) for one in headers]
        receipts = await asyncio.gather(*(door.emit(events, context) for context in contexts))
        await door.funnel.close()
        return receipts

    return [receipt.event_id for [receipt] in asyncio.run(scenario())]


def test_when_tracing_is_on_emitting_continues_the_trace_of_its_own_request(
    store: Store, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(tracing, "_tracing_is_on", lambda: True)
    other = "0" * 31 + "7"

    seen = emitted_under(
        store,
        {"traceparent": TRACEPARENT, "tracestate": "a=1"},
        {"traceparent": f"00-{other}-00f067aa0ba902b7-01"},
        {"traceparent": "nonsense"},
    )

    assert [TRACE_ID, other, "0" * 32] == seen


def test_when_tracing_is_off_the_header_is_not_looked_at():
    assert tracing.incoming_context(Headers({"traceparent": TRACEPARENT})) is None
