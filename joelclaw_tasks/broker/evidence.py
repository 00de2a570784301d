"""Evidence: what Celery knows of a failed task, as the Failure that the dead letter keeps."""

from __future__ import annotations

from collections.abc import Collection

from celery.exceptions import Reject
from celery.utils.serialization import UnpickleableExceptionWrapper

from joelclaw_tasks.core.failure import Failure, raised_by, tracebacks_of
from joelclaw_tasks.core.redaction import secrets_of

_TRACE = "celery/app/trace.py"


def failure_of(
    error: BaseException,
    *,
    task: str,
    traceback: str = "",
    internal: bool = False,
    secrets: Collection[str] = (),
) -> Failure:
    """The failure of a task that raised `error`, without these secrets and those of the environment.

    `internal`: Celery failed after the task had.
    """
    secrets = {*secrets, *secrets_of()}
    kind, text = _named(error)
    own = _traceback_of_task(traceback) if internal else ""
    if own:
        # The result backend could not be told: that is not why the job is here.
        untold = f"{kind}: {text}"
        kind, text = raised_by(own)
        text = f"{text} (and its result could not be stored: {untold[:300]})"
        return Failure.of(kind, text, place=task, traceback=traceback, frames=own, secrets=secrets)
    return Failure.of(kind, text, place=task, traceback=traceback, secrets=secrets)


def refusal(kind: str, text: str, *, place: str) -> Failure:
    """The failure of a job that no task was ever started for."""
    return Failure.without_exception(kind, text, place=place, secrets=secrets_of())


def describe(error: BaseException) -> str:
    """`Type: text` of an error, whatever its text does when it is asked for."""
    return "{}: {}".format(*_named(error))[:2_000]


def _named(error: BaseException) -> tuple[str, str]:
    if isinstance(error, Reject):
        return "Reject", str(error.reason)
    if isinstance(error, UnpickleableExceptionWrapper):
        return str(error.exc_cls_name), str(error.text)
    try:
        return type(error).__name__, str(error)
    except Exception as broken:  # noqa: BLE001  # an exception of somebody else's making
        return type(error).__name__, f"<no text: {type(broken).__name__}>"


def _traceback_of_task(traceback: str) -> str:
    """The traceback that Celery was dealing with when it failed itself, or an empty string."""
    for one in tracebacks_of(traceback)[:-1]:
        first_frame = one.split("\n", 2)[1] if "\n" in one else ""
        if _TRACE in first_frame.replace("\\", "/"):
            return one
    return ""
