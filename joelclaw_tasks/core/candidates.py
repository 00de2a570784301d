"""Candidates: the jobs that a verb may be about, read a page at a time while others move them."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterator, Sequence
from itertools import islice
from typing import Any

from joelclaw_tasks.core.keys import Keys
from joelclaw_tasks.core.rank import PRIORITIES
from joelclaw_tasks.core.states import State

_PAGE = 1_000
_FIELDS = (
    "state", "queue", "family", "handler", "lane", "priority", "slack_ms", "admitted_at", "available_at",
    "due_at", "claims", "kills", "retries", "steered_by",
)  # fmt: skip
_NUMBERS = {"slack_ms", "admitted_at", "available_at", "due_at", "claims", "kills", "retries"}

#: (queue, family, handler) -> whether jobs of such a lane are wanted.
LaneFilter = Callable[[str, str, str], bool]


class Candidates:
    """Reads jobs by state. `client` answers bytes.

    A job that moves meanwhile may be missed or read twice; verbs that act on it check its state anyway.
    """

    def __init__(self, client: Any, keys: Keys) -> None:  # redis-py types every reply as str | bytes | None
        self._client = client
        self._keys = keys

    def pages(
        self, states: Collection[State], wanted: LaneFilter, *, with_payload: bool = False
    ) -> Iterator[list[dict[str, Any]]]:
        """All jobs in these states, at most about 1,000 in a page; see `read` for what a job has."""
        for page in self.id_pages(states, wanted):
            yield self._in_states(page, states, with_payload=with_payload)

    def id_pages(self, states: Collection[State], wanted: LaneFilter) -> Iterator[list[str]]:
        """The ids alone, as the places that list jobs in these states have them, at most 1,000 in a page."""
        ids = self._ids(states, wanted)
        while page := list(islice(ids, _PAGE)):
            yield page

    def read(self, ids: Sequence[str], *, with_payload: bool = False) -> list[dict[str, Any]]:
        """The jobs that exist: id, and their fields with numbers as numbers, P0..P3, `payload` as bytes."""
        fields = (*_FIELDS, "payload") if with_payload else _FIELDS
        pipe = self._client.pipeline(transaction=False)
        for job_id in ids:
            pipe.hmget(self._keys.job(job_id), fields)
        return [_job(job_id, values) for job_id, values in zip(ids, pipe.execute(), strict=True) if values[0]]

    def parked_lanes(self, kinds: tuple[str, ...], wanted: LaneFilter) -> Iterator[list[str]]:
        """Lanes parked at gates whose names begin so, at most 1,000 in a page."""
        spots = [spot.decode() for spot in self._client.zrange(self._keys.parked_gates, 0, -1)]
        for spot in spots:
            if not spot.startswith(kinds):
                continue
            parked = list(self._members(self._keys.parked(spot)))
            for start in range(0, len(parked), _PAGE):
                lanes = parked[start : start + _PAGE]
                pipe = self._client.pipeline(transaction=False)
                for lane in lanes:
                    pipe.hmget(self._keys.lane_meta(lane), "queue", "family", "handler")
                found = zip(lanes, pipe.execute(), strict=True)
                if page := [lane for lane, names in found if None not in names and wanted(*_texts(names))]:
                    yield page

    def _in_states(
        self, ids: Sequence[str], states: Collection[State], *, with_payload: bool
    ) -> list[dict[str, Any]]:
        return [job for job in self.read(ids, with_payload=with_payload) if job["state"] in states]

    def _ids(self, states: Collection[State], wanted: LaneFilter) -> Iterator[str]:
        if State.AVAILABLE in states:
            yield from self._in_lanes(wanted)
        if State.SCHEDULED in states or State.RETRYABLE in states:
            for timer, _ in self._client.zscan_iter(self._keys.timers, "job|*", _PAGE):
                yield timer.decode().partition("|")[2]
        if State.HELD in states:
            for act in map(json.loads, self._client.hvals(self._keys.controls)):
                if act["verb"] == "shed":
                    yield from self._members(self._keys.touched(act["id"]))
        if State.EXECUTING in states:
            for timer, _ in self._client.zscan_iter(self._keys.timers, "lease|*", _PAGE):
                yield from self._members(self._keys.leases(timer.decode().partition("|")[2]))

    def _members(self, key: str) -> Iterator[str]:
        for member, _ in self._client.zscan_iter(key, count=_PAGE):
            yield member.decode()

    def _in_lanes(self, wanted: LaneFilter) -> Iterator[str]:
        for queue in sorted(self._client.smembers(self._keys.queues)):
            lanes: list[str] = []
            for lane in self._client.sscan_iter(self._keys.lanes(queue.decode()), count=_PAGE):
                lanes.append(lane.decode())
                if len(lanes) >= _PAGE:
                    yield from self._of_lanes(lanes, wanted)
                    lanes = []
            yield from self._of_lanes(lanes, wanted)

    def _of_lanes(self, lanes: list[str], wanted: LaneFilter) -> Iterator[str]:
        pipe = self._client.pipeline(transaction=False)
        for lane in lanes:
            pipe.hmget(self._keys.lane_meta(lane), "queue", "family", "handler")
            pipe.zcard(self._keys.lane(lane))
        found = pipe.execute()
        short = []
        for lane, names, jobs in zip(lanes, found[::2], found[1::2], strict=True):
            if None in names or not wanted(*_texts(names)):
                continue
            if jobs > _PAGE:
                yield from self._members(self._keys.lane(lane))
            else:
                short.append(lane)
        for lane in short:
            pipe.zrange(self._keys.lane(lane), 0, -1)
        for jobs in pipe.execute():
            for job_id in jobs:
                yield job_id.decode()


def _texts(names: Sequence[bytes]) -> tuple[str, str, str]:
    queue, family, handler = (name.decode() for name in names)
    return queue, family, handler


def _job(job_id: str, values: Sequence[bytes | None]) -> dict[str, Any]:
    job: dict[str, Any] = {"id": job_id}
    for name, value in zip(_FIELDS, values, strict=False):
        text = None if value is None else value.decode(errors="replace")
        job[name] = int(text) if text and name in _NUMBERS else text
    job["priority"] = PRIORITIES[int(job["priority"] or 0)]
    if len(values) > len(_FIELDS):
        job["payload"] = values[-1]
    return job
