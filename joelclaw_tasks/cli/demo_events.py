"""What the demo sends: 24 signed GitHub webhooks at once, and one event of each other family."""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import http.server
import itertools
import json
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx

WEBHOOKS = 24
_WORKFLOWS = ("build", "test", "lint", "docs", "release", "nightly")
_ADR = "content/decisions/0001-put-a-queue-in-front-of-the-workers.md"
_ADR_TEXT = """---
status: accepted
date: {day}
---
# ADR-0001: Put a queue in front of the workers

What arrives in a burst is admitted at once and carried out in order.
"""
_FEED = """<?xml version="1.0"?>
<rss version="2.0"><channel><title>Queueing weekly</title><link>{url}</link><description>Demo</description>
<item><title>On deadlines as ranks</title><link>{url}/{issue}/deadlines</link></item>
<item><title>Why leases need fences</title><link>{url}/{issue}/fences</link></item>
</channel></rss>
"""


@dataclass(frozen=True, slots=True)
class Reply:
    """What the ingress said to one request, and after how long."""

    status: int
    text: str
    after_ms: float

    @property
    def accepted(self) -> bool:
        """Whether the event is in the queue."""
        return 200 <= self.status < 300


@contextlib.contextmanager
def feed_server() -> Iterator[str]:
    """A feed on loopback with two new entries whenever it is read; its URL."""
    issues = itertools.count(1)

    class Feed(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            host, port = server.server_address[:2]
            body = _FEED.format(url=f"http://{host!s}:{port}", issue=next(issues)).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/rss+xml")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Feed)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/feed.xml"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def lay_out_files(data_dir: Path, feed_url: str) -> None:
    """The decision record that will have changed, and the subscription to the feed."""
    record = data_dir / _ADR
    record.parent.mkdir(parents=True, exist_ok=True)
    record.write_text(_ADR_TEXT.format(day=datetime.now(UTC).date()))
    subscription = {"id": "queueing-weekly", "url": feed_url, "title": "Queueing weekly"}
    (data_dir / "subscriptions.json").write_text(json.dumps([subscription]))


def send_all(
    ingress_url: str, *, webhook_secret: str, events_token: str, run: str = "demo", webhooks: int = WEBHOOKS
) -> list[Reply]:
    """Send everything, the webhooks at the same moment; the replies, webhooks first.

    `run` is part of every id and URL, so that a second run sends nothing that is known already.
    """
    together = threading.Barrier(webhooks)

    def webhook(number: int) -> Reply:
        body = json.dumps(_workflow_run(number)).encode()
        headers = webhook_headers(body, f"{run}-{number:02}", webhook_secret)
        together.wait(30)
        return _post(client, "/webhooks/github", body, headers)

    def event(document: dict[str, Any]) -> Reply:
        headers = {"Content-Type": "application/json", "Authorization": f"Bearer {events_token}"}
        return _post(client, "/events", json.dumps(document).encode(), headers)

    # No proxy of the environment stands between the demo and loopback.
    with (
        httpx.Client(base_url=ingress_url, timeout=30, trust_env=False) as client,
        ThreadPoolExecutor(webhooks) as senders,
    ):
        replies = list(senders.map(webhook, range(webhooks)))
        return replies + [event(document) for document in _other_events(run)]


def webhook_headers(body: bytes, delivery: str, secret: str) -> dict[str, str]:
    """The headers with which GitHub sends a `workflow_run`, signed."""
    signature = hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
    return {
        "Content-Type": "application/json",
        "X-GitHub-Event": "workflow_run",
        "X-GitHub-Delivery": delivery,
        "X-Hub-Signature-256": f"sha256={signature}",
    }


def _post(client: httpx.Client, path: str, body: bytes, headers: dict[str, str]) -> Reply:
    began = time.perf_counter()
    response = client.post(path, content=body, headers=headers)
    return Reply(response.status_code, response.text[:300], (time.perf_counter() - began) * 1000)


def _workflow_run(number: int) -> dict[str, Any]:
    name = _WORKFLOWS[number % len(_WORKFLOWS)]
    now = datetime.now(UTC).isoformat(timespec="seconds")
    return {
        "action": "completed",
        "workflow": {"id": 100 + number % len(_WORKFLOWS), "name": name},
        "workflow_run": {
            "id": 9_000 + number,
            "run_number": number,
            "run_attempt": 1,
            "name": name,
            "event": "push",
            "status": "completed",
            "conclusion": "failure" if number % 8 == 5 else "success",
            "html_url": f"https://github.com/example/demo/actions/runs/{9_000 + number}",
            "head_branch": "main",
            "head_sha": hashlib.sha256(str(number).encode()).hexdigest()[:40],
            "actor": {"login": "octocat"},
            "created_at": now,
            "updated_at": now,
        },
        "repository": {"full_name": "example/demo", "html_url": "https://github.com/example/demo"},
    }


def _other_events(run: str) -> list[dict[str, Any]]:
    return [
        {"name": "content/updated", "data": {"path": _ADR.removeprefix("content/")}},
        {
            "name": "discovery/noted",
            "data": {"url": f"https://example.com/{run}/leases?utm_source=demo", "title": "Leases"},
        },
        {
            "name": "discovery/captured",
            "data": {"url": f"https://example.com/{run}/gates", "title": "Gates", "slug": "gates"},
        },
        {"name": "subscription/check-feeds.requested", "data": {}},
    ]
