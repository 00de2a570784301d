"""What Restate has to do just now, for the observer, and what fails there, for a diagnosis."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any

from joelclaw_tasks.errors import JoelclawError
from joelclaw_tasks.intelligence.diagnosis.history import RestateFailure
from joelclaw_tasks.intelligence.snapshot import RestateNow
from joelclaw_tasks.restate.client import RestateClient
from joelclaw_tasks.settings import Settings

#: A pass of the observer waits no longer for it.
_ANSWER_WITHIN_S = 2
_ERROR_MOST = 500
_FAILURES = (
    "SELECT id, target, status, retry_count, last_failure, completion_failure, idempotency_key, modified_at"
    " FROM sys_invocation WHERE target_service_name IN ({names})"
    " AND (last_failure IS NOT NULL OR completion_failure IS NOT NULL)"
    " ORDER BY modified_at DESC LIMIT 10"
)
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


def restate_failures(settings: Settings, services: Collection[str]) -> list[RestateFailure]:
    """The newest invocations of these services that failed for good, or fail and are tried again.

    Empty where no admin API is known, or it does not answer. Never raises.
    """
    if settings.restate_ingress_url is None or settings.restate_admin_url is None or not services:
        return []
    names = ", ".join("'" + name.replace("'", "''") + "'" for name in sorted(services))
    client: RestateClient | None = None
    try:
        client = RestateClient.of(replace(settings, restate_timeout_s=_ANSWER_WITHIN_S))
        rows = client.query(_FAILURES.format(names=names))
        return [_failure(row) for row in rows]
    except (JoelclawError, KeyError, TypeError, ValueError):
        return []
    finally:
        if client is not None:
            client.close()


def _failure(row: Mapping[str, Any]) -> RestateFailure:
    failed_for_good = row.get("completion_failure")
    return RestateFailure(
        at=int(datetime.fromisoformat(str(row["modified_at"])).timestamp() * 1_000),
        id=str(row["id"]),
        target=str(row["target"]),
        status="failed" if failed_for_good else str(row["status"]),
        retries=int(row.get("retry_count") or 0),
        error=str(failed_for_good or row.get("last_failure") or "")[:_ERROR_MOST],
        job=str(row.get("idempotency_key") or ""),
    )
