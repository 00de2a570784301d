"""POST /webhooks/<provider>: verify, normalise, emit."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import Any

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import Response

from joelclaw_tasks.emit import NewEvent, Receipt
from joelclaw_tasks.errors import JoelclawError
from joelclaw_tasks.ingress.bodies import parse_json, read_body
from joelclaw_tasks.ingress.door import Door
from joelclaw_tasks.ingress.funnel import Outcome
from joelclaw_tasks.ingress.protocol import Express
from joelclaw_tasks.ingress.providers import NormalisedEvent, Provider
from joelclaw_tasks.ingress.replies import JsonReply, Refusal, fault_reply, joelclaw_error_reply
from joelclaw_tasks.ingress.signatures import signed_with_any
from joelclaw_tasks.ingress.throttle import client_address
from joelclaw_tasks.ingress.tracing import incoming_context

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
        _refuse_throttled(door, address)
        body = await read_body(request, WEBHOOK_MAX_BYTES)
        _check_signature(door, provider, request, body, address)
        found = _normalised(provider, request, body)
        del body  # it is large, and the answer may take its time
        known = [event for event in found if event.name in door.registry.events]
        if not known:
            return JsonReply({"ok": True, "events": 0, "queued": 0, "direct": 0, "note": _note(found)})
        receipts = await door.emit(
            [_new_event(provider, event) for event in known], incoming_context(request.headers)
        )
        return JsonReply(_summary(door, provider, known, receipts))

    return receive_webhook


def express_webhook(provider: Provider, door: Door) -> Express:
    """The short way to the same end, for a delivery with nothing to explain.

    It takes what is signed well, makes known events and carries no trace, and leaves everything else,
    untouched and uncounted, to `webhook_route`.
    """

    def take(scope: dict[str, Any], body: bytearray, answer: Callable[[Response], None]) -> bool:
        address = client_address(scope, trust_forwarded=door.settings.ingress_trust_forwarded)
        headers = Headers(raw=scope["headers"])
        if (
            len(body) > WEBHOOK_MAX_BYTES
            or door.throttle.retry_after_s(address) is not None
            or not signed_with_any(door.secrets(provider.name), body, provider.signature(headers))
            or incoming_context(headers) is not None
        ):
            return False

        def tell(outcome: Outcome) -> None:
            if isinstance(outcome, list):
                answer(JsonReply(_summary(door, provider, found, outcome)))
            elif isinstance(outcome, JoelclawError):
                answer(joelclaw_error_reply(outcome))
            else:
                answer(fault_reply(outcome, scope["path"]))

        try:
            found = provider.normalise(provider.glance(body), headers)
            planned = door.emitter.plan([_new_event(provider, event) for event in found])
            if planned:
                door.funnel.put(planned, tell)
        except (ValueError, AttributeError, JoelclawError, Refusal):
            return False
        return bool(planned)

    return take


def _refuse_throttled(door: Door, address: str) -> None:
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
        _refuse_throttled(door, address)
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


def _new_event(provider: Provider, event: NormalisedEvent) -> NewEvent:
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


def _summary(
    door: Door, provider: Provider, events: list[NormalisedEvent], receipts: list[Receipt]
) -> dict[str, object]:
    duplicates = sum(is_duplicate(receipt) for receipt in receipts)
    queued = len(receipts) - duplicates
    for event in events:
        door.tell(f"{provider.name}: {event.name} accepted as {event.id}")
    summary: dict[str, object] = {"ok": True, "events": len(events), "queued": queued, "direct": 0}
    if duplicates:
        summary["duplicates"] = duplicates
    return summary


def is_duplicate(receipt: Receipt) -> bool:
    """True when every handler of the event had it already."""
    return bool(receipt.jobs) and all(job.decision == "duplicate" for job in receipt.jobs)
