"""CloudEvents 1.0 over HTTP: structured and binary mode."""

from __future__ import annotations

import base64
import binascii
import hashlib
from typing import Any
from urllib.parse import unquote

from starlette.datastructures import Headers

from joelclaw_tasks.errors import InvalidEvent
from joelclaw_tasks.ingress.bodies import parse_json
from joelclaw_tasks.ingress.plain_events import object_data, optional_text, priority, required_text
from joelclaw_tasks.new_event import NewEvent

_PREFIX = "ce-"
_NOTED = ("subject", "time", "dataschema")
_MAX_ID = 200


def is_binary(headers: Headers) -> bool:
    """True when the attributes are in the headers and the body is the data."""
    return "ce-specversion" in headers


def binary_event(headers: Headers, body: bytes) -> NewEvent:
    """Read an event whose attributes are `ce-` headers. Raises InvalidEvent."""
    attributes: dict[str, Any] = {}
    for name, value in headers.items():
        if not name.startswith(_PREFIX):
            continue
        attribute = name.removeprefix(_PREFIX)
        if attribute in attributes or not value.isascii():
            raise InvalidEvent(f"the header {name} is given twice or is not ASCII", fix="Percent-encode it.")
        try:
            attributes[attribute] = unquote(value, errors="strict")
        except UnicodeDecodeError:
            raise InvalidEvent(f"the header {name} is not percent-encoded UTF-8", fix="Encode it.") from None
    if "content-type" in headers:
        attributes["datacontenttype"] = headers["content-type"]
    data = _json_object(body) if body else {}
    return _event(attributes, data)


def structured_event(body: Any) -> NewEvent:
    """Read an event that is one JSON object. Raises InvalidEvent."""
    if not isinstance(body, dict):
        raise InvalidEvent("a CloudEvent is a JSON object", fix="Send one object, or a batch.")
    if "data" in body and "data_base64" in body:
        raise InvalidEvent("the event has both data and data_base64", fix="Send one of them.")
    if "data_base64" in body:
        data = _json_object(_decoded(body["data_base64"]))
    else:
        data = object_data(body.get("data", {}))
    return _event(body, data)


def _event(attributes: dict[str, Any], data: dict[str, Any]) -> NewEvent:
    if attributes.get("specversion") != "1.0":
        raise InvalidEvent("specversion must be 1.0", fix="Send a CloudEvent of version 1.0.")
    content_type = optional_text(attributes, "datacontenttype") or "application/json"
    media_type = content_type.partition(";")[0].strip().lower()
    if media_type != "application/json" and not media_type.endswith("+json"):
        raise InvalidEvent("datacontenttype is not JSON", fix="Send data as a JSON object.")
    source = required_text(attributes, "source")
    meta = {key: text for key in _NOTED if (text := optional_text(attributes, key)) is not None}
    return NewEvent(
        name=required_text(attributes, "type"),
        data=data,
        id=_identity(source, required_text(attributes, "id")),
        source=source,
        priority=priority(attributes.get("priority")),
        meta={"cloudEventId": attributes["id"], **meta},
    )


def _identity(source: str, event_id: str) -> str:
    """An id is unique within its source only, so both make the id of our event."""
    identity = f"{source}#{event_id}"
    if len(identity) <= _MAX_ID and identity.isascii():
        return identity
    return "cloudevent-" + hashlib.sha256(identity.encode("utf-8")).hexdigest()


def _decoded(value: Any) -> bytes:
    try:
        return base64.b64decode(value, validate=True)
    except (TypeError, ValueError, binascii.Error):
        raise InvalidEvent("data_base64 is not base64", fix="Send data as a JSON object.") from None


def _json_object(body: bytes) -> dict[str, Any]:
    try:
        return object_data(parse_json(body))
    except ValueError as exc:
        raise InvalidEvent(str(exc).replace("the body", "the data"), fix="Send a JSON object.") from None
