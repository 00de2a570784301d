"""Result: a diagnosis, by a model or by fixed rules. It changes nothing: a person accepts or rejects it."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from joelclaw_tasks.intelligence.diagnosis.answer import Candidate, Cause, Tried


class Diagnosis(BaseModel):
    """What is thought of a failure.

    `by` says who thinks so: the model of a tier, or `rules`. `abstained`: there is not enough evidence, and
    `abstains_because` says what is missing. `fallback` is the reason why no model answered, `detail` the
    same for people. `paid`: a model was asked and has cost something, or may have. `decision` is what
    the question to the model came to: tiers, prices, latencies.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    by: Literal["model", "rules"]
    summary: str
    candidates: tuple[Candidate, ...] = ()
    tried: tuple[Tried, ...] = ()
    proposed_fix: str | None = None
    proposed_diff: str | None = None
    would_confirm: str | None = None
    abstains_because: str | None = None
    fallback: str | None = None
    detail: str | None = None
    paid: bool = False
    decision: dict[str, Any] = {}

    @property
    def abstained(self) -> bool:
        """Whether no cause is named."""
        return not self.candidates

    @property
    def best(self) -> Candidate | None:
        """The likeliest cause."""
        return self.candidates[0] if self.candidates else None

    @property
    def causes(self) -> list[Cause]:
        """The causes that are named, the likeliest first."""
        return [each.cause for each in self.candidates]

    @property
    def cited(self) -> set[str]:
        """The ids of all exhibits that anything in it rests on."""
        parts: tuple[Candidate | Tried, ...] = (*self.candidates, *self.tried)
        return {id for part in parts for id in part.evidence}
