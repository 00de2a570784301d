"""What a job of type restate does each time it runs; the fleet runs it, and puts it off between the looks.

    send: asks Restate to take it ──taken──► done
    call: asks Restate to take it ──taken──► looks for its output, again and again, until its deadline

The idempotency key is the id of the job, so however often it is asked, Restate runs it once. Between two
looks the job waits in Redis: it holds no worker, no place of a limit, and burns no attempt.
"""

from __future__ import annotations

import json
import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from joelclaw_tasks.core.event import Event
from joelclaw_tasks.core.spec import RestateSpec
from joelclaw_tasks.errors import InvalidEvent, PermanentFailure, RestateAway, RestateLate
from joelclaw_tasks.registry_keys import KeyExpression
from joelclaw_tasks.restate.client import RestateClient, Target

FIRST_LOOK_S = 0.1
LAST_LOOK_S = 30.0
_GROWTH = 1.6
_NO_LATER_LOOK = 40  # by then each wait is the longest anyway


@dataclass(frozen=True, slots=True)
class Waiting:
    """A call that Restate has taken. `looks` have found no output since; `sent_at_ms` is epoch ms."""

    invocation_id: str
    status: str
    sent_at_ms: int
    looks: int = 0

    def to_wire(self) -> dict[str, Any]:
        """The JSON form, which travels with the job."""
        return {
            "id": self.invocation_id, "status": self.status, "sent_at_ms": self.sent_at_ms,
            "looks": self.looks,
        }  # fmt: skip

    @classmethod
    def from_wire(cls, wire: Mapping[str, Any]) -> Waiting:
        """Read what `to_wire` wrote."""
        return cls(wire["id"], wire["status"], wire["sent_at_ms"], wire["looks"])

    def next_look_s(self, spec: RestateSpec, now_ms: int) -> float:
        """Seconds to the next look: longer each time, with jitter, and never far beyond the deadline."""
        wait_s = min(LAST_LOOK_S, FIRST_LOOK_S * _GROWTH ** min(self.looks, _NO_LATER_LOOK))
        wait_s *= random.uniform(0.75, 1.25)  # noqa: S311  # spreads load, guards nothing
        left_s = (self.sent_at_ms + spec.deadline_ms - now_ms) / 1000
        return max(0.05, min(wait_s, left_s + 0.05))


@dataclass(frozen=True, slots=True)
class Done:
    """The result of a job: `status` is Accepted or PreviouslyAccepted, `output` that of a call."""

    invocation_id: str
    status: str
    output: Any = None

    def to_wire(self) -> dict[str, Any]:
        """The JSON form: the result of the task."""
        return {"invocation_id": self.invocation_id, "status": self.status, "output": self.output}


def start(client: RestateClient, spec: RestateSpec, event: Event, job_id: str, now_ms: int) -> Done | Waiting:
    """Ask Restate to take the job: done when nothing is waited for.

    Raises RestateAway, RestateRefused, and PermanentFailure for an event that has no key.
    """
    sent = client.send(
        target_of(spec, event, job_id),
        body_of(spec, event),
        idempotency_key=None if spec.workflow else job_id,  # the key of a workflow is one
        delay_ms=spec.delay_ms,
    )
    if spec.mode == "send":
        return Done(sent.invocation_id, sent.status)
    return Waiting(sent.invocation_id, sent.status, now_ms)


def look(client: RestateClient, spec: RestateSpec, waiting: Waiting, now_ms: int) -> Done | Waiting:
    """Look for the output of a call. A server that is away is looked for again until the deadline.

    Raises RestateFailed for one that failed in Restate, RestateRefused for one that Restate does not know
    any more, RestateLate after the deadline.
    """
    trouble = ""
    try:
        output = client.output(waiting.invocation_id)
    except RestateAway as error:
        output, trouble = None, f" ({error})"
    if output is not None:
        return Done(waiting.invocation_id, waiting.status, output.value)
    if now_ms >= waiting.sent_at_ms + spec.deadline_ms:
        raise RestateLate(
            f"invocation {waiting.invocation_id} has not ended within {spec.deadline_ms / 1000:g} s{trouble}"
        )
    return Waiting(waiting.invocation_id, waiting.status, waiting.sent_at_ms, waiting.looks + 1)


def target_of(spec: RestateSpec, event: Event, job_id: str) -> Target:
    """Where in Restate the job goes. Raises PermanentFailure for an event without the key."""
    if spec.workflow:
        return Target(spec.service, spec.handler, job_id)
    if spec.key is None:
        return Target(spec.service, spec.handler)
    try:
        key = KeyExpression(spec.key).value(event)
    except InvalidEvent as error:
        raise PermanentFailure(str(error)) from None
    if not key:
        raise PermanentFailure(f"the event has nothing at {spec.key}, which is the key of {spec.service}")
    return Target(spec.service, spec.handler, key)


def body_of(spec: RestateSpec, event: Event) -> bytes | None:
    """What Restate is given of an event, as JSON; None: nothing."""
    if spec.input == "none":
        return None
    value = event.data if spec.input == "data" else event.to_wire()
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()
