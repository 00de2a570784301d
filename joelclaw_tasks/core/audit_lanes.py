"""What must hold of lanes, gates and holders: a lane in one place, no limit exceeded, nothing left over."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from joelclaw_tasks.core.keys import Keys
from joelclaw_tasks.core.violation import Violation

#: Ready lanes that are looked through for one that is on its way to an open gate.
_LOOKED_THROUGH = 2_000


class LaneChecks:
    """Checks batches of subjects; each yields the subject with what is wrong. `client` answers text.

    `shut_gates` answers the first shut gate of each lane; `limited_at` when a limit was last set, or None.
    """

    def __init__(
        self,
        client: Any,
        keys: Keys,
        now_ms: int,
        shut_gates: Callable[[Sequence[str]], Sequence[str]],
        limited_at: Callable[[str], int | None],
    ) -> None:
        self._client = client
        self._keys = keys
        self._now_ms = now_ms
        self._shut_gates = shut_gates
        self._limited_at = limited_at

    def lane(self, names: Sequence[str]) -> Iterator[tuple[str, Violation]]:
        """Lanes with jobs: known, listed, and in exactly one place, by the rank of the first job."""
        pipe = self._client.pipeline(transaction=False)
        for name in names:
            pipe.hmget(self._keys.lane_meta(name), "queue", "parked", "gates")
        metas = pipe.execute()
        for name, (queue, parked, _) in zip(names, metas, strict=True):
            pipe.zrange(self._keys.lane(name), 0, 0, withscores=True)
            pipe.hmget(self._keys.lane_meta(name), "queue", "parked", "gates")
            pipe.sismember(self._keys.lanes(queue or ""), name)
            pipe.zscore(self._keys.ready(queue or ""), name)
            pipe.zscore(self._keys.parked(f"{parked}\n{queue}"), name)
        places = pipe.execute()
        for number, (name, meta) in enumerate(zip(names, metas, strict=True)):
            head, meta_now, listed, ready, spot = places[number * 5 : number * 5 + 5]
            if not head or meta_now != meta:
                continue  # it is empty by now, or has just moved
            queue, parked, gates = meta
            shares = (gates or "").startswith("share:")
            if queue is None:
                yield name, self._unknown(name, head[0])
                continue
            if not listed:
                add = (("SADD", self._keys.lanes(queue), name),)
                yield name, Violation("I1", "LANE_NOT_LISTED", name, f"queue {queue} does not list it", add)
            for violation in self._place(name, queue, parked or "", head[0][1], (ready, spot), shares):
                yield name, violation

    def _unknown(self, name: str, head: tuple[str, float]) -> Violation:
        fields = ("queue", "family", "handler", "gates")
        values = self._client.hmget(self._keys.job(head[0]), *fields)
        detail = f"its jobs wait, but nothing says which queue and gates it has; first is {head[0]}"
        if values[0] is None:
            return Violation(
                "I1", "LANE_UNKNOWN", name, detail, advice="Its first job has no hash: remove it first."
            )
        pairs = [part for name, value in zip(fields, values, strict=True) for part in (name, value or "")]
        mend = (
            ("HSET", self._keys.lane_meta(name), *pairs, "parked", ""),
            ("SADD", self._keys.lanes(values[0]), name),
            ("ZADD", self._keys.ready(values[0]), head[1], name),
        )
        return Violation("I1", "LANE_UNKNOWN", name, detail, mend)

    def _place(
        self,
        name: str,
        queue: str,
        parked: str,
        rank: float,
        scores: tuple[float | None, float | None],
        shares: bool,
    ) -> Iterator[Violation]:
        ready, spot = scores
        here, score = (
            (self._keys.parked(f"{parked}\n{queue}"), spot) if parked else (self._keys.ready(queue), ready)
        )
        said = f"parked at {parked}" if parked else "ready"
        if score is None:
            detail = f"it should be {said}, and is nowhere: its jobs would never start"
            if parked and ready is not None:
                detail = f"it should be {said}, and is ready"
            ready_again = (
                ("HSET", self._keys.lane_meta(name), "parked", ""),
                ("ZADD", self._keys.ready(queue), rank, name),
            )
            yield Violation("I1", "LANE_IN_NO_PLACE", name, detail, ready_again)
        elif parked and ready is not None:
            out = (("ZREM", self._keys.ready(queue), name),)
            yield Violation("I1", "LANE_IN_TWO_PLACES", name, f"it is {said} and ready too", out)
        elif score < rank or (score > rank and not shares):
            # A lane that shares may stand behind the rank of its first job, never before it.
            detail = f"it stands at {score:.0f}, but its first job has rank {rank:.0f}"
            yield Violation("I6", "LANE_RANK_DIFFERS", name, detail, (("ZADD", here, rank, name),))

    def lane_meta(self, names: Sequence[str]) -> Iterator[tuple[str, Violation]]:
        """What is known of a lane goes when its last job does."""
        pipe = self._client.pipeline(transaction=False)
        for name in names:
            pipe.exists(self._keys.lane(name))
            pipe.hget(self._keys.lane_meta(name), "queue")
        replies = pipe.execute()
        for name, exists, queue in zip(names, replies[::2], replies[1::2], strict=True):
            if not exists and queue is not None:
                out = (("DEL", self._keys.lane_meta(name)), ("SREM", self._keys.lanes(queue), name))
                yield name, Violation("I8", "LANE_LEFT_OVER", name, "it has no jobs, but is still known", out)

    def listed(self, pairs: Sequence[tuple[str, str]]) -> Iterator[tuple[tuple[str, str], Violation]]:
        """(key that lists lanes, lane): listed, ready and parked lanes have jobs."""
        pipe = self._client.pipeline(transaction=False)
        for key, lane in pairs:
            pipe.exists(self._keys.lane(lane))
            if key.startswith(self._keys.lanes("")):
                pipe.sismember(key, lane)
            else:
                pipe.zscore(key, lane)  # a float, so 0.0 is not SISMEMBER's 0
        replies = pipe.execute()
        for (key, lane), exists, named in zip(pairs, replies[::2], replies[1::2], strict=True):
            if not exists and _is_member(named):
                command = "SREM" if key.startswith(self._keys.lanes("")) else "ZREM"
                detail = f"{key.removeprefix(self._keys.prefix)!r} names it, but it has no jobs"
                yield (key, lane), Violation("I8", "LANE_LEFT_OVER", lane, detail, ((command, key, lane),))

    def spot(self, names: Sequence[str]) -> Iterator[tuple[str, Violation]]:
        """Where lanes are parked: it is listed, and its gate is shut or somebody is on the way."""
        for name in names:
            line, _, queue = name.partition("\n")
            gate = line.partition("\t")[0]
            lanes = self._client.zrange(self._keys.parked(name), 0, 0)
            listed = self._client.zscore(self._keys.parked_gates, name) is not None
            if lanes and not listed:
                add = (("ZADD", self._keys.parked_gates, 0, name),)
                yield (
                    name,
                    Violation("I1", "SPOT_NOT_LISTED", gate, f"lanes of {queue} wait here unseen", add),
                )
            elif listed and not lanes:
                out = (("ZREM", self._keys.parked_gates, name),)
                yield name, Violation("I8", "SPOT_LEFT_OVER", gate, f"no lane of {queue} waits here", out)
            elif lanes and list(self._shut_gates(lanes)) == [""] and not self._on_the_way(gate, queue):
                detail = f"lanes of {queue} wait at this open gate, and nothing brings them back"
                back = (("ZADD", self._keys.timers, self._now_ms, f"unpark|{gate}"),)
                yield name, Violation("I1", "GATE_OPEN_LANES_PARKED", gate, detail, back)

    def _on_the_way(self, gate: str, queue: str) -> bool:
        base = gate.partition("=")[0]
        kinds = [f"unpark|{gate}", f"rate|{gate}"]
        if any(self._client.zscore(self._keys.timers, kind) is not None for kind in kinds):
            return True
        reopening = self._client.zscan_iter(self._keys.timers, f"reopen|{_literal(base)}*", 1_000)
        if next(reopening, None) is not None:
            return True
        ready = self._client.zrange(self._keys.ready(queue), 0, _LOOKED_THROUGH)
        pipe = self._client.pipeline(transaction=False)
        for lane in ready:
            pipe.hmget(self._keys.lane_meta(lane), "gates", "family", "handler")
        return any(
            gate in [line.partition("\t")[0] for line in (gates or "").split("\n")]
            or gate in (f"pause:family/{family}", f"pause:handler/{handler}", f"pause:queue/{queue}")
            for gates, family, handler in pipe.execute()
        )

    def limit(self, gates: Sequence[str]) -> Iterator[tuple[str, Violation]]:
        """No more run than the limit, unless it was lowered since the last one started."""
        pipe = self._client.pipeline(transaction=False)
        for gate in gates:
            pipe.zcard(self._keys.running(gate))
            pipe.zrange(self._keys.running(gate), -1, -1, withscores=True)
            pipe.hmget(self._keys.limits, gate, gate.partition("=")[0])
        replies = pipe.execute()
        for number, gate in enumerate(gates):
            running, newest, (own, base) = replies[number * 3 : number * 3 + 3]
            singleton = 1 if gate.startswith("limit:singleton/") else None
            most = own if own is not None else base if base is not None else singleton
            if most is None or running <= int(most) or not newest:
                continue
            limited_at = self._limited_at(gate)
            if limited_at is not None and newest[0][1] > limited_at:
                detail = f"{running} run, {most} may; the last one started after the limit was set"
                advice = "Let them end; `joelclaw queue explain <job>` shows who runs."
                yield gate, Violation("I3", "LIMIT_EXCEEDED", gate, detail, advice=advice)

    def holder(self, names: Sequence[str]) -> Iterator[tuple[str, Violation]]:
        """Whoever holds leases has a timer that ends them."""
        pipe = self._client.pipeline(transaction=False)
        for name in names:
            pipe.exists(self._keys.leases(name))
            pipe.zscore(self._keys.timers, f"lease|{name}")
        replies = pipe.execute()
        for name, holds, timer in zip(names, replies[::2], replies[1::2], strict=True):
            if holds and timer is None:
                add = (("ZADD", self._keys.timers, "NX", self._now_ms, f"lease|{name}"),)
                yield name, Violation("I1", "LEASES_WITHOUT_END", name, "its leases would never expire", add)

    def control(self, names: Sequence[str]) -> Iterator[tuple[str, Violation]]:
        """What is in force until some time has a timer; a timer has what it ends."""
        pipe = self._client.pipeline(transaction=False)
        for name in names:
            pipe.hget(self._keys.controls, name)
            pipe.zscore(self._keys.timers, f"control|{name}")
        replies = pipe.execute()
        for name, record, timer in zip(names, replies[::2], replies[1::2], strict=True):
            until = json.loads(record).get("until") if record else None
            if until is not None and timer is None:
                add = (("ZADD", self._keys.timers, until, f"control|{name}"),)
                yield name, Violation("I1", "CONTROL_WITHOUT_END", name, "it has an end, but no timer", add)
            elif record is None and timer is not None:
                out = (("ZREM", self._keys.timers, f"control|{name}"),)
                yield name, Violation("I8", "TIMER_LEAKED", name, "a timer ends what is over", out)


def _is_member(reply: object) -> bool:
    """What SISMEMBER or ZSCORE answered; a score may be 0."""
    return reply is not None and reply is not False and not (isinstance(reply, int) and reply == 0)


def _literal(name: str) -> str:
    """A name for MATCH in which no character is special."""
    return "".join(f"\\{each}" if each in "*?[]\\^-" else each for each in name)
