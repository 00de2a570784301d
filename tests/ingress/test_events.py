"""POST /events over HTTP: plain events, CloudEvents, batches, and every way to get them wrong."""

from __future__ import annotations

import base64
import json
import uuid
from typing import Any

import httpx
import pytest

from tests.ingress.served import TOKEN, ServedIngress, check_error

AUTHORIZED = {"Authorization": f"Bearer {TOKEN}"}
NOTED = "discovery/noted"
STRUCTURED = {"Content-Type": "application/cloudevents+json"}
BATCH = {"Content-Type": "application/cloudevents-batch+json"}


def post(http: httpx.Client, body: Any, **headers: str) -> httpx.Response:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return http.post(
        "/events", content=content, headers=AUTHORIZED | {"Content-Type": "application/json"} | named
    )


def post_cloud(http: httpx.Client, body: Any, media: dict[str, str] = STRUCTURED) -> httpx.Response:
    return http.post("/events", content=json.dumps(body).encode(), headers=AUTHORIZED | media)


def noted(**more: Any) -> dict[str, Any]:
    return {"name": NOTED, "data": {"url": "https://example.com/a"}, **more}


def cloud_event(**more: Any) -> dict[str, Any]:
    event = {"specversion": "1.0", "id": uuid.uuid4().hex, "source": "/cron", "type": NOTED}
    return event | {"data": {"url": "https://example.com/a"}} | more


def receipts(reply: httpx.Response) -> list[dict[str, Any]]:
    assert 202 == reply.status_code, reply.text
    body = reply.json()
    assert {"ok", "receipts"} == set(body)
    assert body["ok"] is True
    return body["receipts"]


def decisions(reply: httpx.Response) -> list[str]:
    return [job["decision"] for receipt in receipts(reply) for job in receipt["jobs"]]


def test_a_plain_event_is_accepted_and_its_receipt_names_the_jobs(http: httpx.Client):
    event_id = uuid.uuid4().hex

    [receipt] = receipts(post(http, noted(id=event_id, priority="P1", source="shell")))

    assert {"event_id", "name", "jobs"} == set(receipt)
    assert (event_id, NOTED) == (receipt["event_id"], receipt["name"])
    [job] = receipt["jobs"]
    assert {"handler", "job_id", "decision", "duplicate_of", "into"} == set(job)
    assert ("admitted", None) == (job["decision"], job["duplicate_of"])
    assert job["job_id"]


def test_the_same_id_again_is_a_duplicate(http: httpx.Client):
    event = noted(id=uuid.uuid4().hex)

    assert ["admitted"] == decisions(post(http, event))
    assert ["duplicate"] == decisions(post(http, event))


def test_without_an_id_every_event_is_a_new_one(http: httpx.Client):
    first, second = (receipts(post(http, noted()))[0]["event_id"] for _ in range(2))

    assert first != second


@pytest.mark.parametrize("when", [{"delay_s": 3600}, {"delay_s": 0.5}, {"at": "2099-01-31T09:00:00Z"}])
def test_an_event_for_later_is_scheduled(http: httpx.Client, when: dict[str, Any]):
    assert ["scheduled"] == decisions(post(http, noted(**when)))


def test_a_batch_of_plain_events_answers_in_order(http: httpx.Client):
    ids = [uuid.uuid4().hex for _ in range(100)]

    answered = receipts(post(http, [noted(id=event_id) for event_id in ids]))

    assert ids == [receipt["event_id"] for receipt in answered]
    assert {"admitted"} == {job["decision"] for receipt in answered for job in receipt["jobs"]}


def test_a_batch_with_one_bad_event_queues_none_of_them(http: httpx.Client):
    good = [noted(id=uuid.uuid4().hex) for _ in range(3)]

    for bad in (noted(name="discovery/notd"), noted(data=[]), noted(priority="P9")):
        check = post(http, [*good, bad])
        assert 422 == check.status_code, check.text

    assert ["admitted"] * 3 == decisions(post(http, good))


@pytest.mark.parametrize("batch", [[], [noted()] * 101])
def test_a_batch_is_1_to_100_events(http: httpx.Client, batch: list[Any]):
    check_error(post(http, batch), 422, "EVENT_INVALID")


def test_a_structured_cloudevent_is_accepted_and_its_identity_is_source_and_id(http: httpx.Client):
    event = cloud_event(time="2026-03-09T08:15:52Z", subject="a", priority="P3", extension="ignored")

    [receipt] = receipts(post_cloud(http, event))

    assert f"/cron#{event['id']}" == receipt["event_id"]
    assert ["duplicate"] == decisions(post_cloud(http, event))
    # The same id from another source is another event.
    assert ["admitted"] == decisions(post_cloud(http, event | {"source": "/shell"}))


def test_a_cloudevent_may_carry_its_json_as_base64_or_not_at_all(http: httpx.Client):
    encoded = cloud_event(data_base64=base64.b64encode(b'{"url": "https://example.com/a"}').decode())
    del encoded["data"]
    empty = cloud_event(type="subscription/check-feeds.requested")
    del empty["data"]

    assert ["admitted"] == decisions(post_cloud(http, encoded))
    assert ["admitted"] == decisions(post_cloud(http, empty))


def test_a_binary_cloudevent_has_its_attributes_in_the_headers(http: httpx.Client):
    event_id = uuid.uuid4().hex
    reply = post(
        http, {"url": "https://example.com/a"},
        ce_specversion="1.0", ce_id=event_id, ce_source="/b%C3%BCro", ce_type=NOTED, ce_subject="%22a%22",
    )  # fmt: skip

    [receipt] = receipts(reply)

    assert NOTED == receipt["name"]
    assert "admitted" == receipt["jobs"][0]["decision"]


def test_a_batch_of_cloudevents_is_accepted_whole_or_not_at_all(http: httpx.Client):
    good = [cloud_event() for _ in range(3)]

    check_error(post_cloud(http, [*good, cloud_event(specversion="0.3")], BATCH), 422, "EVENT_INVALID")

    assert ["admitted"] * 3 == decisions(post_cloud(http, good, BATCH))


@pytest.mark.parametrize(
    "event",
    [
        None,
        [],
        "text",
        cloud_event(specversion="2.0"),
        cloud_event(id=""),
        cloud_event(id=7),
        cloud_event(source=None),
        cloud_event(type=""),
        cloud_event(data="text"),
        cloud_event(data=None),
        cloud_event(datacontenttype="application/xml"),
        cloud_event(data_base64="e30="),
        {**cloud_event(), "priority": True},
        {key: value for key, value in cloud_event(data_base64="%%%").items() if key != "data"},
        {key: value for key, value in cloud_event(data_base64="W10=").items() if key != "data"},
    ],
)
def test_a_cloudevent_that_is_none_is_refused(http: httpx.Client, event: Any):
    check_error(post_cloud(http, event), 422, "EVENT_INVALID")


@pytest.mark.parametrize(
    "headers",
    [
        {"ce_id": "1", "ce_source": "/b", "ce_type": NOTED, "ce_specversion": "0.3"},
        {"ce_source": "/b", "ce_type": NOTED, "ce_specversion": "1.0"},
        {"ce_id": "%ff", "ce_source": "/b", "ce_type": NOTED, "ce_specversion": "1.0"},
        {
            "ce_id": "1",
            "ce_source": "/b",
            "ce_type": NOTED,
            "ce_specversion": "1.0",
            "Content_Type": "text/plain",
        },
    ],
)
def test_binary_attributes_that_make_no_event_are_refused(http: httpx.Client, headers: dict[str, str]):
    check_error(post(http, {"url": "x"}, **headers), 422, "EVENT_INVALID")


@pytest.mark.parametrize(
    "event",
    [
        None,
        7,
        "text",
        {},
        {"name": NOTED},
        {"data": {}},
        noted(name=""),
        noted(name=["x"]),
        noted(data=[]),
        noted(data="text"),
        noted(data=None),
        noted(id=7),
        noted(id=""),
        noted(source=7),
        noted(priority="urgent"),
        noted(priority=4),
        noted(priority=-1),
        noted(priority=True),
        noted(priority=1.5),
        noted(delay_s="soon"),
        noted(delay_s=-1),
        noted(delay_s=True),
        noted(at="tomorrow"),
        noted(at="2099-01-31T09:00:00"),
        noted(at=7),
        noted(at="2099-01-31T09:00:00Z", delay_s=1),
        noted(delay_seconds=1),
    ],
)
def test_an_event_that_is_none_is_refused(http: httpx.Client, event: Any):
    check_error(post(http, event), 422, "EVENT_INVALID")


def test_a_misspelt_key_is_named_with_the_nearest_right_one(http: httpx.Client):
    refusal = check_error(post(http, noted(priorty="P1")), 422, "EVENT_INVALID")

    assert "Did you mean priority?" == refusal["fix"]


def test_an_unknown_event_is_refused_with_the_nearest_known_name(http: httpx.Client):
    refusal = check_error(post(http, noted(name="discovery/notd")), 422, "EVENT_UNKNOWN")

    assert "discovery/noted" in str(refusal["error"])


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b'{"name": "discovery/noted", "data": {"a": NaN}}',
        b'{"name": "discovery/noted", "data": {"a": "\\ud800"}}',
        b'{"name": "discovery/noted", "data": {"a": ' + b"[" * 500 + b"]" * 500 + b"}}",
        b'{"name": "discovery/noted", "data": {"a": ' + b"[" * 100_000,
        b'{"name": "discovery/noted", "data": {"a": "\xff"}}',
    ],
)
def test_a_body_that_is_not_strict_json_is_refused(http: httpx.Client, body: bytes):
    check_error(post(http, body), 400, "JSON_INVALID")


def test_a_number_that_no_computer_holds_is_refused(http: httpx.Client):
    check_error(post(http, b'{"name": "discovery/noted", "data": {"a": 1e999}}'), 422, "EVENT_INVALID")
    check_error(
        post(http, b'{"name": "discovery/noted", "data": {}, "delay_s": 1e999}'), 422, "EVENT_INVALID"
    )


def test_another_media_type_is_refused(http: httpx.Client):
    refusal = post(http, noted(), Content_Type="application/x-www-form-urlencoded")

    check_error(refusal, 415, "MEDIA_TYPE_UNSUPPORTED")


@pytest.mark.parametrize("size", [1_100_000, 6_000_000])
def test_an_event_over_the_cap_is_refused(http: httpx.Client, size: int):
    check_error(post(http, noted(data={"a": "x" * size})), 413, "PAYLOAD_TOO_LARGE")


@pytest.mark.parametrize(
    "authorization",
    [None, "", "Bearer", "Bearer wrong", f"Basic {TOKEN}", TOKEN, f"Bearer {TOKEN}x", "Bearer é"],
)
def test_without_the_token_nothing_is_accepted_or_looked_at(http: httpx.Client, authorization: str | None):
    headers = {"Content-Type": "application/json"}
    if authorization is not None:
        headers["Authorization"] = authorization
    raw = {name: value.encode() for name, value in headers.items()}

    for body in (json.dumps(noted()).encode(), b"not json", b"x" * 5_000_000):
        reply = http.post("/events", content=body, headers=raw)

        check_error(reply, 401, "TOKEN_INVALID")
        assert "Bearer" == reply.headers["www-authenticate"]


def test_the_log_holds_no_token_and_no_data(served: ServedIngress, http: httpx.Client):
    post(http, noted(data={"url": "https://example.com/very-private"}))
    post(http, noted(data={"url": "https://example.com/very-private"}, priority="P9"))

    assert TOKEN not in served.log
    assert "very-private" not in served.log
    assert "Traceback" not in served.log
