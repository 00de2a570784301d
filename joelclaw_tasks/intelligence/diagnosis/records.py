"""Records: what is kept of a diagnosis, what it is called by, and how it is told."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from joelclaw_tasks.core.redaction import redacted, secrets_of
from joelclaw_tasks.intelligence.diagnosis.evidence import Evidence, Exhibit, Kind
from joelclaw_tasks.intelligence.diagnosis.result import Diagnosis


def held_by(evidence: Evidence) -> tuple[list[str], list[str]]:
    """The names of failures of which no diagnosis may be held, and the names that this one holds then."""
    subject, signatures = evidence.subject, list(evidence.signatures)
    if not signatures:
        name = f"{subject.kind}:{subject.name}"
        return [name], [name]
    main = subject.signature if subject.signature in signatures else signatures[0]
    # What was paid for while its jobs were still retried, is not paid for again once they are dead. But two
    # failures may be alike without having the same signature, so the likeness is not held for both.
    free = list(dict.fromkeys(filter(None, (main, evidence.likeness))))
    return free, [main, *(each for each in signatures if each != main)]


def told(record: Mapping[str, Any]) -> str:
    """What a person is told of it: what fails, since when, why, what to do, and where more is."""
    found = Diagnosis.model_validate(record["diagnosis"])
    parts = [found.summary]
    if found.best is not None:
        percent = round(found.best.confidence * 100)
        guess = "By fixed rules" if found.by == "rules" else "Likely"
        cause = found.best.cause.value.replace("_", " ")
        parts.append(f"{guess}: {cause} in {found.best.component} ({percent} %).")
    elif found.abstains_because:
        parts.append(f"No cause is named: {found.abstains_because}.")
    if found.proposed_fix:
        parts.append(f"Proposed: {found.proposed_fix}")
    return " ".join([*parts, f"joelclaw diagnosis show {record['id']}"])


def cause_of(record: Mapping[str, Any]) -> str:
    """Under which cause people are told of a diagnosis, and told that somebody has judged it."""
    subject = record["evidence"]["subject"]
    return f"diagnosis.{subject['signature'] or subject['name']}"


def past_exhibit(record: Mapping[str, Any]) -> Exhibit:
    """An earlier diagnosis as evidence of a later one."""
    found, verdict = record["diagnosis"], record["verdict"]
    best = next(iter(found["candidates"]), None)
    said = f"{best['cause']} in {best['component']}" if best else f"no cause ({found['abstains_because']})"
    text = f"{record['id']} by {found['by']}: {said}; {found['summary']}"
    if found["proposed_fix"]:
        text += f" Proposed: {found['proposed_fix']}"
    if verdict is not None:
        text += f" A person has {verdict['verdict']} it: {verdict['reason']}"
    source = f"diagnosis {record['id']}"
    return Exhibit(id="E0", kind=Kind.PAST_DIAGNOSIS, at=record["at"], source=source, text=text[:900])


def state_of(found: Diagnosis) -> str:
    """One word for what came of it."""
    if found.fallback is not None:
        return "fallback"
    return "abstained" if found.abstained else "diagnosed"


def without_secrets(found: Diagnosis) -> Diagnosis:
    """A model saw none of ours, but what it writes is text of a stranger."""
    secrets = secrets_of()

    def cleaned(value: Any) -> Any:
        if isinstance(value, str):
            return redacted(value, secrets)
        if isinstance(value, list):
            return [cleaned(one) for one in value]
        return {name: cleaned(one) for name, one in value.items()} if isinstance(value, dict) else value

    said = cleaned(found.model_dump(mode="json", exclude={"decision"}))
    return Diagnosis.model_validate({**said, "decision": found.decision})
