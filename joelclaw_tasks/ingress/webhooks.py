"""POST /webhooks/<provider>: verify, normalise, emit."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable

from starlette.requests import Request
from starlette.responses import Response

from joelclaw_tasks.ingress.bodies import parse_json, read_body
from joelclaw_tasks.ingress.door import Door
from joelclaw_tasks.ingress.providers import NormalisedEvent, Provider
from joelclaw_tasks.ingress.replies import JsonReply, Refusal
from joelclaw_tasks.ingress.signatures import signed_with_any
from joelclaw_tasks.ingress.throttle import client_address
from joelclaw_tasks.ingress.tracing import incoming_context
from joelclaw_tasks.new_event import NewEvent
from joelclaw_tasks.receipt import Receipt

log = logging.getLogger(__name__)

#: What one webhook may weigh.
WEBHOOK_MAX_BYTES = 262_144


def webhook_route(provider: Provider) -> Callable[[Request], Awaitable[Response]]:
    """The endpoint of one provider.

    Checks in this order: throttled address 429, body over the cap 413, signature 401, JSON 400.
    """

    async def receive_webhook(request: Request) -> Response:
        door: Door = request.app.state.door
        address = client_address(request.scope, trust_forwarded=door.settings.ingress_trust_forwarded)
        refuse_throttled(door, address)
        body = await read_body(request, WEBHOOK_MAX_BYTES)
        _check_signature(door, provider, request, body, address)
        found = _normalised(provider, request, body)
        del body  # it is large, and the answer may take its time
        known = [event for event in found if event.name in door.registry.events]
        if not known:
            return JsonReply({"ok": True, "events": 0, "queued": 0, "direct": 0, "note": _note(found)})
        receipts = await door.emit(
            [new_event(provider, event) for event in known], incoming_context(request.headers)
        )
        return summary(*counted(door, provider, known, receipts))

    return receive_webhook


def refuse_throttled(door: Door, address: str) -> None:
    """Raise Refusal with 429 while an address has failed too often."""
    wait_s = door.throttle.retry_after_s(address)
    if wait_s is not None:
        raise Refusal(
            429,
            "TOO_MANY_BAD_SIGNATURES",
            "too many requests with a bad signature came from this address",
            fix=f"Correct the secret on the sending side, then try again in {wait_s} s.",
            headers={"Retry-After": str(wait_s)},
            close=True,
        )


def _check_signature(door: Door, provider: Provider, request: Request, body: bytes, address: str) -> None:
    secrets = door.secrets(provider.name)
    if signed_with_any(secrets, body, provider.signature(request.headers)):
        return
    if secrets:
        # Many bad ones may have been on their way at once: those beyond the limit are throttled too.
        refuse_throttled(door, address)
        door.throttle.record(address)
        log.warning("%s: bad signature from %s", provider.name, address)
    else:
        door.complain(f"/webhooks/{provider.name}", provider.secret_variable)
    raise Refusal(
        401,
        "SIGNATURE_INVALID",
        "the signature does not match the body",
        fix="Sign the raw body with the secret that the ingress was started with.",
    )


def _normalised(provider: Provider, request: Request, body: bytes) -> list[NormalisedEvent]:
    try:
        parsed = parse_json(body)
    except ValueError as exc:
        fix = "Send JSON."
        if request.headers.get("content-type", "").startswith("application/x-www-form-urlencoded"):
            fix = "Set the content type of the webhook to application/json."
        raise Refusal(400, "JSON_INVALID", str(exc), fix=fix) from None
    if not isinstance(parsed, dict):
        raise Refusal(400, "JSON_INVALID", "the body is not a JSON object", fix="Send a JSON object.")
    try:
        return provider.normalise(parsed, request.headers)
    except ValueError as exc:
        raise Refusal(
            400, "DELIVERY_INVALID", str(exc), fix=f"Send what {provider.name} itself would send."
        ) from None


def new_event(provider: Provider, event: NormalisedEvent) -> NewEvent:
    """What is emitted for an event of a delivery."""
    return NewEvent(
        name=event.name,
        data=event.data,
        id=event.id,
        source=f"webhook/{provider.name}",
        meta={"provider": provider.name, **event.meta},
    )


def _note(found: list[NormalisedEvent]) -> str:
    if found:
        return f"the registry has no event {found[0].name}"
    return "this kind of delivery means no event"


def counted(
    door: Door, provider: Provider, events: list[NormalisedEvent], receipts: list[Receipt]
) -> tuple[int, int]:
    """Log what was accepted; how many events there were, and how many of them were duplicates."""
    for event in events:
        door.tell(f"{provider.name}: {event.name} accepted as {event.id}")
    return len(receipts), sum(is_duplicate(receipt) for receipt in receipts)


def summary(events: int, duplicates: int) -> Response:
    """The answer to a delivery whose events were accepted."""
    content: dict[str, object] = {"ok": True, "events": events, "queued": events - duplicates, "direct": 0}
    if duplicates:
        content["duplicates"] = duplicates
    return JsonReply(content)


def is_duplicate(receipt: Receipt) -> bool:
    """True when every handler of the event had it already."""
    return bool(receipt.jobs) and all(job.decision == "duplicate" for job in receipt.jobs)
