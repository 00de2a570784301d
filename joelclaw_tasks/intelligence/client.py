"""ModelClient: asks a tier of models within one time budget, and answers with a value whatever happens."""

from __future__ import annotations

import contextvars
import json
import logging
import threading
import time
import traceback
from collections.abc import Mapping
from typing import Any

import redis

from joelclaw_tasks.core.spending import Hold, Spending
from joelclaw_tasks.core.store import Store
from joelclaw_tasks.credentials import Credentials
from joelclaw_tasks.errors import CoreUnreachable
from joelclaw_tasks.intelligence.breaker import Breaker
from joelclaw_tasks.intelligence.call import Connections, Reply
from joelclaw_tasks.intelligence.decision import Answer, Attempt, Fallback, Question, Usage, Value
from joelclaw_tasks.intelligence.guard import Refused, value_of
from joelclaw_tasks.intelligence.prompt import MOST_BYTES
from joelclaw_tasks.intelligence.reason import FOR_ALL_TIERS, NOT_ASKED, Reason
from joelclaw_tasks.registry import Registry
from joelclaw_tasks.registry_tiers import TierSpec
from joelclaw_tasks.settings import Settings

log = logging.getLogger(__name__)

#: With less time than this left, no other tier is asked.
_SHORTEST_MS = 100.0
#: The call itself ends a little before the decision must be there.
_SPARE_S = 0.02
#: What the API adds to a prompt with a schema, in tokens, generously.
_OVERHEAD_TOKENS = 2_000


class ModelClient:
    """Asks models. Safe to use from several threads; costs nothing until it is used.

    `spending` is the ledger; `api_key` answers the keys that are accepted now, of which the first is used.
    """

    def __init__(
        self,
        tiers: Mapping[str, TierSpec],
        spending: Spending,
        api_key: Credentials,
        *,
        base_url: str | None = None,
        enabled: bool = True,
        breaker: Breaker | None = None,
    ) -> None:
        self.tiers = tiers
        self.breaker = breaker or Breaker()
        self._spending = spending
        self._api_key = api_key
        self._enabled = enabled
        self._connections = Connections(base_url)

    @classmethod
    def connect(cls, settings: Settings, registry: Registry, store: Store, **options: Any) -> ModelClient:
        """As the settings and the registry say, with its ledger in the Redis of the store.

        Raises SettingsError when the file of the key cannot be read.
        """
        key = Credentials(settings.anthropic_api_key, settings.anthropic_api_key_file)
        return cls(
            registry.tiers,
            Spending(store),
            key,
            base_url=settings.anthropic_base_url,
            enabled=settings.use_models,
            **options,
        )

    def warm_up(self) -> None:
        """Import the SDK now, for about a second, and not within the first decision; not without a key."""
        if self._enabled and self._api_key():
            self._connections.give_back(self._connections.take())

    def close(self) -> None:
        """End the connections that wait for the next question."""
        self._connections.close()

    def decide(self, question: Question[Value], *, budget_ms: float) -> Answer[Value] | Fallback:
        """Ask the tier of the question, and the tiers that it falls back to, all within `budget_ms`.

        Never raises for what models, network or Redis do, and never takes longer than the budget by more than
        a scheduler's whim. A call that is given up counts against the budget with the most that it may cost.
        """
        began = time.monotonic()
        attempts: list[Attempt] = []
        name: str | None = question.tier
        while name is not None:
            tier = self.tiers.get(name)
            left_ms = budget_ms - (time.monotonic() - began) * 1000
            attempt, value = self._attempt(question, name, tier, left_ms)
            attempts.append(attempt)
            latency_ms = (time.monotonic() - began) * 1000
            facts: dict[str, Any] = {
                "purpose": question.purpose,
                "prompt": question.prompt.label,
                "prompt_sha256": question.prompt.sha256,
                "attempts": tuple(attempts),
                "latency_ms": latency_ms,
            }
            if value is not None:
                return Answer(**facts, value=value)
            more = attempt.reason not in FOR_ALL_TIERS and budget_ms - latency_ms >= _SHORTEST_MS
            name = tier.fallback if tier is not None and more else None
        return Fallback(**facts)

    def _attempt(
        self, question: Question[Value], name: str, tier: TierSpec | None, left_ms: float
    ) -> tuple[Attempt, Value | None]:
        if tier is None or not self._enabled:
            why = (
                "models are switched off" if tier is not None else f"registry/models.json has no tier {name}"
            )
            return Attempt(name, "" if tier is None else tier.model, Reason.DISABLED, why), None
        keys = self._api_key()
        if not keys:
            return Attempt(name, tier.model, Reason.NO_KEY, "ANTHROPIC_API_KEY is not set"), None
        if not keys[0].isascii() or not keys[0].isprintable() or " " in keys[0]:
            # It would be an error of the HTTP library, with the key in its text.
            return Attempt(name, tier.model, Reason.AUTH, "the key has characters that no key has"), None
        if question.prompt.bytes > MOST_BYTES:
            why = f"the prompt has {question.prompt.bytes:,} bytes, {MOST_BYTES:,} is the most"
            return Attempt(name, tier.model, Reason.TOO_LARGE, why), None
        circuit = (name, question.purpose)
        wait_ms = self.breaker.wait_ms(circuit)
        if wait_ms is not None:
            why = "too many calls failed just now"
            return Attempt(name, tier.model, Reason.CIRCUIT_OPEN, why, retry_after_ms=int(wait_ms)), None
        call = _Call(
            question, tier, keys[0], self._spending, self._connections, min(left_ms, tier.timeout_ms)
        )
        attempt: Attempt | None = None
        try:
            attempt, value = call.result()
        finally:
            self._tell_breaker(circuit, attempt, sent=call.sent)
        return attempt, value

    def _tell_breaker(self, circuit: tuple[str, str], attempt: Attempt | None, *, sent: bool) -> None:
        if attempt is None or attempt.reason in NOT_ASKED or not sent:
            self.breaker.forget(circuit)
        elif attempt.reason is None:
            self.breaker.succeeded(circuit)
        else:
            self.breaker.failed(circuit, attempt.retry_after_ms)


class _Call:
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
                self._tier.name, self._most_nano_usd(), self._tier.daily_budget_nano_usd
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

    def _most_nano_usd(self) -> int:
        prices, prompt = self._tier.prices, self._question.prompt
        tokens = prompt.bytes + len(json.dumps(self._question.answer.model_json_schema())) + _OVERHEAD_TOKENS
        return prices.cost_nano_usd(input=0, cache_write=tokens, cache_read=0, output=self._tier.max_tokens)

    def _attempt(
        self, reason: Reason | None, detail: str = "", *, usage: Usage | None = None, cost_nano_usd: int = 0,
        retry_after_ms: int | None = None, request_id: str | None = None,
    ) -> Attempt:  # fmt: skip
        return Attempt(
            self._tier.name, self._tier.model, reason, detail, (time.monotonic() - self._began) * 1000,
            usage, cost_nano_usd, retry_after_ms, request_id,
        )  # fmt: skip
