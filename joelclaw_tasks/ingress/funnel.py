"""Funnel: many requests at once become few calls to Redis.

Emitting is blocking I/O. One thread does it, one call at a time; whatever requests arrive during
a call wait together and go into the next one. So 300 webhooks at once cost a handful of round
trips, a Redis that hangs blocks that thread only, and each request still gets its own receipts.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from copy import copy
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from joelclaw_tasks.emit import NewEvent, Receipt
from joelclaw_tasks.errors import CoreUnreachable, EventRefused
from joelclaw_tasks.ingress.replies import RETRY_AFTER_S, Refusal
from joelclaw_tasks.ingress.tracing import attached

#: Events in one call to emit_many, which takes as many in one round trip.
CALL_EVENTS = 500
#: Events that may wait. Beyond this senders are told to come back, instead of memory growing.
WAITING_EVENTS = 10_000

EmitMany = Callable[[list[NewEvent]], list[Receipt]]
_Outcome = list[Receipt] | Exception


@dataclass(slots=True, eq=False)
class _Parcel:
    """The events of one request, and who waits for their receipts."""

    events: Sequence[NewEvent]
    trace_context: Any | None
    receipts: asyncio.Future[list[Receipt]]

    def settle(self, outcome: _Outcome) -> None:
        if self.receipts.done():  # the sender hung up
            return
        if isinstance(outcome, Exception):
            self.receipts.set_exception(outcome)
        else:
            self.receipts.set_result(outcome)


class Funnel:
    """Gathers the events of concurrent requests. Belongs to one event loop."""

    def __init__(self, emit_many: EmitMany) -> None:
        self._emit_many = emit_many
        self._waiting: deque[_Parcel] = deque()
        self._waiting_events = 0
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="ingress-emit")
        self._draining: asyncio.Task[None] | None = None

    async def emit(self, events: Sequence[NewEvent], trace_context: Any | None = None) -> list[Receipt]:
        """Emit the events of one request and wait for their receipts, in the same order.

        Raises what emit_many raises, for these events alone; Refusal (503) when too much waits.
        """
        if self._waiting_events + len(events) > WAITING_EVENTS:
            raise Refusal(
                503,
                "INGRESS_OVERLOADED",
                "too many events are waiting to be queued",
                fix="Send it again later, with the same id.",
                headers={"Retry-After": str(RETRY_AFTER_S)},
            )
        parcel = _Parcel(events, trace_context, asyncio.get_running_loop().create_future())
        self._waiting.append(parcel)
        self._waiting_events += len(events)
        if self._draining is None:
            self._draining = asyncio.create_task(self._drain())
        return await parcel.receipts

    async def close(self) -> None:
        """Finish what waits, then stop the thread."""
        if self._draining is not None:
            await self._draining
        self._thread.shutdown()

    async def _drain(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            while self._waiting:
                await self._gather()
                parcels = self._next_call()
                try:
                    outcomes = await loop.run_in_executor(self._thread, self._call, parcels)
                except Exception as exc:  # noqa: BLE001  # nobody may be left waiting for ever
                    outcomes = [exc] * len(parcels)
                for parcel, outcome in zip(parcels, outcomes, strict=True):
                    parcel.settle(outcome)
                unreachable = next((one for one in outcomes if isinstance(one, CoreUnreachable)), None)
                if unreachable is not None:
                    self._refuse_waiting(unreachable)
        finally:
            self._draining = None

    async def _gather(self) -> None:
        # Requests that are here already come along: wait for as long as every turn of the loop brings
        # more. In a crowd this also keeps the loop and the thread from fighting over the interpreter.
        before = 0
        while before < self._waiting_events < CALL_EVENTS:
            before = self._waiting_events
            await asyncio.sleep(0)

    def _next_call(self) -> list[_Parcel]:
        parcels: list[_Parcel] = []
        events = 0
        while self._waiting and (not parcels or events + len(self._waiting[0].events) <= CALL_EVENTS):
            parcels.append(self._waiting.popleft())
            events += len(parcels[-1].events)
        self._waiting_events -= events
        return parcels

    def _refuse_waiting(self, unreachable: CoreUnreachable) -> None:
        # These waited while Redis failed to answer the others. Trying each lot in turn would make
        # the last of them wait for many timeouts.
        while self._waiting:
            self._waiting.popleft().settle(copy(unreachable))
        self._waiting_events = 0

    def _call(self, parcels: list[_Parcel]) -> list[_Outcome]:
        """In the thread: one outcome for each parcel."""
        outcomes: list[_Outcome] = []
        for context, group in groupby(parcels, key=lambda parcel: parcel.trace_context):
            with attached(context):
                outcomes += self._emit_together(list(group))
        return outcomes

    def _emit_together(self, parcels: list[_Parcel]) -> list[_Outcome]:
        try:
            receipts = self._emit_many([event for parcel in parcels for event in parcel.events])
        except EventRefused as exc:
            if len(parcels) == 1:
                return [exc]
            # Nothing was queued, and one request must not pay for another's event: each on its own.
            return [outcome for parcel in parcels for outcome in self._emit_together([parcel])]
        except CoreUnreachable as exc:
            return [copy(exc) for _ in parcels]  # one each: whoever raises it adds its own traceback
        except Exception as exc:  # noqa: BLE001  # every waiting request gets it and answers for it
            return [exc] * len(parcels)
        outcomes: list[_Outcome] = []
        begin = 0
        for parcel in parcels:
            outcomes.append(receipts[begin : begin + len(parcel.events)])
            begin += len(parcel.events)
        return outcomes
