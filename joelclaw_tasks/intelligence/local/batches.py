"""LocalBatches: /v1/messages/batches of the local API, on its clock.

A batch is over `takes_s` after it was created (0: at once), or cut off after a day. Its requests are
answered by the script and the rule of the API, in their order, when it is over.
"""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

from joelclaw_tasks.intelligence.local.act import STATUS, Act, Fault
from joelclaw_tasks.intelligence.local.checks import wrong_key, wrong_request
from joelclaw_tasks.intelligence.local.message import message

if TYPE_CHECKING:
    from joelclaw_tasks.intelligence.local.server import MessagesApi

_DAY_S = 86_400.0
_MOST_REQUESTS = 100_000
_CUSTOM_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
_PATH = re.compile(r"/v1/messages/batches(?:/(?P<id>[A-Za-z0-9_-]+)(?:/(?P<verb>results|cancel))?)?")
_COUNTS = ("processing", "succeeded", "errored", "canceled", "expired")


@dataclass(slots=True)
class _Batch:
    id: str
    requests: list[dict[str, Any]]
    headers: dict[str, str]
    created_s: float
    cancelled_s: float | None = None
    ended_s: float | None = None
    results: list[dict[str, Any]] | None = None


class LocalBatches:
    """The batches of one API. `takes_s` may be changed at any time, also for those that run."""

    def __init__(self, api: MessagesApi, now_s: Callable[[], float]) -> None:
        self.takes_s = 0.0
        self._api = api
        self._now_s = now_s
        self._epoch_s = time.time() - now_s()
        self._lock = threading.RLock()
        self._batches: dict[str, _Batch] = {}
        self._acts: list[Act] = []

    def script(self, *acts: Any) -> None:
        """Answer the next requests about batches with these faults, in order; Act() is none."""
        with self._lock:
            self._acts.extend(Act.of(act) for act in acts)

    def act(self) -> Act:
        """What to do with the request that came in now."""
        with self._lock:
            return self._acts.pop(0) if self._acts else Act()

    @property
    def count(self) -> int:
        """How many batches were ever created."""
        return len(self._batches)

    def answer(self, method: str, path: str, body: Any, headers: dict[str, str]) -> bytes | Act:
        """The body of the answer, or the fault that says what is wrong with the request."""
        place, _, query = path.partition("?")
        found = _PATH.fullmatch(place)
        if found is None:
            return Act(fault=Fault.NOT_FOUND, message="Not found")
        why = wrong_key(headers, self._api.keys)
        if why is not None:
            return Act(fault=Fault.WRONG_KEY, message=why)
        with self._lock:
            if found["id"] is None:
                return self._create(body, headers) if method == "POST" else self._list(query)
            batch = self._batches.get(found["id"])
            if batch is None or (method == "POST") != (found["verb"] == "cancel"):
                return Act(fault=Fault.NOT_FOUND, message="Not found")
            self._go_on(batch)
            if found["verb"] == "results":
                return self._results(batch)
            if found["verb"] == "cancel" and batch.ended_s is None:
                batch.cancelled_s = batch.cancelled_s or self._now_s()
                shown = self._shown(batch)
                self._end(batch, "canceled")
                return json.dumps(shown).encode()
            return json.dumps(self._shown(batch)).encode()

    def _create(self, body: Any, headers: dict[str, str]) -> bytes | Act:
        requests = body.get("requests") if isinstance(body, dict) else None
        why = _wrong_batch(requests, headers)
        if why is not None or not isinstance(requests, list):
            return Act(fault=Fault.BAD_REQUEST, message=why)
        batch = _Batch(f"msgbatch_local_{len(self._batches) + 1:06}", requests, headers, self._now_s())
        self._batches[batch.id] = batch
        shown = self._shown(batch)  # even an empty batch is not over at once
        return json.dumps(shown).encode()

    def _list(self, query: str) -> bytes:
        asked = parse_qs(query)
        newest = list(reversed(self._batches.values()))
        after = asked.get("after_id", [""])[0]
        ids = [batch.id for batch in newest]
        newest = newest[ids.index(after) + 1 :] if after in ids else newest
        limit = int(asked.get("limit", ["20"])[0])
        page = newest[:limit]
        for batch in page:
            self._go_on(batch)
        return json.dumps(
            {
                "data": [self._shown(batch) for batch in page],
                "has_more": len(newest) > limit,
                "first_id": page[0].id if page else None,
                "last_id": page[-1].id if page else None,
            }
        ).encode()

    def _results(self, batch: _Batch) -> bytes | Act:
        if batch.results is None:
            return Act(fault=Fault.NOT_FOUND, message="the batch has no results yet")
        # In another order than they were asked: nobody may count on it.
        return b"".join(json.dumps(each).encode() + b"\n" for each in reversed(batch.results))

    def _go_on(self, batch: _Batch) -> None:
        since_s = self._now_s() - batch.created_s
        if batch.ended_s is None and since_s >= min(self.takes_s, _DAY_S):
            self._end(batch, None if self.takes_s <= _DAY_S else "expired")

    def _end(self, batch: _Batch, all_are: str | None) -> None:
        batch.results = [
            {"custom_id": each["custom_id"], "result": self._result(each["params"], batch.headers, all_are)}
            for each in batch.requests
        ]
        batch.ended_s = self._now_s()

    def _result(self, params: dict[str, Any], headers: dict[str, str], outcome: str | None) -> dict[str, Any]:
        if outcome is not None:
            return {"type": outcome}
        why = wrong_request(params, headers)
        if why is not None:
            return _errored("invalid_request_error", why)
        act, asked = self._api.act_on(params, headers)
        if act.outcome is not None:
            return {"type": act.outcome}
        if act.fault in STATUS:
            kind = STATUS[act.fault][1]
            return _errored(kind, act.message or act.fault.replace("_", " "))
        answer = message(asked, act, self._api.usage_of(asked))
        answer["usage"]["service_tier"] = "batch"
        return {"type": "succeeded", "message": answer}

    def _shown(self, batch: _Batch) -> dict[str, Any]:
        counts = dict.fromkeys(_COUNTS, 0)
        for each in batch.results or ():
            counts[each["result"]["type"]] += 1
        if batch.results is None:
            counts["processing"] = len(batch.requests)
        status = "in_progress" if batch.cancelled_s is None else "canceling"
        return {
            "id": batch.id,
            "type": "message_batch",
            "processing_status": status if batch.ended_s is None else "ended",
            "request_counts": counts,
            "created_at": self._moment(batch.created_s),
            "expires_at": self._moment(batch.created_s + _DAY_S),
            "ended_at": self._moment(batch.ended_s),
            "cancel_initiated_at": self._moment(batch.cancelled_s),
            "archived_at": None,
            "results_url": f"{self._api.url}/v1/messages/batches/{batch.id}/results"
            if batch.ended_s is not None
            else None,
        }

    def _moment(self, at_s: float | None) -> str | None:
        return None if at_s is None else datetime.fromtimestamp(self._epoch_s + at_s, UTC).isoformat()


def _errored(kind: str, text: str) -> dict[str, Any]:
    inner = {"type": kind, "message": text}
    return {"type": "errored", "error": {"type": "error", "error": inner, "request_id": None}}


def _wrong_batch(requests: Any, headers: dict[str, str]) -> str | None:
    if not headers.get("anthropic-version"):
        return "anthropic-version: header is required"
    if not isinstance(requests, list) or not 1 <= len(requests) <= _MOST_REQUESTS:
        return "requests: 1 to 100,000 are required"
    seen = set()
    for number, each in enumerate(requests):
        custom_id = each.get("custom_id") if isinstance(each, dict) else None
        if not isinstance(custom_id, str) or not _CUSTOM_ID.fullmatch(custom_id):
            return f"requests.{number}.custom_id: must have 1 to 64 letters, digits, - and _"
        if custom_id in seen:
            return f"requests.{number}.custom_id: must be unique within the batch"
        seen.add(custom_id)
        if not isinstance(each.get("params"), dict):
            return f"requests.{number}.params: Field required"
    return None
