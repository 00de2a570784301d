"""Ask: one bounded, structured call over the evidence. No Redis, no queue: evidence in, diagnosis out."""

from __future__ import annotations

from functools import cache

from joelclaw_tasks.intelligence.client import ModelClient
from joelclaw_tasks.intelligence.decision import Answer, Attempt, Fallback, Question
from joelclaw_tasks.intelligence.diagnosis.answer import Cause, Diagnosed
from joelclaw_tasks.intelligence.diagnosis.evidence import Evidence, Kind
from joelclaw_tasks.intelligence.diagnosis.result import Diagnosis
from joelclaw_tasks.intelligence.diagnosis.rules import by_rules, nothing_failed
from joelclaw_tasks.intelligence.guard import data_block
from joelclaw_tasks.intelligence.prompt import Prompt
from joelclaw_tasks.intelligence.reason import NOT_ASKED, NOT_PAID

PURPOSE, TIER = "diagnose", "opus"
#: Opus thinks for a while, and whoever it falls back to needs some time too.
BUDGET_MS = 240_000
_SUBJECT_MOST_BYTES = 1_000


def diagnose(
    evidence: Evidence, client: ModelClient, *, tier: str = TIER, budget_ms: float = BUDGET_MS
) -> Diagnosis:
    """What a model thinks of the evidence; what fixed rules say of it when no model answers.

    Without evidence nobody is asked. Never raises for what models, network or Redis do.
    """
    if not evidence.exhibits:
        return nothing_failed(evidence)
    decision = client.decide(question_of(evidence, tier), budget_ms=budget_ms)
    paid = any(was_paid(each) for each in decision.attempts)
    if isinstance(decision, Fallback):
        found = by_rules(evidence, fallback=decision.reason.value, detail=decision.detail)
        return found.model_copy(update={"paid": paid, "decision": decision.to_wire()})
    return _of_model(evidence, decision, paid=paid)


def question_of(evidence: Evidence, tier: str = TIER) -> Question[Diagnosed]:
    """The question that `diagnose` asks."""
    subject = evidence.subject.model_dump(exclude_defaults=True)
    return Question(
        purpose=PURPOSE,
        tier=tier,
        prompt=_prompt().render(
            subject=data_block("subject", subject, most_bytes=_SUBJECT_MOST_BYTES),
            evidence=evidence.block(),
        ),
        answer=Diagnosed,
        shown={"exhibits": evidence.ids},
        causes={evidence.subject.family or "diagnosis": 1},
    )


def was_paid(attempt: Attempt) -> bool:
    """Whether the attempt cost money, or may have: a call that broke off is billed all the same."""
    return attempt.reason not in NOT_ASKED | NOT_PAID


def _of_model(evidence: Evidence, decision: Answer[Diagnosed], *, paid: bool) -> Diagnosis:
    value = decision.value
    # What began outside of what was looked at is not known from the evidence.
    candidates = tuple(
        each
        if each.onset_at is None or evidence.since_at <= each.onset_at <= evidence.taken_at
        else each.model_copy(update={"onset_at": None})
        for each in value.candidates
    )
    return Diagnosis(
        by="model",
        summary=value.summary,
        candidates=candidates,
        tried=tuple(value.tried),
        proposed_fix=value.proposed_fix,
        proposed_diff=value.proposed_diff,
        would_confirm=value.would_confirm,
        abstains_because=value.abstains_because,
        paid=paid,
        decision=decision.to_wire(),
    )


@cache
def _prompt() -> Prompt:
    return Prompt.load("diagnosis", {"causes": Cause, "kinds": Kind})
