"""Express: the short way of a webhook from the parser to the funnel, for what needs no explaining."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from starlette.datastructures import Headers
from starlette.responses import Response

from joelclaw_tasks.emit import Planned
from joelclaw_tasks.errors import JoelclawError
from joelclaw_tasks.ingress.door import Door
from joelclaw_tasks.ingress.funnel import LOT_EVENTS, Outcome
from joelclaw_tasks.ingress.protocol import Answer
from joelclaw_tasks.ingress.providers import NormalisedEvent, Provider
from joelclaw_tasks.ingress.replies import fault_reply, joelclaw_error_reply
from joelclaw_tasks.ingress.signatures import signed_with_any
from joelclaw_tasks.ingress.throttle import client_address
from joelclaw_tasks.ingress.tracing import incoming_context
from joelclaw_tasks.ingress.webhooks import WEBHOOK_MAX_BYTES, counted, new_event, summary


@dataclass(slots=True, eq=False)
class _Delivery:
    """One request on its way through the steps."""

    scope: dict[str, Any]
    body: bytearray
    answer: Answer
    headers: Headers
    read: Mapping[str, Any] = field(default_factory=dict)
    found: list[NormalisedEvent] = field(default_factory=list)
    planned: list[Planned] = field(default_factory=list)


class ExpressWebhook:
    """Takes what is signed well, makes known events and carries no trace; the rest goes to `webhook_route`.

    What one turn of the event loop brings, and in a crowd LOT_EVENTS at a time, goes through the steps
    together: step by step, not request by request. A processor that does the same thing again and again
    has it in its caches (docs/performance.md has what that saves).
    """

    def __init__(self, provider: Provider, door: Door) -> None:
        self._provider = provider
        self._door = door
        self._lot: list[_Delivery] = []
        # The same few answers go out again and again. No middleware sees these and changes one.
        self._summary = lru_cache(maxsize=64)(summary)

    def __call__(self, scope: dict[str, Any], body: bytearray, answer: Answer) -> None:
        """Take a POST that has arrived whole."""
        if not self._lot:
            asyncio.get_running_loop().call_soon(self._work, self._lot)
        self._lot.append(_Delivery(scope, body, answer, Headers(raw=scope["headers"])))
        if len(self._lot) >= LOT_EVENTS:
            self._work(self._lot)

    def _work(self, lot: list[_Delivery]) -> None:
        if lot is not self._lot:  # it was full and is done
            return
        self._lot = []
        for step in (self._verify, self._read, self._normalise, self._plan, self._put):
            lot = [delivery for delivery in lot if self._goes_on(step, delivery)]

    @staticmethod
    def _goes_on(step: Callable[[_Delivery], bool], delivery: _Delivery) -> bool:
        """False: it went to the application, untouched and uncounted, which will explain what is wrong."""
        try:
            if step(delivery):
                return True
        except Exception:  # noqa: BLE001, S110  # one bad delivery is not everybody's
            pass
        delivery.answer(None)
        return False

    def _verify(self, delivery: _Delivery) -> bool:
        door, body = self._door, delivery.body
        address = client_address(delivery.scope, trust_forwarded=door.settings.ingress_trust_forwarded)
        return (
            len(body) <= WEBHOOK_MAX_BYTES
            and door.throttle.retry_after_s(address) is None
            and signed_with_any(
                door.secrets(self._provider.name), body, self._provider.signature(delivery.headers)
            )
            and incoming_context(delivery.headers) is None
        )

    def _read(self, delivery: _Delivery) -> bool:
        delivery.read = self._provider.glance(delivery.body)
        return True

    def _normalise(self, delivery: _Delivery) -> bool:
        delivery.found = self._provider.normalise(delivery.read, delivery.headers)
        return bool(delivery.found)

    def _plan(self, delivery: _Delivery) -> bool:
        delivery.planned = self._door.emitter.plan(
            [new_event(self._provider, event) for event in delivery.found]
        )
        return True

    def _put(self, delivery: _Delivery) -> bool:
        self._door.funnel.put(delivery.planned, lambda outcome: self._tell(delivery, outcome))
        # It is large, nobody reads it any more, and the next lot finds its memory in the processor's caches.
        delivery.body.clear()
        return True

    def _tell(self, delivery: _Delivery, outcome: Outcome) -> None:
        delivery.answer(self._reply(delivery, outcome))

    def _reply(self, delivery: _Delivery, outcome: Outcome) -> Response:
        if isinstance(outcome, list):
            return self._summary(*counted(self._door, self._provider, delivery.found, outcome))
        if isinstance(outcome, JoelclawError):
            return joelclaw_error_reply(outcome)
        return fault_reply(outcome, delivery.scope["path"])
