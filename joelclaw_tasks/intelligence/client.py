"""ModelClient: asks a tier of models within one time budget, and answers with a value whatever happens."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from joelclaw_tasks.core.spending import Spending
from joelclaw_tasks.core.store import Store
from joelclaw_tasks.credentials import Credentials
from joelclaw_tasks.intelligence.breaker import Breaker
from joelclaw_tasks.intelligence.call import Call
from joelclaw_tasks.intelligence.connection import Connections
from joelclaw_tasks.intelligence.decision import Answer, Attempt, Fallback, Question, Value
from joelclaw_tasks.intelligence.prompt import MOST_BYTES
from joelclaw_tasks.intelligence.reason import FOR_ALL_TIERS, NOT_ASKED, Reason
from joelclaw_tasks.registry import Registry
from joelclaw_tasks.registry_tiers import TierSpec
from joelclaw_tasks.settings import Settings

#: With less time than this left, no other tier is asked.
_SHORTEST_MS = 100.0


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
        call = Call(question, tier, keys[0], self._spending, self._connections, min(left_ms, tier.timeout_ms))
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
