"""Places: where running jobs were admitted, and which gates bound anything at all."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, NamedTuple

from joelclaw_tasks.core.keys import Keys


class Place(NamedTuple):
    """Where a job waited, and the gates that it took when it started, without their weights."""

    family: str
    handler: str
    lane: str
    gates: frozenset[str]


class Places:
    """Reads places. `client` answers bytes."""

    def __init__(self, client: Any, keys: Keys) -> None:  # redis-py types every reply as str | bytes | None
        self._client = client
        self._keys = keys

    def of(self, ids: Sequence[str]) -> list[Place | None]:
        """The place of each job, None for one that is gone."""
        pipe = self._client.pipeline(transaction=False)
        for job_id in ids:
            pipe.hmget(self._keys.job(job_id), "family", "handler", "lane", "gates")
        return [None if None in fields else _place(*fields) for fields in pipe.execute()]

    def bounded(self, gates: Collection[str]) -> set[str]:
        """Those of the gates that have a limit or a rate now, of their own or by their base."""
        names = sorted(gates)
        bases = [name.partition("=")[0] for name in names]
        pipe = self._client.pipeline(transaction=False)
        pipe.hmget(self._keys.limits, names + bases)
        pipe.hmget(self._keys.rates, names + bases)
        found = [one is not None or other is not None for one, other in zip(*pipe.execute(), strict=True)]
        return {
            name
            for name, own, keyed in zip(names, found, found[len(names) :], strict=False)
            if own or keyed or name.startswith("limit:singleton/")
        }


def _place(family: bytes, handler: bytes, lane: bytes, gates: bytes) -> Place:
    return Place(family.decode(), handler.decode(), lane.decode(), bounding(gates.decode().split("\n")))


def bounding(lines: Collection[str]) -> frozenset[str]:
    """The names of those gates that limit, out of the lines of a job's gates."""
    names = (line.partition("\t")[0] for line in lines)
    return frozenset(name for name in names if name.startswith(("limit:", "rate:")))
