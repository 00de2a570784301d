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
    "body",
    [
        b"",
        b"{",
        b'{"a": 1} x',
        b"{'a': 1}",
        b"[1,]",
        b'{"a": 01}',
        b'{"a": NaN}',
        b'{"a": [Infinity]}',
        b'{"a": -Infinity}',
        b'{"a": ' + b"9" * 5_000 + b"}",
        b'{"a": "\xff"}',
        '{"a": "å"}'.encode("utf-16"),
        b'\xef\xbb\xbf{"a": 1}',
        b'{"a": "\\ud800"}',
        b'{"a": "\\uDFFF."}',
        b'{"\\udc00": 1}',
        b'{"a": ["x", {"b": "\\ude00\\ud83d"}]}',
        b'{"a": "\x00"}',
        b"[" * 200_000,
        b'{"a":' * 50_000 + b"1" + b"}" * 50_000,
    ],
)
def test_what_is_not_strict_json_is_refused(body: bytes):
    with pytest.raises(ValueError, match="the body is not JSON"):
        parse_json(body)


def test_a_refusal_quotes_nothing_of_the_body():
    with pytest.raises(ValueError, match="the body is not JSON") as refused:
        parse_json(b'{"password": hunter2}')

    assert "hunter2" not in str(refused.value)


@pytest.mark.parametrize(
    "body",
    [
        payload("workflow_run.completed"),
        b'{"a": "\\ud83d\\ude00 \xf0\x9f\x98\x80", "b": 1.5e3, "c": 123456789012345678901234567890}',
        b'{"a": 1, "a": 2}',
        b" [] ",
        b"null",
        b"[" * 150 + b"]" * 150,
    ],
)
def test_everything_else_means_what_it_means_in_json(body: bytes):
    assert json.loads(body) == parse_json(body)


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
