"""POST /webhooks/telegram: somebody has pressed a button under a notification."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

from starlette.requests import Request
from starlette.responses import Response

from joelclaw_tasks.ingress.bodies import parse_json, read_body
from joelclaw_tasks.ingress.door import Door
from joelclaw_tasks.ingress.replies import JsonReply, Refusal
from joelclaw_tasks.ingress.signatures import is_one_of
from joelclaw_tasks.ingress.throttle import client_address
from joelclaw_tasks.ingress.webhooks import refuse_throttled

if TYPE_CHECKING:
    from joelclaw_tasks.ingress.presses import Presses

log = logging.getLogger(__name__)

#: An update with a press is far smaller.
_MOST_BYTES = 65_536
_HEADER = b"x-telegram-bot-api-secret-token"


async def receive_telegram(request: Request) -> Response:
    """Take an update of the bot. Whatever is no press of a button is answered 200, and nothing is done.

    Checks in this order: throttled address 429, size 413, secret token 401, JSON 400. While Redis is
    away it answers 503, and Telegram sends the update again.
    """
    door: Door = request.app.state.door
    address = client_address(request.scope, trust_forwarded=door.settings.ingress_trust_forwarded)
    refuse_throttled(door, address)
    body = await read_body(request, _MOST_BYTES)
    _check_token(door, request, address)
    try:
        update = parse_json(body)
    except ValueError as exc:
        raise Refusal(400, "JSON_INVALID", str(exc), fix="Send JSON.") from None
    callback = update.get("callback_query") if isinstance(update, dict) else None
    if not isinstance(callback, dict):
        return JsonReply({"ok": True, "note": "this update is no press of a button"})
    # Steering and the Bot API block, so they have a thread.
    outcome = await asyncio.to_thread(_presses(request).take, callback)
    return JsonReply({"ok": True, "note": outcome})


def _check_token(door: Door, request: Request, address: str) -> None:
    secrets = door.telegram_secrets()
    given = [value for name, value in request.headers.raw if name == _HEADER]
    if is_one_of(secrets, given[0] if len(given) == 1 else None):
        return
    if secrets:
        refuse_throttled(door, address)
        door.throttle.record(address)
        log.warning("telegram: bad secret token from %s", address)
    else:
        door.complain("/webhooks/telegram", "TELEGRAM_WEBHOOK_SECRET")
    raise Refusal(
        401,
        "TOKEN_INVALID",
        "the secret token is missing or wrong",
        fix="Call setWebhook with the secret_token that the ingress was started with (docs/notify.md).",
    )


def _presses(request: Request) -> Presses:
    """Made when somebody first presses a button. Raises SettingsError when the bot has no token."""
    from joelclaw_tasks.ingress.presses import Presses  # an HTTP client that most ingresses never need

    state: Any = request.app.state
    if not hasattr(state, "presses"):
        state.presses = Presses.of(state.door.settings)
    presses: Presses = state.presses
    return presses
