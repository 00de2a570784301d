"""Webhook: notifications as JSON to an address of yours, signed as Standard Webhooks says."""

from __future__ import annotations

import base64
import binascii
import hmac
import json
import time
from collections.abc import Callable, Sequence

import httpx

from joelclaw_tasks.notify.http import Redirected, bounded, check
from joelclaw_tasks.notify.notification import Notice
from joelclaw_tasks.notify.sink import SinkAway

_HERE = "http://webhook"
_PREFIX = "whsec_"


class Webhook:
    """The sink of one address. The first of the `secrets` signs."""

    name = "webhook"
    merges = True

    def __init__(self, url: str, secrets: Callable[[], Sequence[str]], most_per_hour: int) -> None:
        self.most_per_hour = most_per_hour
        self._url = url
        self._secrets = secrets

    def send(self, notice: Notice) -> None:
        """POST it. The same notification has the same `webhook-id` each time, so that a receiver knows it."""
        secrets = self._secrets()
        if not secrets:
            raise SinkAway("the webhook has no secret: set JOELCLAW_NOTIFY_WEBHOOK_SECRET")
        body = json.dumps(body_of(notice), separators=(",", ":")).encode()
        stamp = str(int(time.time()))
        headers = {
            "content-type": "application/json",
            "user-agent": "joelclaw",
            "webhook-id": notice.id,
            "webhook-timestamp": stamp,
            "webhook-signature": signature(secrets[0].strip(), notice.id, stamp, body),
        }

        def post() -> httpx.Response:
            with httpx.Client(transport=Redirected(self._url, is_exact=True)) as client:
                return client.post(_HERE, content=body, headers=headers)

        check(bounded(post, "the webhook"), "the webhook")


def body_of(notice: Notice) -> dict[str, object]:
    """What is sent. `type` is notification, or digest with a line for each cause in `lines`."""
    return {
        "type": "digest" if notice.lines else "notification",
        "id": notice.id,
        "at": notice.at,
        "text": notice.text,
        "cause": notice.cause,
        "severity": notice.severity,
        "change": notice.change or None,
        "lines": list(notice.lines),
    }


def signature(secret: str, id: str, stamp: str, body: bytes) -> str:
    """`v1,` and the HMAC-SHA256 of id, timestamp and body; a secret that begins with whsec_ is Base64."""
    key = secret.encode("utf-8", "surrogateescape")
    if secret.startswith(_PREFIX):
        try:
            key = base64.b64decode(secret.removeprefix(_PREFIX), validate=True)
        except (binascii.Error, ValueError):
            pass  # a secret that only looks like one
    signed = b".".join((id.encode(), stamp.encode(), body))
    return "v1," + base64.b64encode(hmac.digest(key, signed, "sha256")).decode()
