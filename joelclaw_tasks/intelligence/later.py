"""Later: questions that can wait, asked as one batch of the Messages API for half the price.

Each batch has a name, that of its work, and is sent once however often it is asked for: see core/orders.py.
Nobody waits for it; whoever wants the answers looks again later.
"""

from __future__ import annotations

import re
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import redis

from joelclaw_tasks.core.orders import Order, Orders
from joelclaw_tasks.core.spending import Hold, Spending
from joelclaw_tasks.errors import CoreUnreachable
from joelclaw_tasks.intelligence.batches import BatchApi, judged, requests_of
from joelclaw_tasks.intelligence.call import most_nano_usd
from joelclaw_tasks.intelligence.connection import Connections
from joelclaw_tasks.intelligence.decision import Answer, Fallback, Question
from joelclaw_tasks.intelligence.reason import NOT_PAID, Reason
from joelclaw_tasks.intelligence.reply import Reply
from joelclaw_tasks.registry_tiers import TierSpec

#: The most questions of one batch.
MOST_QUESTIONS = 1_000
#: How far the clocks of Redis and of the API may be apart, and how long a request may be on its way.
_APART_MS = 60_000
_NAME = re.compile(r"[A-Za-z0-9_-]{1,40}")
_PART = re.compile(r"[A-Za-z0-9_-]{1,20}")
#: After these the API has certainly no batch. After a 500 it may have one.
_SURELY_NOT = (NOT_PAID - {Reason.SERVER_ERROR}) | {Reason.TOO_LARGE}

Outcome = TypeVar("Outcome")
Questions = Mapping[str, Question[Any]]


@dataclass(frozen=True, slots=True)
class Pending:
    """The answers are not there yet. `batch_id` None: nobody knows yet whether the API has the batch."""

    batch_id: str | None
    waiting: int | None = None


@dataclass(frozen=True, slots=True)
class Ended:
    """The batch is over: what came of each question, by the name that the caller gave it."""

    batch_id: str
    outcomes: Mapping[str, Answer[Any] | Fallback]


@dataclass(frozen=True, slots=True)
class NotNow:
    """Nothing was sent, or the API cannot be asked about it now. `detail` is for people, without secrets."""

    reason: Reason
    detail: str = ""
    retry_after_ms: int | None = None


#: The request left, and nobody knows whether it arrived.
_UNSURE = Pending(None)


class Later:
    """Sends batches and looks after them. Its methods raise nothing that network, API or Redis do."""

    def __init__(self, spending: Spending, orders: Orders, connections: Connections) -> None:
        self._spending = spending
        self._orders = orders
        self._connections = connections

    def submit(
        self, name: str, questions: Questions, tier: TierSpec, key: str, budget_ms: float
    ) -> Pending | NotNow:
        """Send a batch, unless it was sent before."""
        check(name, questions)
        return self._guarded(lambda: self._submit(_Work(name, questions, tier), _Api(self, key, budget_ms)))

    def look(
        self, name: str, questions: Questions, tier: TierSpec, key: str, budget_ms: float
    ) -> Pending | Ended | NotNow:
        """What became of a batch. The questions judge the answers, so they are those that were sent."""
        check(name, questions)
        return self._guarded(lambda: self._look(_Work(name, questions, tier), _Api(self, key, budget_ms)))

    def cancel(self, name: str, key: str, budget_ms: float) -> Pending | NotNow:
        """Ask the API to stop; answers that are there already stay, and are paid for when looked at."""

        def stop() -> Pending | NotNow:
            order = self._orders.find(name)
            if order is None or order.ref is None:
                return NotNow(Reason.INVALID_REQUEST, f"no batch {name} was sent")
            batch_id = order.ref
            found = _Api(self, key, budget_ms).use(lambda api: api.cancel(batch_id))
            return _not_now(found) if isinstance(found, Reply) else Pending(batch_id, found.waiting)

        return self._guarded(stop)

    def _guarded(self, do: Callable[[], Outcome]) -> Outcome | NotNow:
        try:
            return do()
        except (CoreUnreachable, redis.RedisError) as error:
            return NotNow(Reason.NO_LEDGER, type(error).__name__)

    def _submit(self, work: _Work, api: _Api) -> Pending | NotNow:
        order = self._orders.find(work.name)
        if order is not None and order.ref is not None:
            return Pending(order.ref)
        owner, now_ms = uuid.uuid4().hex, self._orders.now_ms()
        sent_by = now_ms + int(api.budget_ms)
        if not self._orders.claim(work.name, owner, sent_by + _APART_MS):
            return Pending(None)
        sent = self._again(work.name, api) or self._send(work, api, owner, (now_ms, sent_by))
        if sent is not _UNSURE:
            self._orders.unclaim(work.name, owner)
        # Else it may still be on its way: nobody looks for it before that time is over.
        return sent

    def _again(self, name: str, api: _Api) -> Pending | NotNow | None:
        """What became of an order that left before, maybe just now; None: nothing did, so it may be sent."""
        order = self._orders.find(name)
        if order is None:
            return None
        if order.ref is not None:
            return Pending(order.ref)
        found = self._lost(order, api)
        if found is None:
            self._orders.forget(name)
            self._release(order.holds)
        return found

    def _send(self, work: _Work, api: _Api, owner: str, span_ms: tuple[int, int]) -> Pending | NotNow:
        requests = requests_of(
            {work.custom_id(part): each for part, each in work.questions.items()}, work.tier
        )
        holds = self._hold(work.questions, work.tier)
        if holds is None:
            self._spending.count(work.tier.name, Reason.BUDGET_SPENT.value)
            return NotNow(Reason.BUDGET_SPENT, "the budget of the day has not so much left")
        if not self._orders.write_down(Order(work.name, *span_ms, holds), owner):
            self._release(holds)
            return Pending(None)
        seen = api.use(lambda each: each.create(requests))
        if not isinstance(seen, Reply):
            self._orders.arrived(work.name, seen.batch_id)
            return Pending(seen.batch_id, seen.waiting)
        if seen.reason not in _SURELY_NOT:
            return _UNSURE
        self._orders.forget(work.name)
        self._release(holds)
        self._spending.count(work.tier.name, (seen.reason or Reason.ERROR).value)
        return _not_now(seen)

    def _hold(self, questions: Questions, tier: TierSpec) -> dict[str, Hold] | None:
        prices = tier.prices.halved()
        most = {part: most_nano_usd(each, prices, tier.max_tokens) for part, each in questions.items()}
        whole = self._spending.hold(tier.name, sum(most.values()), tier.daily_budget_nano_usd)
        if whole is None:
            return None
        return {part: Hold(whole.day, whole.account, nano_usd) for part, nano_usd in most.items()}

    def _release(self, holds: Mapping[str, Hold]) -> None:
        for hold in holds.values():
            self._spending.release(hold)

    def _lost(self, order: Order, api: _Api) -> Pending | NotNow | None:
        """The batch of an order whose id nobody learned; None when the API has none.

        The list of batches does not tell what they ask, but their results do, when they are there.
        """
        wanted = {f"{order.name}_{part}" for part in order.holds}
        found = api.use(
            lambda each: each.created_between(order.sent_at - _APART_MS, order.sent_by + _APART_MS)
        )
        if isinstance(found, Reply):
            return _not_now(found)
        others = [seen for seen in found if seen.total == len(wanted)]
        unknown = self._orders.unknown([seen.batch_id for seen in others])
        still_running = False
        for seen in others:
            if seen.batch_id not in unknown:
                continue
            if not seen.is_over:
                still_running = True
                continue
            results = api.results(seen.batch_id)
            if isinstance(results, Reply):
                return _not_now(results)
            if wanted & set(results):
                self._orders.arrived(order.name, seen.batch_id)
                return Pending(seen.batch_id)
        return Pending(None) if still_running else None

    def _look(self, work: _Work, api: _Api) -> Pending | Ended | NotNow:
        order = self._orders.find(work.name)
        if order is None:
            return NotNow(Reason.INVALID_REQUEST, f"no batch {work.name} was sent")
        if order.ref is None:
            return self._submit(work, api)
        batch_id = order.ref
        seen = api.use(lambda each: each.retrieve(batch_id))
        if isinstance(seen, Reply):
            return _not_now(seen)
        if not seen.is_over:
            return Pending(batch_id, seen.waiting)
        results = api.results(batch_id)
        if isinstance(results, Reply):
            return _not_now(results)
        outcomes: dict[str, Answer[Any] | Fallback] = {}
        for part in order.holds:
            if part not in work.questions:
                continue  # another version of the caller asked it; it stays held
            reply = results.get(work.custom_id(part)) or Reply(Reason.MALFORMED, detail="it has no result")
            outcomes[part] = judged(work.questions[part], work.tier, reply, seen)
            self._pay(order, part, work, reply, outcomes[part])
        return Ended(batch_id, outcomes)

    def _pay(
        self, order: Order, part: str, work: _Work, reply: Reply, outcome: Answer[Any] | Fallback
    ) -> None:
        question, hold = work.questions[part], order.holds[part]
        what = "answered" if isinstance(outcome, Answer) else outcome.reason.value
        once = self._orders.paid(order.name, part)
        if reply.usage is not None:
            tokens = {f"batch_{name}_tokens": number for name, number in reply.usage.to_wire().items()}
            self._spending.settle(
                hold,
                reply.usage.cost_nano_usd(work.tier.prices.halved()),
                counts={"calls": 1, "batch_calls": 1, what: 1, **tokens},
                causes=question.causes or {question.purpose: 1},
                once=once,
            )
        elif not reply.billable:
            self._spending.settle(hold, 0, counts={what: 1}, causes={}, once=once)


@dataclass(frozen=True, slots=True)
class _Work:
    name: str
    questions: Questions
    tier: TierSpec

    def custom_id(self, part: str) -> str:
        """How the API knows one of its questions."""
        return f"{self.name}_{part}"


class _Api:
    """The API for the time of one submit or look, by one connection."""

    def __init__(self, later: Later, key: str, budget_ms: float) -> None:
        self.budget_ms = budget_ms
        self._connections = later._connections
        self._key = key
        self._deadline = time.monotonic() + budget_ms / 1000

    def use(self, do: Callable[[BatchApi], Any]) -> Any:
        """What `do` makes of it, or the Reply that says what went wrong."""
        if time.monotonic() >= self._deadline:
            # Nothing leaves any more, for others count on the time by which it did.
            return Reply(Reason.UNREACHABLE, detail="no time was left to ask", billable=False)
        connection = self._connections.take()
        found = connection.use(self._key, self._deadline, lambda client: do(BatchApi(client, self._key)))
        if isinstance(found, Reply) and found.reason in {Reason.TIMEOUT, Reason.MALFORMED, Reason.ERROR}:
            connection.close()
        else:
            self._connections.give_back(connection)
        return found

    def results(self, batch_id: str) -> dict[str, Reply] | Reply:
        """The results of a batch that is over, by custom_id."""
        found: dict[str, Reply] | Reply = self.use(lambda api: api.results(batch_id))
        return found


def check(name: str, questions: Questions) -> None:
    """Raise ValueError for a name, or questions, that no batch can have."""
    if not _NAME.fullmatch(name):
        raise ValueError(f"the name of a batch has 1 to 40 letters, digits, - and _, not {name!r}")
    for part in questions:
        if not _PART.fullmatch(part):
            raise ValueError(f"the name of a question has 1 to 20 letters, digits, - and _, not {part!r}")
    if not 1 <= len(questions) <= MOST_QUESTIONS:
        raise ValueError(f"a batch has 1 to {MOST_QUESTIONS:,} questions, not {len(questions):,}")
    if len({(each.tier, each.purpose) for each in questions.values()}) != 1:
        raise ValueError("the questions of a batch are of one tier and one purpose; send two batches")


def _not_now(reply: Reply) -> NotNow:
    return NotNow(reply.reason or Reason.ERROR, reply.detail, reply.retry_after_ms)
