"""Rules: what can be said of a failure without a model: a summary, and a guess that says that it is one."""

from __future__ import annotations

import re
from collections.abc import Sequence

from joelclaw_tasks.intelligence.diagnosis.answer import MOST_CANDIDATES, Candidate, Cause
from joelclaw_tasks.intelligence.diagnosis.evidence import Evidence, Exhibit, Kind, iso
from joelclaw_tasks.intelligence.diagnosis.result import Diagnosis
from joelclaw_tasks.intelligence.guard import plain_text

#: A change is a suspect when it came so shortly before the onset.
SUSPECT_MS = 2 * 3_600_000
#: A model may be sure of something. The rules never are.
_MOST_SURE = 0.5
_SAYS = (
    (Cause.QUOTA_EXHAUSTED, r"quota|insufficient (?:credit|fund)|billing|usage limit"),
    (Cause.RATE_LIMITED, r"RateLimit|Too ?Many ?Requests|\b429\b"),
    (
        Cause.CREDENTIALS,
        (
            r"\b(?:401|403)\b|Unauthorized|Forbidden|AuthenticationError|invalid (?:api )?(?:key|token)"
            r"|expired (?:key|token|certificate)"
        ),
    ),
    (
        Cause.RESOURCE_EXHAUSTED,
        r"MemoryError|No space left|Too many open files|out of memory|died under it",
    ),
    (
        Cause.DOWNSTREAM_OUTAGE,
        (
            r"Connection(?:Refused|Reset|Aborted)?Error|ConnectError|connection refused|unreachable"
            r"|Name or service not known|\b50[0234]\b|Bad Gateway|Service Unavailable|FetchFailed"
        ),
    ),
    (Cause.DOWNSTREAM_SLOW, r"Time(?:d ?)?out|TimeLimitExceeded|deadline exceeded"),
    (Cause.CONFIGURATION, r"ModuleNotFoundError|ImportError|FileNotFoundError|NotRegistered|SettingsError"),
    (Cause.POISON_PAYLOAD, r"DecodeError|ValidationError|malformed|cannot be (?:parsed|read)|InvalidEvent"),
    (
        Cause.CODE_DEFECT,
        r"\b(?:TypeError|AttributeError|NameError|KeyError|IndexError|ZeroDivisionError|AssertionError|RecursionError)\b",
    ),
)  # fmt: skip
_PATTERNS = tuple((cause, re.compile(pattern, re.IGNORECASE)) for cause, pattern in _SAYS)


def by_rules(evidence: Evidence, *, fallback: str | None = None, detail: str | None = None) -> Diagnosis:
    """What fails, how often, since when, and what was changed last before that."""
    failures, rates = evidence.of(Kind.FAILURES), evidence.of(Kind.ERROR_RATE)
    suspect = last_change(evidence)
    parts = [f"{evidence.subject.family or evidence.subject.name}: {evidence.failed} runs failed"]
    if evidence.completed:
        parts[0] += f", {evidence.completed} went well"
    if evidence.onset_at is not None:
        parts.append(f"since {iso(evidence.onset_at)}")
    if failures:
        parts.append(f"most often {failures[0].text}")
    if suspect is not None:
        parts.append(f"the last change before it ({suspect.kind.value}, {iso(suspect.at)}): {suspect.text}")
    candidates = _candidates(evidence, failures, suspect, rates)
    missing = None if candidates else "no rule knows these errors, and no model was asked"
    return Diagnosis(
        by="rules",
        summary=plain_text("; ".join(parts), 500),
        candidates=tuple(candidates),
        abstains_because=missing,
        fallback=fallback,
        detail=detail,
    )


def nothing_failed(evidence: Evidence) -> Diagnosis:
    """What is said where there is nothing to explain: no model is asked for that."""
    name = evidence.subject.name
    return Diagnosis(
        by="rules",
        summary=plain_text(f"Nothing of {name} has failed since {iso(evidence.since_at)}.", 500),
        abstains_because="nothing failed, and the dead letter has nothing of it",
    )


def last_change(evidence: Evidence) -> Exhibit | None:
    """The deploy or control that came last before the onset, within two hours."""
    onset_at = evidence.onset_at
    if onset_at is None:
        return None
    changes = [
        each
        for each in evidence.of(Kind.DEPLOY, Kind.CONTROL)
        if each.at is not None and onset_at - SUSPECT_MS <= each.at <= onset_at
    ]
    return max(changes, key=lambda each: each.at or 0, default=None)


def _candidates(
    evidence: Evidence, failures: Sequence[Exhibit], suspect: Exhibit | None, rates: Sequence[Exhibit]
) -> list[Candidate]:
    found: list[Candidate] = []
    errors = failures or evidence.of(Kind.TRACEBACK, Kind.ATTEMPT)
    component = evidence.subject.handler or evidence.subject.family or evidence.subject.name
    for number, exhibit in enumerate(errors[:MOST_CANDIDATES]):
        cause = next((cause for cause, says in _PATTERNS if says.search(exhibit.text)), None)
        if cause is not None and cause not in [each.cause for each in found]:
            found.append(
                Candidate(
                    cause=cause,
                    component=plain_text(component, 120),
                    onset_at=evidence.onset_at,
                    confidence=round(_MOST_SURE / (1 + number), 2),
                    evidence=[exhibit.id, *(each.id for each in rates)],
                    because="The text of the error says so; a fixed rule reads no more than that.",
                )
            )
    if suspect is not None and suspect.kind is Kind.DEPLOY:
        changed = Candidate(
            cause=Cause.BAD_DEPLOY,
            component=plain_text(suspect.text, 120),
            onset_at=evidence.onset_at,
            confidence=_MOST_SURE / 2,
            evidence=[suspect.id, *(each.id for each in rates)],
            because="It came shortly before the onset.",
        )
        # An error of the code just after a deploy speaks for the deploy; an outage elsewhere does not.
        first = not found or found[0].cause in {Cause.CODE_DEFECT, Cause.CONFIGURATION}
        found.insert(0 if first else 1, changed)
    return found[:MOST_CANDIDATES]
