"""Call: one attempt on one tier, with its hold on the budget, in a thread of its own."""

from __future__ import annotations

import contextvars
import json
import logging
import threading
import time
import traceback
from typing import Any

import redis

from joelclaw_tasks.core.spending import Hold, Spending
from joelclaw_tasks.errors import CoreUnreachable
from joelclaw_tasks.intelligence.connection import Connections
from joelclaw_tasks.intelligence.decision import Attempt, Question, Usage
from joelclaw_tasks.intelligence.guard import Refused, value_of
from joelclaw_tasks.intelligence.reason import Reason
from joelclaw_tasks.intelligence.reply import Reply
from joelclaw_tasks.registry_tiers import Prices, TierSpec

log = logging.getLogger(__name__)

#: The call itself ends a little before the decision must be there.
_SPARE_S = 0.02
#: What the API adds to a prompt with a schema, in tokens, generously.
_OVERHEAD_TOKENS = 2_000


class Call:
    """One call in a thread of its own: whatever hangs in there, the caller has its answer in time."""

    def __init__(
        self, question: Question[Any], tier: TierSpec, key: str,
        spending: Spending, connections: Connections, budget_ms: float,
    ) -> None:  # fmt: skip
        self._question = question
        self._tier = tier
        self._key = key
        self._spending = spending
        self._connections = connections
        self._began = time.monotonic()
        self._deadline = self._began + max(0.0, budget_ms) / 1000
        self._lock = threading.Lock()
        self._done = threading.Event()
        self._given_up = False
        self._found: tuple[Attempt, Any] | None = None
        self._stage = "Redis did not answer in time"
        self.sent = False

    def result(self) -> tuple[Attempt, Any]:
        """What came of it, or a timeout."""
        run = contextvars.copy_context().run
        thread = threading.Thread(target=run, args=(self._run,), name="joelclaw-model-call", daemon=True)
        try:
            thread.start()
        except RuntimeError:  # too many threads, or the interpreter is about to end
            return self._attempt(Reason.ERROR, "no thread can be started"), None
        self._done.wait(max(0.0, self._deadline - time.monotonic()))
        with self._lock:
            if self._found is not None:
                return self._found
            self._given_up = True
            return self._attempt(Reason.TIMEOUT, self._stage), None

    def _run(self) -> None:
        try:
            self._ask()
        except Exception as error:  # noqa: BLE001  # a defect must not leave anybody waiting
            # Its text may have anything in it, such as the key.
            where = traceback.extract_tb(error.__traceback__)[-1]
            name = type(error).__name__
            log.error("a call of a model failed: %s in %s:%s", name, where.filename, where.lineno)
            self._finish(self._attempt(Reason.ERROR, name), None)
        finally:
            self._done.set()

    def _ask(self) -> None:
        try:
            hold = self._spending.hold(
                self._tier.name,
                most_nano_usd(self._question, self._tier.prices, self._tier.max_tokens),
                self._tier.daily_budget_nano_usd,
            )
        except (CoreUnreachable, redis.RedisError) as error:
            self._finish(self._attempt(Reason.NO_LEDGER, type(error).__name__), None)
            return
        if hold is None:
            self._finish(
                self._attempt(Reason.BUDGET_SPENT, "the budget of the day has not so much left"), None
            )
            self._note(lambda: self._spending.count(self._tier.name, Reason.BUDGET_SPENT.value))
            return
        self._stage = "the SDK was still loading"
        connection = self._connections.take()
        with self._lock:
            gone = self._given_up
            self.sent = not gone
            self._stage = "no answer in time"
        if gone:
            self._connections.give_back(connection)
            self._note(lambda: self._spending.release(hold))
            return
        reply = connection.ask(self._question, self._tier, self._key, self._deadline - _SPARE_S)
        if reply.reason in {Reason.TIMEOUT, Reason.MALFORMED, Reason.ERROR}:
            connection.close()
        else:
            self._connections.give_back(connection)
        self._finish(*self._judged(reply))
        self._pay(hold, reply)

    def _judged(self, reply: Reply) -> tuple[Attempt, Any]:
        reason, detail, value = reply.reason, reply.detail, None
        if reason is None:
            try:
                value = value_of(reply.text, self._question.answer, self._question.shown)
            except Refused as error:
                reason, detail = error.reason, error.detail
        cost = 0 if reply.usage is None else reply.usage.cost_nano_usd(self._tier.prices)
        attempt = self._attempt(
            reason, detail, usage=reply.usage, cost_nano_usd=cost,
            retry_after_ms=reply.retry_after_ms, request_id=reply.request_id,
        )  # fmt: skip
        return attempt, value

    def _pay(self, hold: Hold, reply: Reply) -> None:
        found = self._found
        late = self._given_up
        reason = Reason.TIMEOUT if late else None if found is None else found[0].reason
        what = "answered" if reason is None else reason.value
        usage = reply.usage
        if usage is not None:
            tokens = {f"{name}_tokens": number for name, number in usage.to_wire().items()}
            self._note(
                lambda: self._spending.settle(
                    hold,
                    usage.cost_nano_usd(self._tier.prices),
                    counts={"calls": 1, what: 1, **tokens},
                    causes=self._question.causes or {self._question.purpose: 1},
                )
            )
            return
        if not reply.billable:
            self._note(lambda: self._spending.release(hold))
        self._note(lambda: self._spending.count(self._tier.name, what))

    def _finish(self, attempt: Attempt, value: Any) -> None:
        with self._lock:
            if not self._given_up:
                self._found = (attempt, value)

    def _note(self, write: Any) -> None:
        try:
            write()
        except (CoreUnreachable, redis.RedisError) as error:
            # What was held stays held, so the budget errs on the safe side.
            log.warning("the ledger of models misses an entry: %s", type(error).__name__)

    def _attempt(
        self, reason: Reason | None, detail: str = "", *, usage: Usage | None = None, cost_nano_usd: int = 0,
        retry_after_ms: int | None = None, request_id: str | None = None,
    ) -> Attempt:  # fmt: skip
        return Attempt(
            self._tier.name, self._tier.model, reason, detail, (time.monotonic() - self._began) * 1000,
            usage, cost_nano_usd, retry_after_ms, request_id,
        )  # fmt: skip


def most_nano_usd(question: Question[Any], prices: Prices, max_tokens: int) -> int:
    """The most that a question may cost: every byte of it a token that is put into the cache."""
    tokens = question.prompt.bytes + len(json.dumps(question.answer.model_json_schema())) + _OVERHEAD_TOKENS
    return prices.cost_nano_usd(input=0, cache_write=tokens, cache_read=0, output=max_tokens)
