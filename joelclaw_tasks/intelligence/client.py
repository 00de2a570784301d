"""ModelClient: asks a tier of models within one time budget, and answers with a value whatever happens."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from joelclaw_tasks.core.orders import Orders
from joelclaw_tasks.core.spending import Spending
from joelclaw_tasks.core.store import Store
from joelclaw_tasks.credentials import Credentials
from joelclaw_tasks.intelligence.breaker import Breaker
from joelclaw_tasks.intelligence.call import Call
from joelclaw_tasks.intelligence.connection import Connections
from joelclaw_tasks.intelligence.decision import Answer, Attempt, Fallback, Question, Value
from joelclaw_tasks.intelligence.later import Ended, Later, NotNow, Pending, Questions, check
from joelclaw_tasks.intelligence.prompt import MOST_BYTES
from joelclaw_tasks.intelligence.reason import FOR_ALL_TIERS, NOT_ASKED, Reason
from joelclaw_tasks.registry import Registry
from joelclaw_tasks.registry_tiers import TierSpec
from joelclaw_tasks.settings import Settings

#: With less time than this left, no other tier is asked.
_SHORTEST_MS = 100.0
_OPEN = "too many calls failed just now"


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
        self._later = Later(spending, Orders(spending.store), self._connections)

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

    def submit(self, name: str, questions: Questions, *, budget_ms: float = 30_000) -> Pending | NotNow:
        """Ask questions that can wait as one batch, for half the price; their tier has no fallback.

        `name` is that of the work (1 to 40 letters, digits, - and _): whoever submits it again, also another
        process after this one was killed, gets the same batch, and it is paid once. The questions are of one
        tier and purpose, by names of their own (1 to 20 of the same characters).

        Never raises for what models, network or Redis do. Raises ValueError for names or questions that no
        batch can have.
        """
        check(name, questions)
        first = next(iter(questions.values()))
        found = self._key(first.tier, self.tiers.get(first.tier))
        if isinstance(found, NotNow):
            return found
        key, tier = found
        for question in questions.values():
            if question.prompt.bytes > MOST_BYTES:
                return NotNow(Reason.TOO_LARGE, _too_large(question))
        circuit = (first.tier, first.purpose)
        wait_ms = self.breaker.wait_ms(circuit)
        if wait_ms is not None:
            return NotNow(Reason.CIRCUIT_OPEN, _OPEN, int(wait_ms))
        outcome: Pending | NotNow | None = None
        try:
            outcome = self._later.submit(name, questions, tier, key, budget_ms)
        finally:
            if isinstance(outcome, Pending) and outcome.batch_id is not None:
                self.breaker.succeeded(circuit)
            elif isinstance(outcome, NotNow) and outcome.reason not in NOT_ASKED:
                self.breaker.failed(circuit, outcome.retry_after_ms)
            else:
                self.breaker.forget(circuit)
        return outcome

    def look(self, name: str, questions: Questions, *, budget_ms: float = 30_000) -> Pending | Ended | NotNow:
        """What became of a batch, without waiting for it; look again later when it is Pending.

        The questions are those that were submitted: they judge the answers. Looking twice pays once, and
        answers the same for 29 days, for so long the API keeps them. Raises as `submit`.
        """
        check(name, questions)
        tier_name = next(iter(questions.values())).tier
        found = self._key(tier_name, self.tiers.get(tier_name))
        if isinstance(found, NotNow):
            return found
        return self._later.look(name, questions, found[1], found[0], budget_ms)

    def cancel(self, name: str, *, budget_ms: float = 30_000) -> Pending | NotNow:
        """Ask the API to stop a batch. `look` then says what it had done by then. Raises nothing."""
        keys = self._api_key() if self._enabled else []
        if not keys:
            return NotNow(Reason.NO_KEY, "ANTHROPIC_API_KEY is not set, or models are switched off")
        return self._later.cancel(name, keys[0], budget_ms)

    def _attempt(
        self, question: Question[Value], name: str, tier: TierSpec | None, left_ms: float
    ) -> tuple[Attempt, Value | None]:
        model = "" if tier is None else tier.model
        found = self._key(name, tier)
        if isinstance(found, NotNow):
            return Attempt(name, model, found.reason, found.detail), None
        key, tier = found
        if question.prompt.bytes > MOST_BYTES:
            return Attempt(name, model, Reason.TOO_LARGE, _too_large(question)), None
        circuit = (name, question.purpose)
        wait_ms = self.breaker.wait_ms(circuit)
        if wait_ms is not None:
            return Attempt(name, model, Reason.CIRCUIT_OPEN, _OPEN, retry_after_ms=int(wait_ms)), None
        call = Call(question, tier, key, self._spending, self._connections, min(left_ms, tier.timeout_ms))
        attempt: Attempt | None = None
        try:
            attempt, value = call.result()
        finally:
            self._tell_breaker(circuit, attempt, sent=call.sent)
        return attempt, value

    def _key(self, name: str, tier: TierSpec | None) -> tuple[str, TierSpec] | NotNow:
        """The key with which a tier may be asked, or why it may not."""
        if tier is None:
            return NotNow(Reason.DISABLED, f"registry/models.json has no tier {name}")
        if not self._enabled:
            return NotNow(Reason.DISABLED, "models are switched off")
        keys = self._api_key()
        if not keys:
            return NotNow(Reason.NO_KEY, "ANTHROPIC_API_KEY is not set")
        if not keys[0].isascii() or not keys[0].isprintable() or " " in keys[0]:
            # It would be an error of the HTTP library, with the key in its text.
            return NotNow(Reason.AUTH, "the key has characters that no key has")
        return keys[0], tier

    def _tell_breaker(self, circuit: tuple[str, str], attempt: Attempt | None, *, sent: bool) -> None:
        if attempt is None or attempt.reason in NOT_ASKED or not sent:
            self.breaker.forget(circuit)
        elif attempt.reason is None:
            self.breaker.succeeded(circuit)
        else:
            self.breaker.failed(circuit, attempt.retry_after_ms)


def _too_large(question: Question[Any]) -> str:
    return f"a prompt has {question.prompt.bytes:,} bytes, {MOST_BYTES:,} is the most"
