"""Receipt: what was decided for an event that was emitted, handler by handler."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from joelclaw_tasks.core.job import Job
from joelclaw_tasks.core.reply import Decision as Decided
from joelclaw_tasks.core.states import Word

Decision = Literal[
    "admitted",
    "scheduled",
    "held",
    "duplicate",
    "throttled",
    "skipped",
    "expired",
    "debounced",
    "batched",
    "spooled",
]

_DECISIONS: dict[Word, Decision] = {
    Word.ADMITTED: "admitted",
    Word.SCHEDULED: "scheduled",
    Word.HELD: "held",
    Word.DUPLICATE: "duplicate",
    Word.THROTTLED: "throttled",
    Word.SKIPPED: "skipped",
    Word.EXPIRED: "expired",
    Word.DEBOUNCED: "debounced",
    Word.BATCHED: "batched",
}
#: These became part of the job that the decision names; all others that name one were dropped for it.
_MERGED = frozenset({Word.DEBOUNCED, Word.BATCHED})


@dataclass(frozen=True, slots=True)
class JobReceipt:
    """What was decided for one handler.

    `duplicate_of` is the job because of which this one was dropped, `into` the job that it became part of.
    """

    handler: str
    job_id: str
    decision: Decision
    duplicate_of: str | None = None
    into: str | None = None


@dataclass(frozen=True, slots=True)
class Receipt:
    """What was decided for one event."""

    event_id: str
    name: str
    jobs: tuple[JobReceipt, ...]

    def to_wire(self) -> dict[str, Any]:
        """The receipt as JSON-able values."""
        return {
            "event_id": self.event_id,
            "name": self.name,
            "jobs": [
                {
                    "handler": job.handler,
                    "job_id": job.job_id,
                    "decision": job.decision,
                    "duplicate_of": job.duplicate_of,
                    "into": job.into,
                }
                for job in self.jobs
            ],
        }


def receipt_of(job: Job, decided: Word | Decided) -> JobReceipt:
    """What the core decided for a job, in the words of a receipt."""
    word, of = decided if isinstance(decided, Decided) else (decided, None)
    if word in _MERGED:
        return JobReceipt(job.handler, job.id, _DECISIONS[word], into=of)
    return JobReceipt(
        job.handler, job.id, _DECISIONS[word], of or (job.id if word is Word.DUPLICATE else None)
    )
