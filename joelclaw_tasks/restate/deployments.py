"""Deployments: where Restate finds our services, and how that stays true.

The address of a deployment ends in a hash of this code. So new code is a new deployment, new runs go to it,
and `force`, which would change what runs under way were begun with, is never needed. Runs under way stay with
the deployment that they began on; when nobody listens at its address any more, it is moved to ours.
"""

from __future__ import annotations

import hashlib
import logging
import socket
from collections.abc import Collection
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from joelclaw_tasks.restate.client import RestateClient

log = logging.getLogger(__name__)
_CONNECT_S = 1.0


@cache
def code_version() -> str:
    """12 hex digits: the same for the same code of the services."""
    digest = hashlib.sha256()
    for path in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


class Deployments:
    """Those of our services. `base_url`: where this process serves them; Restate must reach it."""

    def __init__(self, client: RestateClient, base_url: str, services: Collection[str]) -> None:
        self._client = client
        self._base_url = base_url.rstrip("/")
        self._services = set(services)
        self.url = f"{self._base_url}/{code_version()}"

    def register(self) -> bool:
        """Let Restate know of this process; True when it did not before. Raises RestateAway, RestateRefused.

        Safe to call again, and from several processes at once.
        """
        known = self._client.deployments()
        is_new = all(_same(one["uri"], self.url) is False for one in known)
        if is_new:
            self._client.register(self.url)
        for one in known:
            if self._is_ours(one) and not is_there(one["uri"]):
                self._client.move_deployment(one["id"], f"{self._base_url}/moved/{one['id']}")
                log.warning("runs that began at a service that is gone go on here (deployment %s)", one["id"])
        return is_new

    def _is_ours(self, deployment: dict[str, Any]) -> bool:
        names = {str(one["name"]) for one in deployment.get("services", ())}
        return (
            bool(names) and names <= self._services and not deployment["uri"].startswith(f"{self._base_url}/")
        )


def _same(one: str, other: str) -> bool:
    return one.rstrip("/") == other.rstrip("/")


def is_there(url: str) -> bool:
    """Whether something listens there; what cannot be told counts as yes."""
    parts = urlsplit(url)
    if not parts.hostname:
        return True
    port = parts.port or (443 if parts.scheme == "https" else 80)
    try:
        with socket.create_connection((parts.hostname, port), _CONNECT_S):
            return True
    except ConnectionRefusedError:
        return False
    except OSError:
        return True
