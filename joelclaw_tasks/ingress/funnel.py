"""Funnel: many requests at once become few calls to Redis.

Emitting is blocking I/O. One thread does it, one call at a time; whatever arrives during a call goes
into the next one together. So 300 webhooks at once cost a handful of round trips, a Redis that hangs
blocks that thread only, and each request still gets its own receipts.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from copy import copy
from dataclasses import dataclass
from itertools import islice
from queue import SimpleQueue
from threading import Thread

from joelclaw_tasks.emit import Planned
from joelclaw_tasks.errors import CoreUnreachable, JoelclawError
from joelclaw_tasks.ingress.replies import RETRY_AFTER_S, Refusal
from joelclaw_tasks.receipt import Receipt

log = logging.getLogger(__name__)

#: A call that has this many events takes no further lot: it is one round trip.
CALL_EVENTS = 500
#: The thread gets what one turn of the event loop brings, and in a crowd this many at a time: Redis works
#: while the loop reads on. Fewer would make the two fight over the interpreter.
LOT_EVENTS = 50
#: Events that may wait. Beyond this senders are told to come back, instead of memory growing.
WAITING_EVENTS = 10_000

Admit = Callable[[list[Planned]], list[Receipt]]
Outcome = list[Receipt] | Exception


@dataclass(slots=True, eq=False)
class _Parcel:
    """The events of one request, and whom to tell what became of them."""

    events: Sequence[Planned]
    tell: Callable[[Outcome], None]


class Funnel:
    """Gathers the events of concurrent requests. Belongs to the event loop in which it is made."""

    def __init__(self, admit: Admit) -> None:
        self._admit = admit
        self._loop = asyncio.get_running_loop()
        self._waiting_events = 0
        self._lot: list[_Parcel] = []
        self._lot_events = 0
        #: What the thread is to emit; an empty lot tells it to stop.
        self._lots: SimpleQueue[list[_Parcel]] = SimpleQueue()
        self._thread = Thread(target=self._emit_lots, name="ingress-emit", daemon=True)
        self._thread.start()

    def put(self, events: Sequence[Planned], tell: Callable[[Outcome], None]) -> None:
        """Emit the events of one request; `tell` gets their receipts in the same order, or what went wrong.

        Raises Refusal (503) when too much waits.
        """
        if self._waiting_events + len(events) > WAITING_EVENTS:
            raise Refusal(
                503,
                "INGRESS_OVERLOADED",
                "too many events are waiting to be queued",
                fix="Send it again later, with the same id.",
                headers={"Retry-After": str(RETRY_AFTER_S)},
            )
        self._waiting_events += len(events)
        if not self._lot:
            self._loop.call_soon(self._await_more, self._lot, 0)
        self._lot.append(_Parcel(events, tell))
        self._lot_events += len(events)
        if self._lot_events >= LOT_EVENTS:
            self._hand_over()

    async def emit(self, events: Sequence[Planned]) -> list[Receipt]:
        """`put`, and wait for the receipts. Raises what went wrong with these events."""
        told: asyncio.Future[list[Receipt]] = self._loop.create_future()

        def tell(outcome: Outcome) -> None:
            if told.done():  # the sender hung up
                return
            if isinstance(outcome, Exception):
                told.set_exception(outcome)
            else:
                told.set_result(outcome)

        self.put(events, tell)
        return await told

    async def close(self) -> None:
        """Finish what waits, then stop the thread."""
        self._hand_over()
        self._lots.put([])
        await asyncio.to_thread(self._thread.join)

    def _await_more(self, lot: list[_Parcel], before: int) -> None:
        # Requests that are here already come along: wait for as long as every turn of the loop brings more.
        if lot is not self._lot:  # it is full and gone
            return
        if self._lot_events > before:
            self._loop.call_soon(self._await_more, lot, self._lot_events)
        else:
            self._hand_over()

    def _hand_over(self) -> None:
        if self._lot:
            self._lots.put(self._lot)
            self._lot, self._lot_events = [], 0

    def _settle(self, parcels: list[_Parcel], outcomes: list[Outcome]) -> None:
        for parcel, outcome in zip(parcels, outcomes, strict=True):
            self._waiting_events -= len(parcel.events)
            try:
                parcel.tell(outcome)
            except Exception:  # one bad connection is not everybody's
                log.exception("a request could not be answered")

    # -- in the thread ------------------------------------------------------------------------

    def _emit_lots(self) -> None:
        while self._emit_lot(self._lots.get()):
            pass  # and nothing of the last lot is kept while the next one is waited for

    def _emit_lot(self, lot: list[_Parcel]) -> bool:
        if not lot:
            return False
        parcels = self._with_more(lot, CALL_EVENTS)
        outcomes = self._call(parcels)
        unreachable = outcomes[0]
        if isinstance(unreachable, CoreUnreachable):
            # The others waited while Redis failed to answer these. Trying each lot in turn would
            # make the last of them wait for many timeouts.
            others = self._with_more([], WAITING_EVENTS)
            parcels += others
            outcomes += [copy(unreachable) for _ in others]
        self._loop.call_soon_threadsafe(self._settle, parcels, outcomes)
        return True

    def _with_more(self, lot: list[_Parcel], most_events: int) -> list[_Parcel]:
        """The lot, and those that wait behind it until there are `most_events`."""
        parcels = list(lot)
        events = sum(len(parcel.events) for parcel in lot)
        while events < most_events and not self._lots.empty():
            lot = self._lots.get()
            if not lot:
                self._lots.put(lot)
                break
            parcels += lot
            events += sum(len(parcel.events) for parcel in lot)
        return parcels

    def _call(self, parcels: list[_Parcel]) -> list[Outcome]:
        """One outcome for each parcel."""
        try:
            receipts = iter(self._admit([event for parcel in parcels for event in parcel.events]))
        except JoelclawError as exc:
            return [copy(exc) for _ in parcels]  # one each: whoever raises it adds its own traceback
        except Exception as exc:  # noqa: BLE001  # every waiting request gets it and answers for it
            return [exc] * len(parcels)
        return [list(islice(receipts, len(parcel.events))) for parcel in parcels]
