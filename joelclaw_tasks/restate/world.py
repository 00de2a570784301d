"""World: what the steps of a DAG touch, as functions whose answers Restate keeps.

Each may be called again after a crash that came before its answer was kept: jobs and events have ids that
are derived from the run and the step, so that the second time changes nothing.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import httpx

from joelclaw_tasks.emit import Emitter
from joelclaw_tasks.errors import EventRefused, UnknownHandler
from joelclaw_tasks.new_event import NewEvent
from joelclaw_tasks.notify.notification import Button
from joelclaw_tasks.notify.notifier import Notifier
from joelclaw_tasks.restate.job_watch import KEEP_RESULT, RESULT_MOST_BYTES, JobWatch

ACTOR = "dag"
_ANSWER_MOST_BYTES = 1 << 20
_LATER = (408, 425, 429)
#: A job that was merged into another one, or dropped for it: that one is waited for.
_OTHER = {"duplicate", "debounced", "batched"}
_OURS = {"admitted", "scheduled", "held"}


def _open_client() -> httpx.AsyncClient:
    # At INFO httpx logs whole URLs.
    logging.getLogger("httpx").setLevel(logging.WARNING)
    return httpx.AsyncClient(follow_redirects=False, headers={"User-Agent": "joelclaw_tasks"})


@dataclass
class World:
    """Made once in the process of the service."""

    emitter: Emitter
    notify: Notifier
    watch: JobWatch
    http: httpx.AsyncClient = field(default_factory=_open_client)

    def admit(self, event_id: str, step: Mapping[str, Any]) -> dict[str, Any]:
        """Admit one job of a handler: `{job}` to wait for, or `{error}`. Raises CoreUnreachable."""
        name = str(step["handler"])
        try:
            event = self._event_of(name)
            new = NewEvent(
                event,
                step.get("data") or {},
                id=event_id,
                source=ACTOR,
                priority=step.get("priority"),
                meta={KEEP_RESULT: True},
            )
            [planned] = self.emitter.plan([new])
        except (EventRefused, UnknownHandler) as error:
            return {"error": str(error)}
        jobs = [job for job in planned.jobs if job.handler == name]
        [receipt] = self.emitter.admit([planned._replace(jobs=jobs)])[0].jobs
        if receipt.decision in _OURS:
            return {"job": receipt.job_id}
        other = receipt.into or receipt.duplicate_of
        if receipt.decision in _OTHER and other:
            return {"job": other}
        return {"error": f"the job was not admitted: {receipt.decision}"}

    def cancel(self, job_id: str, reason: str) -> str:
        """Take a job away, or ask it to stop; answers the word. Raises CoreUnreachable."""
        return str(self.emitter.store.cancel([job_id], actor=ACTOR, reason=reason)[0])

    def emit(self, name: str, data: Mapping[str, Any], event_id: str) -> dict[str, Any]:
        """Emit an event to all its handlers: its receipt, or `{error}`. Raises CoreUnreachable."""
        try:
            return self.emitter.emit(name, data, id=event_id, source=ACTOR).to_wire()
        except EventRefused as error:
            return {"error": str(error)}

    def tell_approval(self, asked: Mapping[str, Any]) -> None:
        """Tell people that a run waits for them, with buttons. Never raises."""
        run, node = asked["run"], asked["node"]
        target = f"{run}/{node}"
        self.notify(
            f"{asked['plan']} asks: {asked['question']}\n"
            f"Without an answer it is {asked['on_timeout']} at {asked['until']}. "
            f"`joelclaw approvals approve {run} {node}`, or deny.",
            cause=f"approval.{target}",
            severity="warning",
            change="opened",
            ends_at=asked["until_at"],
            buttons=(Button("approve", target, "Approve"), Button("deny", target, "Deny")),
        )

    def tell_answer(self, answered: Mapping[str, Any]) -> None:
        """Tell people that nobody need answer any more. Never raises."""
        word = "approved" if answered["approved"] else "denied"
        self.notify(
            f"{answered['plan']}: {answered['node']} was {word} by {answered['by']}.",
            cause=f"approval.{answered['run']}/{answered['node']}",
            severity="info",
            change="resolved",
        )

    async def request(self, key: str, step: Mapping[str, Any]) -> dict[str, Any]:
        """One request: `{output}`, or `{error, again}`. Texts never quote the address. Never raises."""
        try:
            body = step.get("body")
            headers = {**step.get("headers", {}), "Idempotency-Key": key}
            async with self.http.stream(
                step["method"],
                str(step["url"]),
                headers=headers,
                timeout=httpx.Timeout(step["answer_s"], connect=min(5.0, step["answer_s"])),
                **({} if body is None else {"json": body}),
            ) as response:
                raw = bytearray()
                async for chunk in response.aiter_bytes():
                    raw += chunk
                    if len(raw) > _ANSWER_MOST_BYTES:
                        return _failed(f"the answer is larger than {_ANSWER_MOST_BYTES:,} bytes")
                return _answered(response, bytes(raw))
        except httpx.TimeoutException:
            return _failed("no answer in time", again=True)
        except (httpx.InvalidURL, httpx.UnsupportedProtocol):
            return _failed("the address is not http or https")
        except httpx.ConnectError:
            return _failed("no connection", again=True)
        except (httpx.HTTPError, UnicodeError, ValueError, TypeError) as error:
            return _failed(f"the exchange broke off ({type(error).__name__})", again=True)

    async def close(self) -> None:
        """End its connections."""
        await self.http.aclose()

    def _event_of(self, handler: str) -> str:
        self.emitter.registry.handler(handler)
        events = self.emitter.registry.events.values()
        return next(event.name for event in events if any(one.name == handler for one in event.handlers))


def _answered(response: httpx.Response, raw: bytes) -> dict[str, Any]:
    status = response.status_code
    if not response.is_success:
        return _failed(f"it answered {status}", again=status >= 500 or status in _LATER)
    if len(raw) > RESULT_MOST_BYTES:
        return _failed(f"the answer has {len(raw):,} bytes; at most {RESULT_MOST_BYTES:,} are handed on")
    try:
        body = json.loads(raw) if raw else None
    except (ValueError, RecursionError):
        body = raw.decode(errors="replace")
    return {"output": {"status": status, "body": body}}


def _failed(error: str, *, again: bool = False) -> dict[str, Any]:
    return {"error": error, "again": again}
