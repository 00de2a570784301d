"""Decision: a question to a tier of models, and what came of it: an Answer, or a Fallback with its reason."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from pydantic import BaseModel

from joelclaw_tasks.intelligence.prompt import Rendered
from joelclaw_tasks.intelligence.reason import Reason
from joelclaw_tasks.registry_tiers import NANO_USD, Prices

Value = TypeVar("Value", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class Question(Generic[Value]):
    """What is asked.

    `purpose` is a word such as "triage": each has a circuit breaker of its own. `answer` is the model of the
    answer. `shown` names what the prompt shows, such as {"families": {...}}: an answer that names anything
    else is refused (see guard.py). `causes` are the families on whose bill it goes, with their weights.
    """

    purpose: str
    tier: str
    prompt: Rendered
    answer: type[Value]
    shown: Mapping[str, Collection[str]] = field(default_factory=dict)
    causes: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens. `input` are those that no cache knew; the whole prompt is the sum of the three."""

    input: int = 0
    output: int = 0
    cache_write: int = 0
    cache_read: int = 0

    def to_wire(self) -> dict[str, int]:
        """As plain values."""
        return {name: getattr(self, name) for name in Usage.__slots__}

    def cost_nano_usd(self, prices: Prices) -> int:
        """What it costs, in billionths of a US dollar."""
        return prices.cost_nano_usd(**self.to_wire())


@dataclass(frozen=True, slots=True)
class Attempt:
    """One tier was asked, or was to be. `reason` is None when it answered.

    Without `usage` the price is not known; when a request may have been sent all the same, its whole hold
    counts against the budget.
    """

    tier: str
    model: str
    reason: Reason | None
    detail: str = ""
    latency_ms: float = 0.0
    usage: Usage | None = None
    cost_nano_usd: int = 0
    retry_after_ms: int | None = None
    request_id: str | None = None

    def to_wire(self) -> dict[str, Any]:
        """As plain values."""
        return {
            "tier": self.tier,
            "model": self.model,
            "reason": self.reason and self.reason.value,
            "detail": self.detail,
            "latency_ms": round(self.latency_ms, 1),
            "tokens": self.usage and self.usage.to_wire(),
            "cost_usd": self.cost_nano_usd / NANO_USD,
            "retry_after_ms": self.retry_after_ms,
            "request_id": self.request_id,
        }


@dataclass(frozen=True, slots=True)
class _Outcome:
    purpose: str
    prompt: str
    prompt_sha256: str
    attempts: tuple[Attempt, ...]
    latency_ms: float

    @property
    def last(self) -> Attempt:
        """The attempt that decided."""
        return self.attempts[-1]

    @property
    def tier(self) -> str:
        """The tier that decided: another than was asked when that one fell back."""
        return self.last.tier

    @property
    def model(self) -> str:
        """The id of its model; empty when the tier has none."""
        return self.last.model

    @property
    def cost_nano_usd(self) -> int:
        """What all attempts cost together, as far as is known."""
        return sum(attempt.cost_nano_usd for attempt in self.attempts)

    def to_wire(self) -> dict[str, Any]:
        """As plain values, to be recorded."""
        return {
            "purpose": self.purpose,
            "prompt": self.prompt,
            "prompt_sha256": self.prompt_sha256,
            "tier": self.tier,
            "model": self.model,
            "fallback_reason": self.last.reason and self.last.reason.value,
            "latency_ms": round(self.latency_ms, 1),
            "cost_usd": self.cost_nano_usd / NANO_USD,
            "attempts": [attempt.to_wire() for attempt in self.attempts],
        }


@dataclass(frozen=True, slots=True)
class Answer(_Outcome, Generic[Value]):
    """A model answered, and the guard let it pass."""

    value: Value

    @property
    def usage(self) -> Usage:
        """The tokens of the call that answered."""
        return self.last.usage or Usage()


@dataclass(frozen=True, slots=True)
class Fallback(_Outcome):
    """There is no answer: do what is done without a model."""

    @property
    def reason(self) -> Reason:
        """Why, of the tier that was asked last."""
        assert self.last.reason is not None
        return self.last.reason

    @property
    def detail(self) -> str:
        """The same for people, without secrets."""
        return self.last.detail

    @property
    def retry_after_ms(self) -> int | None:
        """How long to wait before asking again, when the API said so."""
        return self.last.retry_after_ms
