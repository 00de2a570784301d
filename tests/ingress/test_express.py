"""A crowd goes through the short way step by step; each request of it still gets its own answer."""

from __future__ import annotations

import json
from collections import Counter

from tests.ingress.crowd import deliver_at_once, raw_request
from tests.ingress.served import ServedIngress, delivery_headers, payload


def test_in_a_crowd_each_delivery_gets_the_answer_that_it_would_get_alone(served: ServedIngress):
    good, broken = payload("workflow_run.completed"), b'{"action": "completed"'
    again = raw_request(delivery_headers(good, delivery="again"), good)
    requests: list[bytes] = []
    for n in range(60):
        requests.append(raw_request(delivery_headers(good), good))
        if n % 6 == 0:
            requests += [
                again,
                raw_request(delivery_headers(broken), broken),
                raw_request(delivery_headers(good, secret="of somebody else"), good),
                raw_request(delivery_headers(good, kind="ping"), good),
            ]

    crowd = deliver_at_once(served.port, requests)

    expected = {
        ("queued", 1): 61,  # one of them is the first of those that come again
        ("duplicates", 1): 9,
        ("code", "JSON_INVALID"): 10,
        ("code", "SIGNATURE_INVALID"): 10,
        ("note", "this kind of delivery means no event"): 10,
    }
    assert expected == Counter(_gist(answer.body) for answer in crowd.answers)


def _gist(body: bytes) -> tuple[str, object]:
    said = json.loads(body)
    if not said["ok"]:
        return "code", said["error"]["code"]
    name = next(name for name in ("note", "duplicates", "queued") if name in said)
    return name, said[name]
