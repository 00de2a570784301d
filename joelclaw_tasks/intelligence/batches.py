"""Batches: /v1/messages/batches by the anthropic SDK, and what its results are worth."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from joelclaw_tasks.intelligence.connection import request_of
from joelclaw_tasks.intelligence.decision import Answer, Attempt, Fallback, Question
from joelclaw_tasks.intelligence.guard import Refused, value_of
from joelclaw_tasks.intelligence.reason import Reason
from joelclaw_tasks.intelligence.reply import Reply, reply_of, said
from joelclaw_tasks.registry_tiers import TierSpec

#: The most pages of a hundred batches that are looked through for a lost one.
_MOST_PAGES = 10
_ID = re.compile(r"[A-Za-z0-9_-]{1,128}")
_ERRORS = {
    "rate_limit_error": Reason.RATE_LIMITED,
    "overloaded_error": Reason.OVERLOADED,
    "api_error": Reason.SERVER_ERROR,
    "timeout_error": Reason.SERVER_ERROR,
    "authentication_error": Reason.AUTH,
    "permission_error": Reason.AUTH,
    "billing_error": Reason.AUTH,
}


@dataclass(frozen=True, slots=True)
class BatchSeen:
    """How a batch was found. `waiting`: questions without a result; times in epoch milliseconds."""

    batch_id: str
    is_over: bool
    waiting: int
    total: int
    created_at: int
    ended_at: int


class BatchApi:
    """The calls. ValueError: what came is no batch."""

    def __init__(self, client: Any, key: str) -> None:
        self._client = client
        self._key = key

    def create(self, requests: list[dict[str, Any]]) -> BatchSeen:
        """Send what `requests_of` made."""
        return _seen(self._client.messages.batches.create(requests=requests))

    def retrieve(self, batch_id: str) -> BatchSeen:
        """How far it is."""
        return _seen(self._client.messages.batches.retrieve(batch_id))

    def cancel(self, batch_id: str) -> BatchSeen:
        """Ask for its end."""
        return _seen(self._client.messages.batches.cancel(batch_id))

    def created_between(self, from_ms: int, until_ms: int) -> list[BatchSeen]:
        """The batches of that time. ValueError: there are too many to look through."""
        page = self._client.messages.batches.list(limit=100)
        found = []
        for _ in range(_MOST_PAGES):
            seen = [_seen(each) for each in page.data]
            found += [each for each in seen if from_ms <= each.created_at <= until_ms]
            if not seen or seen[-1].created_at < from_ms or not page.has_next_page():
                return found
            page = page.get_next_page()
        raise ValueError("too many batches since then")

    def results(self, batch_id: str) -> dict[str, Reply]:
        """The results of a batch that is over, by custom_id; the first of a custom_id counts."""
        from anthropic._decoders.jsonl import JSONLDecoder
        from anthropic.types.messages import MessageBatchIndividualResponse

        # Not by results_url: behind a gateway it names another host, which must not get the key.
        lines = self._client.get(
            f"/v1/messages/batches/{batch_id}/results",
            cast_to=JSONLDecoder[MessageBatchIndividualResponse],
            options={"headers": {"Accept": "application/binary"}},
            stream=True,
        )
        found: dict[str, Reply] = {}
        for line in lines:
            custom_id = getattr(line, "custom_id", None)
            if not isinstance(custom_id, str):
                raise ValueError("a line is no result of a batch")  # the text is wrong, no type
            found.setdefault(custom_id, self._reply(getattr(line, "result", None)))
        return found

    def _reply(self, result: Any) -> Reply:
        kind = getattr(result, "type", None)
        if kind == "succeeded":
            return reply_of(getattr(result, "message", None), self._key)
        if kind == "canceled":
            return Reply(Reason.CANCELED, detail="the batch was cancelled", billable=False)
        if kind == "expired":
            return Reply(Reason.EXPIRED, detail="the API did not come to it within a day", billable=False)
        if kind != "errored":
            return Reply(Reason.MALFORMED, detail="no result that a batch can have")
        error = getattr(getattr(result, "error", None), "error", None)
        name = str(getattr(error, "type", ""))
        detail = said(f"{name}: {getattr(error, 'message', None) or 'no explanation'}", self._key)
        return Reply(_ERRORS.get(name, Reason.INVALID_REQUEST), detail=detail, billable=False)


def requests_of(questions: Mapping[str, Question[Any]], tier: TierSpec) -> list[dict[str, Any]]:
    """The requests of a batch, from questions by their custom_id."""
    cached = len(questions) > 1  # a cache that nobody reads costs more
    return [
        {"custom_id": custom_id, "params": request_of(question, tier, cached=cached)}
        for custom_id, question in questions.items()
    ]


def judged(question: Question[Any], tier: TierSpec, reply: Reply, seen: BatchSeen) -> Answer[Any] | Fallback:
    """A result as what `decide` would have answered, at half the price."""
    reason, detail, value = reply.reason, reply.detail, None
    if reason is None:
        try:
            value = value_of(reply.text, question.answer, question.shown)
        except Refused as error:
            reason, detail = error.reason, error.detail
    cost = 0 if reply.usage is None else reply.usage.cost_nano_usd(tier.prices.halved())
    latency_ms = float(max(0, seen.ended_at - seen.created_at))
    attempt = Attempt(
        tier.name, tier.model, reason, detail, latency_ms, reply.usage, cost, request_id=reply.request_id
    )
    facts: dict[str, Any] = {
        "purpose": question.purpose,
        "prompt": question.prompt.label,
        "prompt_sha256": question.prompt.sha256,
        "attempts": (attempt,),
        "latency_ms": latency_ms,
    }
    return Fallback(**facts) if value is None else Answer(**facts, value=value)


def _seen(batch: Any) -> BatchSeen:
    batch_id, counts = getattr(batch, "id", None), getattr(batch, "request_counts", None)
    if getattr(batch, "type", None) != "message_batch" or not isinstance(batch_id, str):
        raise ValueError("it is JSON, but no batch")
    if not _ID.fullmatch(batch_id):
        raise ValueError("it has an id that no batch can have")
    names = ("processing", "succeeded", "errored", "canceled", "expired")
    numbers = [getattr(counts, name, None) for name in names]
    if not all(isinstance(number, int) for number in numbers):
        raise ValueError("it does not say how many requests it has")
    created_at = _ms(batch.created_at)
    ended_at = _ms(batch.ended_at) if batch.ended_at is not None else created_at
    over = batch.processing_status == "ended"
    return BatchSeen(batch_id, over, numbers[0] or 0, sum(numbers), created_at, ended_at)  # type: ignore[arg-type]


def _ms(moment: Any) -> int:
    try:
        return int(moment.timestamp() * 1000)
    except AttributeError:
        raise ValueError("it has a time that is none") from None
