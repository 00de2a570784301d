"""What Restate has to do just now, for the observer's snapshot."""

from __future__ import annotations

from dataclasses import replace

from joelclaw_tasks.errors import JoelclawError
from joelclaw_tasks.intelligence.snapshot import RestateNow
from joelclaw_tasks.restate.client import RestateClient
from joelclaw_tasks.settings import Settings

#: A pass of the observer waits no longer for it.
_ANSWER_WITHIN_S = 2
#: Its statuses by what they mean for whoever waits. What is over counts nowhere.
_MEANS = {
    "pending": "waiting", "ready": "waiting", "scheduled": "scheduled", "running": "running",
    "backing-off": "retrying", "suspended": "suspended", "paused": "suspended",
}  # fmt: skip


def restate_now(settings: Settings) -> RestateNow | None:
    """How many invocations wait, run and are retried; None where no admin API is known. Never raises."""
    if settings.restate_ingress_url is None or settings.restate_admin_url is None:
        return None
    try:
        client = RestateClient.of(replace(settings, restate_timeout_s=_ANSWER_WITHIN_S))
    except JoelclawError:
        return RestateNow(answers=False)
    try:
        rows = client.query("SELECT status, COUNT(*) AS many FROM sys_invocation GROUP BY status")
        counts = dict.fromkeys(_MEANS.values(), 0)
        for row in rows:
            name = _MEANS.get(str(row["status"]))
            if name is not None:
                counts[name] += int(row["many"])
        return RestateNow(answers=True, **counts)
    except (JoelclawError, KeyError, TypeError, ValueError):
        return RestateNow(answers=False)
    finally:
        client.close()
