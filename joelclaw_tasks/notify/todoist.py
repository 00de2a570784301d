"""Todoist: one open task for each cause, by the official SDK; closed when the cause is resolved."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Sequence
from typing import Any

import httpx

from joelclaw_tasks.core.notices import Notices
from joelclaw_tasks.notify.http import Redirected, bounded, check
from joelclaw_tasks.notify.notification import Notice
from joelclaw_tasks.notify.sink import SinkAway
from joelclaw_tasks.notify.telegram import cut

#: Todoist's own word: 4 is very urgent.
_PRIORITIES = {"info": 1, "warning": 2, "error": 3, "critical": 4}
_BAD = ("error", "critical")
_MOST_CONTENT, _MOST_DESCRIPTION = 500, 10_000
#: A delivery is up to three requests.
_WITHIN_S = 4.0


class Todoist:
    """The sink of one task list. Which task belongs to a cause is kept in Redis (`notices` None: nowhere)."""

    name = "todoist"
    merges = False  # each cause has a task of its own

    def __init__(
        self, base_url: str, tokens: Callable[[], Sequence[str]], notices: Notices | None, most_per_hour: int
    ) -> None:
        self.most_per_hour = most_per_hour
        self._base_url = base_url
        self._tokens = tokens
        self._notices = notices

    def send(self, notice: Notice) -> None:
        """Open the task of its cause, comment on it, or close it.

        News of a cause without a task opens one only when it is worse than a warning: a task list is no log.
        """
        tokens = self._tokens()
        if not tokens:
            raise SinkAway("todoist has no token: set TODOIST_API_TOKEN")
        bounded(lambda: self._deliver(notice, tokens[0].strip()), "todoist", _WITHIN_S)

    def _deliver(self, notice: Notice, token: str) -> None:
        from todoist_api_python.api import TodoistAPI

        numbers = iter(range(100))

        def request_id() -> str:
            # The same for the same step of the same notification, so that a repeated one changes nothing.
            return str(uuid.uuid5(uuid.NAMESPACE_OID, f"{notice.id}.{next(numbers)}"))

        with httpx.Client(transport=Redirected(self._base_url)) as client:
            api = TodoistAPI(token, request_id_fn=request_id, client=client)
            try:
                self._change(api, notice)
            except httpx.HTTPStatusError as error:
                check(error.response, "todoist")
                raise SinkAway(f"todoist answered {error.response.status_code}") from None
            except (TypeError, ValueError, KeyError):
                raise SinkAway("todoist answered something that makes no sense") from None

    def _change(self, api: Any, notice: Notice) -> None:
        known = self._task_of(notice.cause)
        task = known if known is not None and _is_open(api, known) else None
        if known is not None and task is None:
            self._keep(notice.cause, None)  # somebody has done it, or deleted it
        text = "\n".join((notice.text, *(f"- {line}" for line in notice.lines)))
        if task is not None:
            api.add_comment(cut(text, _MOST_DESCRIPTION), task_id=task)
            if notice.change == "resolved":
                api.complete_task(task)
                self._keep(notice.cause, None)
        elif notice.change in ("opened", "changed") or notice.severity in _BAD or notice.lines:
            first = text.partition("\n")[0]
            made = api.add_task(
                cut(first, _MOST_CONTENT),
                description=cut(f"{text}\n\ncause: {notice.cause}", _MOST_DESCRIPTION),
                labels=["joelclaw"],
                priority=_PRIORITIES[notice.severity],
            )
            self._keep(notice.cause, made.id)

    def _task_of(self, cause: str) -> str | None:
        return None if self._notices is None else self._notices.task_of(cause)

    def _keep(self, cause: str, task: str | None) -> None:
        if self._notices is not None:
            self._notices.keep_task(cause, task)


def _is_open(api: Any, task: str) -> bool:
    try:
        return not api.get_task(task).is_completed
    except httpx.HTTPStatusError as error:
        if error.response.status_code in (400, 404, 410):
            return False
        raise
