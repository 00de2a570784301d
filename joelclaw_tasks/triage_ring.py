"""The ring of triage: jobs that want a score bring the job that scores them along, many of them one together.

It is admitted with them, in one atomic step. Whoever comes within the same tenth of a second finds it there
already; it takes what it finds when it runs.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from joelclaw_tasks.core.job import Job
from joelclaw_tasks.core.spec import HandlerSpec
from joelclaw_tasks.message import body_of, message
from joelclaw_tasks.settings import Settings

TASK = "joelclaw.triage"
QUEUE = "default"
_TOGETHER_MS = 100
#: The mark of Rules.triage in the text that travels with a job.
_WANTS = '"triage"'
_HANDLER = HandlerSpec(TASK, "task", "", QUEUE)


def ring_for(calls: Iterable[Sequence[Job]], settings: Settings, now_ms: int) -> list[Job]:
    """The job that scores, if any of these wants a score; else none."""
    if not any(_WANTS in job.rules for jobs in calls for job in jobs):
        return []
    job_id = f"triage:{now_ms // _TOGETHER_MS}"
    lane = f"{QUEUE}|{TASK}|"
    admission = {
        "family": TASK, "handler": TASK, "lane": "", "gates": [], "priority": 0,
        "keep_ms": 0,
    }  # fmt: skip
    return [
        Job(
            id=job_id, queue=QUEUE, family=TASK, handler=TASK, lane=lane, slack_ms=settings.slack_p0_ms,
            priority=0, actor="triage", payload=message(job_id, _HANDLER, body_of(), "()", {}, admission),
        )
    ]  # fmt: skip
