"""GitHub: workflow runs and packages, as events."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, cast

from pydantic_core import SchemaValidator, core_schema
from starlette.datastructures import Headers

from joelclaw_tasks.ingress.providers import NormalisedEvent

#: GitHub sends a GUID. It becomes part of an event id, so nothing else gets in.
_DELIVERY = re.compile(r"[A-Za-z0-9._-]{1,100}")
_MAX_RUN_ID = 2**63 - 1


#: What is read of a delivery, below.
_READ: dict[str, Any] = {
    "action": ...,
    "workflow_run": {
        "id": ..., "run_number": ..., "run_attempt": ..., "workflow_id": ..., "name": ..., "event": ...,
        "status": ..., "conclusion": ..., "html_url": ..., "jobs_url": ..., "logs_url": ...,
        "head_branch": ..., "head_sha": ..., "created_at": ..., "updated_at": ...,
        "actor": {"login": ...},
        "head_repository": {"full_name": ...},
    },
    "workflow": {"id": ..., "name": ...},
    "repository": {"full_name": ..., "html_url": ...},
    "sender": {"login": ...},
    "package": {
        "ecosystem": ..., "name": ..., "package_type": ..., "html_url": ...,
        "package_version": {"name": ..., "html_url": ...},
    },
    "package_version": {"name": ..., "html_url": ...},
}  # fmt: skip


def _schema(read: Any) -> core_schema.CoreSchema:
    if read is ...:
        return core_schema.any_schema()
    return core_schema.typed_dict_schema(
        {name: core_schema.typed_dict_field(_schema(part), required=False) for name, part in read.items()},
        extra_behavior="ignore",
    )


_VALIDATOR = SchemaValidator(_schema(_READ))


class GitHub:
    """The provider `github`."""

    name = "github"
    secret_variable = "GITHUB_WEBHOOK_SECRET"  # noqa: S105  # a name, not a secret

    def signature(self, headers: Headers) -> bytes | None:
        """The raw `X-Hub-Signature-256`; None when it is missing or given twice."""
        found = [value for name, value in headers.raw if name == b"x-hub-signature-256"]
        return found[0] if len(found) == 1 else None

    def glance(self, body: bytes | bytearray) -> Mapping[str, Any]:
        """Only what `normalise` reads: of the 20 KB of a delivery nine tenths never become Python objects.

        Raises ValueError for what is no JSON and for odd shapes. It sees no NaN in parts that nobody reads.
        """
        return cast("Mapping[str, Any]", _VALIDATOR.validate_json(body))

    def normalise(self, body: Mapping[str, Any], headers: Headers) -> list[NormalisedEvent]:
        """`workflow_run` completed and `package` published are events; ping and the rest are none.

        Raises ValueError when the delivery id or the run id is unusable.
        """
        kind, action = headers.get("x-github-event"), body.get("action")
        if (kind, action) == ("workflow_run", "completed"):
            return [_workflow_run_completed(body, _delivery_id(headers))]
        if (kind, action) == ("package", "published"):
            return [_package_published(body, _delivery_id(headers))]
        return []


def _delivery_id(headers: Headers) -> str:
    delivery_id = headers.get("x-github-delivery", "no-delivery")
    if not _DELIVERY.fullmatch(delivery_id):
        raise ValueError("X-GitHub-Delivery must be 1 to 100 letters, digits, dots, dashes or underscores")
    return delivery_id


def _workflow_run_completed(body: Mapping[str, Any], delivery_id: str) -> NormalisedEvent:
    run, workflow = _part(body, "workflow_run"), _part(body, "workflow")
    repository, head_repository = _part(body, "repository"), _part(run, "head_repository")
    run_id = _number(run, "id")
    if run_id is None:
        raise ValueError("workflow_run.id must be a positive whole number")
    data = {
        "action": "completed",
        "deliveryId": delivery_id,
        "runId": run_id,
        "runNumber": _number(run, "run_number"),
        "runAttempt": _number(run, "run_attempt"),
        "workflowId": _number(workflow, "id") or _number(run, "workflow_id"),
        "workflowName": _text(workflow, "name") or _text(run, "name"),
        "event": _text(run, "event"),
        "status": _text(run, "status"),
        "conclusion": _text(run, "conclusion"),
        "htmlUrl": _text(run, "html_url"),
        "jobsUrl": _text(run, "jobs_url"),
        "logsUrl": _text(run, "logs_url"),
        "branch": _text(run, "head_branch"),
        "headSha": _text(run, "head_sha"),
        "actorLogin": _text(_part(run, "actor"), "login"),
        "repository": _text(repository, "full_name"),
        "repositoryUrl": _text(repository, "html_url"),
        "headRepository": _text(head_repository, "full_name") or _text(repository, "full_name"),
        "createdAt": _text(run, "created_at"),
        "updatedAt": _text(run, "updated_at"),
        # A run has no completed_at of its own: completing it was its last update.
        "completedAt": _text(run, "updated_at") or _text(run, "created_at"),
    }
    return NormalisedEvent(
        name="github/workflow_run.completed",
        id=f"github-workflow-run-completed-{delivery_id}-{run_id}",
        data=data,
        meta={"deliveryId": delivery_id},
    )


def _package_published(body: Mapping[str, Any], delivery_id: str) -> NormalisedEvent:
    package, repository = _part(body, "package"), _part(body, "repository")
    version = _part(package, "package_version") or _part(body, "package_version")
    data = {
        "action": "published",
        "deliveryId": delivery_id,
        "ecosystem": _text(package, "ecosystem"),
        "packageName": _text(package, "name"),
        "packageType": _text(package, "package_type"),
        "packageHtmlUrl": _text(package, "html_url"),
        "versionName": _text(version, "name"),
        "versionHtmlUrl": _text(version, "html_url"),
        "repository": _text(repository, "full_name"),
        "repositoryUrl": _text(repository, "html_url"),
        "sender": _text(_part(body, "sender"), "login"),
    }
    return NormalisedEvent(
        name="github/package.published",
        id=f"github-package-published-{delivery_id}",
        data=data,
        meta={"deliveryId": delivery_id},
    )


def _part(body: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    value = body.get(key)
    return value if isinstance(value, dict) else {}


def _text(part: Mapping[str, Any], key: str) -> str:
    """The text at the key, or "" when GitHub left it out or null."""
    value = part.get(key)
    return value if isinstance(value, str) else ""


def _number(part: Mapping[str, Any], key: str) -> int | None:
    value = part.get(key)
    if isinstance(value, int) and not isinstance(value, bool) and 0 < value <= _MAX_RUN_ID:
        return value
    return None
