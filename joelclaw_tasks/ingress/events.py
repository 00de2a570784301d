"""POST /events: one event or up to 100, from anyone who has the token."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from joelclaw_tasks.errors import EventRefused, InvalidEvent
from joelclaw_tasks.ingress import cloudevents
from joelclaw_tasks.ingress.bodies import parse_json, read_body
from joelclaw_tasks.ingress.door import Door
from joelclaw_tasks.ingress.plain_events import plain_event
from joelclaw_tasks.ingress.replies import JsonReply, Refusal
from joelclaw_tasks.ingress.signatures import bears_token
from joelclaw_tasks.ingress.tracing import incoming_context
from joelclaw_tasks.new_event import NewEvent

BATCH_MAX_EVENTS = 100
#: A body may weigh this many times what one event may.
_BODY_CAPS = 4
_PLAIN = "application/json"
_CLOUDEVENT = "application/cloudevents+json"
_CLOUDEVENT_BATCH = "application/cloudevents-batch+json"


async def receive_events(request: Request) -> Response:
    """Accept all events of the body, or none.

    Answers 202 with one receipt for each. Checks in this order: token 401, size 413, media type
    415, JSON 400, each event 422 or 413.
    """
    door: Door = request.app.state.door
    _check_token(door, request)
    body = await read_body(request, _BODY_CAPS * door.settings.payload_max_bytes)
    events = _events(request, body)
    for position, event in enumerate(events):
        try:
            door.registry.event(event.name)
        except EventRefused as exc:
            raise _placed(exc, position, len(events)) from None
    receipts = await door.emit(events, incoming_context(request.headers))
    return JsonReply({"ok": True, "receipts": [receipt.to_wire() for receipt in receipts]}, status_code=202)


def _check_token(door: Door, request: Request) -> None:
    tokens = door.tokens()
    given = [value for name, value in request.headers.raw if name == b"authorization"]
    if bears_token(tokens, given[0] if len(given) == 1 else None):
        return
    if not tokens:
        door.complain("/events", "JOELCLAW_EVENTS_TOKEN")
    raise Refusal(
        401,
        "TOKEN_INVALID",
        "the bearer token is missing or wrong",
        fix="Send `Authorization: Bearer <token>` with the token that the ingress was started with.",
        headers={"WWW-Authenticate": "Bearer"},
        close=True,
    )


def _events(request: Request, body: bytes) -> list[NewEvent]:
    media_type = request.headers.get("content-type", _PLAIN).partition(";")[0].strip().lower()
    if cloudevents.is_binary(request.headers) and not media_type.startswith("application/cloudevents"):
        return [cloudevents.binary_event(request.headers, body)]
    if media_type not in (_PLAIN, _CLOUDEVENT, _CLOUDEVENT_BATCH):
        raise Refusal(
            415,
            "MEDIA_TYPE_UNSUPPORTED",
            "events are JSON",
            fix=f"Set Content-Type to {_PLAIN}, {_CLOUDEVENT} or {_CLOUDEVENT_BATCH}.",
        )
    try:
        parsed = parse_json(body)
    except ValueError as exc:
        raise Refusal(400, "JSON_INVALID", str(exc), fix="Send JSON.") from None
    if media_type == _CLOUDEVENT:
        return [cloudevents.structured_event(parsed)]
    if media_type == _CLOUDEVENT_BATCH:
        return _batch(parsed, cloudevents.structured_event)
    return _batch(parsed, plain_event) if isinstance(parsed, list) else [plain_event(parsed)]


def _batch(parsed: Any, read: Callable[[Any], NewEvent]) -> list[NewEvent]:
    if not isinstance(parsed, list) or not 1 <= len(parsed) <= BATCH_MAX_EVENTS:
        raise InvalidEvent(
            f"a batch is an array of 1 to {BATCH_MAX_EVENTS} events", fix="Send several smaller batches."
        )
    events = []
    for position, part in enumerate(parsed):
        try:
            events.append(read(part))
        except EventRefused as exc:
            raise _placed(exc, position, len(parsed)) from None
    return events


def _placed(exc: EventRefused, position: int, count: int) -> EventRefused:
    """The same refusal, saying which event of a batch it is about."""
    return exc if count == 1 else type(exc)(f"event {position} of the batch: {exc}", fix=exc.fix)
