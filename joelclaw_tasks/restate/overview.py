"""Overview: what a Restate server has to do, and who does it, from its own tables."""

from __future__ import annotations

from typing import Any

from joelclaw_tasks.errors import RestateRefused
from joelclaw_tasks.restate.client import RestateClient
from joelclaw_tasks.restate.deployments import is_there

_NAME_MOST = 200
_INVOCATIONS = (
    "SELECT id, target, status, CAST(created_at AS VARCHAR) AS created_at, "
    "COALESCE(retry_count, 0) AS tries, COALESCE(last_failure, completion_failure) AS failure "
    "FROM sys_invocation"
)


def overview(client: RestateClient) -> dict[str, Any]:
    """`{deployments, services, invocations: {state: many}, backlog}`. Raises RestateAway, RestateRefused."""
    client.check_health()
    deployments = [
        {
            "id": one["id"], "uri": one["uri"], "created_at": one.get("created_at"),
            "services": sorted({str(service["name"]) for service in one.get("services", ())}),
            "answers": is_there(one["uri"]),
        }
        for one in client.deployments()
    ]  # fmt: skip
    counts = client.query(
        "SELECT status, COUNT(*) AS many FROM sys_invocation WHERE status <> 'completed' "
        "GROUP BY status ORDER BY status"
    )
    backlog = client.query(
        "SELECT target_service_name AS service, target_handler_name AS handler, status, COUNT(*) AS many, "
        "CAST(MIN(created_at) AS VARCHAR) AS oldest FROM sys_invocation WHERE status <> 'completed' "
        "GROUP BY 1, 2, 3 ORDER BY many DESC LIMIT 100"
    )
    return {
        "deployments": deployments,
        "services": sorted(client.services()),
        "invocations": {str(row["status"]): int(row["many"]) for row in counts},
        "backlog": backlog,
    }


def invocations(
    client: RestateClient, *, service: str | None = None, every: bool = False, most: int = 50
) -> list[dict[str, Any]]:
    """`{id, target, status, created_at, tries, failure}`, the oldest first. Raises as `overview`."""
    terms = [] if every else ["status <> 'completed'"]
    if service is not None:
        if not service.isascii() or not service.replace("_", "a").isalnum() or len(service) > _NAME_MOST:
            raise RestateRefused(f"{service[:80]!r} is no name of a service")
        terms.append(f"target_service_name = '{service}'")
    where = f"WHERE {' AND '.join(terms)} " if terms else ""
    return client.query(f"{_INVOCATIONS} {where}ORDER BY created_at LIMIT {int(most)}")
