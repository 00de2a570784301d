"""Bodies: strict JSON, and deadlines."""

from __future__ import annotations

import asyncio
import json

import pytest
from starlette.requests import Request

from joelclaw_tasks.ingress.bodies import parse_json, read_body
from joelclaw_tasks.ingress.replies import Refusal
from tests.ingress.served import payload


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "not JSON"),
        (b"{", "not JSON"),
        (b'{"a": 1} x', "not JSON"),
        (b"{'a': 1}", "not JSON"),
        (b'{"a": NaN}', "NaN"),
        (b'{"a": [Infinity]}', "Infinity"),
        (b'{"a": -Infinity}', "Infinity"),
        (b'{"a": 1e999}', "too large"),
        (b'{"a": -1e999}', "too large"),
        (b'{"a": ' + b"9" * 5_000 + b"}", "too long"),
        (b'{"a": "\xff"}', "not UTF-8"),
        ('{"a": "å"}'.encode("utf-16"), "not UTF-8"),
        (b'\xef\xbb\xbf{"a": 1}', "not JSON"),
        (b'{"a": "\\ud800"}', "surrogate"),
        (b'{"a": "\\uDFFF."}', "surrogate"),
        (b'{"\\udc00": 1}', "surrogate"),
        (b'{"a": ["x", {"b": "\\ude00\\ud83d"}]}', "surrogate"),
        (b'{"a": "\x00"}', "not JSON"),
        (b"[" * 200_000, "nested"),
        (b'{"a":' * 50_000 + b"1" + b"}" * 50_000, "nested"),
    ],
)
def test_what_is_not_strict_json_is_refused_with_a_reason(body: bytes, reason: str):
    with pytest.raises(ValueError, match=reason):
        parse_json(body)


def test_depth_is_counted_when_it_matters():
    fits, too_deep = (b"[" * depth + b"]" * depth for depth in (100, 101))

    assert json.loads(fits) == parse_json(fits, max_depth=100)
    assert json.loads(too_deep) == parse_json(too_deep)
    with pytest.raises(ValueError, match="100 levels"):
        parse_json(too_deep, max_depth=100)


@pytest.mark.parametrize(
    "body",
    [
        payload("workflow_run.completed"),
        b'{"a": "\\ud83d\\ude00 \xf0\x9f\x98\x80", "b": 1.5e3}',
        b"[]",
        b"null",
    ],
)
def test_everything_else_means_what_it_means_in_json(body: bytes):
    assert json.loads(body) == parse_json(body, max_depth=100)


def request(receive: object, **headers: str) -> Request:
    raw = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    return Request({"type": "http", "method": "POST", "headers": raw}, receive)  # type: ignore[arg-type]


def test_a_body_that_does_not_end_is_given_up():
    async def receive() -> dict[str, object]:
        await asyncio.sleep(0.01)
        return {"type": "http.request", "body": b"x", "more_body": True}

    with pytest.raises(Refusal) as refused:
        asyncio.run(read_body(request(receive), 1_000, timeout_s=0.1))

    assert (408, "BODY_TIMEOUT") == (refused.value.status, refused.value.code)


def test_a_body_over_the_cap_is_read_no_further():
    read_bytes = 0

    async def receive() -> dict[str, object]:
        nonlocal read_bytes
        read_bytes += 400
        return {"type": "http.request", "body": b"x" * 400, "more_body": True}

    with pytest.raises(Refusal) as refused:
        asyncio.run(read_body(request(receive), 1_000))

    assert 413 == refused.value.status
    assert 1_200 == read_bytes


def test_a_declared_length_over_the_cap_is_enough():
    async def receive() -> dict[str, object]:
        pytest.fail("nothing needs to be read")

    with pytest.raises(Refusal) as refused:
        asyncio.run(read_body(request(receive, content_length="1001"), 1_000))

    assert 413 == refused.value.status


def test_a_declared_length_that_is_too_small_is_not_believed():
    async def receive() -> dict[str, object]:
        return {"type": "http.request", "body": b"x" * 1_001, "more_body": False}

    with pytest.raises(Refusal) as refused:
        asyncio.run(read_body(request(receive, content_length="1"), 1_000))

    assert 413 == refused.value.status


def test_a_sender_that_hangs_up_is_no_fault_of_ours():
    async def receive() -> dict[str, object]:
        return {"type": "http.disconnect"}

    with pytest.raises(Refusal) as refused:
        asyncio.run(read_body(request(receive), 1_000))

    assert "CLIENT_GONE" == refused.value.code
