"""POST /webhooks/github over HTTP: a real process, a real Redis, deliveries as GitHub sends them."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator

import httpx
import pytest

from tests.conftest import wait_until
from tests.ingress.served import (
    SECRET,
    ServedIngress,
    check_error,
    delivery_headers,
    payload,
    signature,
)

COMPLETED = payload("workflow_run.completed")
CAP_BYTES = 262_144


def deliver(http: httpx.Client, body: bytes = COMPLETED, **options: str) -> httpx.Response:
    return http.post("/webhooks/github", content=body, headers=delivery_headers(body, **options))


def test_a_completed_run_is_accepted_and_queued(http: httpx.Client):
    reply = deliver(http)

    assert 200 == reply.status_code
    assert {"ok": True, "events": 1, "queued": 1, "direct": 0} == reply.json()


def test_the_same_delivery_again_is_a_duplicate_and_queues_nothing(http: httpx.Client):
    delivery = str(uuid.uuid4())
    assert 1 == deliver(http, delivery=delivery).json()["queued"]

    for _ in range(2):
        reply = deliver(http, delivery=delivery)

        assert 200 == reply.status_code
        assert {"ok": True, "events": 1, "queued": 0, "direct": 0, "duplicates": 1} == reply.json()


def test_another_delivery_of_the_same_run_is_not_a_duplicate(http: httpx.Client):
    assert [1, 1] == [deliver(http).json()["queued"] for _ in range(2)]


@pytest.mark.parametrize(
    ("name", "kind", "note"),
    [
        ("workflow_run.requested", "workflow_run", "this kind of delivery means no event"),
        ("workflow_run.in_progress", "workflow_run", "this kind of delivery means no event"),
        ("ping", "ping", "this kind of delivery means no event"),
        ("package.published", "package", "the registry has no event github/package.published"),
        ("workflow_run.completed", "star", "this kind of delivery means no event"),
    ],
)
def test_a_delivery_that_is_no_event_is_accepted_with_a_note(
    http: httpx.Client, name: str, kind: str, note: str
):
    reply = deliver(http, payload(name), kind=kind)

    assert 200 == reply.status_code
    assert {"ok": True, "events": 0, "queued": 0, "direct": 0, "note": note} == reply.json()


def test_a_body_of_exactly_the_cap_is_accepted(http: httpx.Client):
    assert 200 == deliver(http, COMPLETED + b" " * (CAP_BYTES - len(COMPLETED))).status_code


@pytest.mark.parametrize("size", [CAP_BYTES + 1, 5_000_000])
def test_a_body_over_the_cap_is_refused_whatever_its_signature(http: httpx.Client, size: int):
    body = COMPLETED + b" " * (size - len(COMPLETED))

    check_error(deliver(http, body), 413, "PAYLOAD_TOO_LARGE")
    check_error(http.post("/webhooks/github", content=body), 413, "PAYLOAD_TOO_LARGE")


def test_a_chunked_body_is_refused_once_it_is_over_the_cap(http: httpx.Client):
    def chunks() -> Iterator[bytes]:
        for _ in range(70):
            yield b"x" * 4_096

    check_error(http.post("/webhooks/github", content=chunks()), 413, "PAYLOAD_TOO_LARGE")


def test_a_chunked_body_within_the_cap_is_like_any_other(http: httpx.Client):
    def chunks() -> Iterator[bytes]:
        for begin in range(0, len(COMPLETED), 1_000):
            yield COMPLETED[begin : begin + 1_000]

    reply = http.post("/webhooks/github", content=chunks(), headers=delivery_headers(COMPLETED))

    assert {"ok": True, "events": 1, "queued": 1, "direct": 0} == reply.json()


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"not json",
        b"[]",
        b'"text"',
        b"null",
        b'{"action": NaN}',
        b'{"action": "\\ud800"}',
        b'{"action": "\xff"}',
        b"[" * 100_000,
        b'{"a":' * 40_000 + b"1" + b"}" * 40_000,
        COMPLETED[:-20],
    ],
)
def test_a_signed_body_that_is_no_json_object_is_refused(http: httpx.Client, body: bytes):
    check_error(deliver(http, body), 400, "JSON_INVALID")


def test_a_form_body_is_refused_with_the_fix_that_github_users_need(http: httpx.Client):
    body = b"payload=%7B%7D"
    headers = delivery_headers(body) | {"Content-Type": "application/x-www-form-urlencoded"}

    refusal = check_error(http.post("/webhooks/github", content=body, headers=headers), 400, "JSON_INVALID")

    assert "Set the content type of the webhook to application/json." == refusal["fix"]


def test_a_run_without_an_id_is_refused(http: httpx.Client):
    body = json.dumps({"action": "completed", "workflow_run": {}}).encode()

    check_error(deliver(http, body), 400, "DELIVERY_INVALID")


@pytest.mark.parametrize("delivery", ["a b", "{jc}:job:1", "x" * 101, "a;b", "<script>"])
def test_a_delivery_id_cannot_smuggle_anything_into_an_event_id(http: httpx.Client, delivery: str):
    reply = deliver(http, delivery=delivery)

    check_error(reply, 400, "DELIVERY_INVALID")
    assert delivery not in reply.text
    assert delivery not in str(reply.headers)


BAD_SIGNATURES: list[dict[str, str | bytes]] = [
    {},
    {"X-Hub-Signature-256": ""},
    {"X-Hub-Signature-256": "sha256="},
    {"X-Hub-Signature-256": signature(COMPLETED, "other")},
    {"X-Hub-Signature-256": signature(COMPLETED + b" ")},
    {"X-Hub-Signature-256": signature(COMPLETED).removeprefix("sha256=")},
    {"X-Hub-Signature-256": "sha256=" + "é" * 64},
    {"X-Hub-Signature-256": b"sha256=\xff\xfe"},
    {"X-Hub-Signature-256": "sha256=" + "0" * 20_000},
    {"X-Hub-Signature": "sha1=" + "0" * 40},
    {"X-Hub-Signature-256": f"{signature(COMPLETED)}, {signature(COMPLETED)}"},
]


@pytest.mark.parametrize("header", BAD_SIGNATURES, ids=range(len(BAD_SIGNATURES)))
def test_a_bad_signature_of_any_kind_is_a_401(served: ServedIngress, header: dict[str, str | bytes]):
    raw = {name: value.encode() if isinstance(value, str) else value for name, value in header.items()}
    with served.client("127.0.0.2") as http:
        reply = http.post(
            "/webhooks/github", content=COMPLETED, headers={"X-GitHub-Event": b"workflow_run"} | raw
        )

    check_error(reply, 401, "SIGNATURE_INVALID")


def test_a_signature_given_twice_is_a_401(served: ServedIngress):
    twice = [("X-Hub-Signature-256", signature(COMPLETED))] * 2
    with served.client("127.0.0.3") as http:
        check_error(http.post("/webhooks/github", content=COMPLETED, headers=twice), 401, "SIGNATURE_INVALID")


def test_after_20_bad_signatures_the_address_has_to_wait_and_no_other(
    served: ServedIngress, http: httpx.Client
):
    with served.client("127.0.0.4") as attacker:
        for number in range(20):
            # A new claimed address each time must not help.
            spoofed = {"X-Forwarded-For": f"198.51.100.{number}", "X-Real-IP": f"198.51.100.{number}"}
            reply = attacker.post("/webhooks/github", content=b"{}", headers=spoofed)
            check_error(reply, 401, "SIGNATURE_INVALID")

        refused = [deliver(attacker), attacker.post("/webhooks/github", content=b"x" * 300_000)]
        elsewhere = attacker.post("/webhooks/nobody")

    for reply in refused:
        check_error(reply, 429, "TOO_MANY_BAD_SIGNATURES")
        assert 1 <= int(reply.headers["retry-after"]) <= 60
    check_error(elsewhere, 404, "NOT_FOUND")
    assert 200 == deliver(http).status_code


@pytest.mark.parametrize(
    ("method", "path", "status", "allow"),
    [
        ("GET", "/webhooks/github", 405, "POST"),
        ("PUT", "/webhooks/github", 405, "POST"),
        ("POST", "/webhooks/", 405, "GET, HEAD"),
        ("POST", "/healthz", 405, "GET, HEAD"),
        ("GET", "/events", 405, "POST"),
        ("POST", "/webhooks/gitlab", 404, None),
        ("GET", "/webhooks/gitlab", 404, None),
        ("POST", "/webhooks/github/", 404, None),
        ("POST", "/webhooks/GitHub", 404, None),
        ("GET", "/", 404, None),
        ("GET", "/" + "x" * 10_000, 404, None),
        ("GET", "/%ff%00", 404, None),
    ],
)
def test_a_path_or_method_that_is_not_there(
    http: httpx.Client, method: str, path: str, status: int, allow: str | None
):
    reply = http.request(method, path)

    check_error(reply, status, "NOT_FOUND" if status == 404 else "METHOD_NOT_ALLOWED")
    assert allow == reply.headers.get("allow")


@pytest.mark.parametrize("path", ["/webhooks", "/webhooks/"])
def test_the_list_of_providers(http: httpx.Client, path: str):
    reply = http.get(path)

    assert 200 == reply.status_code
    assert {"service": "joelclaw-webhooks", "status": "running", "providers": ["github"]} == reply.json()


def test_the_health_of_the_ingress(http: httpx.Client):
    reply = http.get("/healthz")

    assert 200 == reply.status_code
    assert {"ok": True, "redis": True} == reply.json()


def test_the_log_tells_what_came_and_holds_no_secret_no_signature_and_no_body(
    served: ServedIngress, http: httpx.Client
):
    delivery = str(uuid.uuid4())
    headers = delivery_headers(COMPLETED, delivery=delivery)
    http.post("/webhooks/github?token=in-the-query", content=COMPLETED, headers=headers)

    accepted = f"github/workflow_run.completed accepted as github-workflow-run-completed-{delivery}-"
    wait_until(lambda: accepted in served.log, "the log tells of it")
    log = served.log
    assert "Traceback" not in log
    for private in (SECRET, headers["X-Hub-Signature-256"], "in-the-query", "mira-lindqvist", "storm"):
        assert private not in log
