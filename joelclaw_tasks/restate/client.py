"""Client: what can be asked of a Restate server, over its ingress and its admin API."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from joelclaw_tasks.errors import RestateFailed, RestateRefused, SettingsError
from joelclaw_tasks.restate.exchange import NOT_READY, Answer, Exchange
from joelclaw_tasks.settings import Settings

_CONFLICT = "409:"


@dataclass(frozen=True, slots=True)
class Target:
    """A handler of a service, or with `key` of an object or of a workflow."""

    service: str
    handler: str
    key: str | None = None

    @property
    def path(self) -> str:
        """`/service/key/handler`, every part encoded, so that no key can leave its place."""
        parts = (self.service, self.handler) if self.key is None else (self.service, self.key, self.handler)
        return "".join(f"/{_encoded(part)}" for part in parts)


@dataclass(frozen=True, slots=True)
class Sent:
    """Restate has it on its disk. `status` is Accepted, or PreviouslyAccepted under the same key."""

    invocation_id: str
    status: str


@dataclass(frozen=True, slots=True)
class Output:
    """What an invocation answered: a JSON value, or text; None for nothing."""

    value: Any


class RestateClient:
    """A client for the threads of one process; make it after a fork, never before.

    Every method raises RestateAway (try again under the same key), RestateRefused (never taken) or
    RestateFailed (it ran and failed for good).
    """

    def __init__(self, ingress_url: str, admin_url: str | None = None, *, timeout_s: float = 10.0) -> None:
        self._ingress = Exchange(ingress_url, timeout_s)
        self._admin_api = None if admin_url is None else Exchange(admin_url, timeout_s)

    @classmethod
    def of(cls, settings: Settings) -> RestateClient:
        """The client of the server that the settings name. Raises SettingsError when they name none."""
        if settings.restate_ingress_url is None:
            raise SettingsError(
                "RESTATE_INGRESS_URL is not set",
                fix="Set it, such as to http://127.0.0.1:8080, or start the fleet with --with-restate.",
            )
        return cls(
            settings.restate_ingress_url, settings.restate_admin_url, timeout_s=settings.restate_timeout_s
        )

    def send(
        self, target: Target, body: bytes | None, *, idempotency_key: str | None = None, delay_ms: int = 0
    ) -> Sent:
        """Start an invocation that runs `delay_ms` from now, once for each key; `body` is JSON.

        A workflow takes no idempotency key: its own key is one.
        """
        delay = f"?delay={delay_ms}ms" if delay_ms else ""
        answer = self._ingress.ask(
            "POST", f"{target.path}/send{delay}", body=body, headers=_keyed(idempotency_key)
        )
        try:
            return Sent(str(answer.value["invocationId"]), str(answer.value["status"]))
        except (KeyError, TypeError):
            raise RestateRefused("what answered is no ingress of Restate") from None

    def call(
        self, target: Target, body: bytes | None, *, idempotency_key: str | None = None, within_s: float
    ) -> Output:
        """The same, and wait for the output. Blocks for up to `within_s` seconds."""
        headers = _keyed(idempotency_key)
        return Output(
            self._ingress.ask("POST", target.path, body=body, headers=headers, within_s=within_s).value
        )

    def output(self, invocation_id: str) -> Output | None:
        """What an invocation answered; None: it has not ended. Never waits."""
        return _ended(self._ingress.ask("GET", f"/restate/invocation/{_encoded(invocation_id)}/output"))

    def is_under_way(self, workflow: str, key: str) -> bool:
        """Whether a workflow was started under this key and has not ended. Never waits."""
        path = f"/restate/workflow/{_encoded(workflow)}/{_encoded(key)}/output"
        try:
            return self._ingress.ask("GET", path).status == NOT_READY
        except (RestateFailed, RestateRefused):  # it failed, or nobody knows it
            return False

    def attach(self, invocation_id: str, *, within_s: float) -> Output:
        """Wait for the output. Blocks for up to `within_s` seconds, and raises RestateAway then."""
        path = f"/restate/invocation/{_encoded(invocation_id)}/attach"
        return Output(self._ingress.ask("GET", path, within_s=within_s).value)

    def resolve_awakeable(self, awakeable_id: str, value: Any) -> None:
        """Let what waits for an awakeable go on with a JSON value; a second time has no effect."""
        self._ingress.ask(
            "POST", f"/restate/awakeables/{_encoded(awakeable_id)}/resolve", body=json.dumps(value).encode()
        )

    def reject_awakeable(self, awakeable_id: str, reason: str) -> None:
        """Let what waits for an awakeable fail for good with a reason."""
        self._ingress.ask(
            "POST",
            f"/restate/awakeables/{_encoded(awakeable_id)}/reject",
            body=reason.encode(),
            content_type="text/plain",
        )

    def resolve_promise(self, target: Target, body: bytes | None) -> bool:
        """Call the shared handler of a workflow that resolves a promise; False: it was resolved before."""
        try:
            self._ingress.ask("POST", target.path, body=body)
        except RestateFailed as error:
            if str(error).startswith(_CONFLICT):
                return False
            raise
        return True

    def cancel(self, invocation_id: str) -> None:
        """Ask an invocation to stop, its compensations first; its output is an error 409 then."""
        self._admin.ask("PATCH", f"/invocations/{_encoded(invocation_id)}/cancel")

    def kill(self, invocation_id: str) -> None:
        """End an invocation at once, without compensations."""
        self._admin.ask("PATCH", f"/invocations/{_encoded(invocation_id)}/kill")

    def register(self, service_url: str, *, force: bool = False) -> None:
        """Let Restate find the services at an address; `force` when their code has changed."""
        body = json.dumps({"uri": service_url, "force": force}).encode()
        self._admin.ask("POST", "/deployments", body=body)

    def deployments(self) -> list[dict[str, Any]]:
        """Every deployment: `{id, uri, services: [{name, revision}], created_at, …}`."""
        found: list[dict[str, Any]] = self._admin.ask("GET", "/deployments").value["deployments"]
        return [one for one in found if "uri" in one]

    def move_deployment(self, deployment_id: str, service_url: str) -> None:
        """Say where a deployment is now; what runs on it goes on there."""
        body = json.dumps({"uri": service_url}).encode()
        self._admin.ask("PATCH", f"/deployments/{_encoded(deployment_id)}", body=body)

    def services(self) -> set[str]:
        """The names of all services, objects and workflows that are registered."""
        found = self._admin.ask("GET", "/services").value
        return {str(one["name"]) for one in found["services"]}

    def query(self, sql: str) -> list[dict[str, Any]]:
        """The rows of a query of Restate's own tables, such as sys_invocation."""
        answer = self._admin.ask("POST", "/query", body=json.dumps({"query": sql}).encode())
        rows: list[dict[str, Any]] = answer.value["rows"]
        return rows

    def check_health(self) -> None:
        """Raises RestateAway unless the ingress, and the admin API if it is known, are healthy."""
        self._ingress.ask("GET", "/restate/health")
        if self._admin_api is not None:
            self._admin_api.ask("GET", "/health")

    def close(self) -> None:
        """End its connections."""
        self._ingress.close()
        if self._admin_api is not None:
            self._admin_api.close()

    @property
    def _admin(self) -> Exchange:
        if self._admin_api is None:
            raise SettingsError(
                "RESTATE_ADMIN_URL is not set", fix="Set it, such as to http://127.0.0.1:9070."
            )
        return self._admin_api


def _encoded(part: str) -> str:
    # `.` and `..` would be taken out of a path, whoever reads it next.
    return quote(part, safe="").replace(".", "%2E") if part in (".", "..") else quote(part, safe="")


def _keyed(idempotency_key: str | None) -> dict[str, str]:
    return {} if idempotency_key is None else {"idempotency-key": idempotency_key}


def _ended(answer: Answer) -> Output | None:
    return None if answer.status == NOT_READY else Output(answer.value)
