"""The ring of triage: jobs that want a score bring the job that scores them along, many of them one together.

It is admitted with them, in one atomic step, and waits a while before it takes what it finds. There is one
at a time, so that a slow model keeps one slot of a worker busy and no more; whoever rings while it runs says
how it goes on when it ends.

Time is cut into windows, and an emitter rings once in each. Its later events of that window are found,
whatever became of the ring: it was admitted, or one waits already, and will take what it finds later; or one
runs with the mark of this window, has begun within it then, and waits longer than the window is.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from joelclaw_tasks.core.job import Job
from joelclaw_tasks.core.spec import HandlerSpec
from joelclaw_tasks.message import body_of, message
from joelclaw_tasks.settings import Settings

TASK = "joelclaw.triage"
QUEUE = "default"
_WINDOW_MS = 100
#: The mark of Rules.triage in the text that travels with a job.
_WANTS = '"triage"'
_HANDLER = HandlerSpec(TASK, "task", "", QUEUE)


def wait_s(hold_ms: int) -> float:
    """How long the job that scores waits, in seconds: longer than a window, by what an emit may take."""
    return _window_ms(hold_ms) * 1.5 / 1000


def _window_ms(hold_ms: int) -> int:
    return max(1, min(_WINDOW_MS, hold_ms // 10))


class Ring:
    """That of one emitter. Threads may share it: two that ring at once do no harm."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._window_ms = _window_ms(settings.triage_hold_ms)
        self._rung = -1

    def jobs_for(self, calls: Iterable[Sequence[Job]], now_ms: int) -> list[Job]:
        """The job that scores, if any of these wants a score and this window has had no ring; else none."""
        window = now_ms // self._window_ms
        if window == self._rung or not any(_WANTS in job.rules for jobs in calls for job in jobs):
            return []
        lane = f"{QUEUE}|{TASK}|"
        admission = {
            "family": TASK, "handler": TASK, "lane": "", "gates": [], "priority": 0,
            "keep_ms": 0,
        }  # fmt: skip
        # The window makes its body another one than that of a job that runs since an earlier one.
        body = body_of(str(window).encode())
        return [
            Job(
                id=TASK, queue=QUEUE, family=TASK, handler=TASK, lane=lane,
                slack_ms=self._settings.slack_p0_ms, priority=0, actor="triage",
                payload=message(TASK, _HANDLER, body, "()", {}, admission),
            )
        ]  # fmt: skip

    def rung(self, now_ms: int) -> None:
        """Redis has taken the job of `jobs_for`."""
        self._rung = now_ms // self._window_ms
