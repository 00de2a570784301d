"""A server that wants fewer requests is believed."""

from __future__ import annotations

import pickle
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler

import httpx
import pytest

from joelclaw_tasks.core.retrying import asked_wait_s
from joelclaw_tasks.errors import FetchFailed, RateLimited
from joelclaw_tasks.handlers.fetch import fetch
from tests.handlers.conftest import Site


def refusing(status: int, retry_after: str | None):
    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(status)
        if retry_after is not None:
            handler.send_header("Retry-After", retry_after)
        handler.send_header("Content-Length", "0")
        handler.end_headers()

    return answer


@pytest.mark.parametrize(
    ("status", "retry_after", "wait_s"),
    [
        (429, "120", 120), (429, None, 0), (503, "7", 7),
        (429, "soon", 0), (429, "-5", 0), (429, 40 * "9", 86_400),
    ],
)  # fmt: skip
def test_a_rate_limit_says_how_long_to_wait(site: Site, status, retry_after, wait_s) -> None:
    site.answers["/busy"] = refusing(status, retry_after)

    with httpx.Client() as client, pytest.raises(RateLimited, match=f"answered {status}") as limited:
        fetch(client, f"{site.url}/busy")

    assert wait_s == asked_wait_s(limited.value)
    assert (wait_s > 0) == ("asks to wait" in str(limited.value))


def test_a_rate_limit_may_give_a_date(site: Site) -> None:
    site.answers["/busy"] = refusing(
        429, format_datetime(datetime.now(UTC) + timedelta(minutes=10), usegmt=True)
    )

    with httpx.Client() as client, pytest.raises(RateLimited) as limited:
        fetch(client, f"{site.url}/busy")

    assert 590 <= asked_wait_s(limited.value) <= 600


def test_an_answer_of_503_alone_is_a_failure_like_others(site: Site) -> None:
    site.answers["/down"] = refusing(503, None)

    with httpx.Client() as client, pytest.raises(FetchFailed) as failed:
        fetch(client, f"{site.url}/down")

    assert (FetchFailed, 0.0) == (type(failed.value), asked_wait_s(failed.value))


def test_a_rate_limit_survives_the_way_out_of_its_process() -> None:
    back = pickle.loads(pickle.dumps(RateLimited("the server answered 429", 12)))

    assert ("the server answered 429 and asks to wait 12 s", 12.0) == (str(back), back.retry_after_s)
