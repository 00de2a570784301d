"""Gate facts: for each kind of gate, since when it is shut and what would open it. Reads only."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from joelclaw_tasks.core.keys import Keys
from joelclaw_tasks.core.snapshot import parse_gates, read_bucket


@dataclass(frozen=True, slots=True)
class GateFacts:
    """What is known of a shut gate. `opens_at` (epoch ms): when it opens by itself, if it does."""

    gate: str
    kind: str
    since: int | None
    opens_when: str
    opens_at: int | None = None
    more: dict[str, Any] = field(default_factory=dict)

    def to_wire(self) -> dict[str, Any]:
        """As plain values."""
        return {
            "gate": self.gate,
            "kind": self.kind,
            "since": self.since,
            "opens_when": self.opens_when,
            "opens_at": self.opens_at,
            **self.more,
        }


def gate_facts(client: Any, keys: Keys, line: str) -> GateFacts:
    """Why a gate is shut, from the line of a lane: its name and weight. `client` answers bytes."""
    [(gate, weight)] = parse_gates(line)
    return KINDS.get(gate.partition(":")[0], _unknown)(client, keys, gate, weight)


def _pause(client: Any, keys: Keys, gate: str, _weight: int) -> GateFacts:
    record = json.loads(client.hget(keys.pauses, gate) or b"{}")
    actor, reason = record.get("actor") or "", record.get("reason") or ""
    expires_at = record.get("expires_at")
    opens = "somebody resumes it" if expires_at is None else "its time is over, or somebody resumes it"
    return GateFacts(
        gate,
        "pause",
        record.get("paused_at"),
        opens,
        None if expires_at is None else int(expires_at),
        {"actor": actor, "reason": reason},
    )


def _rate(client: Any, keys: Keys, gate: str, weight: int) -> GateFacts:
    rates = client.hmget(keys.rates, gate, gate.partition("=")[0])
    rate = (rates[0] or rates[1] or b"").decode()
    if not rate:
        return GateFacts(gate, "rate", None, "its rate was just taken away: it is open")
    bucket = read_bucket(client, keys, gate, rate)
    interval_ms, burst, tat_ms = bucket["interval_ms"], bucket["burst"], bucket["tat_ms"]
    limit, period_ms, _ = map(int, rate.split(" "))
    # Since its last token was taken.
    since = round(tat_ms - interval_ms) if tat_ms else None
    opens_at = round(tat_ms - (burst - weight) * interval_ms)
    more = {"limit": limit, "period_ms": period_ms, "burst": int(burst)}
    return GateFacts(gate, "rate", since, "its bucket has the next token", opens_at, more)


def _limit(client: Any, keys: Keys, gate: str, weight: int) -> GateFacts:
    base = gate.partition("=")[0]
    pipe = client.pipeline(transaction=False)
    pipe.hmget(keys.limits, gate, base)
    pipe.zcard(keys.running(gate))
    pipe.zrange(keys.running(gate), -1, -1, withscores=True)
    limits, running, newest = pipe.execute()
    own = limits[0] if limits[0] is not None else limits[1]
    limit = int(own) if own is not None else 1 if gate.startswith("limit:singleton/") else None
    too_few = 0 if limit is None else running + weight - limit
    if limit is not None and weight > limit:
        opens = f"somebody raises its limit, which is {limit}" + (f"; it needs {weight}" if limit else "")
    elif too_few <= 0:
        opens = "a job that needs more places and has waited longer has started"
    elif running == 1:
        opens = "the one place that is taken is given back"
    else:
        opens = (
            f"{too_few} of the {running} places that are taken {'is' if too_few == 1 else 'are'} given back"
        )
    # It is shut since its last place was taken.
    since = int(newest[0][1]) if newest else None
    return GateFacts(
        gate, "limit", since, opens, None, {"limit": limit, "running": running, "weight": weight}
    )


def _unknown(_client: Any, _keys: Keys, gate: str, _weight: int) -> GateFacts:
    return GateFacts(
        gate, gate.partition(":")[0], None, "a worker of a release that knows this kind takes it"
    )


#: Kind of gate -> how it tells why it is shut.
KINDS: dict[str, Callable[[Any, Keys, str, int], GateFacts]] = {
    "pause": _pause,
    "limit": _limit,
    "rate": _rate,
}
