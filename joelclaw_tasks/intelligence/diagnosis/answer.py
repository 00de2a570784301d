"""Answer: what a model may say of a failure. Every claim cites exhibits that it was shown."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, WithJsonSchema, model_validator

from joelclaw_tasks.intelligence.diagnosis.evidence import at_of
from joelclaw_tasks.intelligence.guard import AnswerModel, clamp, prose, shown

#: So many causes are ranked at most.
MOST_CANDIDATES = 3
_MOST_CITED = 20
_MOST_TRIED = 10
_DIFF_MOST, _DIFF_LINES = 6_000, 200


class Cause(StrEnum):
    """The class of a cause. The list is closed."""

    DOWNSTREAM_OUTAGE = "downstream_outage"
    DOWNSTREAM_SLOW = "downstream_slow"
    FLAPPING_DEPENDENCY = "flapping_dependency"
    RATE_LIMITED = "rate_limited"
    QUOTA_EXHAUSTED = "quota_exhausted"
    CREDENTIALS = "credentials"
    BAD_DEPLOY = "bad_deploy"
    CODE_DEFECT = "code_defect"
    CONFIGURATION = "configuration"
    POISON_PAYLOAD = "poison_payload"
    RESOURCE_EXHAUSTED = "resource_exhausted"
    TENANT_FLOOD = "tenant_flood"
    RETRY_STORM = "retry_storm"
    PLANNED_MAINTENANCE = "planned_maintenance"
    NOTHING_WRONG = "nothing_wrong"
    OTHER = "other"


def _some(ids: list[str]) -> list[str]:
    if not ids:
        raise ValueError("cites nothing")
    return list(dict.fromkeys(ids))[:_MOST_CITED]


def _moment(value: Any) -> Any:
    return at_of(value) if isinstance(value, str) else value


def _lines(value: Any) -> Any:
    """Text of several lines without control and format characters; white space counts in a diff."""
    if not isinstance(value, str):
        return value
    lines = value[:_DIFF_MOST].expandtabs(4).splitlines()[:_DIFF_LINES]
    return "\n".join("".join(each for each in line if each.isprintable()) for line in lines)


Cited = Annotated[list[Annotated[str, shown("exhibits")]], AfterValidator(_some)]
"""Ids of exhibits, one at least; one that does not exist makes the whole answer invalid."""

Moment = Annotated[
    int | None,
    BeforeValidator(_moment),
    WithJsonSchema({"anyOf": [{"type": "string"}, {"type": "null"}]}),
]
"""Epoch milliseconds, which the model writes as ISO 8601."""

Lines = Annotated[str | None, BeforeValidator(_lines)]
"""Text of several lines, such as a diff."""


class Candidate(AnswerModel):
    """One cause that may be the one; `component` is what is broken."""

    cause: Cause
    component: Annotated[str, prose(120)]
    onset_at: Moment = None
    confidence: Annotated[float, clamp(0, 1)]
    evidence: Cited
    because: Annotated[str, prose(600)]


class Tried(AnswerModel):
    """What was done about it so far, and what came of it."""

    what: Annotated[str, prose(300)]
    evidence: Cited


class Diagnosed(AnswerModel):
    """What the model says: up to three causes, the likeliest first, or why it abstains."""

    summary: Annotated[str, prose(500)]
    candidates: list[Candidate]
    tried: list[Tried]
    proposed_fix: Annotated[str | None, prose(1_000)] = None
    proposed_diff: Lines = None
    would_confirm: Annotated[str | None, prose(600)] = None
    abstains_because: Annotated[str | None, prose(400)] = None

    @model_validator(mode="before")
    @classmethod
    def _bounded(cls, value: Any) -> Any:
        """More than was asked for is cut, the least likely first."""
        if not isinstance(value, dict):
            return value
        kept = dict(value)
        for name, most in (("candidates", MOST_CANDIDATES), ("tried", _MOST_TRIED)):
            if isinstance(kept.get(name), list):
                kept[name] = kept[name][:most]
        return kept

    @model_validator(mode="after")
    def _says_one_thing(self) -> Diagnosed:
        if bool(self.candidates) == bool(self.abstains_because):
            raise ValueError("names a cause or says why it abstains, one of both")
        return self
